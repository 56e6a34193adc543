//! A bucket that drains at N/W, in integers.
//!
//! The level is kept in parts of a unit so fine that a nanosecond's drain is a whole number of
//! them: a unit is `W · 10⁴` parts, a nanosecond drains `N · (1 − ρ) · 10⁴` of them. With N ≤ 2⁴⁰,
//! W ≤ 2⁵⁵ ns (a year) and a level of at most 2N units that stays below 2¹²⁷, so nothing overflows
//! and nothing is rounded.

use std::time::Duration;

use crate::cost::Amount;
use crate::time::{SLOW, SLOW_SCALE, Time, nanos};

/// The level L of one limit, and how fast it drains.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    size: Amount,
    amount: u64,
    window: u64,
    level: u128,
    at: Time,
}

impl Bucket {
    /// An empty bucket of `size` units that drains `amount` of them in `window`.
    pub(crate) fn new(size: Amount, amount: Amount, window: Duration, now: Time) -> Bucket {
        let amount = amount.0;
        Bucket {
            size: size.max(Amount::ONE),
            amount: amount.max(1),
            window: nanos(window).max(1),
            level: 0,
            at: now,
        }
    }

    fn unit(&self) -> u128 {
        u128::from(self.window) * u128::from(SLOW_SCALE)
    }

    fn parts(&self, amount: Amount) -> u128 {
        u128::from(amount.0) * self.unit()
    }

    fn drained_in(&self, nanos: u64) -> u128 {
        u128::from(nanos) * u128::from(self.amount) * u128::from(SLOW)
    }

    pub(crate) fn size(&self) -> Amount {
        self.size
    }

    /// Lets it drain until `now`; a time that has passed already changes nothing.
    pub(crate) fn drain(&mut self, now: Time) {
        if now > self.at {
            self.level = self.level.saturating_sub(self.drained_in(now.0 - self.at.0));
            self.at = now;
        }
    }

    /// Adds an amount at `at`, or now when that has passed.
    pub(crate) fn pour(&mut self, at: Time, amount: Amount) {
        self.drain(at);
        self.level = self.level.saturating_add(self.parts(amount));
    }

    /// Takes an amount back.
    pub(crate) fn take_back(&mut self, amount: Amount) {
        self.level = self.level.saturating_sub(self.parts(amount));
    }

    /// Sets the level to this amount at `at`.
    pub(crate) fn set(&mut self, amount: Amount, at: Time) {
        self.level = self.parts(amount);
        self.at = at;
    }

    /// How much is in it, a part of a unit counted whole.
    pub(crate) fn level(&self) -> Amount {
        Amount(u64::try_from(self.level.div_ceil(self.unit())).unwrap_or(u64::MAX))
    }

    /// When `more` units fit beside it; `None`: now, as of the last drain; [`Time::NEVER`]: they
    /// never do, however long it drains.
    pub(crate) fn room_for(&self, more: Amount) -> Option<Time> {
        let Some(below) = self.size.checked_sub(more) else {
            return Some(Time::NEVER);
        };
        let below = self.parts(below);
        let excess = self.level.checked_sub(below).filter(|excess| *excess > 0)?;
        let wait = excess.div_ceil(u128::from(self.amount) * u128::from(SLOW));
        Some(Time(self.at.0.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))))
    }

    /// When it would have drained by `amount`, whatever its level.
    pub(crate) fn time_of(&self, amount: Amount) -> Duration {
        let wait = self.parts(amount).div_ceil(u128::from(self.amount) * u128::from(SLOW));
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Takes on another class and keeps what remains of it: L' = b' − min(b', b − L).
    pub(crate) fn reconfigure(&mut self, size: Amount, amount: Amount, window: Duration, mint: bool) {
        let unit = self.unit();
        let remains = self.parts(self.size).saturating_sub(self.level);
        let (old_size, old_level) = (self.size, self.level);
        self.size = size.max(Amount::ONE);
        self.amount = amount.0.max(1);
        self.window = nanos(window).max(1);
        // In the new parts, rounded so that less remains, never more.
        let remains = remains / unit * self.unit() + remains % unit * self.unit() / unit;
        let full = self.parts(self.size);
        self.level = full - remains.min(full);
        if old_level > u128::from(old_size.0) * unit {
            // Debt is carried over whole.
            let debt = old_level - u128::from(old_size.0) * unit;
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
        Bucket::new(Amount(2), Amount(10), Duration::from_secs(1), Time(0))
    }

    #[test]
    fn drains_a_unit_in_its_interval_and_no_sooner() {
        let mut b = bucket();
        b.pour(Time(0), Amount::ONE);
        b.pour(Time(0), Amount::ONE);
        let at = b.room_for(Amount::ONE).expect("it is full");
        assert!(at > Time(SECOND / 10), "a guarded unit takes longer than W/N");
        assert!(at < Time(SECOND / 10 + SECOND / 1000));
        b.drain(Time(at.0 - 1));
        assert!(b.room_for(Amount::ONE).is_some(), "not a nanosecond early");
        b.drain(at);
        assert_eq!(b.room_for(Amount::ONE), None);
    }

    #[test]
    fn does_not_save_up_below_empty() {
        let mut b = bucket();
        b.drain(Time(100 * SECOND));
        b.pour(Time(100 * SECOND), Amount::ONE);
        b.pour(Time(100 * SECOND), Amount::ONE);
        assert!(b.room_for(Amount::ONE).is_some());
    }

    #[test]
    fn more_than_its_size_never_fits() {
        assert_eq!(bucket().room_for(Amount(3)), Some(Time::NEVER));
    }

    #[test]
    fn a_raise_keeps_what_remained() {
        let mut b = bucket();
        b.pour(Time(0), Amount::ONE);
        b.reconfigure(Amount(20), Amount(100), Duration::from_secs(1), false);
        assert_eq!(b.room_for(Amount::ONE), None, "one of two remained");
        b.pour(Time(0), Amount::ONE);
        assert!(b.room_for(Amount::ONE).is_some(), "and no more than that one");
    }

    #[test]
    fn a_cut_below_the_level_stays_full() {
        let mut b = Bucket::new(Amount(10), Amount(10), Duration::from_secs(1), Time(0));
        for _ in 0..9 {
            b.pour(Time(0), Amount::ONE);
        }
        b.reconfigure(Amount(2), Amount(5), Duration::from_secs(1), false);
        assert_eq!(b.room_for(Amount::ONE), None, "one remained");
        b.pour(Time(0), Amount::ONE);
        assert!(b.room_for(Amount::ONE).is_some());
    }

    #[test]
    fn a_year_of_simulated_time_leaves_no_remainder() {
        let mut b = Bucket::new(Amount(1 << 40), Amount(1 << 40), Duration::from_secs(31_536_000), Time(0));
        b.set(Amount(1 << 40), Time(0));
        let empty = b.room_for(Amount(1 << 40)).expect("it is full");
        b.drain(Time(empty.0 - 1));
        assert!(b.level() > Amount::ZERO);
        b.drain(empty);
        assert_eq!(b.level(), Amount::ZERO);
    }
}
