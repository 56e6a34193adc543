//! Use of the account by others, as answers reveal it.
//!
//! An answer says how much is used in all. What of it cannot be ours is charged to others: at least so much stays
//! charged for a window after the newest answer that says so, because nobody knows which of it was drawn when. What has
//! been charged for longer than a window may be gone already: it goes as soon as an answer to a later call says that
//! there is room.

use super::WindowCounter;
use crate::cost::Amount;
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::units::{Origin, Unit, UnitKey};

/// What others have drawn, by when it is free again; the last is what the newest answers say.
#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    parts: Vec<Part>,
    /// When the call was granted that was the latest of those whose answers have come.
    newest: Time,
}

/// Use by others that is one unit of the log.
#[derive(Clone, Copy, Debug)]
struct Part {
    unit: UnitKey,
    /// When an answer last revealed more of it.
    seen: Time,
    /// Until when it is charged, if no answer says more.
    until: Time,
}

impl Others {
    /// Takes in that an answer has come to a call that was granted then. Returns whether it is the newest.
    pub(super) fn is_newest(&mut self, granted: Time) -> bool {
        let newest = granted >= self.newest;
        self.newest = self.newest.max(granted);
        newest
    }

    /// Takes in a unit that was restored.
    pub(super) fn restore(&mut self, unit: UnitKey, seen: Time, until: Time) {
        self.parts.push(Part { unit, seen, until });
    }
}

/// A part of what others have drawn, as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownOthers {
    pub(crate) amount: Amount,
    seen: Time,
    until: Time,
}

/// What an answer says of use by others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OthersSeen {
    /// At least so much.
    pub(crate) amount: Amount,
    /// When it is free again at the latest, if that is told; else after a window.
    pub(crate) end: Option<Time>,
    /// When the call was granted that the answer is to.
    pub(crate) granted: Time,
    /// How much may be granted now, whatever is charged.
    pub(crate) room: Amount,
}

impl WindowCounter {
    /// Charges what an answer says of others. Returns whether that is more than was known.
    pub(crate) fn charge_others(&mut self, now: Time, seen: OthersSeen) -> bool {
        let end = seen.end.filter(|_| !mutant::active(Mutant::OthersOutlastReset));
        let late = end.filter(|_| mutant::active(Mutant::LateResetBelieved));
        let until = late.unwrap_or(end.unwrap_or(Time::NEVER).min(now + self.window));
        self.forget_others_that_left();
        if mutant::active(Mutant::LastAnswerCounts) {
            let all = std::mem::take(&mut self.others.parts);
            all.iter().for_each(|part| self.drop_unit(part.unit));
        }
        let again =
            if mutant::active(Mutant::OthersChargedAgain) { self.used_by_others() } else { Amount::ZERO };
        let amount = (seen.amount + again).min(self.amount);
        let known = self.used_by_others();
        let charged = !amount.is_zero() && until > now && !mutant::active(Mutant::OthersForgotten);
        let more = charged && self.keep_others(now, amount, until);
        self.draw(self.used_by_others() - known);
        // One that was overtaken by a later call's answer may tell of room that is gone.
        if !more && seen.granted >= self.others.newest {
            self.release_others(now, seen);
        }
        self.others.newest = self.others.newest.max(seen.granted);
        more
    }

    /// Has at least so much stay until then. Returns whether more was charged for it.
    fn keep_others(&mut self, now: Time, amount: Amount, until: Time) -> bool {
        let known = self.used_by_others();
        let mut seen = now;
        if known >= amount {
            // The newest of the parts that make up the amount: what is beyond keeps its time.
            let mut left = amount;
            let mut kept = Vec::new();
            while let Some(part) = self.others.parts.pop() {
                let cost = self.units.get(part.unit).map_or(Amount::ZERO, Unit::cost);
                if cost > left {
                    self.others.parts.push(part);
                    break;
                }
                left -= cost;
                kept.push(part);
                if left.is_zero() {
                    break;
                }
            }
            seen = kept.iter().map(|part| part.seen).max().unwrap_or(Time(0));
            if let Some(part) = self.others.parts.last().copied().filter(|_| !left.is_zero()) {
                let cost = self.units.get(part.unit).map_or(Amount::ZERO, Unit::cost);
                self.correct(part.unit, cost - left);
                seen = seen.max(part.seen);
            }
            if let [only] = kept[..]
                && left.is_zero()
            {
                self.others.parts.push(Part { until: only.until.max(until), ..only });
                return false;
            }
            kept.iter().for_each(|part| self.drop_unit(part.unit));
        } else {
            let all = std::mem::take(&mut self.others.parts);
            all.iter().for_each(|part| self.drop_unit(part.unit));
        }
        let unit = self.insert_counted(Unit::counted(amount, seen, until, Origin::Others));
        self.others.parts.push(Part { unit, seen, until });
        known < amount
    }

