//! The Events in the cluster, and the pods that have no proxy though they ask for one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::{Api, DynamicObject};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use quotakeeper_api::names::API_VERSION;
use quotakeeper_inject::decide::{Decision, Input, decide};
use quotakeeper_inject::settings::Settings as Injected;
use quotakeeper_inject::view::Namespace;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::caches::Caches;
use crate::cluster::{Cluster, FIELD_MANAGER};
use crate::configuration::Published;
use crate::event_plan::{EventState, PlannedEvent, Target};
use crate::lease::REQUEST;
use crate::limiter_view::LimiterView;
use crate::pod_events::{PodEvent, pod_events};
use crate::pods::{Counts, Owner, PodView};
use crate::reconcile::{DesiredState, QuotaView};
use crate::status::words::counted;

/// Pods that come together are told of together.
const TOGETHER: Duration = Duration::from_secs(2);
/// How often something may have ended though nothing was heard.
const TICK: Duration = Duration::from_secs(15);
/// The most pods that are looked at closely in a round.
const CLOSELY: usize = 50;
/// The most Events that wait to be written; more are dropped, as Events may be.
const WAITING: usize = 1000;
/// The most Events written in a round, and the time between two.
const A_ROUND: usize = 40;
const BUDGET: Duration = Duration::from_millis(50);
/// An Event's note has at most 1 kB.
const LONGEST_NOTE: usize = 1000;
/// The most workloads that are told of one thing that concerns all.
const MOST_OWNERS: usize = 50;

/// Why a pod that asks has no proxy.
#[derive(Clone, Debug, PartialEq)]
enum Finding {
    /// It can't have one.
    Skipped(String),
    /// It should have one.
    Missing,
    /// It needs none.
    Fine,
}

/// What the leader has told.
struct EventPublisher {
    recorder: Recorder,
    namespace: Arc<str>,
    /// None before the first round: what is there then was told of by an earlier leader.
    quotas: Option<HashMap<String, (String, EventState)>>,
    findings: HashMap<String, Finding>,
    /// What was told of a workload: its reasons and their causes.
    owners: HashSet<(Owner, &'static str, String)>,
    /// Workloads with injected pods at the last look, and with pods that have no proxy. A controller creates
    /// pods one after the other: of a workload that is new to a look the next one tells how many they are.
    injected: HashSet<Owner>,
    missing: HashSet<Owner>,
    /// Some were new to the last look.
    arriving: bool,
    uids: HashMap<Owner, Option<String>>,
    waiting: VecDeque<(Event, ObjectReference)>,
}

/// Keeps Events and counts, while this replica leads.
pub async fn run(
    cluster: &Cluster,
    world: &Caches,
    settings: &watch::Receiver<Option<Arc<Injected>>>,
    mut published: watch::Receiver<Option<Published>>,
    mut heard: watch::Receiver<LimiterView>,
    counts: &watch::Sender<Counts>,
) {
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some("operator".to_owned()) };
    let mut teller = EventPublisher {
        recorder: Recorder::new(cluster.client.clone(), reporter),
        namespace: Arc::clone(&cluster.namespace),
        quotas: None,
        findings: HashMap::new(),
        owners: HashSet::new(),
        injected: HashSet::new(),
        missing: HashSet::new(),
        arriving: false,
        uids: HashMap::new(),
        waiting: VecDeque::new(),
    };
    let mut changed = world.peopled.subscribe();
    loop {
        let now = published.borrow_and_update().clone();
        let said = heard.borrow_and_update().clone();
        let known = (world.quotas.all(), world.pods.all(), world.namespaces.all());
        if let (Some(published), (Some(quotas), Some(pods), Some(namespaces))) = (now, known) {
            let settled = &published.settled;
            let missing = teller.look(cluster, (world, settings), &pods, &namespaces, settled).await;
            counts.send_if_modified(|known| {
                let changed = *known != missing;
                *known = missing;
                changed
            });
            teller.tell_of_quotas(cluster, &quotas, &pods, settled, &said).await;
            teller.write(cluster).await;
        }
        let again = if teller.arriving { Duration::ZERO } else { TICK };
        tokio::select! {
            // The leader's other tasks live as long as this one.
            _ = published.changed() => {}
            _ = heard.changed() => {}
            _ = changed.changed() => {}
            () = sleep(again) => {}
        }
        sleep(TOGETHER).await;
    }
}

