//! What outlives the ledger of an account: of each long window what counts in it, coarsely, and a block that may be
//! granted before the next checkpoint is stored.
//!
//! Whoever begins from a checkpoint takes all of its block for granted. So a lost ledger costs a block at most, and
//! never exceeds a limit.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{CalendarPeriod, LimitConfig, Unit};
use crate::cost::Amount;
use crate::name::AllocationName;

/// The parts into which a window is divided: what leaves it within one of them leaves at its end.
pub const SLOTS: u32 = 64;

/// The long windows of an account as of a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Each limit whose window is long enough.
    pub limits: Vec<CheckpointedLimit>,
}

/// One limit, with the count of each model where models are counted apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointedLimit {
    /// Its name at that time: tells limits apart that count the same, and does not matter otherwise.
    pub name: String,
    /// What it counts, under whatever name.
    #[serde(flatten)]
    pub identity: LimitIdentity,
    /// What is counted; of a model that is missing nothing was ever granted.
    pub counts: Vec<CheckpointedCount>,
}

/// What makes a limit the same whatever its name and its amount are. The ledger's encoding has no names: no field may be
/// left out where it is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitIdentity {
    /// The allocation whose calls it counts; absent: it counts everyone's.
    #[serde(default)]
    pub allocation: Option<AllocationName>,
    /// What it counts.
    pub unit: Unit,
    /// Its window.
    pub window_seconds: u64,
    /// Its calendar period.
    #[serde(default)]
    pub period: Option<CalendarPeriod>,
    /// Covers only calls of this endpoint.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Covers only calls of these models.
    #[serde(default)]
    pub models: Vec<String>,
    /// Counts models apart.
    #[serde(default)]
    pub per_model: bool,
}

/// One count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointedCount {
    /// The model, where models are counted apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How much is in the bucket.
    pub level: Amount,
    /// Held for calls under way.
    pub in_flight: Amount,
    /// What may be granted beyond all of that.
    pub block: Amount,
    /// What has been counted, by when it leaves the window.
    pub counted: Vec<CheckpointedPart>,
}

/// What leaves a window at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointedPart {
    /// Seconds from the checkpoint on, rounded up.
    pub leaves_in: u64,
    /// How much.
    pub amount: Amount,
    /// Who has drawn it.
    pub by: DrawnBy,
}

/// Who has drawn a part of what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DrawnBy {
    /// Calls of this installation.
    Calls,
    /// Others, as answers or people have told.
    Others,
    /// Perhaps nobody: it is of a time of which nothing is known.
    Assumed,
}

impl LimitIdentity {
    /// The identity of a limit of the account, or of an allocation.
    pub fn of(limit: &LimitConfig, allocation: Option<AllocationName>) -> LimitIdentity {
        LimitIdentity {
            allocation,
            unit: limit.unit,
            window_seconds: limit.window.as_secs(),
            period: limit.period.clone(),
            endpoint: limit.endpoint.clone(),
            models: limit.models.clone(),
            per_model: limit.per_model,
        }
    }

    /// How long at most something of it counts after it was stored.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window_seconds)
    }
}

impl CheckpointedLimit {
    /// All that counts, and all that may have been granted since.
    pub fn total(&self) -> Amount {
        self.counts.iter().map(CheckpointedCount::total).sum()
    }
}

impl CheckpointedCount {
    /// All that counts, and all that may have been granted since.
    pub fn total(&self) -> Amount {
        self.counted.iter().map(|part| part.amount).sum::<Amount>() + self.in_flight + self.block
    }

    /// Merges what leaves within the same `seconds`.
    fn merge_within(&mut self, seconds: u64) {
        let mut merged: BTreeMap<(DrawnBy, u64), CheckpointedPart> = BTreeMap::new();
        for part in &self.counted {
            let none = CheckpointedPart { leaves_in: 0, amount: Amount::ZERO, by: part.by };
            let into = merged.entry((part.by, part.leaves_in.div_ceil(seconds))).or_insert(none);
            into.amount += part.amount;
            into.leaves_in = into.leaves_in.max(part.leaves_in);
        }
        self.counted = merged.into_values().collect();
    }
}

impl Checkpoint {
    /// What is stored of a limit: of several that count the same the one of its name, else the fullest.
    pub fn limit(&self, name: &str, identity: &LimitIdentity) -> Option<&CheckpointedLimit> {
        let same = || self.limits.iter().filter(|known| known.identity == *identity);
        same().find(|known| known.name == name).or_else(|| same().max_by_key(|known| known.total()))
    }

    /// The same with no more than so many parts of each window, of each kind: what leaves within one of them leaves
    /// with the last of it.
    #[must_use]
    pub fn coarser(&self, parts: u32) -> Checkpoint {
        let mut coarser = self.clone();
        for limit in &mut coarser.limits {
            let part = limit.identity.window_seconds.div_ceil(u64::from(parts)).max(1);
            limit.counts.iter_mut().for_each(|count| count.merge_within(part));
        }
        coarser
    }

    /// How long at most something of it counts.
    pub fn counts_for(&self) -> Duration {
        self.limits.iter().map(|limit| limit.identity.window()).max().unwrap_or_default()
    }
}
