//! Which pods draw on which quotas, and which should and have no proxy. Pure, from their metadata.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use quotakeeper_api::names::{INJECT, INJECTED, LIMITER, QUOTAS, STATUS};
use quotakeeper_api::workload::{self, Controller};
use quotakeeper_inject::decide::Status;
use quotakeeper_inject::requested_quotas::{Requested, requested};
use quotakeeper_inject::view::{Namespace, consents_to};
use quotakeeper_wire::bootstrap::InterceptionMode;
use quotakeeper_wire::name::Consumer;
use serde_json::json;

use crate::reconcile::DesiredState;

/// A limiter's pod that was created, or whose deletion was asked for, this many seconds ago or less is being replaced.
const REPLACEMENT_SECONDS: i64 = 60;

/// A pod that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// When its deletion was asked for, of a limiter's pod; others that are being deleted have no view.
    ending: Option<Timestamp>,
    /// The request for quotas.
    request: QuotaRequest,
    /// What injection wrote; none: the pod has no proxy.
    pub injected: Option<Status>,
    /// The consumer that the limiter counts it as; none: the pod has no proxy.
    pub consumer: Option<Consumer>,
    /// The workload that gets its Events.
    pub owner: Owner,
}

/// The annotation and the label of a pod.
#[derive(Clone, Debug, PartialEq)]
struct QuotaRequest {
    quotas: Option<String>,
    label: Option<String>,
}

/// A workload, or a pod that has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its apiVersion.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID; none of a Deployment or Rollout, which pods do not name, or where no pod is left.
    pub uid: Option<String>,
}

impl Owner {
    /// The workload of a consumer, `namespace/kind/name`, none of whose pods is left; none: it is of an unknown kind.
    pub fn of_consumer(consumer: &str) -> Option<Owner> {
        let mut parts = consumer.splitn(3, '/');
        let (namespace, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
        let api_version = match kind {
            "Job" | "CronJob" => "batch/v1",
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => "apps/v1",
            _ => return None,
        };
        Some(Owner {
            namespace: namespace.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: None,
        })
    }

    /// The reference by which Events name it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.api_version.clone()),
            kind: Some(self.kind.clone()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: self.uid.clone(),
            ..ObjectReference::default()
        }
    }
}

/// How many pods request a quota, by `namespace/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// And have no proxy.
    pub not_injected: BTreeMap<String, u32>,
}

/// The view of a pod; none: the pod is being deleted, and is no limiter's.
pub fn view(object: PartialObjectMeta<Pod>) -> Option<PodView> {
    let metadata = &object.metadata;
    let owner = owner(metadata)?;
    let ending = ending(metadata);
    if ending.is_some() && owner.name != LIMITER {
        return None;
    }
    let annotation = |name: &str| object.annotations().get(name).cloned();
    // The limiter takes no session of a pod without the label, whatever its annotation says.
    let labelled = object.labels().get(INJECTED).is_some_and(|value| value == "true");
    let injected = annotation(STATUS).filter(|_| labelled);
    let injected: Option<Status> = injected.and_then(|status| serde_json::from_str(&status).ok());
    Some(PodView {
        uid: metadata.uid.clone()?,
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
        created: metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        request: QuotaRequest { quotas: annotation(QUOTAS), label: object.labels().get(INJECT).cloned() },
        consumer: injected.as_ref().map(|status| consumer(metadata, status)),
        injected,
        ending,
        owner,
    })
}

/// When the deletion of a pod was asked for: its time of deletion is the end of its grace period.
fn ending(pod: &ObjectMeta) -> Option<Timestamp> {
    let end = pod.deletion_timestamp.as_ref()?.0;
    let grace = pod.deletion_grace_period_seconds.unwrap_or(0);
    Timestamp::from_second(end.as_second().saturating_sub(grace)).ok()
}

/// The consumer as the limiter derives it. Metadata does not hold the ServiceAccount; injection wrote it down.
fn consumer(pod: &ObjectMeta, injected: &Status) -> Consumer {
    let namespace = pod.namespace.as_deref().unwrap_or_default();
    let derived = workload::of_pod(pod, namespace, workload::injected_job_owner(pod).as_ref());
    derived.ok().flatten().unwrap_or_else(|| injected.consumer.clone())
}

/// The controller of a pod, else the pod itself.
fn owner(pod: &ObjectMeta) -> Option<Owner> {
    let namespace = pod.namespace.clone()?;
    let Controller { api_version, kind, name, uid } = match workload::controller(pod) {
        Some(controller) => controller,
        None => Controller {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name.clone()?,
            uid: pod.uid.clone(),
        },
    };
    Some(Owner { namespace, api_version, kind, name, uid })
}

