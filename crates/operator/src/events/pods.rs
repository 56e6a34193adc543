//! The Events of workloads about their pods, and how many pods request a quota and have no proxy.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject};
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_inject::decide::{Decision, Input, decide};
use quotakeeper_inject::view::{Namespace, admits};
use tokio::time::timeout;

use super::{EventPublisher, Observed};
use crate::cluster::Cluster;
use crate::event_reason::EventReason;
use crate::event_writer::DueEvent;
use crate::lease::REQUEST;
use crate::pod_events::{MissingProxy, PodEvent, not_injected, pod_events};
use crate::pods::{Counts, Owner, PodView};

/// The most pods that are read from the API server in a round.
const MOST_READS: usize = 50;

/// Why a pod that requests a quota has no proxy.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Finding {
    /// It can't have one.
    Skipped(String),
    /// It should have one.
    Missing,
    /// It needs none.
    NotNeeded,
}

/// Whether a quota admits a pod. What a pod says of itself is its author's word, and others' quotas are none of his
/// business.
fn is_admitted(
    pod: &PodView,
    quota: &ApiQuota,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> bool {
    let labels = namespaces.get(&pod.namespace).cloned().unwrap_or_default();
    admits(quota, &Namespace { name: pod.namespace.clone(), labels })
}

impl Observed<'_> {
    /// The quotas that a pod without a proxy requests; none if the pod needs no proxy.
    fn quotas_without_proxy(&self, pod: &PodView) -> Vec<String> {
        let own = pod.namespace == *self.cluster.namespace || pod.namespace == "kube-system";
        if pod.injected.is_some() || own {
            return Vec::new();
        }
        let none = BTreeMap::new();
        pod.requests(self.namespaces.get(&pod.namespace).unwrap_or(&none), &self.applied.desired)
    }

    /// Whether a pod draws on a quota that admits it.
    pub(super) fn draws_on(&self, pod: &PodView, quota: &str) -> bool {
        let known = self.quotas.get(quota).and_then(|view| view.decoded.as_ref());
        pod.draws_on(quota) && known.is_none_or(|quota| is_admitted(pod, quota, &self.namespaces))
    }

    /// What the webhook would decide about a pod that exists already; none if that can't be found out now.
    async fn find(&self, pod: &PodView) -> Option<Finding> {
        let settings = self.settings.as_ref()?;
        let pods: Api<DynamicObject> = Api::namespaced_with(
            self.cluster.client.clone(),
            &pod.namespace,
            &kube::api::ApiResource::erase::<Pod>(&()),
        );
        let object = timeout(REQUEST, pods.get_opt(&pod.name)).await.ok()?.ok()?;
        let Some(object) = object else { return Some(Finding::NotNeeded) };
        let value = serde_json::to_value(object).ok()?;
        let labels = self.namespaces.get(&pod.namespace).cloned().unwrap_or_default();
        let namespace = Namespace { name: pod.namespace.clone(), labels };
        let input =
            Input { pod: &value, namespace: &namespace, view: self.caches, settings, job_owner: None };
        Some(match decide(&input) {
            Decision::Skipped { reason } => Finding::Skipped(reason),
            Decision::Unchanged => Finding::NotNeeded,
            Decision::Patch { .. } | Decision::Denied { .. } => Finding::Missing,
        })
    }
}

impl EventPublisher {
    /// Publishes what is new about pods; returns how many have no proxy, by quota.
    pub(super) async fn review_pods(&mut self, observed: &Observed<'_>) -> Counts {
        self.forget_deleted(&observed.pods);
        self.classify(observed).await;
        let found = self.collect(observed);
        for event in self.due(&found) {
            self.publish_once(observed.cluster, event).await;
        }
        found.counts()
    }

    fn forget_deleted(&mut self, pods: &BTreeMap<String, PodView>) {
        let uids: HashSet<&str> = pods.values().map(|pod| pod.uid.as_str()).collect();
        self.findings.retain(|uid, _| uids.contains(uid.as_str()));
        let owners: HashSet<&Owner> = pods.values().map(|pod| &pod.owner).collect();
        self.published.retain(|(owner, ..)| owners.contains(owner));
        self.uids.retain(|owner, _| owners.contains(owner));
    }

    /// Finds out why pods that request quotas have no proxy, of a few pods in each round.
    async fn classify(&mut self, observed: &Observed<'_>) {
        let unknown = observed.pods.values().filter(|pod| {
            !self.findings.contains_key(&pod.uid) && !observed.quotas_without_proxy(pod).is_empty()
        });
        for pod in unknown.take(MOST_READS).collect::<Vec<_>>() {
            if let Some(finding) = observed.find(pod).await {
                self.findings.insert(pod.uid.clone(), finding);
            }
        }
    }

