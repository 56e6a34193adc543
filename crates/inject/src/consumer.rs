//! The workload that a pod belongs to: who waits in line, as one, however many pods it has.
//!
//! `namespace/kind/name` of the topmost controller. A pod without one is told by its annotation, else by its
//! ServiceAccount: else a scheduler that makes its pods itself would get a share for each.

use serde_json::Value;

use crate::names::WORKLOAD;
use crate::pod;

/// A controller that owns an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind, such as `CronJob`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// The controller that owns an object.
pub fn controller(object: &Value) -> Option<Owner> {
    let references = pod::items(&object["metadata"]["ownerReferences"]);
    let reference = references.iter().find(|reference| reference["controller"] == true)?;
    let text = |field: &str| reference[field].as_str().map(str::to_owned);
    Some(Owner { kind: text("kind")?, name: text("name")? })
}

/// The Job that owns a pod: its own controller is the pod's workload, and only the API server knows it.
pub fn job(pod: &Value) -> Option<String> {
    controller(pod).filter(|owner| owner.kind == "Job").map(|owner| owner.name)
}

/// The workload of a pod in `namespace`. `owner_of_job` is the controller of the pod's [`job`], where it has one.
///
/// # Errors
/// A sentence where the pod's annotation is no name.
pub fn consumer(pod: &Value, namespace: &str, owner_of_job: Option<&Owner>) -> Result<String, String> {
    let of = |kind: &str, name: &str| format!("{namespace}/{kind}/{name}");
    let Some(owner) = controller(pod) else {
        if let Some(name) = pod::annotation(pod, WORKLOAD) {
            return workload(name).map(|name| of("Workload", name));
        }
        let account = pod["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty());
        return Ok(of("ServiceAccount", account.unwrap_or("default")));
    };
    if owner.kind == "ReplicaSet" {
        // The hash that a Deployment, or Argo's Rollout, gives its ReplicaSets' names and pods.
        let kinds = [("pod-template-hash", "Deployment"), ("rollouts-pod-template-hash", "Rollout")];
        for (label, kind) in kinds {
            let hash = pod::label(pod, label);
            let prefix = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
            if let Some(name) = prefix.filter(|name| !name.is_empty()) {
                return Ok(of(kind, name));
            }
        }
    }
    match owner_of_job.filter(|_| owner.kind == "Job") {
        Some(above) => Ok(of(&above.kind, &above.name)),
        None => Ok(of(&owner.kind, &owner.name)),
    }
}

fn workload(name: &str) -> Result<&str, String> {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    let edge = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    let fits = name.len() <= 253
        && name.chars().all(inner)
        && edge(name.chars().next())
        && edge(name.chars().next_back());
    fits.then_some(name).ok_or_else(|| {
        format!(
            "the annotation {WORKLOAD} is `{}`, which is no name; write letters, digits, `-`, `_` and `.`, at most 253",
            name.chars().take(60).collect::<String>()
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn owned(kind: &str, name: &str, labels: Value) -> Value {
        let reference = json!({"kind": kind, "name": name, "controller": true});
        json!({"metadata": {"labels": labels, "ownerReferences": [{"kind": "X", "name": "x"}, reference]}})
    }

    fn of(pod: &Value, above: Option<(&str, &str)>) -> String {
        let above = above.map(|(kind, name)| Owner { kind: kind.to_owned(), name: name.to_owned() });
        consumer(pod, "gtm", above.as_ref()).unwrap()
    }

    #[test]
    fn pods_of_one_controller_are_one_workload() {
        let hash = json!({"pod-template-hash": "7d4b9c6f5"});
        assert_eq!(of(&owned("ReplicaSet", "web-7d4b9c6f5", hash.clone()), None), "gtm/Deployment/web");
        assert_eq!(of(&owned("ReplicaSet", "alone", hash), None), "gtm/ReplicaSet/alone");
        assert_eq!(
            of(&owned("ReplicaSet", "alone-7d4b9c6f5", json!({})), None),
            "gtm/ReplicaSet/alone-7d4b9c6f5"
        );
        let rollout = json!({"rollouts-pod-template-hash": "abc"});
        assert_eq!(of(&owned("ReplicaSet", "web-abc", rollout), None), "gtm/Rollout/web");
        assert_eq!(of(&owned("StatefulSet", "db", json!({})), None), "gtm/StatefulSet/db");
    }

    #[test]
    fn the_jobs_of_a_cron_job_are_one_workload() {
        let pod = owned("Job", "enrich-29384", json!({}));
        assert_eq!(job(&pod).as_deref(), Some("enrich-29384"));
        assert_eq!(of(&pod, None), "gtm/Job/enrich-29384");
        assert_eq!(of(&pod, Some(("CronJob", "enrich"))), "gtm/CronJob/enrich");
        assert_eq!(job(&owned("StatefulSet", "db", json!({}))), None);
    }

    #[test]
    fn pods_without_controller_are_one_by_annotation_or_service_account() {
        assert_eq!(of(&json!({"metadata": {}}), None), "gtm/ServiceAccount/default");
        let mut pod = json!({"metadata": {}, "spec": {"serviceAccountName": "airflow"}});
        assert_eq!(of(&pod, None), "gtm/ServiceAccount/airflow");
        pod["metadata"]["annotations"] = json!({(WORKLOAD): "nightly.enrich_2"});
        assert_eq!(of(&pod, None), "gtm/Workload/nightly.enrich_2");
        for wrong in ["", "a/b", "-a", "a b", &"a".repeat(254)] {
            pod["metadata"]["annotations"] = json!({(WORKLOAD): wrong});
            let refused = consumer(&pod, "gtm", None).unwrap_err();
            assert!(refused.contains("which is no name"), "{refused}");
        }
    }
}