impl PodView {
    /// The quotas that the pod requests, as far as they are accepted and admit it.
    pub fn requests(&self, labels: &BTreeMap<String, String>, desired: &DesiredState) -> Vec<String> {
        let pod = json!({"metadata": {
            "labels": {INJECT: self.request.label},
            "annotations": {QUOTAS: self.request.quotas},
        }});
        let namespace = Namespace { name: self.namespace.clone(), labels: labels.clone() };
        let admits = |name: &str| {
            let account = desired.quotas.get(name).and_then(|verdict| verdict.account());
            account.is_some_and(|account| account.admitted.admits(&self.namespace))
        };
        let meant =
            |name: &str| name.split_once('/').is_some_and(|(place, _)| consents_to(place, &namespace));
        match requested(&pod, &namespace) {
            Ok(Requested::Names(names)) => {
                let other = |name: &str| meant(name) && admits(name);
                names.iter().filter_map(|name| named(name, &self.namespace, desired, other)).collect()
            }
            Ok(Requested::Auto { .. }) => {
                desired.quotas.keys().filter(|name| meant(name) && admits(name)).cloned().collect()
            }
            Ok(Requested::Nothing) | Err(_) => Vec::new(),
        }
    }

    /// Whether it is a limiter's pod in `namespace` that has just begun, or is about to end: the limiter is being
    /// replaced, as in an upgrade.
    pub fn replaces_limiter(&self, namespace: &str, now: Timestamp) -> bool {
        let changed = self.ending.unwrap_or(self.created);
        let recent = now.as_second().saturating_sub(changed.as_second()) <= REPLACEMENT_SECONDS;
        let Owner { kind, name, .. } = &self.owner;
        recent && self.namespace == namespace && kind == "Deployment" && name == LIMITER
    }

    /// Whether its proxy draws on a quota, `namespace/name`.
    pub fn draws_on(&self, quota: &str) -> bool {
        self.injected.as_ref().is_some_and(|status| status.quotas.iter().any(|it| it.quota == quota))
    }

    /// How its calls are caught, for people: `openai by base URL, platform/hubspot by hosts`.
    pub fn caught(&self) -> Option<String> {
        let status = self.injected.as_ref()?;
        let quotas = status.quotas.iter().map(|quota| {
            let way = match quota.mode {
                InterceptionMode::BaseUrl => "base URL",
                InterceptionMode::Hosts => "hosts",
            };
            format!("{} by {way}", self.short(&quota.quota))
        });
        Some(quotas.collect::<Vec<_>>().join(", "))
    }

    /// A quota's name as the pod's author would write it.
    pub fn short<'q>(&self, quota: &'q str) -> &'q str {
        let own = quota.strip_prefix(&self.namespace).and_then(|rest| rest.strip_prefix('/'));
        own.unwrap_or(quota)
    }
}

