//! What a checkpoint keeps of a counter, and how a counter begins with it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Ramp, Slot, Slots, WindowCounter};
use crate::checkpoint::{CheckpointedCount, CheckpointedPart, DrawnBy, SLOTS};
use crate::cost::Amount;
use crate::mutant::{self, Mutant};
use crate::time::{Time, nanos};
use crate::units::{Origin, Unit, UnitKey};

/// When a checkpoint was taken that a counter begins with, on the counter's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// How long it has been stored for, at least.
    pub(crate) age: Duration,
    /// Whatever was granted on the strength of it has been counted by then.
    pub(crate) arrived: Time,
}

impl WindowCounter {
    /// What a checkpoint keeps of it, with a block that should last for `horizon`. To be asked after
    /// [`WindowCounter::advance`].
    pub(crate) fn checkpoint(&mut self, now: Time, horizon: Duration) -> CheckpointedCount {
        let block = self.take_block(now, horizon);
        let slot = nanos(self.window).div_ceil(u64::from(SLOTS)).max(1);
        let slot_of = |at: Time| at.0.saturating_sub(now.0).div_ceil(slot);
        let mut parts: BTreeMap<(DrawnBy, u64), Amount> = BTreeMap::new();
        for (key, unit) in self.units.iter().filter(|(_, unit)| unit.counted) {
            let by = match unit.origin {
                Origin::Call | Origin::Reserve => DrawnBy::Calls,
                Origin::Others => DrawnBy::Others,
                Origin::Past => DrawnBy::Assumed,
            };
            let leaves = self.others_leave(key).map_or(unit.leaves, |until| until.max(unit.leaves));
            *parts.entry((by, slot_of(leaves))).or_default() += unit.cost();
        }
        for Slot { leaves, amount } in self.slots.snapshot() {
            *parts.entry((DrawnBy::Calls, slot_of(leaves))).or_default() += amount;
        }
        let last = self.bulk.last_leaving().map_or(0, slot_of);
        for (by, assumed) in [(DrawnBy::Calls, false), (DrawnBy::Assumed, true)] {
            let left_after =
                |slots: u64| self.bulk.of_kind_at(assumed, now + Duration::from_nanos(slots * slot));
            for leaves in 1..=last {
                let leaving = left_after(leaves - 1) - left_after(leaves);
                if !leaving.is_zero() {
                    *parts.entry((by, leaves)).or_default() += leaving;
                }
            }
        }
        let seconds = |slots: u64| slots.saturating_mul(slot).div_ceil(1_000_000_000);
        let part = |((by, slots), amount)| CheckpointedPart { leaves_in: seconds(slots), amount, by };
        let counted = parts.into_iter().map(part).filter(|part| part.leaves_in > 0).collect();
        CheckpointedCount { model: None, level: self.level(), in_flight: self.in_flight, block, counted }
    }

    /// Begins with what a checkpoint has, in place of what is only assumed of the time before. Its block counts as
    /// granted. Where not all of that is certain, one call may ask the provider.
    pub(crate) fn begin_with(&mut self, now: Time, found: &CheckpointedCount, taken: Taken) {
        self.forget_past();
        self.bucket.set(found.level, now - taken.age);
        let mut assumed = BTreeMap::new();
        for part in &found.counted {
            let left = Duration::from_secs(part.leaves_in).saturating_sub(taken.age);
            let (leaves, settled) = (now + left, now + left - self.window);
            match part.by {
                _ if left.is_zero() => {}
                DrawnBy::Calls => {
                    self.slots.restore(Slot { leaves, amount: part.amount });
                }
                DrawnBy::Others => self.restore_others(part.amount, settled, leaves),
                DrawnBy::Assumed => *assumed.entry(leaves).or_default() += part.amount,
            }
        }
        let block = if mutant::active(Mutant::BlockReclaimed) { Amount::ZERO } else { found.block };
        let unknown = found.in_flight + block;
        self.bulk.add_arriving(taken.arrived, unknown);
        self.in_flight += unknown;
        self.charged += unknown;
        let mut room = self.amount - self.logged() - Amount::ONE;
        // The latest first: of what is only assumed, no more counts than leaves a call that asks.
        for (last, units) in assumed.iter().rev() {
            let Amount(units) = room.min(*units);
            room -= Amount(units);
            self.bulk.add(Ramp { units, last: *last, interval: 0, spare: 1 }, now);
        }
        if let Some(last) = assumed.keys().next_back() {
            let asks_at = taken.arrived.min(*last);
            self.insert_counted(Unit::counted(Amount::ONE, asks_at - self.window, asks_at, Origin::Past));
            self.asks_provider = Some(asks_at);
        }
        self.advance(now);
    }

    /// The checkpoint that it has begun with was replaced before anything was granted: nothing of it counts twice.
    pub(crate) fn forget_checkpoint(&mut self) {
        self.slots = Slots::default();
        self.drop_others();
    }

    /// Begins as after a limiter of which nothing is known, whose calls have been counted by `arrived`.
    pub(crate) fn begin_unknown(&mut self, now: Time, arrived: Time) {
        self.forget_past();
        self.fill_with_predecessor(now, arrived, None);
        self.advance(now);
    }

    /// Nothing is assumed any more of the time before.
    fn forget_past(&mut self) {
        self.in_flight -= self.bulk.clear();
        self.asks_provider = None;
        let past = self.units.iter().filter(|(_, unit)| unit.origin == Origin::Past);
        let past: Vec<(UnitKey, Unit)> = past.map(|(key, unit)| (key, *unit)).collect();
        for (key, unit) in past {
            if unit.counted {
                self.drop_unit(key);
            } else {
                self.units.remove(key);
                self.in_flight -= unit.cost();
            }
        }
    }
}
