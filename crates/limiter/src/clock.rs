//! The limiter's clock.

use nix::time::{ClockId, clock_gettime};
use quotakeeper_engine::time::Time;

/// `CLOCK_BOOTTIME` in nanoseconds: monotonic, and it goes on while the machine is suspended
/// (clock_gettime(2)).
pub fn now() -> Time {
    // The call fails for unknown clocks only; CLOCK_BOOTTIME is there since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Time(u64::MAX), |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or_default();
        Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    })
}
