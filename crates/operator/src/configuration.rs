//! The documents in the cluster, as they are planned: written when they differ, removed when no
//! quota has them any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams};
use quotakeeper_api::names::{ACCOUNT_DOCUMENT, CONFIG, CONFIG_ACCOUNT, QUOTA, QUOTA_UID};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::caches::Caches;
use crate::catalogue;
use crate::cluster::{Cluster, OwnObject, WriteError};
use crate::metrics::Metrics;
use crate::reconcile::{DesiredState, Document, StoredDocument, Verdict, plan};

mod leftovers;
mod record_maps;

use record_maps::{Recorded, Records};

/// Changes that come together are planned together.
const TOGETHER: Duration = Duration::from_millis(100);
/// After failed writes; it doubles up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What is in force, and what of it could not be written.
#[derive(Clone, Debug, Default)]
pub struct AppliedState {
    /// What is in force.
    pub desired: Arc<DesiredState>,
    /// Why the document of a quota could not be written, by `namespace/name`.
    pub unwritten: BTreeMap<String, String>,
}

/// Keeps catalogue and documents, while this replica leads.
pub async fn run(
    cluster: &Cluster,
    caches: &Caches,
    metrics: &Metrics,
    published: &watch::Sender<Option<AppliedState>>,
) {
    let mut changed = caches.configured.subscribe();
    let mut records = Records::default();
    let mut pause = AGAIN;
    let mut leftovers_seen: Option<Instant> = None;
    loop {
        let mut done = true;
        let mut until_next = Duration::MAX;
        if let Some(providers) = caches.providers.all() {
            done = catalogue::run(cluster, &providers).await;
        }
        if let Some(mut observed) = caches.observed_state() {
            let recorded = records.write(cluster, &mut observed).await;
            if leftovers_seen.is_none_or(|seen| seen.elapsed() >= leftovers::EVERY) {
                leftovers_seen = Some(Instant::now());
                leftovers::remove(cluster, &observed).await;
            }
            until_next = recorded.next.map_or(Duration::MAX, time_until);
            let mut desired = plan(&observed);
            desired.documents.retain(|name, _| !recorded.failed.contains_key(name));
            let desired = Arc::new(desired);
            let accepted = desired.quotas.values().filter(|it| matches!(it, Verdict::Accepted(_))).count();
            metrics.quotas(accepted, desired.quotas.len() - accepted);
            let mut unwritten = write(cluster, &observed.stored, &desired, &recorded).await;
            unwritten.extend(recorded.failed.into_values());
            done &= unwritten.is_empty();
            published.send_replace(Some(AppliedState { desired, unwritten }));
        }
        let again = if done { until_next.min(leftovers::EVERY) } else { pause };
        pause = if done { AGAIN } else { (pause * 2).min(LONGEST) };
        tokio::select! {
            () = sleep(again) => {}
            // The signals live as long as this replica.
            _ = changed.changed() => {}
        }
        sleep(TOGETHER).await;
        changed.mark_unchanged();
    }
}

/// Writes what differs; what could not be written.
async fn write(
    cluster: &Cluster,
    stored: &BTreeMap<String, StoredDocument>,
    desired: &DesiredState,
    recorded: &Recorded,
) -> BTreeMap<String, String> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let mut unwritten = BTreeMap::new();
    for (name, document) in &desired.documents {
        if stored.get(name).is_some_and(|stored| is_written(document, stored)) {
            continue;
        }
        match apply(cluster, name, document).await {
            Ok(()) => {
                info!(quota = document.quota, document = name, "the limiter's configuration is written")
            }
            Err(error) => {
                warn!(quota = document.quota, document = name, %error, "the limiter's configuration can't be written; trying on");
                unwritten.insert(document.quota.clone(), error.to_string());
            }
        }
    }
    let kept = |name: &String| desired.documents.contains_key(name) || recorded.failed.contains_key(name);
    for (name, left) in stored.iter().filter(|(name, _)| !kept(name)) {
        match cluster.write("ConfigMap", maps.delete(name, &DeleteParams::default())).await {
            Ok(_) => info!(quota = left.quota, document = name, "the limiter's configuration is removed"),
            Err(error) if error.is_missing() => {}
            Err(error) => {
                warn!(quota = left.quota, document = name, %error, "the limiter's configuration can't be removed; trying on");
                unwritten.insert(left.quota.clone(), error.to_string());
            }
        }
    }
    unwritten
}

fn time_until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
}

fn is_written(document: &Document, stored: &StoredDocument) -> bool {
    let StoredDocument { quota, uid, json, proper, checkpoint: _ } = stored;
    *proper && *quota == document.quota && *uid == document.uid && *json == document.json
}

async fn apply(cluster: &Cluster, name: &str, document: &Document) -> Result<(), WriteError> {
    let own = OwnObject {
        labels: &[(CONFIG, CONFIG_ACCOUNT)],
        annotations: &[(QUOTA, &document.quota), (QUOTA_UID, &document.uid)],
        content: json!({"data": {ACCOUNT_DOCUMENT: &*document.json}}),
    };
    cluster.apply_own::<ConfigMap>("ConfigMap", name, own).await.map(drop)
}
