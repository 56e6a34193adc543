//! The pods of a workload, and whether they have a proxy.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use quotakeeper_api::names::{INJECT, INJECTED, QUOTAS, STATUS};
use quotakeeper_api::workload;
use quotakeeper_operator::InjectionStatus;

/// An object that a person asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A pod.
    Pod(String),
    /// A controller of pods: its kind and name.
    Workload(&'static str, String),
}

/// Kinds of controllers, as people write them.
const KINDS: [(&str, &[&str]); 5] = [
    ("Job", &["job", "jobs", "job.batch", "jobs.batch"]),
    ("CronJob", &["cronjob", "cronjobs", "cj"]),
    ("Deployment", &["deployment", "deployments", "deploy", "deployment.apps"]),
    ("StatefulSet", &["statefulset", "statefulsets", "sts"]),
    ("DaemonSet", &["daemonset", "daemonsets", "ds"]),
];

impl Subject {
    /// # Errors
    /// A sentence that says what to write instead.
    pub(super) fn read(text: &str) -> Result<Subject, String> {
        let Some((kind, name)) = text.split_once('/') else { return Ok(Subject::Pod(text.to_owned())) };
        if name.is_empty() {
            return Err(format!("{text} has no name; write {kind}/NAME"));
        }
        let lower = kind.to_ascii_lowercase();
        if ["pod", "pods", "po"].contains(&lower.as_str()) {
            return Ok(Subject::Pod(name.to_owned()));
        }
        let known = KINDS.iter().find(|(_, words)| words.contains(&lower.as_str()));
        known.map(|(kind, _)| Subject::Workload(kind, name.to_owned())).ok_or_else(|| {
            let kinds: Vec<&str> = KINDS.iter().map(|(_, words)| words[0]).collect();
            format!("{kind} is no kind that has pods; write pod, {} before the slash", kinds.join(", "))
        })
    }

    /// As people read it.
    pub(super) fn words(&self) -> String {
        match self {
            Subject::Pod(name) => format!("Pod {name}"),
            Subject::Workload(kind, name) => format!("{kind} {name}"),
        }
    }

    /// Whether a pod is, or belongs to, it.
    pub(super) fn has(&self, pod: &Pod) -> bool {
        match self {
            Subject::Pod(name) => pod.name_any() == *name,
            Subject::Workload("Job", name) => {
                workload::owner(&pod.metadata).is_some_and(|owner| owner.kind == "Job" && owner.name == *name)
            }
            Subject::Workload(kind, name) => {
                let namespace = pod.namespace().unwrap_or_default();
                workload_of(&pod.metadata).is_some_and(|of| of == format!("{namespace}/{kind}/{name}"))
            }
        }
    }
}

/// The workload that a pod is counted as; none: its ServiceAccount.
pub(super) fn workload_of(pod: &ObjectMeta) -> Option<String> {
    let namespace = pod.namespace.as_deref().unwrap_or_default();
    let job_owner = workload::injected_job_owner(pod);
    let known = workload::of_pod(pod, namespace, job_owner.as_ref()).ok().flatten();
    known.map(|consumer| consumer.to_string())
}

/// What injection wrote on a pod; none: it has no proxy.
pub(super) fn injected(pod: &Pod) -> Option<InjectionStatus> {
    let labelled = pod.labels().get(INJECTED).is_some_and(|value| value == "true");
    let status = pod.annotations().get(STATUS).filter(|_| labelled)?;
    serde_json::from_str(status).ok()
}

/// Why a pod has no proxy, and what to do.
pub(super) fn why_not_injected(pod: &Pod) -> String {
    match (pod.annotations().get(QUOTAS), pod.labels().get(INJECT).map(String::as_str)) {
        (_, Some("disabled")) => {
            format!("has no proxy: its label {INJECT} is disabled. Its calls are not limited")
        }
        (Some(quotas), _) => format!(
            "asks for the quotas {quotas}, and has no proxy: it was created while injection was off, or the annotation \
             came later. Its calls are not limited; delete it, so that its controller creates it anew"
        ),
        (None, Some("enabled")) => format!(
            "has no proxy in spite of its label {INJECT}: it was created while injection was off, or no quota admitted \
             it. Its calls are not limited; delete it, so that its controller creates it anew"
        ),
        (None, _) => format!(
            "has no proxy: nothing asks for one. Its calls are not limited; give the pod's template the annotation \
             {QUOTAS}: NAMESPACE/NAME"
        ),
    }
}

/// Whether its containers run.
pub(super) fn runs(pod: &Pod) -> bool {
    phase(pod) == "Running" && pod.metadata.deletion_timestamp.is_none()
}

/// Whether it has ended.
pub(super) fn ended(pod: &Pod) -> bool {
    ["Succeeded", "Failed"].contains(&phase(pod))
}

/// Its phase.
pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown")
}

/// What keeps a pod from running, as far as its status says.
pub(super) fn obstacle(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled =
        status.conditions.iter().flatten().find(|it| it.status == "False" && it.type_ == "PodScheduled");
    if let Some(condition) = unscheduled {
        return condition.message.clone();
    }
    let all =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.into_iter().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let message = waiting.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        Some(format!("container {}: {}{message}", container.name, waiting.reason.clone()?))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn pod(metadata: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn objects_are_read_as_kubectl_reads_them() {
        assert_eq!(Subject::read("enrich-1").unwrap(), Subject::Pod("enrich-1".to_owned()));
        assert_eq!(Subject::read("po/enrich-1").unwrap(), Subject::Pod("enrich-1".to_owned()));
        assert_eq!(Subject::read("Deploy/web").unwrap(), Subject::Workload("Deployment", "web".to_owned()));
        assert!(
            Subject::read("svc/web")
                .unwrap_err()
                .starts_with("svc is no kind that has pods; write pod, job,")
        );
        assert!(Subject::read("job/").unwrap_err().contains("write job/NAME"));
    }

    #[test]
    fn pods_belong_to_their_topmost_controller() {
        let owner = |kind: &str, name: &str| json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": "1", "controller": true}]);
        let of_job = pod(json!({"name": "a", "namespace": "gtm", "ownerReferences": owner("Job", "enrich")}));
        assert!(Subject::read("job/enrich").unwrap().has(&of_job));
        assert!(!Subject::read("job/other").unwrap().has(&of_job));
        let of_deployment = pod(json!({
            "name": "web-5f-x", "namespace": "gtm", "labels": {"pod-template-hash": "5f"},
            "ownerReferences": owner("ReplicaSet", "web-5f"),
        }));
        assert!(Subject::read("deployment/web").unwrap().has(&of_deployment));
    }

    #[test]
    fn a_pod_without_proxy_says_why() {
        let asks = pod(json!({"name": "a", "annotations": {"quotakeeper.dev/quotas": "gtm/openai"}}));
        assert!(why_not_injected(&asks).starts_with("asks for the quotas gtm/openai, and has no proxy"));
        assert!(why_not_injected(&pod(json!({"name": "a"}))).contains("nothing asks for one"));
        assert_eq!(injected(&asks), None);
    }
}
