//! The proxy's clock: monotonic, and it goes on while the machine is suspended, so that a grant does not look
//! young after a nap.

use nix::time::{ClockId, clock_gettime};
use quotakeeper_engine::time::Stamp;

/// `CLOCK_BOOTTIME` in nanoseconds (clock_gettime(2)).
pub fn now() -> Stamp {
    // The call fails for unknown clocks only; CLOCK_BOOTTIME is there since Linux 2.6.39. A clock that shows
    // the end of time lets no grant be written.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Stamp(u64::MAX), |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or_default();
        Stamp(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_advances() {
        let (one, two) = (now(), now());
        assert!(one <= two && one > Stamp(0) && two < Stamp(u64::MAX));
    }
}
