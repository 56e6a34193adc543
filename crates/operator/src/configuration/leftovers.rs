//! Checkpoints that an earlier installation has left: an uninstall keeps them, and removes the records that would say when
//! they can go. They go when nothing counts any more of what they hold.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use quotakeeper_api::names::{CONFIG, CONFIG_CHECKPOINT, COUNTS_FOR};
use tracing::{info, warn};

use crate::cluster::Cluster;
use crate::reconcile::ObservedState;
use crate::records::checkpoint_name;

/// How wrong this machine's clock may be.
const MARGIN: SignedDuration = SignedDuration::from_hours(24);
/// How often they are looked for.
pub(super) const EVERY: std::time::Duration = std::time::Duration::from_secs(6 * 3600);

/// Removes those whose time is over, and that no record is kept of. Failures are logged: it is tried again.
pub(super) async fn remove(cluster: &Cluster, observed: &ObservedState) {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let labelled = ListParams::default().labels(&format!("{CONFIG}={CONFIG_CHECKPOINT}"));
    let found = match maps.list(&labelled).await {
        Ok(found) => found,
        Err(error) => return warn!(%error, "checkpoints can't be listed; trying again later"),
    };
    let recorded: Vec<String> = observed.records.keys().map(|name| checkpoint_name(name)).collect();
    for map in found.items.iter().filter(|map| !recorded.contains(&map.name_any())) {
        if !is_over(map, Timestamp::now()) {
            continue;
        }
        let name = map.name_any();
        match cluster.write("ConfigMap", maps.delete(&name, &DeleteParams::default())).await {
            Ok(_) => info!(checkpoint = name, "the checkpoint of an earlier installation is removed"),
            Err(error) if error.is_missing() => {}
            Err(error) => {
                warn!(checkpoint = name, %error, "the checkpoint can't be removed; trying again later")
            }
        }
    }
}

/// Whether nothing counts any more of what a checkpoint holds. One that does not say for how long it counts stays.
fn is_over(map: &ConfigMap, now: Timestamp) -> bool {
    let counts_for = map.annotations().get(COUNTS_FOR).and_then(|seconds| seconds.parse().ok());
    let managed = map.metadata.managed_fields.iter().flatten();
    let stored = managed.filter_map(|fields| Some(fields.time.as_ref()?.0)).max();
    let (Some(counts_for), Some(stored)) = (counts_for, stored) else { return false };
    let end = stored.saturating_add(SignedDuration::from_secs(counts_for));
    end.and_then(|end| end.saturating_add(MARGIN)).is_ok_and(|end| end < now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn checkpoint(annotation: &str, value: &str) -> ConfigMap {
        let managed = |time: &str| json!({"manager": "limiter", "operation": "Update", "time": time});
        serde_json::from_value(json!({"metadata": {
            "annotations": {annotation: value},
            "managedFields": [managed("2026-10-01T00:00:00Z"), managed("2026-11-01T00:00:00Z")],
        }}))
        .unwrap()
    }

    #[test]
    fn a_checkpoint_goes_a_day_after_its_longest_window() {
        let is_over = |map: &ConfigMap, now: &str| is_over(map, now.parse().unwrap());
        let day = checkpoint(COUNTS_FOR, "86400");
        assert!(!is_over(&day, "2026-11-02T23:59:59Z"));
        assert!(is_over(&day, "2026-11-03T00:00:01Z"));
        assert!(!is_over(&checkpoint(COUNTS_FOR, "2678400"), "2026-11-03T00:00:01Z"), "a month");
        assert!(!is_over(&checkpoint("other", "1"), "2027-11-03T00:00:01Z"), "it does not say for how long");
        assert!(!is_over(&ConfigMap::default(), "2027-11-03T00:00:01Z"));
    }
}
