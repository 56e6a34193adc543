//! The injected pods that exist, as far as they have been seen.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use quotakeeper_api::workload;
use quotakeeper_wire::name::Consumer;

use super::token::BoundPod;

/// What sessions need of a pod's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPod {
    /// Its UID.
    pub uid: String,
    /// Its workload, `namespace/kind/name`; none: pods of its ServiceAccount are one.
    pub workload: Option<Consumer>,
}

impl SeenPod {
    /// A pod by its metadata; none without a UID, as before it is created.
    pub fn of(pod: &ObjectMeta) -> Option<SeenPod> {
        let namespace = pod.namespace.as_deref()?;
        let job_owner = workload::injected_job_owner(pod);
        // An annotation that admission would refuse says nothing.
        let workload = workload::of_pod(pod, namespace, job_owner.as_ref()).ok().flatten();
        Some(SeenPod { uid: pod.uid.clone()?, workload })
    }

    /// The consumer that the pod's calls count for.
    pub fn consumer(&self, pod: &BoundPod) -> Consumer {
        let of_account = || workload::of_service_account(&pod.namespace, &pod.service_account);
        self.workload.clone().unwrap_or_else(of_account)
    }
}

/// The injected pods by UID. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Pods(Arc<RwLock<BTreeMap<String, SeenPod>>>);

impl Pods {
    /// The pod of this UID, if it has been seen and not been deleted.
    pub fn get(&self, uid: &str) -> Option<SeenPod> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// A pod exists, or has changed.
    pub fn insert(&self, pod: SeenPod) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(pod.uid.clone(), pod);
    }

    /// A pod has been deleted.
    pub fn remove(&self, uid: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// These exist and no others. Returns the UIDs of those that are gone.
    pub fn replace(&self, pods: Vec<SeenPod>) -> Vec<String> {
        let pods: BTreeMap<String, SeenPod> = pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *known, pods);
        old.into_keys().filter(|uid| !known.contains_key(uid)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn consumer(metadata: Value) -> Consumer {
        let mut metadata: ObjectMeta = serde_json::from_value(metadata).unwrap();
        metadata.uid = Some("7f1c".to_owned());
        metadata.namespace = Some("gtm".to_owned());
        let bound = BoundPod {
            namespace: "gtm".to_owned(),
            pod: "enrich-1".to_owned(),
            uid: "7f1c".to_owned(),
            service_account: "runner".to_owned(),
        };
        SeenPod::of(&metadata).unwrap().consumer(&bound)
    }

    #[test]
    fn a_pod_draws_as_its_controller_else_as_its_annotation_says_else_as_its_service_account() {
        let owner = |kind: &str, name: &str| json!([{"apiVersion": "x/v1", "kind": kind, "name": name, "uid": "o", "controller": true}]);
        let annotated = |value: &str| json!({"quotakeeper.dev/workload": value});
        assert_eq!(consumer(json!({"ownerReferences": owner("StatefulSet", "db")})), "gtm/StatefulSet/db");
        assert_eq!(
            consumer(json!({"ownerReferences": owner("Job", "a"), "annotations": annotated("b")})),
            "gtm/Job/a"
        );
        assert_eq!(consumer(json!({"annotations": annotated("nightly")})), "gtm/Workload/nightly");
        assert_eq!(consumer(json!({"annotations": annotated("not a name")})), "gtm/ServiceAccount/runner");
        assert_eq!(consumer(json!({})), "gtm/ServiceAccount/runner");
    }
}
