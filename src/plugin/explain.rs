//! `kubectl apiquota explain`: why a pod or a workload waits.

mod text;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_wire::headroom::Headroom;
use serde::Serialize;
use serde_json::json;

use super::cluster::{BadInput, Cluster, is_forbidden, is_unknown};
use super::pods::{self, Subject};
use super::sidecar;
use crate::tables::{Format, print_as};

/// Proxies that are asked until one answers: all pods of a workload wait in one queue, so that one knows of all.
const MOST_ASKED: usize = 3;
/// Events that are shown.
const MOST_EVENTS: usize = 3;

/// What is known of an object.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    object: String,
    namespace: String,
    /// As whom the limiter counts it; none: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    pods: Vec<PodExplanation>,
    quotas: Vec<QuotaState>,
    /// Warnings of the API server about it, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<String>,
}

/// What is known of one pod.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodExplanation {
    name: String,
    phase: String,
    /// Why it has no proxy, or its proxy does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// What it should know of its injection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remarks: Vec<String>,
    /// What its proxy says; none: it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    headroom: Option<Headroom>,
}

/// How a quota stands, as the operator reports it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct QuotaState {
    quota: String,
    state: String,
}

/// Explains an object.
pub(super) async fn run(cluster: &Cluster, object: &str, output: Format) -> anyhow::Result<ExitCode> {
    let namespace = cluster.one_namespace()?;
    let subject = Subject::read(object).map_err(BadInput)?;
    let explanation = explain(cluster, namespace, &subject).await?;
    Ok(print_as(output, || json!(explanation), |wide| text::of(&explanation, wide)))
}

async fn explain(cluster: &Cluster, namespace: &str, subject: &Subject) -> anyhow::Result<Explanation> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let found = pods_of(&api, subject).await.with_context(|| format!("pods of {namespace} can't be read"))?;
    let events = events(cluster, namespace, subject, &found).await;
    if found.is_empty() && events.is_empty() {
        let hint = "look with kubectl get pods; a Job that is suspended has none";
        return Err(
            BadInput(format!("{} of namespace {namespace} has no pod; {hint}", subject.words())).into()
        );
    }
    let (mut asked, mut answered) = (0, false);
    let mut pods = Vec::new();
    let mut quotas = BTreeSet::new();
    for pod in &found {
        let injected = pods::injected(pod);
        let named = injected.iter().flat_map(|status| &status.quotas);
        quotas.extend(named.map(|quota| quota.quota.to_string()));
        let ask = injected.is_some() && pods::runs(pod) && asked < MOST_ASKED && !answered;
        asked += usize::from(ask);
        let explained = explain_pod(&api, pod, ask).await;
        answered |= explained.headroom.is_some();
        pods.push(explained);
    }
    Ok(Explanation {
        object: subject.words(),
        namespace: namespace.to_owned(),
        workload: found.iter().find_map(|pod| {
            let injected = pods::injected(pod).map(|status| status.consumer.to_string());
            pods::workload_of(&pod.metadata).or(injected)
        }),
        pods,
        quotas: states(cluster, quotas).await,
        events,
    })
}

async fn pods_of(api: &Api<Pod>, subject: &Subject) -> kube::Result<Vec<Pod>> {
    if let Subject::Pod(name) = subject {
        return match api.get(name).await {
            Err(error) if is_unknown(&error) => Ok(Vec::new()),
            found => found.map(|pod| vec![pod]),
        };
    }
    let mut all = api.list(&ListParams::default()).await?.items;
    all.retain(|pod| subject.has(pod));
    // Those that wait first.
    all.sort_by_key(|pod| (pods::ended(pod), pod.name_any()));
    Ok(all)
}

async fn explain_pod(api: &Api<Pod>, pod: &Pod, ask: bool) -> PodExplanation {
    let (name, phase) = (pod.name_any(), pods::phase(pod).to_owned());
    let Some(injected) = pods::injected(pod) else {
        let problem = (!pods::ended(pod)).then(|| pods::why_not_injected(pod));
        return PodExplanation { name, phase, problem, ..Default::default() };
    };
    let skipped = injected.skipped.iter().map(|skip| {
        format!("calls of container {} bypass the quota {}: {}", skip.container, skip.quota, skip.reason)
    });
    let remarks = skipped.chain(injected.warnings.iter().cloned()).collect();
    let (headroom, problem) = match ask {
        false => (None, pods::obstacle(pod).filter(|_| !pods::ended(pod))),
        true => match sidecar::headroom(api, &name).await {
            Ok(headroom) => (Some(headroom), None),
            Err(error) => (None, Some(format!("does not say what it waits for: {error:#}"))),
        },
    };
    PodExplanation { name, phase, problem, remarks, headroom }
}

/// How quotas stand; those that can't be read say so.
async fn states(cluster: &Cluster, quotas: BTreeSet<String>) -> Vec<QuotaState> {
    let mut states = Vec::new();
    for quota in quotas {
        let (namespace, name) = quota.split_once('/').unwrap_or(("", &quota));
        let api: Api<ApiQuota> = Api::namespaced(cluster.client.clone(), namespace);
        let state = match api.get(name).await {
            Ok(quota) => quota.status.and_then(|status| status.brief),
            Err(error) if is_forbidden(&error) => Some("you may not read it".to_owned()),
            Err(error) if is_unknown(&error) => Some("does not exist any more".to_owned()),
            Err(error) => Some(format!("can't be read: {error}")),
        };
        let state = state.unwrap_or_else(|| "the operator has not looked at it yet".to_owned());
        states.push(QuotaState { quota, state });
    }
    states
}

/// The newest warnings about an object and its pods: why there is no pod, or one does not start.
async fn events(cluster: &Cluster, namespace: &str, subject: &Subject, pods: &[Pod]) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), namespace);
    let Ok(listed) = api.list(&ListParams::default().fields("type=Warning")).await else { return Vec::new() };
    let names: BTreeSet<String> = pods.iter().map(ResourceExt::name_any).collect();
    let concerns = |event: &Event| {
        let object = &event.involved_object;
        let (kind, name) = (object.kind.as_deref(), object.name.as_deref().unwrap_or_default());
        match subject {
            Subject::Pod(pod) => kind == Some("Pod") && name == pod,
            Subject::Workload(own, workload) => {
                (kind == Some(own) && name == workload) || (kind == Some("Pod") && names.contains(name))
            }
        }
    };
    let at = |event: &Event| {
        let series =
            event.series.as_ref().and_then(|series| series.last_observed_time.as_ref().map(|time| time.0));
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        series.or(last).or(event.event_time.as_ref().map(|time| time.0))
    };
    let mut found: Vec<Event> = listed.items.into_iter().filter(concerns).collect();
    found.sort_by_key(|event| std::cmp::Reverse(at(event)));
    let sentence = |event: &Event| {
        let reason = event.reason.as_deref().unwrap_or_default();
        format!("{reason}: {}", event.message.as_deref().unwrap_or_default().trim())
    };
    found.iter().take(MOST_EVENTS).map(sentence).collect()
}
