//! The clock by which leadership ends.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME` since the machine started: monotonic, and it goes on while the machine is
/// suspended (clock_gettime(2)), so that nobody wakes up and still believes to lead.
pub fn now() -> Duration {
    // The call fails for unknown clocks only; CLOCK_BOOTTIME is there since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}
