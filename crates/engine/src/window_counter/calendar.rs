//! The calendar's period of a limit: what had been counted before it began leaves the log then.
//!
//! Without word of a beginning a charge stays for as long as such a period can last, so a beginning that is told late,
//! or never, opens nothing.

use std::time::Duration;

use super::WindowCounter;
use super::leaving::Leaving;
use super::slots::Slots;
use crate::time::Time;
use crate::units::{Unit, UnitKey};

/// How soon a period is expected to end whose end has passed without word of the next.
const OVERDUE: Duration = Duration::from_secs(1);

/// The period that is open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calendar {
    /// What was counted before this time belongs to an earlier one.
    begun: Time,
    /// When the next is expected to begin; nothing is free because this time has come. `None`: not known.
    ends: Option<Time>,
}

impl Calendar {
    /// Whether an answer to a call that was granted then can tell of an earlier period.
    pub(super) fn is_stale(&self, granted: Time) -> bool {
        granted < self.begun
    }

    /// Whether the period should be over.
    pub(super) fn is_overdue(&self, now: Time) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }
}

impl WindowCounter {
    /// A period has begun: what the provider had counted before `begun` is over, and so is what was assumed of that
    /// time or seen of others. What is in flight stays, and may count in both. The next period is expected at `ends`.
    pub(crate) fn period_begun(&mut self, begun: Time, ends: Time, now: Time) {
        self.advance(now);
        self.calendar = Calendar { begun: self.calendar.begun.max(begun), ends: Some(ends) };
        let begun = self.calendar.begun;
        let before = |unit: &Unit| unit.counted && unit.settles < begun;
        let over: Vec<UnitKey> =
            self.units.iter().filter(|(_, unit)| before(unit)).map(|(key, _)| key).collect();
        if !over.is_empty() {
            over.into_iter().for_each(|key| self.refund(key));
            self.forget_others_that_left();
            self.leaving = Leaving::default();
            for (key, unit) in self.units.iter().filter(|(_, unit)| unit.counted) {
                self.leaving.push(unit.leaves, key, unit.cost());
            }
        }
        // A slot's calls were counted by its time.
        self.slots.leave(begun + self.window);
        self.bulk.forget_counted_before(begun, self.window, now);
        if self.asks_provider.is_some_and(|at| at < begun) {
            self.asks_provider = None;
        }
    }

    /// The length of the slot of what is counted at a time. Near the end of a period it is short: a slot leaves as a
    /// whole, and none may hold back into the next period what belongs to the one before.
    pub(super) fn slot_length(&self, at: Time) -> Duration {
        let length = Slots::length(self.window);
        let near = self.calendar.ends.is_some_and(|ends| at + length + length >= ends);
        if near { length.min(Duration::from_secs(1)) } else { length }
    }

    /// When the period is expected to end, if that is known. One that should be over ends any moment: the word of it
    /// is under way, and a call must not hear that it has a day to wait.
    pub(super) fn period_ends(&self, now: Time) -> Option<Time> {
        self.calendar.ends.map(|ends| if ends > now { ends } else { now + OVERDUE })
    }
}
