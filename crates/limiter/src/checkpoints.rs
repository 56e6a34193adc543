//! Where the checkpoints of long windows are stored: one ConfigMap for each account, in the namespace of the release.
//!
//! It has no owner, so that it outlives its quota, the release and an uninstall. It is written by compare and swap: a
//! limiter that another has followed can't write over what that one has stored.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use quotakeeper_api::names::{
    CHECKPOINT_DOCUMENT, CHECKPOINT_PREFIX, CONFIG, CONFIG_CHECKPOINT, COUNTS_FOR, QUOTA, of_account,
};
use quotakeeper_engine::time::Time;
use quotakeeper_limiter_core::{FoundCheckpoint, NotStored, StoredCheckpoint, TooLarge};
use quotakeeper_wire::name::AccountKey;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::clock::now;

/// The longest that a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far the clocks of the API server's replicas may differ, with the rounding of its timestamps to seconds.
pub const SKEW: Duration = Duration::from_secs(3);
/// The part of a time by which this machine's clock may be fast.
const DRIFT: u32 = 1000;

/// A request that was not answered, or refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The API server did not answer.
    #[error("the API server has not answered in {} seconds", PATIENCE.as_secs())]
    Silent,
    /// It said no, or could not be reached.
    #[error("{0}")]
    Refused(#[from] kube::Error),
    /// It is too large for a ConfigMap.
    #[error("{0}")]
    TooLarge(#[from] TooLarge),
}

/// What the API server's clock showed at a time of this process.
#[derive(Clone, Copy, Debug)]
pub struct ApiClock {
    /// This process's time.
    pub at: Time,
    /// What it showed then, to the second.
    pub showed: Timestamp,
}

impl ApiClock {
    /// For how long something is stored that the API server has dated so, at least.
    fn age(self, stored: Timestamp, now: Time) -> Duration {
        let since = now.since(self.at);
        let certain = since - since / DRIFT;
        let shows = self.showed.saturating_add(certain).unwrap_or(self.showed);
        Duration::try_from(shows.duration_since(stored)).unwrap_or_default().saturating_sub(SKEW)
    }
}

/// The checkpoints of an installation.
pub struct CheckpointStore {
    maps: Api<ConfigMap>,
    /// Of each account the version that was read or written last; none: there was no ConfigMap.
    versions: Mutex<BTreeMap<AccountKey, Option<String>>>,
    clock: Mutex<ApiClock>,
    /// Of each account whose last request has failed why it has.
    failures: Mutex<BTreeMap<AccountKey, String>>,
}

impl CheckpointStore {
    /// Those in this namespace.
    pub fn new(client: Client, namespace: &str, clock: ApiClock) -> CheckpointStore {
        CheckpointStore {
            maps: Api::namespaced(client, namespace),
            versions: Mutex::default(),
            clock: Mutex::new(clock),
            failures: Mutex::default(),
        }
    }

    /// Reads the checkpoint of an account. One that can't be understood counts as lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(&self, key: &AccountKey) -> Result<FoundCheckpoint, StoreError> {
        let name = of_account(CHECKPOINT_PREFIX, key);
        let read = timeout(PATIENCE, self.maps.get_opt(&name)).await.map_err(|_| StoreError::Silent);
        let found = self.noted(key, "read", read.and_then(|read| Ok(read?)))?;
        let version = found.as_ref().and_then(ResourceExt::resource_version);
        locked(&self.versions).insert(key.clone(), version);
        let Some(map) = found else { return Ok(FoundCheckpoint::Nothing) };
        let Some(stored) = document(&map).filter(|stored| stored.account == *key) else {
            error!(account = %key, map = map.name_any(), "its checkpoint can't be understood, and counts as lost");
            return Ok(FoundCheckpoint::Unreadable);
        };
        let age = written_at(&map).map_or(Duration::ZERO, |at| locked(&self.clock).age(at, now()));
        Ok(FoundCheckpoint::Stored { stored, age })
    }

    /// Stores a checkpoint in place of the one that was read or written last.
    ///
    /// # Errors
    /// [`NotStored`].
    pub async fn write(&self, checkpoint: &StoredCheckpoint) -> Result<(), NotStored> {
        let key = &checkpoint.account;
        match self.replace(checkpoint).await {
            // Another has been written, or it was deleted.
            Err(StoreError::Refused(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                Err(NotStored::Conflict)
            }
            outcome => {
                self.noted(key, "written", outcome).map_err(|error| NotStored::Failed(error.to_string()))
            }
        }
    }

    async fn replace(&self, checkpoint: &StoredCheckpoint) -> Result<(), StoreError> {
        let key = &checkpoint.account;
        let version = locked(&self.versions).get(key).cloned().flatten();
        let map = map_of(checkpoint, version)?;
        let (name, parameters) = (map.name_any(), PostParams::default());
        let request = async {
            match map.metadata.resource_version {
                Some(_) => self.maps.replace(&name, &parameters, &map).await,
                None => self.maps.create(&parameters, &map).await,
            }
        };
        let map = timeout(PATIENCE, request).await.map_err(|_| StoreError::Silent)??;
        locked(&self.versions).insert(key.clone(), map.resource_version());
        if let Some(showed) = written_at(&map) {
            *locked(&self.clock) = ApiClock { at: now(), showed };
        }
        Ok(())
    }

    /// Logs a failure once for all accounts that have it, and when an account's is over.
    fn noted<T>(
        &self,
        key: &AccountKey,
        what: &str,
        outcome: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut failures = locked(&self.failures);
        match outcome.as_ref().err().map(ToString::to_string) {
            None => {
                if let Some(over) = failures.remove(key)
                    && !failures.values().any(|failure| *failure == over)
                {
                    info!(account = %key, "checkpoints of long windows are {what} again");
                }
            }
            Some(failure) => {
                if !failures.values().any(|known| *known == failure) {
                    warn!(
                        account = %key,
                        error = failure,
                        "a checkpoint of windows of an hour or more can't be {what}; what the last one covers is granted, then calls that draw on such windows wait"
                    );
                }
                failures.insert(key.clone(), failure);
            }
        }
        outcome
    }
}

fn map_of(checkpoint: &StoredCheckpoint, version: Option<String>) -> Result<ConfigMap, TooLarge> {
    let labels = [(CONFIG, CONFIG_CHECKPOINT), ("app.kubernetes.io/managed-by", "quotakeeper")];
    let counts_for = checkpoint.checkpoint.counts_for().as_secs().to_string();
    let annotations = [(QUOTA, checkpoint.quota.to_string()), (COUNTS_FOR, counts_for)];
    let metadata = ObjectMeta {
        name: Some(of_account(CHECKPOINT_PREFIX, &checkpoint.account)),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        annotations: Some(annotations.map(|(name, value)| (name.to_owned(), value)).into()),
        resource_version: version,
        ..ObjectMeta::default()
    };
    let data = Some([(CHECKPOINT_DOCUMENT.to_owned(), checkpoint.to_json()?)].into());
    Ok(ConfigMap { metadata, data, ..ConfigMap::default() })
}

fn document(map: &ConfigMap) -> Option<StoredCheckpoint> {
    serde_json::from_str(map.data.as_ref()?.get(CHECKPOINT_DOCUMENT)?).ok()
}

/// When the API server stored it, by its own clock.
fn written_at(map: &ConfigMap) -> Option<Timestamp> {
    let managed = map.metadata.managed_fields.iter().flatten();
    managed.filter_map(|fields| Some(fields.time.as_ref()?.0)).max()
}

/// What it guards is whole whenever it is unlocked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_age_is_never_too_great() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let clock = ApiClock { at: Time(0), showed: at(100) };
        let after = |seconds: u64| Time(seconds * 1_000_000_000);
        assert_eq!(clock.age(at(40), after(0)), Duration::from_secs(57));
        assert_eq!(clock.age(at(98), after(0)), Duration::ZERO);
        assert_eq!(clock.age(at(200), after(1)), Duration::ZERO, "stored since");
        assert_eq!(clock.age(at(100), after(100_000)), Duration::from_secs(99_897), "a clock that is fast");
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let checkpoint = StoredCheckpoint {
            account: "hubspot/portal-1".into(),
            quota: "gtm/crm".into(),
            number: 7,
            epoch: 1_800_000_000,
            checkpoint: serde_json::from_str(r#"{"limits":[{"name":"daily","unit":"Requests","windowSeconds":86400,"counts":[{"level":0,"inFlight":3,"block":9,"counted":[{"leavesIn":700,"amount":5,"by":"Calls"}]}]}]}"#).unwrap(),
        };
        let map = map_of(&checkpoint, Some("12".to_owned())).unwrap();
        assert_eq!(document(&map), Some(checkpoint));
        assert_eq!(map.annotations()[COUNTS_FOR], "86400");
        assert_eq!(map.metadata.owner_references, None);
    }
}
