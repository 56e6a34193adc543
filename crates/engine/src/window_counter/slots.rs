//! What calls have drawn of a large limit, in slots of time instead of call by call: a million calls a day take 16 KB.
//!
//! A slot leaves when the last of its calls would: each leaves at most a slot's length late and never early.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cost::Amount;
use crate::time::{Time, nanos};

/// How many slots a window has.
const SLOTS: u64 = 1_000;

/// What leaves the log at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// When it leaves.
    pub leaves: Time,
    /// How much.
    pub amount: Amount,
}

/// The slots of a log, the earliest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    slots: VecDeque<Slot>,
    amount: Amount,
}

impl Slots {
    pub(super) fn amount(&self) -> Amount {
        self.amount
    }

    /// The length of a slot of this window.
    pub(super) fn length(window: Duration) -> Duration {
        Duration::from_nanos((nanos(window) / SLOTS).max(1))
    }

    /// Adds what leaves at a time, to the slot of this length that it is in.
    pub(super) fn add(&mut self, leaves: Time, amount: Amount, length: Duration) {
        let length = nanos(length).max(1);
        let leaves = Time(leaves.0.div_ceil(length).saturating_mul(length));
        self.restore(Slot { leaves, amount });
    }

    /// Adds a slot of a snapshot.
    pub(super) fn restore(&mut self, slot: Slot) {
        self.amount += slot.amount;
        let place = self.slots.partition_point(|known| known.leaves < slot.leaves);
        match self.slots.get_mut(place).filter(|known| known.leaves == slot.leaves) {
            Some(known) => known.amount += slot.amount,
            None => self.slots.insert(place, slot),
        }
    }

    /// Lets go of what leaves by `now`.
    pub(super) fn leave(&mut self, now: Time) {
        while let Some(first) = self.slots.front().filter(|first| first.leaves <= now) {
            self.amount -= first.amount;
            self.slots.pop_front();
        }
    }

    /// When the next leaves.
    pub(super) fn next(&self) -> Time {
        self.slots.front().map_or(Time::NEVER, |first| first.leaves)
    }

    /// When the last leaves.
    pub(super) fn last(&self) -> Option<Time> {
        self.slots.back().map(|last| last.leaves)
    }

    /// How much leaves by `at`.
    pub(super) fn by(&self, at: Time) -> Amount {
        self.slots.iter().take_while(|slot| slot.leaves <= at).map(|slot| slot.amount).sum()
    }

    /// Takes on another window: what was counted at a time leaves a window later.
    pub(super) fn reconfigure(&mut self, old: Duration, new: Duration) {
        for slot in &mut self.slots {
            slot.leaves = slot.leaves - old + new;
        }
    }

    /// What the ledger keeps.
    pub(super) fn snapshot(&self) -> Vec<Slot> {
        self.slots.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_leaves_early_nor_later_than_a_slot(
            calls in prop::collection::vec((0u64..90_000, 1u64..50), 1..300),
            now in 0u64..200_000,
        ) {
            let window = Duration::from_nanos(60_000);
            let (length, mut slots) = (Slots::length(window), Slots::default());
            for (at, amount) in &calls {
                slots.add(Time(at + 60_000), Amount(*amount), length);
            }
            let left_by = |time: u64| calls.iter().filter(|(at, _)| at + 60_000 <= time).map(|(_, it)| it).sum::<u64>();
            let (all, by) = (slots.amount().0, slots.by(Time(now)).0);
            slots.leave(Time(now));
            prop_assert_eq!(all - slots.amount().0, by);
            prop_assert!(by <= left_by(now), "early");
            prop_assert!(by >= left_by(now.saturating_sub(nanos(length))), "late");
        }
    }

    #[test]
    fn a_million_calls_a_day_take_16_kilobytes() {
        let day = Duration::from_secs(86_400);
        let mut slots = Slots::default();
        for call in 0..1_000_000_u64 {
            let now = Time(call * 86_400_000);
            slots.leave(now);
            slots.add(now + day, Amount(700), Slots::length(day));
        }
        assert!(
            slots.slots.len() * size_of::<Slot>() <= 16 * 1024 + size_of::<Slot>(),
            "{}",
            slots.slots.len()
        );
    }
}
