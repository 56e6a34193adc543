//! The Events of a workload about its pods: what injection wrote on them, and why some have no proxy. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::event_reason::EventReason;
use crate::pods::{Owner, PodView};
use crate::status::words::counted;

/// Pods older than this, in seconds, have had their Events already, maybe from another leader.
const FRESH: i64 = 600;
/// The most Events of one reason; the pods of a workload seldom differ.
const MOST: usize = 20;

/// An Event about the pods of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEvent {
    /// Its reason.
    pub reason: EventReason,
    /// Its note, a sentence.
    pub note: String,
    /// Distinguishes it from others of its reason: an Event of the same cause is published once.
    pub cause: String,
}

impl PodEvent {
    /// One that is published once for its note.
    pub(crate) fn of(reason: EventReason, note: String) -> PodEvent {
        PodEvent { reason, cause: note.clone(), note }
    }
}

/// The Events of a workload with these pods, all of them injected.
pub fn pod_events(pods: &[&PodView], now: Timestamp) -> Vec<PodEvent> {
    let age = |pod: &PodView| now.as_second().saturating_sub(pod.created.as_second());
    let fresh: Vec<&PodView> = pods.iter().copied().filter(|pod| age(pod) <= FRESH).collect();
    // How many pods there are is in the quota's status: an Event is published once, and workloads grow.
    let caught: BTreeSet<String> = fresh.iter().filter_map(|pod| pod.caught()).collect();
    let (mut bypassing, mut warnings) = (BTreeSet::new(), BTreeSet::new());
    for pod in fresh {
        if let Some(status) = &pod.injected {
            bypassing.extend(status.skipped.iter().map(|skip| {
                let quota = pod.short(&skip.quota);
                format!("calls of container {} bypass {quota}: {}", skip.container, skip.reason)
            }));
            warnings.extend(status.warnings.iter().cloned());
        }
    }
    let of = |reason, notes: BTreeSet<String>| {
        notes.into_iter().take(MOST).map(move |note| PodEvent::of(reason, note))
    };
    of(EventReason::Injected, caught)
        .chain(of(EventReason::InjectionSkipped, bypassing))
        .chain(of(EventReason::InjectionWarning, warnings))
        .collect()
}

/// A pod that should have a proxy, and the quotas that it names.
pub(crate) struct MissingProxy<'p> {
    pub(crate) pod: &'p PodView,
    pub(crate) quotas: Vec<String>,
}

/// The Event of a workload some of whose pods were created while nothing could give them a proxy.
pub(crate) fn not_injected(owner: &Owner, missing: &[MissingProxy<'_>]) -> PodEvent {
    let names: BTreeSet<&str> =
        missing.iter().flat_map(|it| it.quotas.iter().map(|quota| it.pod.short(quota))).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let note = format!(
        "{} without a proxy, calls are not limited by {names}: created before Quotakeeper or while it was away; {}",
        counted(i64::try_from(missing.len()).unwrap_or(i64::MAX), "pod"),
        restart(owner)
    );
    PodEvent { reason: EventReason::NotInjected, note, cause: names }
}

/// What to do so that a workload's pods get proxies.
pub(crate) fn restart(owner: &Owner) -> String {
    let Owner { namespace, kind, name, .. } = owner;
    match kind.as_str() {
        "Deployment" | "StatefulSet" | "DaemonSet" => {
            format!("run kubectl rollout restart {}/{name} -n {namespace}", kind.to_lowercase())
        }
        "Rollout" => format!("run kubectl argo rollouts restart {name} -n {namespace}"),
        _ => format!("create the {kind} {name} anew"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use quotakeeper_api::names::{INJECTED, STATUS};
    use serde_json::{Value, json};

    const NOW: &str = "2026-11-03T14:20:00Z";

    fn pod(created: &str, status: Value) -> PodView {
        let mut whole = json!({"version": "0.1.0", "consumer": "gtm/Deployment/web", "quotas": [
            {"quota": "gtm/openai", "mode": "BaseURL"}]});
        for (field, value) in status.as_object().unwrap() {
            whole[field] = value.clone();
        }
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": "web-1", "namespace": "gtm", "uid": "u", "creationTimestamp": created,
            "annotations": {(STATUS): whole.to_string()}, "labels": {(INJECTED): "true"},
        }});
        crate::pods::view(serde_json::from_value(object).unwrap()).unwrap()
    }

    fn events_of(pods: &[PodView]) -> Vec<String> {
        let pods: Vec<&PodView> = pods.iter().collect();
        let pod_events = pod_events(&pods, NOW.parse().unwrap());
        pod_events.into_iter().map(|it| format!("{} {}", it.reason.word(), it.note)).collect()
    }

    #[test]
    fn each_cause_has_one_event() {
        let skip = |container: &str| json!([{"container": container, "quota": "gtm/openai", "reason": "it sets OPENAI_BASE_URL itself"}]);
        let fresh = "2026-11-03T14:19:58Z";
        let pods = [
            pod(fresh, json!({})),
            pod(fresh, json!({"skipped": skip("b"), "warnings": ["calls to *.x bypass the quota"]})),
            pod(fresh, json!({"skipped": skip("a"), "warnings": ["calls to *.x bypass the quota"]})),
            pod(fresh, json!({"quotas": [{"quota": "platform/hubspot", "mode": "Hosts"}]})),
        ];
        assert_eq!(
            events_of(&pods),
            [
                "Injected openai by base URL",
                "Injected platform/hubspot by hosts",
                "InjectionSkipped calls of container a bypass openai: it sets OPENAI_BASE_URL itself",
                "InjectionSkipped calls of container b bypass openai: it sets OPENAI_BASE_URL itself",
                "InjectionWarning calls to *.x bypass the quota",
            ]
        );
    }

    #[test]
    fn old_pods_have_no_events_of_their_own() {
        let old = || pod("2026-11-03T14:00:00Z", json!({"warnings": ["old"]}));
        assert!(events_of(&[old(), old()]).is_empty());
        let new = pod("2026-11-03T14:19:00Z", json!({}));
        assert_eq!(events_of(&[old(), new]), ["Injected openai by base URL"]);
    }
}
