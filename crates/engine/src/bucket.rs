//! A bucket that drains at N/W, in integers.
//!
//! The level is kept in parts of a unit so fine that a nanosecond's drain is a whole number of
//! them: a unit is `W · 10⁴` parts, a nanosecond drains `N · (1 − ρ) · 10⁴` of them. With N ≤ 2⁴⁰,
//! W ≤ 2⁵⁵ ns (a year) and a level of at most 2N units that stays below 2¹²⁷, so nothing overflows
//! and nothing is rounded.

use std::time::Duration;

use crate::cost::Amount;
use crate::mutant::{self, Mutant};
use crate::time::{SLOW, SLOW_SCALE, Time, nanos};

/// The level L of one limit, and how fast it drains.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    size: Amount,
    amount: u64,
    window: u64,
    level: u128,
    assumed: Option<Assumed>,
    /// What the provider's bucket holds less than `level`, if it took on changes of the limit in the other way.
    other: Other,
    /// It holds a window's amount at most.
    within_a_window: bool,
    at: Time,
}

/// What of the level is only assumed, of a time of which nothing is known. It drains first.
#[derive(Clone, Copy, Debug)]
struct Assumed {
    left: u128,
    /// The room that was left beside it.
    spare: Amount,
    /// When it was assumed.
    since: Time,
}

/// The other way in which a provider's bucket may have taken on changes of its limit.
#[derive(Clone, Copy, Debug, Default)]
struct Other {
    /// How much lower its level is; no more than the level itself.
    below: u128,
    /// It kept its level, and `level` is of one that kept what remained.
    kept_level: bool,
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
            assumed: None,
            other: Other::default(),
            within_a_window: false,
            at: now,
        }
    }

    fn unit(&self) -> u128 {
        u128::from(self.window) * u128::from(SLOW_SCALE)
    }

    fn parts(&self, amount: Amount) -> u128 {
        u128::from(amount.0).saturating_mul(self.unit())
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
            let drained = self.drained_in(now.0 - self.at.0);
            self.level = self.level.saturating_sub(drained);
            if let Some(assumed) = &mut self.assumed {
                assumed.left = assumed.left.saturating_sub(drained);
            }
            self.at = now;
        }
    }

    /// Adds an amount at `at`, or now when that has passed.
    pub(crate) fn pour(&mut self, at: Time, amount: Amount) {
        self.drain(at);
        self.other.below = self.other.below.min(self.level);
        self.level = self.level.saturating_add(self.parts(amount));
        if mutant::active(Mutant::DebtClamped) {
            self.level = self.level.min(self.parts(self.size));
        }
        self.limit_level();
    }

    /// Whether it drains within a window, whatever was poured into it while it was larger or drained faster.
    pub(crate) fn drain_within_a_window(&mut self, whether: bool) {
        self.within_a_window = whether;
        self.limit_level();
    }

    fn limit_level(&mut self) {
        if self.within_a_window {
            self.level = self.level.min(self.parts(self.size.max(Amount(self.amount))));
        }
    }

    /// Takes an amount back.
    pub(crate) fn take_back(&mut self, amount: Amount) {
        self.level = self.level.saturating_sub(self.parts(amount));
    }

    /// Sets the level to this amount at `at`.
    pub(crate) fn set(&mut self, amount: Amount, at: Time) {
        self.level = self.parts(amount);
        self.assumed = None;
        self.other = Other::default();
        self.at = at;
    }

    /// Assumes that it was full but for `spare` at `at`.
    pub(crate) fn assume(&mut self, spare: Amount, at: Time) {
        self.set(self.size - spare, at);
        self.assumed = Some(Assumed { left: self.level, spare, since: at });
    }

    /// How much is in it, a part of a unit counted whole.
    pub(crate) fn level(&self) -> Amount {
        Amount(u64::try_from(self.level.div_ceil(self.unit())).unwrap_or(u64::MAX))
    }

    /// How many units fit into it at `at`, a part of one counted whole.
    pub(crate) fn room(&mut self, at: Time) -> Amount {
        self.drain(at);
        let room = self.parts(self.size).saturating_sub(self.level).div_ceil(self.unit());
        Amount(u64::try_from(room).unwrap_or(u64::MAX))
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

    /// Takes on another limit. A provider's bucket may keep its level or what remains of it, so the higher level of
    /// the two counts. Of what is only assumed no more counts than the new size allows.
    pub(crate) fn reconfigure(&mut self, size: Amount, amount: Amount, window: Duration, mint: bool) {
        let old = self.clone();
        self.size = size.max(Amount::ONE);
        self.amount = amount.0.max(1);
        self.window = nanos(window).max(1);
        let (unit, new_unit) = (old.unit(), self.unit());
        // In the new parts, rounded up.
        let scaled = |parts: u128| parts / unit * new_unit + (parts % unit * new_unit).div_ceil(unit);
        let other = old.level - old.other.below.min(old.level);
        let (kept_level, kept_rest) =
            if old.other.kept_level { (other, old.level) } else { (old.level, other) };
        let mut surplus = 0;
        if let Some(Assumed { left, spare, since }) = old.assumed {
            let allowed = self.parts(self.size - spare).saturating_sub(self.drained_in(self.at.0 - since.0));
            surplus = scaled(left).saturating_sub(allowed);
            self.assumed = Some(Assumed { left: scaled(left) - surplus, spare, since });
        }
        let kept_level = scaled(kept_level).saturating_sub(surplus);
        // L' = b' − min(b', b − L), and debt is carried over whole.
        let (full, full_before, kept_rest) = (self.parts(self.size), self.parts(old.size), scaled(kept_rest));
        let remains = full_before.saturating_sub(kept_rest);
        let kept_rest = full - remains.min(full) + kept_rest.saturating_sub(full_before);
        let kept_level = if mutant::active(Mutant::EditLowersLevel) { 0 } else { kept_level };
        self.level = if mint { 0 } else { kept_level.max(kept_rest) };
        let below = self.level.saturating_sub(kept_level.min(kept_rest));
        self.other = Other { below, kept_level: kept_level < kept_rest };
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
    fn a_cut_keeps_the_level() {
        let mut b = Bucket::new(Amount(10), Amount(10), Duration::from_secs(1), Time(0));
        b.pour(Time(0), Amount(9));
        b.reconfigure(Amount(2), Amount(5), Duration::from_secs(1), false);
        assert_eq!(b.level(), Amount(9), "the provider may have kept it too");
        for _ in 0..3 {
            b.reconfigure(Amount(10), Amount(10), Duration::from_secs(1), false);
            assert_eq!(b.level(), Amount(9), "raised again, as much remains as before");
            b.reconfigure(Amount(2), Amount(5), Duration::from_secs(1), false);
            assert_eq!(b.level(), Amount(9));
        }
    }

    #[test]
    fn a_cut_lowers_what_is_only_assumed() {
        let mut b = Bucket::new(Amount(10), Amount(10), Duration::from_secs(1), Time(0));
        b.assume(Amount::ONE, Time(0));
        b.pour(Time(0), Amount::ONE);
        b.reconfigure(Amount(2), Amount(5), Duration::from_secs(1), false);
        assert_eq!(b.level(), Amount(2), "one is assumed, one was poured");
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