impl EventPublisher {
    /// Looks at all pods; how many have no proxy, by quota.
    async fn look(
        &mut self,
        cluster: &Cluster,
        injection: (&Caches, &watch::Receiver<Option<Arc<Injected>>>),
        pods: &BTreeMap<String, PodView>,
        namespaces: &BTreeMap<String, BTreeMap<String, String>>,
        settled: &DesiredState,
    ) -> Counts {
        let uids: HashSet<&str> = pods.values().map(|pod| pod.uid.as_str()).collect();
        self.findings.retain(|uid, _| uids.contains(uid.as_str()));
        let owners: HashSet<&Owner> = pods.values().map(|pod| &pod.owner).collect();
        self.owners.retain(|(owner, ..)| owners.contains(owner));
        self.uids.retain(|owner, _| owners.contains(owner));
        let mut closely = CLOSELY;
        let mut counts = Counts::default();
        let mut injected: BTreeMap<&Owner, Vec<&PodView>> = BTreeMap::new();
        let mut missing: BTreeMap<&Owner, (Vec<&PodView>, BTreeSet<String>)> = BTreeMap::new();
        for pod in pods.values() {
            if pod.injected.is_some() {
                injected.entry(&pod.owner).or_default().push(pod);
                continue;
            }
            if pod.namespace == *self.namespace || pod.namespace == "kube-system" {
                continue;
            }
            let labels = namespaces.get(&pod.namespace).cloned().unwrap_or_default();
            let quotas = pod.asks_for(&labels, settled);
            if quotas.is_empty() {
                continue;
            }
            if !self.findings.contains_key(&pod.uid) && closely > 0 {
                closely -= 1;
                if let Some(finding) = find(cluster, injection, pod, labels).await {
                    self.findings.insert(pod.uid.clone(), finding);
                }
            }
            match self.findings.get(&pod.uid).cloned() {
                Some(Finding::Missing) => {
                    for quota in &quotas {
                        *counts.not_injected.entry(quota.clone()).or_default() += 1;
                    }
                    let (pods, all) = missing.entry(&pod.owner).or_default();
                    pods.push(pod);
                    all.extend(quotas);
                }
                Some(Finding::Skipped(reason)) => {
                    self.tell_owner(cluster, &pod.owner, true, "InjectionSkipped", reason, None).await;
                }
                Some(Finding::Fine) | None => {}
            }
        }
        let injected_before = std::mem::replace(&mut self.injected, owners_of(&injected));
        let missing_before = std::mem::replace(&mut self.missing, owners_of(&missing));
        self.arriving =
            !self.injected.is_subset(&injected_before) || !self.missing.is_subset(&missing_before);
        for (owner, pods) in injected.into_iter().filter(|(owner, _)| injected_before.contains(*owner)) {
            for PodEvent { warning, reason, note, cause } in pod_events(&pods, Timestamp::now()) {
                self.tell_owner(cluster, owner, warning, reason, note, Some(cause)).await;
            }
        }
        for (owner, (pods, quotas)) in
            missing.into_iter().filter(|(owner, _)| missing_before.contains(*owner))
        {
            let names: Vec<&str> =
                quotas.iter().filter_map(|quota| Some(pods.first()?.short(quota))).collect();
            let (names, count) = (names.join(", "), i64::try_from(pods.len()).unwrap_or(i64::MAX));
            let note = format!(
                "{} without a proxy, calls are not limited by {names}: created before Quotakeeper or while it \
                 was away; {}",
                counted(count, "pod"),
                restart(owner)
            );
            self.tell_owner(cluster, owner, true, "NotInjected", note, Some(names)).await;
        }
        counts
    }

    /// Tells a workload of something once; `cause` tells it from another of the same reason.
    async fn tell_owner(
        &mut self,
        cluster: &Cluster,
        owner: &Owner,
        warning: bool,
        reason: &'static str,
        note: String,
        cause: Option<String>,
    ) {
        if self.owners.insert((owner.clone(), reason, cause.unwrap_or_else(|| note.clone()))) {
            let reference = self.reference(cluster, owner).await;
            self.enqueue(warning, reason, note, reference);
        }
    }

