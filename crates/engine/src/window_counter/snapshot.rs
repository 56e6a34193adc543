//! What the ledger keeps of a counter, and a counter made from it after a restart.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::{Ramp, WindowCounter};
use crate::config::LimitConfig;
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
    /// What is charged.
    pub units: Vec<UnitSnapshot>,
    /// What is taken to be charged, or was by others, many at a time.
    #[serde(default)]
    pub ramps: Vec<Ramp>,
    /// Of that, what is still in flight.
    #[serde(default)]
    pub arriving: Vec<ArrivingSnapshot>,
}

/// Units of a predecessor that are in flight as of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArrivingSnapshot {
    /// When the provider has counted them at the latest.
    pub settles: Time,
    /// How many.
    pub units: u64,
}

/// One charged call as of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitSnapshot {
    /// S.
    pub settles: Time,
    /// When it leaves the log, once counted.
    pub leaves: Time,
    /// Whether S had passed.
    pub counted: bool,
}

impl WindowCounter {
    /// What the ledger keeps, and the place of each unit in it.
    pub(crate) fn snapshot(&self) -> (Vec<UnitSnapshot>, Vec<UnitKey>) {
        self.units
            .iter()
            .map(|(key, unit)| {
                let Unit { settles, leaves, counted, .. } = *unit;
                (UnitSnapshot { settles, leaves, counted }, key)
            })
            .unzip()
    }

    /// What the ledger keeps of units that are known many at a time.
    pub(crate) fn bulk_snapshot(&self) -> (Vec<Ramp>, Vec<ArrivingSnapshot>) {
        let arriving = self.bulk.arriving().iter();
        let arriving = arriving.map(|(settles, units)| ArrivingSnapshot { settles: *settles, units: *units });
        (self.bulk.ramps().to_vec(), arriving.collect())
    }

    /// The counter as of the commit: its units, and a bucket that was full but for what was in
    /// flight, because how full it was is not durable. Returns the units' keys in their order.
    pub(crate) fn restored(
        limit: &LimitConfig,
        amount: u64,
        snapshot: Option<&WindowSnapshot>,
        as_of: Time,
    ) -> (WindowCounter, Vec<UnitKey>) {
        let mut counter = WindowCounter::new(limit, amount, as_of);
        let mut keys = Vec::new();
        if let Some(WindowSnapshot { units, ramps, arriving, .. }) = snapshot {
            keys.extend(units.iter().map(|unit| counter.restore(*unit)));
            ramps.iter().for_each(|ramp| counter.bulk.add(*ramp));
            for ArrivingSnapshot { settles, units } in arriving {
                counter.bulk.add_arriving(*settles, *units);
                counter.in_flight += units;
            }
        }
        let full_but_for = counter.bucket.size().saturating_sub(counter.in_flight);
        counter.bucket.set(full_but_for, as_of);
        (counter, keys)
    }

    fn restore(&mut self, unit: UnitSnapshot) -> UnitKey {
        let UnitSnapshot { settles, leaves, counted } = unit;
        let key = self.units.insert(Unit { settles, leaves, counted, origin: Origin::Call });
        self.charged += 1;
        if counted {
            self.leaving.push(leaves, key);
        } else {
            self.in_flight += 1;
            self.settling.push(Reverse((settles, key)));
        }
        key
    }
}
