//! Units of a log that nobody has to know one by one: many at a time, and when they leave.
//!
//! What is assumed of a time of which nothing is known comes in thousands. An entry stands for units
//! that leave evenly; nothing is ever reported of one of them.
//!
//! No more is assumed than the limit in force allows. A ramp keeps what was assumed when it was made, and
//! [`Most`] says how much of that counts: lowering a limit and raising it again forgets nothing. What a predecessor
//! may have granted counts in full, because the provider may have counted it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::WindowEnd;
use crate::cost::Amount;
use crate::time::Time;

/// Units that leave the log `interval` nanoseconds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ramp {
    /// How many.
    pub units: u64,
    /// When the last of them leaves.
    pub last: Time,
    /// How much earlier, in nanoseconds, the one before leaves; 0: all at once.
    pub interval: u64,
    /// How much of the limit was left beside them, for a call that asks the provider.
    pub spare: u64,
}

impl Ramp {
    /// How many of them are still in the log at `at`.
    fn left_at(&self, at: Time) -> u64 {
        self.left_at_interval(at, self.interval)
    }

    fn left_at_interval(&self, at: Time, interval: u64) -> u64 {
        match self.last.0.checked_sub(at.0) {
            None | Some(0) => 0,
            Some(_) if interval == 0 => self.units,
            Some(ahead) => ahead.div_ceil(interval).min(self.units),
        }
    }

    /// Whether they are only assumed; otherwise a predecessor may really have granted them.
    fn is_assumed(&self) -> bool {
        self.spare > 0
    }

    /// How many of them count at `at` under the limit in force.
    fn counted_at(&self, at: Time, most: &Most) -> u64 {
        let even = if self.is_assumed() && self.interval > 0 { most.interval } else { 0 };
        self.left_at_interval(at, self.interval.max(even))
    }

    /// When the first of them leaves.
    fn first(&self) -> Time {
        Time(self.last.0.saturating_sub(self.interval.saturating_mul(self.units.saturating_sub(1))))
    }
}

/// The most that the limit in force lets anybody have used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// In a window.
    pub(super) amount: u64,
    /// Nanoseconds from unit to unit, W/N.
    pub(super) interval: u64,
}

impl Default for Most {
    fn default() -> Most {
        Most { amount: u64::MAX, interval: 0 }
    }
}

/// Units of a predecessor that are in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrival {
    /// When the provider has counted them at the latest.
    pub settles: Time,
    /// How many.
    pub units: u64,
}

/// The units of a counter that are known in bulk.
#[derive(Clone, Debug, Default)]
pub(super) struct Bulk {
    /// In flight until a time, of a predecessor.
    arriving: Vec<Arrival>,
    ramps: Vec<Ramp>,
    most: Most,
    /// Those in flight.
    units_arriving: u64,
    /// Those of the ramps that count as of the last [`Bulk::leave`].
    units: u64,
}

impl Bulk {
    /// Units in the log, in flight or not.
    pub(super) fn amount(&self) -> Amount {
        Amount(self.units + self.units_arriving)
    }

    /// Those of them of whose time nothing is known; a predecessor may really have granted the others.
    pub(super) fn assumed(&self) -> Amount {
        let granted = self.ramps.iter().filter(|ramp| !ramp.is_assumed()).map(|ramp| ramp.units);
        Amount(self.units.saturating_sub(granted.sum()))
    }

    /// Takes on the limit in force; to be followed by [`Bulk::leave`].
    pub(super) fn set_most(&mut self, most: Most) {
        self.most = most;
    }

    /// Adds units that leave evenly, as of `now`.
    pub(super) fn add(&mut self, ramp: Ramp, now: Time) {
        if ramp.units > 0 {
            self.ramps.push(ramp);
            self.units = self.counted_at(now);
        }
    }

    /// How many units of the ramps count at `at`.
    fn counted_at(&self, at: Time) -> u64 {
        let spare = self.ramps.iter().map(|ramp| ramp.spare).max().unwrap_or(0);
        let counted = |assumed: bool| {
            let ramps = self.ramps.iter().filter(move |ramp| ramp.is_assumed() == assumed);
            ramps.map(|ramp| ramp.counted_at(at, &self.most)).sum::<u64>()
        };
        counted(false) + counted(true).min(self.most.amount.saturating_sub(spare))
    }

    /// Whether the limit in force lets all of them count.
    fn all_count(&self) -> bool {
        self.units == self.ramps.iter().map(|ramp| ramp.units).sum::<u64>()
    }

    /// Adds units that the provider has counted by `settles`.
    pub(super) fn add_arriving(&mut self, settles: Time, amount: Amount) {
        let units = amount.0;
        if units > 0 {
            self.units_arriving += units;
            self.arriving.push(Arrival { settles, units });
        }
    }

