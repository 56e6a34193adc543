//! What the ledger keeps of a counter, and a counter made from it after a restart.

use serde::{Deserialize, Serialize};

use super::{Arrival, Due, Ramp, Slot, WindowCounter};
use crate::config::LimitConfig;
use crate::cost::Amount;
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::units::{Origin, Unit, UnitKey};

/// A counter as of a commit. It is found again by limit and model: an object's name or identity
/// plays no part, so that deleting and applying a quota again does not mint units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowSnapshot {
    /// The limit's name.
    pub limit: String,
    /// The model, where models are counted apart.
    pub model: Option<String>,
    /// The provider's own figure, where headers have named one.
    pub observed: Option<u64>,
    /// How much is in the bucket, a part of a unit counted whole; more than its size after the limit was lowered.
    pub level: Amount,
    /// What is charged.
    pub units: Vec<UnitSnapshot>,
    /// What calls have drawn of a large limit.
    pub slots: Vec<Slot>,
    /// What is taken to be charged, many at a time.
    pub ramps: Vec<Ramp>,
    /// What may still be on its way, of a predecessor.
    pub arriving: Vec<Arrival>,
}

/// One charge as of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitSnapshot {
    /// S.
    pub settles: Time,
    /// When it leaves the log, once counted.
    pub leaves: Time,
    /// Whether S had passed.
    pub counted: bool,
    /// How much is charged.
    pub cost: Amount,
    /// What it stands for.
    pub origin: Origin,
}

impl WindowCounter {
    /// What the ledger keeps, and the key of each unit in its order.
    pub(crate) fn snapshot(&self) -> (Vec<UnitSnapshot>, Vec<UnitKey>) {
        let of = |(key, unit): (UnitKey, &Unit)| {
            let Unit { settles, leaves, counted, origin, .. } = *unit;
            (UnitSnapshot { settles, leaves, counted, cost: unit.cost(), origin }, key)
        };
        self.units.iter().map(of).unzip()
    }

    /// What the ledger keeps of calls that are known in slots.
    pub(crate) fn slots_snapshot(&self) -> Vec<Slot> {
        self.slots.snapshot()
    }

    /// How much is in the bucket.
    pub(crate) fn level(&self) -> Amount {
        self.bucket.level()
    }

    /// What the ledger keeps of units that are known many at a time.
    pub(crate) fn bulk_snapshot(&self) -> (Vec<Ramp>, Vec<Arrival>) {
        (self.bulk.ramps().to_vec(), self.bulk.arriving().to_vec())
    }

    /// The counter as of the commit: its units and its bucket. Without a snapshot the bucket was empty. Returns
    /// the units' keys in their order.
    pub(crate) fn restored(
        limit: &LimitConfig,
        amount: Amount,
        snapshot: Option<&WindowSnapshot>,
        as_of: Time,
    ) -> (WindowCounter, Vec<UnitKey>) {
        let mut counter = WindowCounter::new(limit, amount, as_of);
        let mut keys = Vec::new();
        if let Some(WindowSnapshot { units, slots, ramps, arriving, level, .. }) = snapshot {
            let most =
                if mutant::active(Mutant::RestartForgetsDebt) { counter.bucket.size() } else { *level };
            counter.bucket.set((*level).min(most), as_of);
            keys.extend(units.iter().map(|unit| counter.restore(*unit)));
            counter.charged += slots.iter().map(|slot| slot.amount).sum();
            slots.iter().for_each(|slot| counter.slots.restore(*slot));
            ramps.iter().for_each(|ramp| counter.bulk.add(*ramp, as_of));
            for Arrival { settles, units } in arriving {
                counter.bulk.add_arriving(*settles, Amount(*units));
                counter.in_flight += Amount(*units);
            }
        }
        (counter, keys)
    }

    fn restore(&mut self, unit: UnitSnapshot) -> UnitKey {
        let UnitSnapshot { settles, leaves, counted, cost, origin } = unit;
        // Nobody can name or release what was reserved before the time before.
        let origin = if origin == Origin::Reserve { Origin::Past } else { origin };
        self.charged += cost;
        if counted {
            let key = self.insert_counted(Unit::counted(cost, settles, leaves, origin));
            if origin == Origin::Others {
                self.others.restore(key, settles, leaves);
            }
            return key;
        }
        self.in_flight += cost;
        let key = self.units.insert(Unit::in_flight(cost, settles, origin));
        self.settles_at(settles, key, Due::AsGranted);
        key
    }
}
