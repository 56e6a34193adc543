//! The workload that a pod belongs to: all pods of a workload draw on a quota as one consumer, so that a
//! job of a hundred pods has one share and not a hundred.
//!
//! A workload is `namespace/kind/name` of the pod's topmost controller:
//!
//! | the pod | its workload |
//! |---|---|
//! | of a ReplicaSet of a Deployment | `gtm/Deployment/web` |
//! | of a ReplicaSet of an Argo Rollout | `gtm/Rollout/web` |
//! | of a Job of a CronJob | `gtm/CronJob/enrich` |
//! | of any other controller | `gtm/StatefulSet/db`, `gtm/Workflow/etl-x7k2p` |
//! | without a controller, annotated `quotakeeper.dev/workload: nightly` | `gtm/Workload/nightly` |
//! | without either | `gtm/ServiceAccount/airflow` |
//!
//! Injector, operator and limiter derive it here, from the pod's metadata. The proxy's own word counts for
//! nothing: the limiter derives the consumer of a pod from what the API server says of it. That proves the
//! namespace and the ServiceAccount. Within a namespace it is as good as the namespace's RBAC: whoever may
//! create pods may also give them owner references or the annotation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use quotakeeper_wire::name::Consumer;
use serde::Deserialize;

use crate::names::{STATUS, WORKLOAD};

/// What a ReplicaSet's owner gives its ReplicaSets' names and pods: the label with the hash, the owner's
/// kind, its apiVersion.
const REPLICA_SET_OWNERS: [(&str, &str, &str); 2] = [
    ("pod-template-hash", "Deployment", "apps/v1"),
    ("rollouts-pod-template-hash", "Rollout", "argoproj.io/v1alpha1"),
];

/// An object that controls pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Controller {
    /// Its apiVersion; empty where only kind and name are known.
    pub api_version: String,
    /// Its kind, such as `CronJob`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID; none where only its name is known.
    pub uid: Option<String>,
}

/// The annotation [`WORKLOAD`] is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the annotation {WORKLOAD} is `{0}`, which is not a name; write letters, digits, `-`, `_` and `.`, at most 253"
)]
pub struct InvalidName(String);

/// The controller that an object's metadata names.
pub fn owner(metadata: &ObjectMeta) -> Option<Controller> {
    let references = metadata.owner_references.as_deref().unwrap_or_default();
    let reference = references.iter().find(|reference| reference.controller == Some(true))?;
    let OwnerReference { api_version, kind, name, uid, .. } = reference.clone();
    Some(Controller { api_version, kind, name, uid: Some(uid) })
}

/// The topmost controller of a pod that its metadata tells: the Deployment or Rollout in place of its
/// ReplicaSet. It does not name a Job's own controller.
pub fn controller(pod: &ObjectMeta) -> Option<Controller> {
    let owner = owner(pod)?;
    if owner.kind != "ReplicaSet" {
        return Some(owner);
    }
    let above = REPLICA_SET_OWNERS.iter().find_map(|(label, kind, api_version)| {
        let hash = pod.labels.as_ref()?.get(*label)?;
        let name = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
        (!name.is_empty()).then(|| Controller {
            api_version: (*api_version).to_owned(),
            kind: (*kind).to_owned(),
            name: name.to_owned(),
            uid: None,
        })
    });
    Some(above.unwrap_or(owner))
}

/// The Job that owns a pod.
pub fn job(pod: &ObjectMeta) -> Option<String> {
    owner(pod).filter(|owner| owner.kind == "Job").map(|owner| owner.name)
}

