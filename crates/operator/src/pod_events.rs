//! The Events of a workload about its injected pods, from what injection wrote on them. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::pods::PodView;

/// Pods older than this, in seconds, have had their Events already, maybe from another leader.
const FRESH: i64 = 600;
/// The most Events of one reason; the pods of a workload seldom differ.
const MOST: usize = 20;

/// An Event about the pods of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEvent {
    /// Its type is Warning, not Normal.
    pub warning: bool,
    /// Its reason, in CamelCase.
    pub reason: &'static str,
    /// Its note, a sentence.
    pub note: String,
    /// Distinguishes it from others of its reason: an Event of the same cause is published once.
    pub cause: String,
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
    let injected = caught.into_iter().map(|caught| PodEvent {
        warning: false,
        reason: "Injected",
        note: caught.clone(),
        cause: caught,
    });
    let warnings_of = |reason: &'static str, notes: BTreeSet<String>| {
        let event = move |note: String| PodEvent { warning: true, reason, cause: note.clone(), note };
        notes.into_iter().take(MOST).map(event)
    };
    injected
        .take(MOST)
        .chain(warnings_of("InjectionSkipped", bypassing))
        .chain(warnings_of("InjectionWarning", warnings))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use quotakeeper_api::names::STATUS;
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
            "annotations": {(STATUS): whole.to_string()},
        }});
        crate::pods::view(serde_json::from_value(object).unwrap()).unwrap()
    }

    fn events_of(pods: &[PodView]) -> Vec<String> {
        let pods: Vec<&PodView> = pods.iter().collect();
        let pod_events = pod_events(&pods, NOW.parse().unwrap());
        pod_events.into_iter().map(|it| format!("{} {}", it.reason, it.note)).collect()
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