    /// A reference with a UID, by which `kubectl describe` finds the Events of an object.
    async fn reference(&mut self, cluster: &Cluster, owner: &Owner) -> ObjectReference {
        let mut reference = owner.reference();
        if owner.uid.is_none() && owner.kind == "Deployment" {
            if !self.uids.contains_key(owner) {
                let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &owner.namespace);
                if let Ok(Ok(found)) = timeout(REQUEST, deployments.get_metadata_opt(&owner.name)).await {
                    self.uids.insert(owner.clone(), found.and_then(|found| found.metadata.uid));
                }
            }
            reference.uid = self.uids.get(owner).cloned().flatten();
        }
        reference
    }

    async fn tell_of_quotas(
        &mut self,
        cluster: &Cluster,
        quotas: &BTreeMap<String, QuotaView>,
        pods: &BTreeMap<String, PodView>,
        settled: &DesiredState,
        heard: &LimiterView,
    ) {
        let first = self.quotas.is_none();
        let mut all = self.quotas.take().unwrap_or_default();
        all.retain(|name, (uid, _)| quotas.get(name).is_some_and(|view| view.uid == *uid));
        let now = Timestamp::now();
        let accounts = heard.report.iter().flat_map(|report| &report.accounts);
        let accounts: HashMap<&str, _> = accounts.map(|account| (account.quota.as_str(), account)).collect();
        for (name, view) in quotas {
            let Some(verdict) = settled.quotas.get(name) else { continue };
            let report = accounts.get(name.as_str()).copied();
            let (_, told) = all.entry(name.clone()).or_insert_with(|| {
                let told =
                    if first { EventState::before(&view.status, report, now) } else { EventState::default() };
                (view.uid.clone(), told)
            });
            for notice in told.next(name, verdict, &view.status, report, now) {
                self.place(cluster, name, view, notice, pods).await;
            }
        }
        self.quotas = Some(all);
    }

    async fn place(
        &mut self,
        cluster: &Cluster,
        name: &str,
        view: &QuotaView,
        notice: PlannedEvent,
        pods: &BTreeMap<String, PodView>,
    ) {
        let drawing = |pod: &&PodView, consumer: Option<&str>| match consumer {
            Some(consumer) => pod.consumer.as_deref() == Some(consumer),
            None => pod.draws_on(name),
        };
        let owners: BTreeSet<&Owner> = match &notice.place {
            Target::Quota => {
                let reference = quota_reference(name, view);
                return self.enqueue(notice.warning, notice.reason, notice.note, reference);
            }
            Target::Consumer(consumer) => pods
                .values()
                .find(|pod| drawing(pod, Some(consumer)))
                .map(|pod| &pod.owner)
                .into_iter()
                .collect(),
            Target::Consumers => {
                pods.values().filter(|pod| drawing(pod, None)).map(|pod| &pod.owner).collect()
            }
        };
        for owner in owners.into_iter().take(MOST_OWNERS) {
            let reference = self.reference(cluster, owner).await;
            self.enqueue(notice.warning, notice.reason, notice.note.clone(), reference);
        }
    }

    fn enqueue(&mut self, warning: bool, reason: &'static str, note: String, reference: ObjectReference) {
        if self.waiting.len() >= WAITING {
            debug!(reason, note, "too many Events at a time; one is dropped");
            return;
        }
        let type_ = if warning { EventType::Warning } else { EventType::Normal };
        let note = Some(crate::status::words::clipped(&note, LONGEST_NOTE));
        let event =
            Event { type_, reason: reason.to_owned(), note, action: reason.to_owned(), secondary: None };
        self.waiting.push_back((event, reference));
    }

    async fn write(&mut self, cluster: &Cluster) {
        for _ in 0..A_ROUND {
            let Some((event, reference)) = self.waiting.pop_front() else { return };
            if let Err(error) = cluster.write("Event", self.recorder.publish(&event, &reference)).await {
                warn!(reason = event.reason, %error, "an Event can't be written, and is dropped");
            }
            sleep(BUDGET).await;
        }
    }
}

fn owners_of<T>(workloads: &BTreeMap<&Owner, T>) -> HashSet<Owner> {
    workloads.keys().map(|owner| (*owner).clone()).collect()
}

fn quota_reference(name: &str, view: &QuotaView) -> ObjectReference {
    let (namespace, short) = name.split_once('/').unwrap_or(("", name));
    ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some("ApiQuota".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(short.to_owned()),
        uid: Some(view.uid.clone()),
        ..ObjectReference::default()
    }
}

/// How a workload gets its proxies.
fn restart(owner: &Owner) -> String {
    let Owner { namespace, kind, name, .. } = owner;
    match kind.as_str() {
        "Deployment" | "StatefulSet" | "DaemonSet" => {
            format!("run kubectl rollout restart {}/{name} -n {namespace}", kind.to_lowercase())
        }
        "Rollout" => format!("run kubectl argo rollouts restart {name} -n {namespace}"),
        _ => format!("create the {kind} {name} anew"),
    }
}

/// What the webhook would make of a pod that is there already; none where that can't be told now.
async fn find(
    cluster: &Cluster,
    (view, settings): (&Caches, &watch::Receiver<Option<Arc<Injected>>>),
    pod: &PodView,
    labels: BTreeMap<String, String>,
) -> Option<Finding> {
    let settings = settings.borrow().clone()?;
    let pods: Api<DynamicObject> = Api::namespaced_with(
        cluster.client.clone(),
        &pod.namespace,
        &kube::api::ApiResource::erase::<Pod>(&()),
    );
    let object = timeout(REQUEST, pods.get_opt(&pod.name)).await.ok()?.ok()?;
    let Some(object) = object else { return Some(Finding::Fine) };
    let value = serde_json::to_value(object).ok()?;
    let namespace = Namespace { name: pod.namespace.clone(), labels };
    let input = Input { pod: &value, namespace: &namespace, view, settings: &settings, job_owner: None };
    Some(match decide(&input) {
        Decision::Skipped { reason } => Finding::Skipped(reason),
        Decision::Unchanged => Finding::Fine,
        Decision::Patch { .. } | Decision::Denied { .. } => Finding::Missing,
    })
}
