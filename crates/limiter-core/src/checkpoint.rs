//! A checkpoint as it is stored: one JSON document of bounded size for each account.

use quotakeeper_engine::checkpoint::{Checkpoint, SLOTS};
use quotakeeper_wire::name::{AccountKey, QuotaName};
use serde::{Deserialize, Serialize};

/// The most bytes of a document. The API server refuses a ConfigMap of 1 MiB, its names and labels included.
pub const LARGEST_CHECKPOINT: usize = 1_000_000;

/// A checkpoint as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredCheckpoint {
    /// The account.
    pub account: AccountKey,
    /// Its quota.
    pub quota: QuotaName,
    /// Counts the checkpoints of the account: one that is lower than another was stored before it.
    pub number: u64,
    /// The epoch of the limiter that wrote it.
    pub epoch: u64,
    /// What it holds.
    #[serde(flatten)]
    pub checkpoint: Checkpoint,
}

/// A checkpoint that can't be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it would take {bytes} bytes, and a ConfigMap holds {LARGEST_CHECKPOINT}: it has {counts} counts, one for each model of each limit; name the models that the limits of an hour or more count, or declare fewer of those"
)]
pub struct TooLarge {
    /// The size of the smallest document that holds it.
    pub bytes: usize,
    /// What it counts.
    pub counts: usize,
}

impl StoredCheckpoint {
    /// The document. One that would be too large says less exactly when something leaves its window: never too early.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn to_json(&self) -> Result<String, TooLarge> {
        let (mut parts, mut document) = (SLOTS, json(self));
        while document.len() > LARGEST_CHECKPOINT {
            if parts == 1 {
                let counts = self.checkpoint.limits.iter().map(|limit| limit.counts.len()).sum();
                return Err(TooLarge { bytes: document.len(), counts });
            }
            parts /= 4;
            document = json(&StoredCheckpoint { checkpoint: self.checkpoint.coarser(parts), ..self.clone() });
        }
        Ok(document)
    }
}

fn json(stored: &StoredCheckpoint) -> String {
    // Values of our own types: writing them can't fail.
    serde_json::to_string(stored).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use quotakeeper_engine::checkpoint::{
        CheckpointedCount, CheckpointedLimit, CheckpointedPart, DrawnBy, LimitIdentity,
    };
    use quotakeeper_engine::cost::Amount;
    use serde_json::json;

    use super::*;

    /// A limit that counts so many models apart, each with use in all of so many parts of a day.
    fn of_models(models: u64, parts: u64) -> StoredCheckpoint {
        let part = |model: u64, slot: u64| CheckpointedPart {
            leaves_in: slot * 86_400 / parts,
            amount: Amount(slot + model),
            by: DrawnBy::Calls,
        };
        let count = |model: u64| CheckpointedCount {
            model: Some(format!("vendor/some-model-of-2026-{model:05}")),
            level: Amount(0),
            in_flight: Amount(7),
            block: Amount(9),
            counted: (1..=parts).map(|slot| part(model, slot)).collect(),
        };
        let identity = json!({"unit": "TotalTokens", "windowSeconds": 86_400, "perModel": true});
        let identity: LimitIdentity = serde_json::from_value(identity).unwrap();
        let counts = (0..models).map(count).collect();
        let limit = CheckpointedLimit { name: "daily".to_owned(), identity, counts };
        let checkpoint = Checkpoint { limits: vec![limit] };
        let (account, quota) = ("openai/org-1".into(), "gtm/openai".into());
        StoredCheckpoint { account, quota, number: 3, epoch: 9, checkpoint }
    }

    #[test]
    fn what_is_small_enough_is_stored_as_it_is() {
        let stored = of_models(100, 64);
        assert_eq!(serde_json::from_str::<StoredCheckpoint>(&stored.to_json().unwrap()).unwrap(), stored);
    }

    #[test]
    fn of_many_models_less_is_said_and_nothing_left_out() {
        for models in [400, 1000, 4000] {
            let stored = of_models(models, 64);
            let document = stored.to_json().unwrap();
            assert!(document.len() <= LARGEST_CHECKPOINT, "{models}: {}", document.len());
            let read: StoredCheckpoint = serde_json::from_str(&document).unwrap();
            assert_eq!((read.number, read.checkpoint.limits[0].counts.len()), (3, models as usize));
            let (read, exact) = (&read.checkpoint.limits[0], &stored.checkpoint.limits[0]);
            assert_eq!(read.total(), exact.total());
            for (read, exact) in read.counts.iter().zip(&exact.counts) {
                assert!(read.counted.len() < exact.counted.len());
                for at in (0..=86_400).step_by(1800) {
                    let left = |count: &CheckpointedCount| -> u64 {
                        count
                            .counted
                            .iter()
                            .filter(|part| part.leaves_in > at)
                            .map(|part| part.amount.0)
                            .sum()
                    };
                    assert!(left(read) >= left(exact), "{at} s later more would be free");
                }
            }
        }
    }

    #[test]
    fn what_is_too_large_still_is_refused_with_a_remedy() {
        let error = of_models(8000, 2).to_json().unwrap_err();
        assert_eq!(error.counts, 8000);
        assert!(error.to_string().contains("8000 counts"), "{error}");
    }
}