    /// The pods that Events are due for, by workload.
    fn collect<'p>(&self, observed: &'p Observed<'_>) -> Found<'p> {
        let mut found = Found::default();
        for pod in observed.pods.values() {
            if pod.injected.is_some() {
                found.injected.entry(&pod.owner).or_default().push(pod);
                continue;
            }
            let quotas = observed.quotas_without_proxy(pod);
            if quotas.is_empty() {
                continue;
            }
            match self.findings.get(&pod.uid) {
                Some(Finding::Missing) => {
                    found.missing.entry(&pod.owner).or_default().push(MissingProxy { pod, quotas });
                }
                Some(Finding::Skipped(reason)) => found.skipped.push((&pod.owner, reason.clone())),
                Some(Finding::NotNeeded) | None => {}
            }
        }
        found
    }

    /// The events that are due now; a workload that is new to this round gets its events in the next one.
    fn due(&mut self, found: &Found<'_>) -> Vec<OwnerEvent> {
        let injected_before = std::mem::replace(&mut self.injected, owners_of(&found.injected));
        let missing_before = std::mem::replace(&mut self.missing, owners_of(&found.missing));
        self.arriving =
            !self.injected.is_subset(&injected_before) || !self.missing.is_subset(&missing_before);
        let skipped = found.skipped.iter().map(|(owner, reason)| OwnerEvent {
            owner: (*owner).clone(),
            event: PodEvent::of(EventReason::InjectionSkipped, reason.clone()),
        });
        let now = Timestamp::now();
        let injected = found.injected.iter().filter(|(owner, _)| injected_before.contains(**owner));
        let injected = injected.flat_map(|(owner, pods)| {
            pod_events(pods, now).into_iter().map(|event| OwnerEvent { owner: (*owner).clone(), event })
        });
        let missing = found.missing.iter().filter(|(owner, _)| missing_before.contains(**owner));
        let missing = missing
            .map(|(owner, pods)| OwnerEvent { owner: (*owner).clone(), event: not_injected(owner, pods) });
        skipped.chain(injected).chain(missing).collect()
    }

    /// Publishes an event of a workload, unless one of its reason and cause was published before.
    async fn publish_once(&mut self, cluster: &Cluster, due: OwnerEvent) {
        let OwnerEvent { owner, event: PodEvent { reason, note, cause } } = due;
        if self.published.insert((owner.clone(), reason, cause.clone())) {
            let regarding = self.reference(cluster, &owner).await;
            self.writer.push(DueEvent { reason, note, regarding, once: Some(cause) });
        }
    }
}

/// The pods of a round that Events are due for.
#[derive(Default)]
struct Found<'p> {
    injected: BTreeMap<&'p Owner, Vec<&'p PodView>>,
    missing: BTreeMap<&'p Owner, Vec<MissingProxy<'p>>>,
    /// Workloads of pods that can't have a proxy, and why.
    skipped: Vec<(&'p Owner, String)>,
}

/// An event of a workload.
struct OwnerEvent {
    owner: Owner,
    event: PodEvent,
}

impl Found<'_> {
    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for quota in self.missing.values().flatten().flat_map(|missing| &missing.quotas) {
            *counts.not_injected.entry(quota.clone()).or_default() += 1;
        }
        counts
    }
}

fn owners_of<T>(workloads: &BTreeMap<&Owner, T>) -> HashSet<Owner> {
    workloads.keys().map(|owner| (*owner).clone()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kube::api::PartialObjectMeta;
    use quotakeeper_api::names::{INJECTED, STATUS};
    use serde_json::json;

    use super::*;
    use crate::pods::view;

    /// Whoever writes a pod may write the label and the status too, and name any quota in it.
    #[test]
    fn a_forged_status_draws_on_no_quota_of_another_namespace() {
        let quota = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": "openai", "namespace": "gtm"}, "spec": {"provider": {"name": "openai"}},
        });
        let quota: ApiQuota = serde_json::from_value(quota).unwrap();
        let status = json!({"version": "0.1.0", "consumer": "gtm/Job/enrich",
            "quotas": [{"quota": "gtm/openai", "mode": "BaseURL"}]});
        for (namespace, admitted) in [("gtm", true), ("elsewhere", false)] {
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
                "name": "p", "namespace": namespace, "uid": "u", "labels": {(INJECTED): "true"},
                "annotations": {(STATUS): status.to_string()},
            }});
            let pod: PartialObjectMeta<Pod> = serde_json::from_value(object).unwrap();
            let pod = view(pod).unwrap();
            assert!(pod.draws_on("gtm/openai"));
            assert_eq!(is_admitted(&pod, &quota, &BTreeMap::new()), admitted, "{namespace}");
        }
    }
}
