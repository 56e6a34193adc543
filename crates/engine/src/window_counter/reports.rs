//! What becomes known of a charge: it was counted, written, settled, produced in part, or not used.

use super::{Arrival, Due, WindowCounter};
use crate::cost::Amount;
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::units::{Origin, Unit, UnitKey};

/// What a late or early report did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// The unit was where it should be.
    InTime,
    /// It was written after S: the rule's bound did not hold for it.
    Late(UnitKey),
}

/// What a call was charged at its grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub(crate) key: UnitKey,
    pub(crate) cost: Amount,
    /// S, as it was then.
    pub(crate) settles: Time,
}

impl WindowCounter {
    /// The provider has counted the call by `latest`: S = min(S, latest).
    pub(crate) fn counted_by(&mut self, now: Time, key: UnitKey, latest: Time) {
        let window = self.window;
        let Some(unit) = self.units.get_mut(key) else {
            return;
        };
        if latest >= unit.settles {
            return;
        }
        unit.settles = latest;
        if unit.counted {
            unit.leaves = latest + window;
            let cost = unit.cost();
            self.leaves_at(latest + window, key, cost);
        } else if latest > now {
            self.settles_at(latest, key, Due::AsReported);
        } else {
            self.settle(key, latest);
        }
    }

    /// The call of this cost was written, and is counted by `bound` at the latest, whatever was assumed
    /// before. One that was believed counted, or out of the log, is charged once more.
    pub(crate) fn written(&mut self, now: Time, granted: Granted, bound: Time) -> Reported {
        let Granted { key, cost, settles } = granted;
        let window = self.window;
        match self.units.get_mut(key) {
            Some(unit) if bound <= unit.settles => {
                self.counted_by(now, key, bound);
                Reported::InTime
            }
            _ if mutant::active(Mutant::IgnoreLateSent) => Reported::InTime,
            Some(unit) if !unit.counted => {
                unit.settles = bound;
                self.settles_at(bound, key, Due::AsReported);
                Reported::InTime
            }
            Some(unit) => {
                unit.settles = bound;
                unit.leaves = bound + window;
                let cost = unit.cost();
                self.leaves_at(bound + window, key, cost);
                self.bucket.pour(now, cost);
                self.draw(cost);
                Reported::Late(key)
            }
            // It is in a slot.
            None if bound <= settles => Reported::InTime,
            None if bound + window > now => {
                self.bucket.pour(now, cost);
                self.draw(cost);
                let unit = Unit::counted(cost, bound, bound + window, Origin::Call);
                Reported::Late(self.insert_counted(unit))
            }
            None => Reported::Late(key),
        }
    }

    /// The call that was charged `charged` has really drawn `cost`. What is in flight just changes: nothing
    /// was poured for it yet. What was poured is never taken back, because the provider's bucket may have been
    /// empty meanwhile and have lost the credit; the log is corrected, and what was drawn beyond the charge is
    /// poured and logged now, also where the charge has left the log already.
    pub(crate) fn settle_up(&mut self, now: Time, key: UnitKey, charged: Amount, cost: Amount) {
        let beyond = cost - charged;
        self.charged += beyond;
        match self.units.get(key).copied() {
            Some(unit) if unit.counted => {
                self.bucket.pour(now, beyond);
                self.draw(beyond);
                self.leaving.set_cost(unit.leaves, key, cost);
            }
            Some(unit) => {
                self.in_flight = self.in_flight - unit.cost() + cost;
                self.draw(cost - unit.cost());
                self.give_back(unit.cost() - cost);
            }
            None if beyond > Amount::ZERO => {
                self.bucket.pour(now, beyond);
                self.draw(beyond);
                self.insert_counted(Unit::counted(beyond, now, now + self.window, Origin::Call));
            }
            None => {}
        }
        if cost.is_zero() {
            self.units.remove(key);
        } else {
            self.units.set_cost(key, cost);
        }
    }

    /// So much is drawn of what is held, and the provider has counted it by `settles`. Less becomes free then and no
    /// earlier: until then the provider may still count what was held.
    pub(crate) fn settles_as(&mut self, now: Time, key: UnitKey, drawn: Amount, settles: Time) {
        let held = self.cost_of(key);
        if drawn >= held || mutant::active(Mutant::FreedAtTheEnd) {
            self.settle_up(now, key, held, drawn);
        } else if self.units.get(key).is_some_and(|unit| !unit.counted) {
            self.known.insert(key, drawn);
        }
        self.counted_by(now, key, settles);
    }

    /// What a unit stands for; nothing when it is gone.
    pub(crate) fn cost_of(&self, key: UnitKey) -> Amount {
        self.units.get(key).map_or(Amount::ZERO, Unit::cost)
    }

    /// So much of what is held for a call in flight has been counted, or will be by `settles`; `rest` of it stays
    /// held, or more.
    pub(crate) fn produced(&mut self, key: UnitKey, amount: Amount, settles: Time, rest: Amount) {
        let Some(unit) = self.units.get(key).copied().filter(|unit| !unit.counted) else { return };
        let rest = (unit.cost() - amount).max(rest);
        self.units.set_cost(key, rest);
        let part = self.units.insert(Unit::in_flight(amount, settles, Origin::Call));
        self.settles_at(settles, part, Due::AsReported);
        self.in_flight = self.in_flight - unit.cost() + rest + amount;
        self.charged += rest + amount - unit.cost();
        self.draw(rest + amount - unit.cost());
    }

    /// The call was not and will not be written. It leaves the log; what the bucket has counted
    /// stays, because calls may have been held back on account of it.
    pub(crate) fn refund(&mut self, key: UnitKey) {
        self.known.remove(&key);
        let Some(unit) = self.units.remove(key) else {
            return;
        };
        if !unit.counted {
            self.in_flight -= unit.cost();
            self.give_back(unit.cost());
        } else if mutant::active(Mutant::SubtractOnUnused) {
            self.bucket.take_back(unit.cost());
        }
    }

    /// Takes a part of the reserve over for a call of this cost that turns out to have been granted from it.
    pub(crate) fn claim_reserved(&mut self, cost: Amount) -> Option<UnitKey> {
        let reserved = |unit: &Unit| unit.origin == Origin::Reserve && !unit.counted;
        let (reserve, unit) = self.units.iter().find(|(_, unit)| reserved(unit))?;
        let (settles, left, beyond) = (unit.settles, unit.cost() - cost, cost - unit.cost());
        self.in_flight += beyond;
        self.charged += beyond;
        self.draw(beyond);
        if left.is_zero() {
            self.units.remove(reserve);
        } else {
            self.units.set_cost(reserve, left);
        }
        let key = self.units.insert(Unit::in_flight(cost, settles, Origin::Call));
        self.settles_at(settles, key, Due::AsGranted);
        Some(key)
    }

    /// Takes a part of what a predecessor may have granted over for a call of this cost that turns out to be one of its
    /// grants, with its S; `None`: nothing of it is in flight any more.
    pub(crate) fn claim_arriving(&mut self, cost: Amount) -> Option<(UnitKey, Time)> {
        let Arrival { settles, units } = self.bulk.take_arriving(cost.0)?;
        let beyond = cost - Amount(units);
        self.in_flight += beyond;
        self.charged += beyond;
        self.draw(beyond);
        let key = self.units.insert(Unit::in_flight(cost, settles, Origin::Call));
        self.settles_at(settles, key, Due::AsGranted);
        Some((key, settles))
    }
}
