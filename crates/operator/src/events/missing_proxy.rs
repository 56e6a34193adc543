//! Pods that request a quota and were created while nothing could give them a proxy. Pure.

use std::collections::BTreeSet;

use crate::pod_events::PodEvent;
use crate::pods::{Owner, PodView};
use crate::status::words::counted;

/// A pod that should have a proxy, and the quotas that it names.
pub(super) struct MissingProxy<'p> {
    pub(super) pod: &'p PodView,
    pub(super) quotas: Vec<String>,
}

/// The Event of a workload some of whose pods should have a proxy.
pub(super) fn not_injected(owner: &Owner, missing: &[MissingProxy<'_>]) -> PodEvent {
    let names: BTreeSet<&str> =
        missing.iter().flat_map(|it| it.quotas.iter().map(|quota| it.pod.short(quota))).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let note = format!(
        "{} without a proxy, calls are not limited by {names}: created before Quotakeeper or while it was away; {}",
        counted(i64::try_from(missing.len()).unwrap_or(i64::MAX), "pod"),
        restart(owner)
    );
    PodEvent { warning: true, reason: "NotInjected", note, cause: names }
}

/// What to do so that a workload's pods get proxies.
pub(super) fn restart(owner: &Owner) -> String {
    let Owner { namespace, kind, name, .. } = owner;
    match kind.as_str() {
        "Deployment" | "StatefulSet" | "DaemonSet" => {
            format!("run kubectl rollout restart {}/{name} -n {namespace}", kind.to_lowercase())
        }
        "Rollout" => format!("run kubectl argo rollouts restart {name} -n {namespace}"),
        _ => format!("create the {kind} {name} anew"),
    }
}
