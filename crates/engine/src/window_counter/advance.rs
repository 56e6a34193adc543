//! What happens as time passes: units settle, and leave the log; and when something happens next.

use super::WindowCounter;
use super::bulk::{Arrival, Ramp};
use super::settling::Due;
use crate::cost::Amount;
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::units::{Origin, UnitKey};

impl WindowCounter {
    /// Lets everything happen whose time has come.
    pub(crate) fn advance(&mut self, now: Time) {
        let begins = self.period.advance(now, self.charged - self.in_flight);
        if begins && mutant::active(Mutant::ResetFreesOwnCharges) {
            let own = self.units.iter().filter(|(_, unit)| unit.counted && unit.origin == Origin::Call);
            own.map(|(key, _)| key).collect::<Vec<_>>().into_iter().for_each(|key| self.refund(key));
        }
        while let Some(Arrival { settles, units }) = self.bulk.arrive(now) {
            self.settle_until(settles);
            self.in_flight -= Amount(units);
            if !mutant::active(Mutant::GrantsPaced) {
                self.bucket.pour(settles, Amount(units));
            }
            let ramp = Ramp { units, last: settles + self.window, interval: 0, spare: 0 };
            self.bulk.add(ramp, now);
        }
        self.settle_until(now);
        while let Some((at, key)) = self.leaving.first() {
            let current = self.units.get(key).is_some_and(|unit| unit.counted && unit.leaves == at);
            if current && at > now {
                break;
            }
            self.leaving.pop();
            if current && !self.extend_others(key, at) {
                self.units.remove(key);
            }
        }
        self.slots.leave(now);
        if !self.bulk.is_empty() {
            self.bulk.leave(now);
        }
        self.bucket.drain(now);
        self.soonest = Time::NEVER;
    }

    /// Lets the bucket drain, where nothing else happens by `now`.
    pub(crate) fn drain(&mut self, now: Time) {
        debug_assert!(self.next_event(now) > now, "something happens by {now:?}");
        self.bucket.drain(now);
    }

    /// Before this time nothing happens that charges and reports have set since [`WindowCounter::advance`].
    pub(crate) fn soonest(&self) -> Time {
        self.soonest
    }

    pub(super) fn settles_at(&mut self, at: Time, key: UnitKey, due: Due) {
        self.soonest = self.soonest.min(at);
        self.settling.push(at, key, due);
    }

    pub(super) fn leaves_at(&mut self, at: Time, key: UnitKey, cost: Amount) {
        self.soonest = self.soonest.min(at);
        self.leaving.push(at, key, cost);
    }

    pub(super) fn settle_until(&mut self, now: Time) {
        loop {
            let units = &self.units;
            self.settling
                .sweep(|(at, key)| units.get(key).is_some_and(|unit| !unit.counted && unit.settles == at));
            let Some((at, key)) = self.settling.pop(now) else { break };
            self.settle(key, at);
        }
    }

    pub(super) fn settle(&mut self, key: UnitKey, at: Time) {
        let window = self.window;
        self.asks_first = false;
        if !self.known.is_empty()
            && let Some(drawn) = self.known.remove(&key)
        {
            let held = self.cost_of(key);
            self.settle_up(at, key, held, drawn);
            if mutant::active(Mutant::RefundLowersLevel) {
                self.bucket.take_back(held - drawn);
            }
        }
        let Some(unit) = self.units.get_mut(key) else {
            return;
        };
        unit.counted = true;
        unit.settles = at;
        unit.leaves = at + window;
        let assumed = matches!(unit.origin, Origin::Reserve | Origin::Past);
        let unit_of_a_call = unit.origin == Origin::Call;
        let (leaves, cost) = (unit.leaves, unit.cost());
        self.in_flight -= cost;
        self.landed += cost;
        if !mutant::active(Mutant::GrantsPaced) {
            // Whoever granted from a reserve kept within the bucket, however many reserves there were.
            let most = if assumed { self.bucket.room(at) } else { cost };
            self.bucket.pour(at, cost.min(most));
        }
        if self.in_slots && unit_of_a_call {
            self.units.remove(key);
            self.slots.add(leaves, cost, self.slot_length(at));
            self.soonest = self.soonest.min(leaves);
        } else {
            self.leaves_at(leaves, key, cost);
        }
    }

    pub(super) fn next_settling(&self) -> Time {
        let unit = self.settling.first().map_or(Time::NEVER, |(at, _)| at);
        unit.min(self.bulk.next_arrival())
    }

    pub(super) fn next_change(&self, now: Time) -> Time {
        let leaving = self.leaving.first().map_or(Time::NEVER, |(at, _)| at);
        let leaving = leaving.min(self.period_ends(now).unwrap_or(Time::NEVER));
        leaving.min(self.slots.next()).min(self.bulk.next_leaving()).min(self.next_settling())
    }

    /// When [`WindowCounter::advance`] next does more than drain the bucket. To be asked after it; `now` where that is
    /// not looked up: of what is known in bulk, or while the word of the next period is overdue.
    pub(crate) fn next_event(&self, now: Time) -> Time {
        let overdue = self.calendar.is_overdue(now);
        if overdue || !self.bulk.is_empty() || self.bulk.next_arrival() < Time::NEVER {
            return now;
        }
        let leaving = self.leaving.first().map_or(Time::NEVER, |(at, _)| at);
        let period = self.period.next_end().min(self.period_ends(now).unwrap_or(Time::NEVER));
        leaving.min(self.slots.next()).min(self.next_settling()).min(period)
    }
}