    /// When the next of those in flight has arrived.
    pub(super) fn next_arrival(&self) -> Time {
        self.arriving.iter().map(|arrival| arrival.settles).min().unwrap_or(Time::NEVER)
    }

    /// Takes out those that have arrived by `now`, the earliest first.
    pub(super) fn arrive(&mut self, now: Time) -> Option<Arrival> {
        let next = self.next_arrival();
        let place = self.arriving.iter().position(|arrival| arrival.settles == next && next <= now)?;
        let arrived = self.arriving.swap_remove(place);
        self.units_arriving -= arrived.units;
        Some(arrived)
    }

    /// Takes out so many of those in flight, or fewer where there are not as many, of the ones that arrive last.
    pub(super) fn take_arriving(&mut self, units: u64) -> Option<Arrival> {
        let place = (0..self.arriving.len()).max_by_key(|place| self.arriving[*place].settles)?;
        let Arrival { settles, units: there } = self.arriving[place];
        let units = units.min(there);
        self.units_arriving -= units;
        self.arriving[place].units -= units;
        if units == there {
            self.arriving.swap_remove(place);
        }
        Some(Arrival { settles, units })
    }

    /// Lets units go whose time has come.
    pub(super) fn leave(&mut self, now: Time) {
        for ramp in &mut self.ramps {
            ramp.units = ramp.left_at(now);
        }
        self.ramps.retain(|ramp| ramp.units > 0);
        self.units = self.counted_at(now);
    }

    /// What was counted before a time is over.
    pub(super) fn forget_counted_before(&mut self, time: Time, window: Duration, now: Time) {
        for ramp in &mut self.ramps {
            // A unit that was counted at `time` leaves a window later.
            ramp.units = ramp.left_at(Time((time + window).0.saturating_sub(1)));
        }
        self.leave(now);
    }

    /// When the next of them leaves.
    pub(super) fn next_leaving(&self) -> Time {
        if self.all_count() {
            return self.ramps.iter().map(Ramp::first).min().unwrap_or(Time::NEVER);
        }
        let last = self.last_leaving().unwrap_or(Time::NEVER);
        earliest(last, |at| self.counted_at(at) < self.units)
    }

    /// When the last of those that have arrived leaves.
    pub(super) fn last_leaving(&self) -> Option<Time> {
        self.ramps.iter().map(|ramp| ramp.last).max()
    }

    /// When the last of those in flight has arrived.
    pub(super) fn last_arrival(&self) -> Option<Time> {
        self.arriving.iter().map(|arrival| arrival.settles).max()
    }

    /// Whether none leaves at a known time.
    pub(super) fn is_empty(&self) -> bool {
        self.ramps.is_empty()
    }

    /// How many have left by `at`.
    pub(super) fn left_by(&self, at: Time) -> Amount {
        Amount(self.units.saturating_sub(self.counted_at(at)))
    }

    /// Until when it is not known what was drawn: each unit is held for `window` after it was.
    pub(super) fn unknown_until(&self, window: Duration) -> Time {
        let arriving = self.arriving.iter().map(|arrival| arrival.settles);
        let ramps = self.ramps.iter().map(|ramp| ramp.last - window);
        arriving.chain(ramps).max().unwrap_or(Time(0))
    }

    /// Keeps at most so many units of an unknown past; those that would have left first go. What is
    /// in flight stays. Whether any went.
    pub(super) fn past_is_at_most(&mut self, most: Amount, now: Time) -> bool {
        let units: u64 = self.ramps.iter().map(|ramp| ramp.units).sum();
        let last = self.ramps.iter().map(|ramp| ramp.last).max();
        let Some(last) = last.filter(|_| units > most.0) else {
            return false;
        };
        let mut surplus = units - most.0;
        let left_by =
            |ramps: &[Ramp], at| ramps.iter().map(|ramp| ramp.units - ramp.left_at(at)).sum::<u64>();
        let until = earliest(last, |at| left_by(&self.ramps, at) >= surplus);
        // All that leave before, and of those that leave at that time as many as are too many.
        for ramp in &mut self.ramps {
            let left = if until.0 > 0 { ramp.left_at(Time(until.0 - 1)) } else { ramp.units };
            surplus -= ramp.units - left;
            ramp.units = left;
        }
        for ramp in &mut self.ramps {
            let go = (ramp.units - ramp.left_at(until)).min(surplus);
            surplus -= go;
            ramp.units -= go;
        }
        self.leave(now);
        true
    }

