//! What a counter begins with where the time before is not known, and what the provider's headers
//! reveal of it.

use std::time::Duration;

use super::{LONG, Ramp, WindowCounter, WindowEnd, spread};
use crate::cost::Amount;
use crate::mutant::{self, Mutant};
use crate::time::{Time, stretched};
use crate::units::{Origin, Unit};

/// How much of a limit was used, as a person says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatedAmount {
    /// Of the whole account.
    pub(crate) total: Amount,
    /// The same in terms of our part: what of it is not left.
    pub(crate) ours: Amount,
}

impl WindowCounter {
    /// What of the log is of a time of which nothing is known. Of a long window, what a predecessor may have granted is
    /// known by a checkpoint.
    pub(crate) fn assumed(&self) -> Amount {
        let past = self.units.iter().filter(|(_, unit)| unit.origin == Origin::Past);
        let checkpointed = self.window >= LONG && !self.asks_bucket;
        let bulk = if checkpointed { self.bulk.assumed() } else { self.bulk.amount() };
        past.map(|(_, unit)| unit.cost()).sum::<Amount>() + bulk
    }

    /// Counts for a window, and no longer, what was granted before the limit became much smaller: its bucket would
    /// drain for as many windows as it holds of the smaller amounts.
    pub(crate) fn drain_within_a_window(&mut self) {
        self.bucket.drain_within_a_window(true);
    }

    /// Use of the time before this engine: N units that leave evenly through one window, and a
    /// full bucket but for one call, which asks the provider how things stand.
    pub(crate) fn fill_with_past(&mut self, begin: Time) {
        let units = self.amount - Amount::ONE;
        // Of a period all may have been used just now, and all is back at its end.
        let interval = if self.by_calendar { 0 } else { self.even_interval() };
        self.bulk.add(Ramp { units: units.0, last: begin + self.window, interval, spare: 1 }, begin);
        self.bucket.assume(Amount::ONE, begin);
    }

    /// Nothing has been granted of it yet, but others may use it: one call goes first, and the rest follow when the
    /// provider has counted it. What its answer tells of the limit is known by then, if it is quick.
    pub(crate) fn ask_first(&mut self) {
        self.asks_first = true;
    }

    /// The call that went first has been answered, or is over: what its answer told is known, if it told anything.
    pub(crate) fn first_answered(&mut self) {
        self.asks_first = false;
    }

    /// The most that a predecessor can have granted in a time of this length: with a bucket what it holds and what
    /// drains meanwhile, otherwise all of N at once.
    fn grantable_within(&self, length: Option<Duration>) -> Amount {
        let Some(length) = length.filter(|_| self.asks_bucket) else { return self.amount };
        let length = stretched(stretched(length)).as_nanos();
        let drained = (u128::from(self.amount.0) * length).div_ceil(self.window.as_nanos().max(1));
        let drained = Amount(u64::try_from(drained).unwrap_or(u64::MAX));
        if drained >= self.amount { self.amount } else { (self.bucket.size() + drained).min(self.amount) }
    }

    /// A limiter that takes over knows nothing of what its predecessor granted: a full bucket in
    /// flight until `arrived`, the rest leaving the log at the rate at which it can have come in; in all no more
    /// than can have been granted while the account was `in_force`. A long window without a bucket would be closed
    /// for all of it: once the predecessor's calls have arrived, one call may ask the provider how things stand.
    pub(crate) fn fill_with_predecessor(&mut self, now: Time, arrived: Time, in_force: Option<Duration>) {
        if !self.asks_bucket && self.window >= LONG {
            let units = self.amount - Amount::ONE;
            self.bulk.add(Ramp { units: units.0, last: arrived + self.window, interval: 0, spare: 1 }, now);
            let settled = arrived - self.window;
            self.insert_counted(Unit::counted(Amount::ONE, settled, arrived, Origin::Past));
            self.asks_provider = Some(arrived);
            return;
        }
        let most = self.grantable_within(in_force);
        let at_once = self.at_once().min(most);
        self.bulk.add_arriving(arrived, at_once);
        self.in_flight += at_once;
        self.charged += at_once;
        if mutant::active(Mutant::GrantsPaced) {
            self.bucket.pour(now, at_once);
        }
        if let Some(spacing) = self.spacing {
            self.spaced_until = self.spaced_until.max(now) + spread(spacing, at_once);
        }
        let (interval, units) = (self.closest_interval(), most - at_once);
        self.bulk.add(Ramp { units: units.0, last: arrived + self.window, interval, spare: 0 }, now);
        self.bucket.drain(now);
    }

    /// The provider says that `used` units are charged to the account in all: no more than that
    /// can be left of an unknown past. Those that would have left first go. Whether any went.
    pub(crate) fn past_is_at_most(&mut self, used: Amount, now: Time) -> bool {
        self.asks_provider = None;
        self.bulk.past_is_at_most(used, now)
    }

    /// A person says how much of the limit the provider had counted at a time: of what was unknown until then no
    /// more than that is left, and what is more than ours had drawn by then was drawn by others. That replaces what
    /// was known of others until then. It says nothing of what became unknown or was drawn later. Whether anything
    /// changed.
    pub(crate) fn use_is_stated(&mut self, used: StatedAmount, at: Time, now: Time) -> bool {
        if self.bulk.unknown_until(self.window) > at || at + self.window <= now {
            return false;
        }
        let lifted = self.past_is_at_most(used.total, now);
        let others = used.ours - self.ours_counted_by(at) - self.bulk.amount();
        let replaced = self.replace_others(others, at, at + self.window);
        lifted || replaced
    }

    /// What of the log the provider had counted of ours by a time.
    fn ours_counted_by(&self, at: Time) -> Amount {
        let ours = |unit: &Unit| unit.counted && unit.settles <= at && unit.origin != Origin::Others;
        let known: Amount =
            self.units.iter().filter(|(_, unit)| ours(unit)).map(|(_, unit)| unit.cost()).sum();
        known + self.slots.by(at + self.window)
    }

    /// The provider says when its window ends: an unknown past is back then, and nothing of it before. Whether
    /// anything changed.
    pub(crate) fn past_ends(&mut self, end: WindowEnd, now: Time) -> bool {
        self.bulk.past_ends(end, self.window, now)
    }
}
