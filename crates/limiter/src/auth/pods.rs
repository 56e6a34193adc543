//! The injected pods that exist, as far as they have been seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use quotakeeper_api::workload;
use quotakeeper_kube_cache::{ObjectCache, Signal, key};
use quotakeeper_wire::name::Consumer;

use super::token::BoundPod;

/// A pod, as far as sessions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPod {
    /// Its UID.
    pub uid: String,
    /// Its workload; none: all such pods of its ServiceAccount are one workload.
    pub workload: Option<Consumer>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl SeenPod {
    /// A pod by its metadata; none without a UID, as before it is created.
    pub fn of(pod: &ObjectMeta) -> Option<SeenPod> {
        let namespace = pod.namespace.as_deref()?;
        let job_owner = workload::injected_job_owner(pod);
        // An annotation that admission would refuse is ignored.
        let workload = workload::of_pod(pod, namespace, job_owner.as_ref()).ok().flatten();
        Some(SeenPod { uid: pod.uid.clone()?, workload, labels: pod.labels.clone().unwrap_or_default() })
    }

    /// The consumer that the pod's calls count for.
    pub fn consumer(&self, pod: &BoundPod) -> Consumer {
        let of_account = || workload::of_service_account(&pod.namespace, &pod.service_account);
        self.workload.clone().unwrap_or_else(of_account)
    }
}

/// The injected pods. Clones share them.
#[derive(Clone, Debug)]
pub struct Pods(Arc<ObjectCache<CachedPod>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct CachedPod {
    key: String,
    seen: SeenPod,
}

impl Default for Pods {
    fn default() -> Pods {
        Pods(Arc::new(ObjectCache::new("injected pods", Signal::default())))
    }
}

impl Pods {
    /// The pod that a token is bound to, if it has been seen and not been deleted.
    pub fn get(&self, pod: &BoundPod) -> Option<SeenPod> {
        let cached = self.0.get(&format!("{}/{}", pod.namespace, pod.pod))?;
        Some(cached.seen).filter(|seen| seen.uid == pod.uid)
    }

    /// The namespaces of all pods, by their UIDs; none before they have been listed.
    pub fn namespaces(&self) -> Option<BTreeMap<String, String>> {
        let namespace = |pod: &CachedPod| pod.key.split('/').next().unwrap_or_default().to_owned();
        self.0
            .all()
            .map(|pods| pods.into_values().map(|pod| (pod.seen.uid.clone(), namespace(&pod))).collect())
    }

    /// Applies an event of their watch. Returns the UIDs of pods that are gone.
    pub fn apply(&self, event: Event<PartialObjectMeta<Pod>>) -> Vec<String> {
        let view = |pod: PartialObjectMeta<Pod>, _: Option<&CachedPod>| {
            Some(CachedPod { key: key(&pod), seen: SeenPod::of(&pod.metadata)? })
        };
        let replaced = self.0.apply(event, &view).into_iter();
        // One that has only changed is there as before.
        let is_gone = |pod: &CachedPod| self.0.get(&pod.key).is_none_or(|now| now.seen.uid != pod.seen.uid);
        replaced.filter(is_gone).map(|pod| pod.seen.uid).collect()
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

    fn pod(name: &str, uid: &str, workload: &str) -> PartialObjectMeta<Pod> {
        let metadata = json!({
            "namespace": "gtm", "name": name, "uid": uid, "annotations": {"quotakeeper.dev/workload": workload},
        });
        PartialObjectMeta { metadata: serde_json::from_value(metadata).unwrap(), ..Default::default() }
    }

    #[test]
    fn a_pod_is_gone_when_it_is_deleted_replaced_or_missing_in_a_new_list() {
        let pods = Pods::default();
        assert_eq!(pods.apply(Event::Init), [""; 0]);
        for name in ["a", "b", "c"] {
            assert_eq!(pods.apply(Event::InitApply(pod(name, &format!("{name}-1"), "w"))), [""; 0]);
        }
        assert_eq!(pods.namespaces(), None, "they are not listed yet");
        assert_eq!(pods.apply(Event::InitDone), [""; 0]);
        assert_eq!(pods.namespaces().unwrap().len(), 3);
        assert_eq!(pods.apply(Event::Apply(pod("a", "a-1", "other"))), [""; 0], "it has only changed");
        assert_eq!(pods.apply(Event::Apply(pod("a", "a-2", "w"))), ["a-1"], "a new pod of the same name");
        assert_eq!(pods.apply(Event::Delete(pod("b", "b-1", "w"))), ["b-1"]);
        pods.apply(Event::Init);
        pods.apply(Event::InitApply(pod("a", "a-2", "w")));
        assert_eq!(pods.apply(Event::InitDone), ["c-1"]);

        let bound = |uid: &str| BoundPod {
            namespace: "gtm".to_owned(),
            pod: "a".to_owned(),
            uid: uid.to_owned(),
            service_account: "runner".to_owned(),
        };
        assert!(pods.get(&bound("a-2")).is_some() && pods.get(&bound("a-1")).is_none());
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