/// The controller of a pod's Job, from what injection wrote on the pod. Injection has asked the API server
/// for it. An annotation that was copied from a pod of another Job is ignored.
pub fn injected_job_owner(pod: &ObjectMeta) -> Option<Controller> {
    #[derive(Deserialize)]
    struct Status {
        consumer: Consumer,
        job: String,
    }
    let job = job(pod)?;
    let status: Status = serde_json::from_str(pod.annotations.as_ref()?.get(STATUS)?).ok()?;
    let (namespace, owner) = status.consumer.split_once('/')?;
    let (kind, name) = owner.split_once('/')?;
    let valid = pod.namespace.as_deref() == Some(namespace) && status.job == job && !name.is_empty();
    valid.then(|| Controller {
        api_version: String::new(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: None,
    })
}

/// The workload of a pod in `namespace`, by its controller, else by its annotation; none: it has neither,
/// and [`of_service_account`] says it. `job_owner` is the controller of the pod's [`job`], if it has one.
///
/// # Errors
/// [`InvalidName`], of a pod without a controller.
pub fn of_pod(
    pod: &ObjectMeta,
    namespace: &str,
    job_owner: Option<&Controller>,
) -> Result<Option<Consumer>, InvalidName> {
    let named = |kind: &str, name: &str| Some(format!("{namespace}/{kind}/{name}").into());
    match controller(pod) {
        Some(controller) => {
            let above = job_owner.filter(|_| controller.kind == "Job").unwrap_or(&controller);
            Ok(named(&above.kind, &above.name))
        }
        None => match pod.annotations.as_ref().and_then(|annotations| annotations.get(WORKLOAD)) {
            Some(name) if is_name(name) => Ok(named("Workload", name)),
            Some(name) => Err(InvalidName(name.chars().take(60).collect())),
            None => Ok(None),
        },
    }
}

/// The workload of pods that have neither a controller nor the annotation.
pub fn of_service_account(namespace: &str, service_account: &str) -> Consumer {
    format!("{namespace}/ServiceAccount/{service_account}").into()
}

fn is_name(name: &str) -> bool {
    let edge = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    name.len() <= 253
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter))
        && edge(name.chars().next())
        && edge(name.chars().next_back())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: Value) -> ObjectMeta {
        let mut pod: ObjectMeta = serde_json::from_value(metadata).unwrap();
        pod.namespace = Some("gtm".to_owned());
        pod
    }

    fn owned(kind: &str, name: &str, labels: Value) -> ObjectMeta {
        let reference =
            json!({"apiVersion": "x/v1", "kind": kind, "name": name, "uid": "o", "controller": true});
        let other = json!({"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "x"});
        pod(json!({"labels": labels, "ownerReferences": [other, reference]}))
    }

    fn workload(pod: &ObjectMeta) -> Consumer {
        of_pod(pod, "gtm", injected_job_owner(pod).as_ref()).unwrap().unwrap_or_default()
    }

    #[test]
    fn pods_of_one_controller_are_one_workload() {
        let hash = json!({"pod-template-hash": "7d4b9c6f5"});
        for (kind, name, labels, expected) in [
            ("ReplicaSet", "web-7d4b9c6f5", hash.clone(), "gtm/Deployment/web"),
            ("ReplicaSet", "alone", hash.clone(), "gtm/ReplicaSet/alone"),
            ("ReplicaSet", "-7d4b9c6f5", hash, "gtm/ReplicaSet/-7d4b9c6f5"),
            ("ReplicaSet", "web-7d4b9c6f5", json!({}), "gtm/ReplicaSet/web-7d4b9c6f5"),
            ("ReplicaSet", "web-abc", json!({"rollouts-pod-template-hash": "abc"}), "gtm/Rollout/web"),
            ("StatefulSet", "db", json!({}), "gtm/StatefulSet/db"),
            ("DaemonSet", "agent", json!({}), "gtm/DaemonSet/agent"),
            ("Workflow", "etl-x7k2p", json!({}), "gtm/Workflow/etl-x7k2p"),
        ] {
            assert_eq!(workload(&owned(kind, name, labels)), expected);
        }
    }

    #[test]
    fn a_deployment_or_rollout_is_named_in_place_of_its_replica_set() {
        let of = |label: &str| controller(&owned("ReplicaSet", "web-abc", json!({(label): "abc"}))).unwrap();
        let deployment = of("pod-template-hash");
        assert_eq!((deployment.api_version.as_str(), deployment.uid), ("apps/v1", None));
        assert_eq!(of("rollouts-pod-template-hash").api_version, "argoproj.io/v1alpha1");
        let job = controller(&owned("Job", "enrich", json!({}))).unwrap();
        assert_eq!((job.kind.as_str(), job.uid.as_deref()), ("Job", Some("o")));
        assert_eq!(controller(&pod(json!({}))), None);
    }

    #[test]
    fn the_jobs_of_a_cron_job_are_one_workload() {
        let pod = owned("Job", "enrich-29384", json!({}));
        assert_eq!(job(&pod).as_deref(), Some("enrich-29384"));
        assert_eq!(job(&owned("StatefulSet", "db", json!({}))), None);
        assert_eq!(workload(&pod), "gtm/Job/enrich-29384");
        let cron_job = Controller {
            api_version: "batch/v1".to_owned(),
            kind: "CronJob".to_owned(),
            name: "enrich".to_owned(),
            uid: None,
        };
        assert_eq!(of_pod(&pod, "gtm", Some(&cron_job)).unwrap().as_deref(), Some("gtm/CronJob/enrich"));
        let other = owned("StatefulSet", "db", json!({}));
        assert_eq!(of_pod(&other, "gtm", Some(&cron_job)).unwrap().as_deref(), Some("gtm/StatefulSet/db"));
    }

    #[test]
    fn the_owner_that_injection_wrote_holds_for_the_job_that_it_was_written_for() {
        let injected = |job: &str, consumer: &str, written_for: &str| {
            let mut pod = owned("Job", job, json!({}));
            let status =
                json!({"version": "1", "consumer": consumer, "job": written_for, "quotas": []}).to_string();
            pod.annotations = Some([(STATUS.to_owned(), status)].into());
            workload(&pod)
        };
        let job = "enrich-29384";
        assert_eq!(injected(job, "gtm/CronJob/enrich", job), "gtm/CronJob/enrich");
        let by_hand = "again";
        assert_eq!(injected(by_hand, "gtm/CronJob/enrich", by_hand), "gtm/CronJob/enrich");
        assert_eq!(injected(job, "gtm/CronJob/enrich", "enrich-1"), "gtm/Job/enrich-29384", "a copy");
        for wrong in ["sales/CronJob/enrich", "gtm/x", "", "gtm/CronJob/"] {
            assert_eq!(injected(job, wrong, job), "gtm/Job/enrich-29384", "{wrong}");
        }
    }

    #[test]
    fn pods_without_a_controller_are_one_by_annotation_or_service_account() {
        let bare = pod(json!({}));
        assert_eq!(of_pod(&bare, "gtm", None), Ok(None));
        assert_eq!(of_service_account("gtm", "airflow"), "gtm/ServiceAccount/airflow");
        let annotated = |name: &str| pod(json!({"annotations": {(WORKLOAD): name}}));
        assert_eq!(workload(&annotated("nightly.enrich_2")), "gtm/Workload/nightly.enrich_2");
        for wrong in ["", "a/b", "-a", "a b", &"a".repeat(254)] {
            let refused = of_pod(&annotated(wrong), "gtm", None).unwrap_err().to_string();
            assert!(refused.contains("which is not a name; write letters"), "{refused}");
        }
        let mut owned = owned("StatefulSet", "db", json!({}));
        owned.annotations = Some([(WORKLOAD.to_owned(), "mine".to_owned())].into());
        assert_eq!(workload(&owned), "gtm/StatefulSet/db", "a controller comes first");
    }
}