    /// What had been counted when a window began that ends then is back at its end, and nothing of it before.
    /// Units of a predecessor may be counted late, after the end of an earlier window. Whether anything changed.
    pub(super) fn past_ends(&mut self, end: WindowEnd, window: Duration, now: Time) -> bool {
        let known = |ramp: &Ramp| ramp.spare > 0 || ramp.last - window <= end.earliest;
        let (ending, others): (Vec<Ramp>, Vec<Ramp>) = self.ramps.drain(..).partition(known);
        let last = ending.iter().map(|ramp| ramp.last).max();
        self.ramps = ending;
        let units = self.counted_at(now);
        let ramp = last.map(|last| Ramp { units, last: last.min(end.latest), interval: 0, spare: 1 });
        let changed = ramp.is_some_and(|ramp| self.ramps != [ramp]);
        self.ramps = others.into_iter().chain(ramp).collect();
        self.leave(now);
        changed
    }

    /// Takes on another window: what was counted at a time leaves a window later.
    pub(super) fn reconfigure(&mut self, old: Duration, new: Duration) {
        for ramp in &mut self.ramps {
            ramp.last = ramp.last - old + new;
        }
    }

    /// Forgets all of them. Returns how many were in flight.
    pub(super) fn clear(&mut self) -> Amount {
        let arriving = Amount(self.units_arriving);
        *self = Bulk { most: self.most, ..Bulk::default() };
        arriving
    }

    /// How many of an unknown past count at `at`, or of those that a predecessor has granted.
    pub(super) fn of_kind_at(&self, assumed: bool, at: Time) -> Amount {
        let all = self.counted_at(at);
        let certain = self.ramps.iter().filter(|ramp| !ramp.is_assumed());
        let certain: u64 = certain.map(|ramp| ramp.counted_at(at, &self.most)).sum();
        Amount(if assumed { all.saturating_sub(certain) } else { certain })
    }

    /// What the ledger keeps of those that have arrived.
    pub(super) fn ramps(&self) -> &[Ramp] {
        &self.ramps
    }

    /// What the ledger keeps of those in flight.
    pub(super) fn arriving(&self) -> &[Arrival] {
        &self.arriving
    }
}

/// The earliest time, `last` at the latest, from which on `enough` holds.
pub(super) fn earliest(last: Time, enough: impl Fn(Time) -> bool) -> Time {
    let (mut too_early, mut found) = (0, last.0);
    while too_early < found {
        let middle = too_early + (found - too_early) / 2;
        if enough(Time(middle)) {
            found = middle;
        } else {
            too_early = middle + 1;
        }
    }
    Time(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// The same, unit by unit.
    fn leaves(ramp: &Ramp) -> Vec<u64> {
        (0..ramp.units).map(|place| ramp.last.0.saturating_sub(place * ramp.interval)).collect()
    }

    fn ramp() -> impl Strategy<Value = Ramp> {
        (0u64..40, 1_000u64..2_000, 0u64..20).prop_map(|(units, last, interval)| Ramp {
            units,
            last: Time(last),
            interval,
            spare: 0,
        })
    }

    proptest! {
        #[test]
        fn a_ramp_is_its_units(ramps in prop::collection::vec(ramp(), 1..4), now in 500u64..2_100) {
            let mut bulk = Bulk::default();
            ramps.iter().for_each(|ramp| bulk.add(*ramp, Time(0)));
            let mut all: Vec<u64> = ramps.iter().flat_map(leaves).collect();
            prop_assert_eq!(bulk.left_by(Time(now)).0, all.iter().filter(|at| **at <= now).count() as u64);
            prop_assert_eq!(bulk.next_leaving().0, all.iter().min().copied().unwrap_or(u64::MAX));
            bulk.leave(Time(now));
            all.retain(|at| *at > now);
            prop_assert_eq!(bulk.amount(), Amount(all.len() as u64));
        }

        #[test]
        fn of_an_unknown_past_the_earliest_go(ramps in prop::collection::vec(ramp(), 1..4), most in 0u64..80) {
            let mut bulk = Bulk::default();
            ramps.iter().for_each(|ramp| bulk.add(*ramp, Time(0)));
            let mut all: Vec<u64> = ramps.iter().flat_map(leaves).collect();
            all.sort_unstable();
            bulk.past_is_at_most(Amount(most), Time(0));
            let kept = all.split_off(all.len().saturating_sub(usize::try_from(most).unwrap()));
            let mut left: Vec<u64> = bulk.ramps().iter().flat_map(leaves).collect();
            left.sort_unstable();
            prop_assert_eq!(left, kept);
            prop_assert_eq!(bulk.amount(), Amount(bulk.ramps().iter().map(|ramp| ramp.units).sum()));
        }
    }
}