/// The quota that a name on a pod means; that of its own namespace comes first.
fn named(
    name: &str,
    namespace: &str,
    desired: &DesiredState,
    admits: impl Fn(&str) -> bool,
) -> Option<String> {
    let known = |name: &String| desired.quotas.contains_key(name);
    if name.contains('/') {
        return Some(name.to_owned()).filter(known);
    }
    let own = format!("{namespace}/{name}");
    if known(&own) {
        return Some(own);
    }
    let suffix = format!("/{name}");
    let mut others = desired.quotas.keys().filter(|other| other.ends_with(&suffix) && admits(other));
    others.next().cloned().filter(|_| others.next().is_none())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reconcile::{ObservedState, plan};
    use crate::view as views;
    use quotakeeper_api::names::QUOTAS_FROM;
    use serde_json::Value;

    fn pod(metadata: Value) -> PodView {
        let mut metadata = metadata;
        for (name, value) in [("name", "p"), ("namespace", "gtm"), ("uid", "u")] {
            if metadata[name].is_null() {
                metadata[name] = value.into();
            }
        }
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        view(serde_json::from_value(object).unwrap()).unwrap()
    }

    fn desired() -> DesiredState {
        let mut inputs = ObservedState::default();
        let all = json!({"namespaces": {"from": "All"}});
        for (namespace, name, provider, consumers) in [
            ("gtm", "openai", "openai", Value::Null),
            ("platform", "hubspot", "hubspot", all),
            ("sales", "crm", "hubspot", Value::Null),
        ] {
            let mut spec = json!({"provider": {"name": provider, "tier": if provider == "openai" { "tier-1" } else { "pro" }}});
            if !consumers.is_null() {
                spec["consumers"] = consumers;
            }
            let object = json!({
                "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
                "metadata": {"name": name, "namespace": namespace, "uid": "u"}, "spec": spec,
            });
            let view = views::quota(serde_json::from_value(object).unwrap(), None).unwrap();
            inputs.quotas.insert(format!("{namespace}/{name}"), view);
        }
        plan(&inputs)
    }

    #[test]
    fn a_pod_requests_quotas_by_annotation_by_label_or_by_its_namespace() {
        let desired = desired();
        let requests = |metadata: Value, labels: &[(&str, &str)]| {
            let platform = [(QUOTAS_FROM, "x.platform")];
            let labels = labels.iter().chain(&platform);
            let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            pod(metadata).requests(&labels, &desired).join(" ")
        };
        let annotated = |value: &str| json!({"annotations": {(QUOTAS): value}});
        assert_eq!(requests(json!({}), &[]), "");
        assert_eq!(requests(annotated("openai, hubspot"), &[]), "gtm/openai platform/hubspot");
        assert_eq!(requests(annotated("platform/hubspot,sales/none"), &[]), "platform/hubspot");
        assert_eq!(requests(annotated("crm"), &[]), "", "another's quota that does not admit it");
        assert_eq!(requests(annotated("auto"), &[]), "gtm/openai platform/hubspot");
        assert_eq!(requests(json!({}), &[(INJECT, "enabled")]), "gtm/openai platform/hubspot");
        assert_eq!(requests(json!({"labels": {(INJECT): "disabled"}}), &[(INJECT, "enabled")]), "");
        let alone = |value: &str| pod(annotated(value)).requests(&BTreeMap::new(), &desired).join(" ");
        assert_eq!(alone("auto"), "gtm/openai", "nobody named the other namespace for it");
        assert_eq!(
            (alone("hubspot"), alone("platform/hubspot")),
            (String::new(), "platform/hubspot".to_owned())
        );
    }

    #[test]
    fn events_go_to_the_job_or_the_deployment() {
        let hash = "pod-template-hash";
        let owned = |kind: &str, name: &str, labels: Value| {
            let owner =
                json!([{"apiVersion": "x/v1", "kind": kind, "name": name, "uid": "o", "controller": true}]);
            let owner = pod(json!({"labels": labels, "ownerReferences": owner})).owner;
            format!("{} {} {:?}", owner.kind, owner.name, owner.uid)
        };
        assert_eq!(owned("Job", "enrich", json!({})), "Job enrich Some(\"o\")");
        assert_eq!(owned("ReplicaSet", "web-5d4", json!({(hash): "5d4"})), "Deployment web None");
        let rollout = json!({"rollouts-pod-template-hash": "5d4"});
        assert_eq!(owned("ReplicaSet", "web-5d4", rollout), "Rollout web None");
        assert_eq!(owned("ReplicaSet", "alone", json!({})), "ReplicaSet alone Some(\"o\")");
        assert_eq!(pod(json!({})).owner.kind, "Pod");
    }

    #[test]
    fn a_pod_of_the_limiter_that_begins_or_ends_replaces_it_for_a_minute() {
        let time = |second: i64| Timestamp::from_second(1_793_714_580 + second).unwrap();
        let pod_of = |deployment: &str, more: Value| {
            let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-5d4"), "uid": "o", "controller": true}]);
            let mut metadata = json!({
                "name": "p", "namespace": "quotakeeper", "uid": "u", "ownerReferences": owner,
                "labels": {"pod-template-hash": "5d4"}, "creationTimestamp": time(0).to_string(),
            });
            metadata.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
            view(serde_json::from_value(object).unwrap())
        };
        let replaces = |pod: &PodView, second| pod.replaces_limiter("quotakeeper", time(second));
        let begins = pod_of(LIMITER, json!({})).unwrap();
        assert!(replaces(&begins, 0) && replaces(&begins, 60) && !replaces(&begins, 61));
        assert!(!begins.replaces_limiter("other", time(0)), "another installation's");
        assert!(!replaces(&pod_of("web", json!({})).unwrap(), 0));
        let asked = json!({"deletionTimestamp": time(1030).to_string(), "deletionGracePeriodSeconds": 30});
        let ends = pod_of(LIMITER, asked.clone()).unwrap();
        assert!(replaces(&ends, 1000) && replaces(&ends, 1060));
        assert!(!replaces(&ends, 1061), "its node is gone, say");
        assert!(pod_of("web", asked).is_none());
    }

    #[test]
    fn a_consumer_without_pods_names_its_workload() {
        let owner =
            |consumer| Owner::of_consumer(consumer).map(|it| format!("{} {}", it.api_version, it.name));
        assert_eq!(owner("gtm/Job/enrich").as_deref(), Some("batch/v1 enrich"));
        assert_eq!(owner("gtm/Deployment/web").as_deref(), Some("apps/v1 web"));
        assert_eq!(owner("gtm/ServiceAccount/default"), None);
        assert_eq!(owner("gtm"), None);
    }

    #[test]
    fn an_injected_pod_says_how_its_calls_are_caught() {
        let status = json!({"version": "0.1.0", "consumer": "gtm/Job/enrich", "quotas": [
            {"quota": "gtm/openai", "mode": "BaseURL"}, {"quota": "platform/hubspot", "mode": "Hosts"}]});
        let annotations = json!({(STATUS): status.to_string()});
        let labelled = pod(json!({"annotations": annotations, "labels": {(INJECTED): "true"}}));
        assert_eq!(labelled.caught().unwrap(), "openai by base URL, platform/hubspot by hosts");
        let forged = pod(json!({"annotations": annotations}));
        assert!(forged.injected.is_none() && !forged.draws_on("gtm/openai"));
    }
}