    /// Lets go of what others may have drawn longer than a window ago, as far as an answer to a later call has room
    /// that is taken by it.
    fn release_others(&mut self, now: Time, seen: OthersSeen) {
        let free = self.amount - self.logged();
        // The provider may count some of ours no longer that are about to leave here: room is theirs first.
        let ours = self.leaving.by(now + self.outlasts) - self.others_until(now + self.outlasts);
        let mut surplus = seen.room - free - ours;
        let window = self.window;
        let gone = |part: &Part| part.seen + window <= now && part.until <= seen.granted + window;
        let parts = std::mem::take(&mut self.others.parts);
        for part in parts {
            let cost = self.units.get(part.unit).map_or(Amount::ZERO, Unit::cost);
            if surplus.is_zero() || !gone(&part) {
                self.others.parts.push(part);
            } else if cost <= surplus {
                surplus -= cost;
                self.drop_unit(part.unit);
            } else {
                self.correct(part.unit, cost - surplus);
                surplus = Amount::ZERO;
                self.others.parts.push(part);
            }
        }
    }

    /// Others had drawn so much at a time, which stays charged until then. It replaces what was known of them by that
    /// time; what answers have revealed since stays, and is a part of it. Returns whether that changed anything.
    pub(super) fn replace_others(&mut self, amount: Amount, at: Time, until: Time) -> bool {
        let before = self.used_by_others();
        let (old, newer) =
            std::mem::take(&mut self.others.parts).into_iter().partition(|part| part.seen <= at);
        self.others.parts = newer;
        let old: Vec<Part> = old;
        old.iter().for_each(|part| self.drop_unit(part.unit));
        let missing = amount.min(self.amount) - self.used_by_others();
        if !missing.is_zero() {
            let unit = self.insert_counted(Unit::counted(missing, at, until, Origin::Others));
            self.others.parts.insert(0, Part { unit, seen: at, until });
        }
        self.used_by_others() != before
    }

    /// When what others have drawn is free again, if the unit stands for that.
    pub(super) fn others_leave(&self, key: UnitKey) -> Option<Time> {
        self.others.parts.iter().find(|part| part.unit == key).map(|part| part.until)
    }

    /// Others had drawn so much by the time at which it was stored, which stays charged until then.
    pub(super) fn restore_others(&mut self, amount: Amount, seen: Time, until: Time) {
        let unit = self.insert_counted(Unit::counted(amount, seen, until, Origin::Others));
        self.others.restore(unit, seen, until);
    }

    /// What others have drawn, part by part.
    pub(crate) fn known_others(&self) -> Vec<KnownOthers> {
        let known = |part: &Part| {
            let amount = self.units.get(part.unit).map_or(Amount::ZERO, Unit::cost);
            KnownOthers { amount, seen: part.seen, until: part.until }
        };
        self.others.parts.iter().map(known).collect()
    }

    /// Others have drawn these parts and nothing else, as far as they are not free again.
    pub(crate) fn know_others(&mut self, now: Time, known: &[KnownOthers]) {
        self.drop_others();
        for part in known.iter().filter(|part| part.until > now && !part.amount.is_zero()) {
            self.restore_others(part.amount, part.seen, part.until);
        }
    }

    /// Forgets all that others have drawn.
    pub(super) fn drop_others(&mut self) {
        std::mem::take(&mut self.others.parts).iter().for_each(|part| self.drop_unit(part.unit));
    }

    /// A part of a unit that is charged for longer stays in the log. Returns whether it does.
    pub(super) fn extend_others(&mut self, key: UnitKey, at: Time) -> bool {
        let Some(part) = self.others.parts.iter().find(|part| part.unit == key && part.until > at) else {
            return false;
        };
        let until = part.until;
        let Some(unit) = self.units.get_mut(key) else { return false };
        unit.leaves = until;
        let cost = unit.cost();
        self.leaves_at(until, key, cost);
        true
    }

    /// What others have drawn that is free again by `at`.
    fn others_until(&self, at: Time) -> Amount {
        let by_then = self.others.parts.iter().filter(|part| part.until <= at);
        by_then.map(|part| self.units.get(part.unit).map_or(Amount::ZERO, Unit::cost)).sum()
    }

    pub(super) fn forget_others_that_left(&mut self) {
        self.others.parts.retain(|part| self.units.get(part.unit).is_some());
    }

    fn correct(&mut self, key: UnitKey, cost: Amount) {
        if let Some(leaves) = self.units.get(key).map(|unit| unit.leaves) {
            self.units.set_cost(key, cost);
            self.leaving.set_cost(leaves, key, cost);
        }
    }

    pub(super) fn drop_unit(&mut self, key: UnitKey) {
        self.correct(key, Amount::ONE);
        self.units.remove(key);
    }

    /// What of the log others have drawn.
    pub(crate) fn used_by_others(&self) -> Amount {
        let cost = |part: &Part| self.units.get(part.unit).map_or(Amount::ZERO, Unit::cost);
        self.others.parts.iter().map(cost).sum()
    }

    /// How much is in the log that is not of others.
    pub(crate) fn logged_by_us(&self) -> Amount {
        self.logged() - self.used_by_others()
    }

    /// The provider's bucket holds at least so much more than ours can have put into it.
    pub(crate) fn pour_others(&mut self, now: Time, amount: Amount) {
        self.bucket.pour(now, amount);
        self.poured_for_others += amount;
    }
}
