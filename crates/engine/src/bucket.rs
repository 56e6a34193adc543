//! A bucket that drains at N/W, in integers.
//!
//! The level is kept in parts of a unit so fine that a nanosecond's drain is a whole number of
//! them: a unit is `W · 10⁴` parts, a nanosecond drains `N · (1 − ρ) · 10⁴` of them. With N ≤ 2⁴⁰,
//! W ≤ 2⁵⁵ ns (a year) and a level of at most 2N units that stays below 2¹²⁷, so nothing overflows
//! and nothing is rounded.

use std::time::Duration;

use crate::time::{SLOW, SLOW_SCALE, Time, nanos};

/// The level L of one limit, and how fast it drains.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    size: u64,
    amount: u64,
    window: u64,
    level: u128,
    at: Time,
}

impl Bucket {
    /// An empty bucket of `size` units that drains `amount` of them in `window`.
    pub(crate) fn new(size: u64, amount: u64, window: Duration, now: Time) -> Bucket {
        Bucket { size: size.max(1), amount: amount.max(1), window: nanos(window).max(1), level: 0, at: now }
    }

    fn unit(&self) -> u128 {
        u128::from(self.window) * u128::from(SLOW_SCALE)
    }

    fn drained_in(&self, nanos: u64) -> u128 {
        u128::from(nanos) * u128::from(self.amount) * u128::from(SLOW)
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Lets it drain until `now`; a time that has passed already changes nothing.
    pub(crate) fn drain(&mut self, now: Time) {
        if now > self.at {
            self.level = self.level.saturating_sub(self.drained_in(now.0 - self.at.0));
            self.at = now;
        }
    }

    /// Adds units at `at`, or now when that has passed.
    pub(crate) fn pour(&mut self, at: Time, units: u64) {
        self.drain(at);
        self.level += u128::from(units) * self.unit();
    }

    /// Takes one unit back.
    pub(crate) fn take_back(&mut self) {
        self.level = self.level.saturating_sub(self.unit());
    }

    /// Sets the level to this many units at `at`.
    pub(crate) fn set(&mut self, units: u64, at: Time) {
        self.level = u128::from(units) * self.unit();
        self.at = at;
    }

    /// The units in it, a part of one counted whole.
    pub(crate) fn units(&self) -> u64 {
        u64::try_from(self.level.div_ceil(self.unit())).unwrap_or(u64::MAX)
    }

    /// When `more` units fit beside it; `None`: now, as of the last drain; [`Time::NEVER`]: they
    /// never do, however long it drains.
    pub(crate) fn room_for(&self, more: u64) -> Option<Time> {
        let Some(below) = self.size.checked_sub(more) else {
            return Some(Time::NEVER);
        };
        let below = u128::from(below) * self.unit();
        let excess = self.level.checked_sub(below).filter(|excess| *excess > 0)?;
        let wait = excess.div_ceil(u128::from(self.amount) * u128::from(SLOW));
        Some(Time(self.at.0.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))))
    }

    /// When it would have drained by `units`, whatever its level.
    pub(crate) fn time_of(&self, units: u64) -> Duration {
        let parts = u128::from(units) * self.unit();
        let wait = parts.div_ceil(u128::from(self.amount) * u128::from(SLOW));
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Takes on another class and keeps what remains of it: L' = b' − min(b', b − L).
    pub(crate) fn reconfigure(&mut self, size: u64, amount: u64, window: Duration, mint: bool) {
        let unit = self.unit();
        let remains = (u128::from(self.size) * unit).saturating_sub(self.level);
        let (old_size, old_level) = (self.size, self.level);
        self.size = size.max(1);
        self.amount = amount.max(1);
        self.window = nanos(window).max(1);
        // In the new parts, rounded so that less remains, never more.
        let remains = remains / unit * self.unit() + remains % unit * self.unit() / unit;
        let full = u128::from(self.size) * self.unit();
        self.level = full - remains.min(full);
        if old_level > u128::from(old_size) * unit {
            // Debt is carried over whole.
            let debt = old_level - u128::from(old_size) * unit;
            self.level += debt.div_ceil(unit) * self.unit();
        }
        if mint {
            self.level = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn bucket() -> Bucket {
        Bucket::new(2, 10, Duration::from_secs(1), Time(0))
    }

    #[test]
    fn drains_a_unit_in_its_interval_and_no_sooner() {
        let mut b = bucket();
        b.pour(Time(0), 1);
        b.pour(Time(0), 1);
        let at = b.room_for(1).expect("it is full");
        assert!(at > Time(SECOND / 10), "a guarded unit takes longer than W/N");
        assert!(at < Time(SECOND / 10 + SECOND / 1000));
        b.drain(Time(at.0 - 1));
        assert!(b.room_for(1).is_some(), "not a nanosecond early");
        b.drain(at);
        assert_eq!(b.room_for(1), None);
    }

    #[test]
    fn does_not_save_up_below_empty() {
        let mut b = bucket();
        b.drain(Time(100 * SECOND));
        b.pour(Time(100 * SECOND), 1);
        b.pour(Time(100 * SECOND), 1);
        assert!(b.room_for(1).is_some());
    }

    #[test]
    fn more_than_its_size_never_fits() {
        assert_eq!(bucket().room_for(3), Some(Time::NEVER));
    }

    #[test]
    fn a_raise_keeps_what_remained() {
        let mut b = bucket();
        b.pour(Time(0), 1);
        b.reconfigure(20, 100, Duration::from_secs(1), false);
        assert_eq!(b.room_for(1), None, "one of two remained");
        b.pour(Time(0), 1);
        assert!(b.room_for(1).is_some(), "and no more than that one");
    }

    #[test]
    fn a_cut_below_the_level_stays_full() {
        let mut b = Bucket::new(10, 10, Duration::from_secs(1), Time(0));
        for _ in 0..9 {
            b.pour(Time(0), 1);
        }
        b.reconfigure(2, 5, Duration::from_secs(1), false);
        assert_eq!(b.room_for(1), None, "one remained");
        b.pour(Time(0), 1);
        assert!(b.room_for(1).is_some());
    }

    #[test]
    fn a_year_of_simulated_time_leaves_no_remainder() {
        let mut b = Bucket::new(1 << 40, 1 << 40, Duration::from_secs(31_536_000), Time(0));
        b.set(1 << 40, Time(0));
        let empty = b.room_for(1 << 40).expect("it is full");
        b.drain(Time(empty.0 - 1));
        assert!(b.units() > 0);
        b.drain(empty);
        assert_eq!(b.units(), 0);
    }
}
