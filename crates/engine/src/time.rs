//! Points on the two clocks that the rule compares, and the guard against their drift.
//!
//! Both count nanoseconds of a monotonic clock that goes on while the machine is suspended
//! (`CLOCK_BOOTTIME`). A [`Time`] is the limiter's, a [`Stamp`] a proxy's; mixing them up does
//! not compile. Only [`crate::clock::SessionClock`] translates.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Two clocks may part by this many nanoseconds in a millisecond (ρ = 400 ppm), twice what
/// quartz and NTP's slewing are seen to do.
const DRIFT_PER_MILLI: u64 = 400;

/// A point on the limiter's clock, in nanoseconds since an arbitrary origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

/// A point on a proxy's clock, in nanoseconds since an arbitrary origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(pub u64);

/// `duration`, measured on one clock, as the longest that another clock may show for it:
/// `duration · (1 + ρ)`, rounded up to the next nanosecond and one more.
pub fn stretched(duration: Duration) -> Duration {
    Duration::from_nanos(nanos(duration).saturating_add(drift(nanos(duration))).saturating_add(1))
}

/// The most that two clocks can part within `nanos`: `ρ · nanos`, rounded up.
pub(crate) fn drift(nanos: u64) -> u64 {
    (u128::from(nanos) * u128::from(DRIFT_PER_MILLI)).div_ceil(1_000_000) as u64
}

/// What remains of 1 − ρ, as a fraction of [`SLOW_SCALE`].
pub(crate) const SLOW: u64 = SLOW_SCALE - DRIFT_PER_MILLI / 100;
/// The scale of [`SLOW`].
pub(crate) const SLOW_SCALE: u64 = 10_000;

/// A duration in nanoseconds; longer than 584 years becomes the longest that fits.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Time {
    /// Later than every point that a clock shows.
    pub const NEVER: Time = Time(u64::MAX);

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(nanos(rhs)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, rhs: Duration) -> Time {
        Time(self.0.saturating_sub(nanos(rhs)))
    }
}

impl Stamp {
    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Stamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Stamp {
    type Output = Stamp;
    fn add(self, rhs: Duration) -> Stamp {
        Stamp(self.0.saturating_add(nanos(rhs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_minute_is_24_milliseconds_longer() {
        assert_eq!(stretched(Duration::from_secs(60)), Duration::from_nanos(60_024_000_001));
    }

    #[test]
    fn the_ends_of_the_range_do_not_wrap() {
        assert_eq!(Time::NEVER + Duration::MAX, Time::NEVER);
        assert_eq!(Time(5) - Duration::from_secs(1), Time(0));
        assert_eq!(stretched(Duration::MAX).as_nanos(), u128::from(u64::MAX));
    }
}
