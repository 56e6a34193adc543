//! True time, and the clocks that people have instead.

use std::ops::{Add, AddAssign};
use std::time::Duration;

use crate::random::nanos;

/// A point of true time, in nanoseconds since the world began. Nobody in the world can read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, rhs: Duration) -> Moment {
        Moment(self.0.saturating_add(nanos(rhs)))
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

/// A machine's monotonic clock: begun at some time, too quick or too slow.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: i128,
    /// What it gains, in billionths.
    gains: i64,
}

impl Clock {
    /// A clock that shows `origin` when the world begins and gains so many billionths.
    pub fn new(origin: Duration, gains: i64) -> Clock {
        Clock { origin: i128::from(nanos(origin)), gains }
    }

    /// The same clock, set to show `reading` then.
    pub fn showing(self, reading: u64, at: Moment) -> Clock {
        let ahead = i128::from(reading) - i128::from(self.read(at));
        Clock { origin: self.origin + ahead, ..self }
    }

    /// The same clock after it has stood still for so long.
    pub fn stopped_for(self, length: Duration) -> Clock {
        Clock { origin: self.origin - i128::from(nanos(length)), ..self }
    }

    /// What it shows.
    pub fn read(&self, at: Moment) -> u64 {
        let gained = i128::from(at.0) * i128::from(self.gains) / 1_000_000_000;
        (self.origin + i128::from(at.0) + gained).max(0) as u64
    }

    /// When it shows `reading`, or more, for the first time.
    pub fn when(&self, reading: u64) -> Moment {
        let shown = i128::from(reading) - self.origin;
        let guess = shown * 1_000_000_000 / (1_000_000_000 + i128::from(self.gains));
        let mut at = Moment(guess.clamp(0, i128::from(u64::MAX / 2)) as u64);
        while at.0 > 0 && self.read(at) >= reading {
            at.0 -= 1;
        }
        while self.read(at) < reading {
            at.0 += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_gains_200_ppm_is_12_milliseconds_ahead_after_a_minute() {
        let clock = Clock::new(Duration::from_secs(1000), 200_000);
        let minute = Moment(60_000_000_000);
        assert_eq!(clock.read(minute), 1_060_012_000_000);
    }

    #[test]
    fn when_is_the_first_moment_that_shows_it() {
        for gains in [-200_000, -1, 0, 3, 200_000] {
            let clock = Clock::new(Duration::from_secs(5), gains);
            for reading in [5_000_000_001, 5_000_004_999, 77_123_456_789] {
                let at = clock.when(reading);
                assert!(clock.read(at) >= reading);
                assert!(clock.read(Moment(at.0 - 1)) < reading);
            }
        }
    }
}
