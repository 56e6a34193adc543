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
use crate::configuration::AppliedState;
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
    caches: &Caches,
    settings: &watch::Receiver<Option<Arc<Injected>>>,
    mut published: watch::Receiver<Option<AppliedState>>,
    mut heard: watch::Receiver<LimiterView>,
    counts: &watch::Sender<Counts>,
) {
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some("operator".to_owned()) };
    let mut publisher = EventPublisher {
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
    let mut changed = caches.peopled.subscribe();
    loop {
        let now = published.borrow_and_update().clone();
        let said = heard.borrow_and_update().clone();
        let known = (caches.quotas.all(), caches.pods.all(), caches.namespaces.all());
        if let (Some(published), (Some(quotas), Some(pods), Some(namespaces))) = (now, known) {
            let desired = &published.desired;
            let missing =
                publisher.review_pods(cluster, (caches, settings), &pods, &namespaces, desired).await;
            counts.send_if_modified(|known| {
                let changed = *known != missing;
                *known = missing;
                changed
            });
            publisher.review_quotas(cluster, &quotas, &pods, desired, &said).await;
            publisher.write(cluster).await;
        }
        let again = if publisher.arriving { Duration::ZERO } else { TICK };
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
    /// Collects what pods say, decides what is new, publishes it; returns how many pods have no proxy, by
    /// quota.
    async fn review_pods(
        &mut self,
        cluster: &Cluster,
        injection: (&Caches, &watch::Receiver<Option<Arc<Injected>>>),
        pods: &BTreeMap<String, PodView>,
        namespaces: &BTreeMap<String, BTreeMap<String, String>>,
        desired: &DesiredState,
    ) -> Counts {
        self.forget_deleted(pods);
        self.classify(cluster, injection, pods, namespaces, desired).await;
        let found = self.collect(pods, namespaces, desired);
        for event in self.due(&found) {
            self.publish_once(cluster, event).await;
        }
        found.counts()
    }

    fn forget_deleted(&mut self, pods: &BTreeMap<String, PodView>) {
        let uids: HashSet<&str> = pods.values().map(|pod| pod.uid.as_str()).collect();
        self.findings.retain(|uid, _| uids.contains(uid.as_str()));
        let owners: HashSet<&Owner> = pods.values().map(|pod| &pod.owner).collect();
        self.owners.retain(|(owner, ..)| owners.contains(owner));
        self.uids.retain(|owner, _| owners.contains(owner));
    }

    /// The quotas that a pod without a proxy names; none of a pod that needs no proxy.
    fn quotas_without_proxy(
        &self,
        pod: &PodView,
        namespaces: &BTreeMap<String, BTreeMap<String, String>>,
        desired: &DesiredState,
    ) -> Vec<String> {
        if pod.injected.is_some() || pod.namespace == *self.namespace || pod.namespace == "kube-system" {
            return Vec::new();
        }
        let none = BTreeMap::new();
        pod.asks_for(namespaces.get(&pod.namespace).unwrap_or(&none), desired)
    }

    /// Finds out why pods that name quotas have no proxy, of a few pods in each round.
    async fn classify(
        &mut self,
        cluster: &Cluster,
        injection: (&Caches, &watch::Receiver<Option<Arc<Injected>>>),
        pods: &BTreeMap<String, PodView>,
        namespaces: &BTreeMap<String, BTreeMap<String, String>>,
        desired: &DesiredState,
    ) {
        let unknown = pods.values().filter(|pod| {
            !self.findings.contains_key(&pod.uid)
                && !self.quotas_without_proxy(pod, namespaces, desired).is_empty()
        });
        for pod in unknown.take(CLOSELY).collect::<Vec<_>>() {
            let labels = namespaces.get(&pod.namespace).cloned().unwrap_or_default();
            if let Some(finding) = find(cluster, injection, pod, labels).await {
                self.findings.insert(pod.uid.clone(), finding);
            }
        }
    }

    /// The pods by what is to be said of them.
    fn collect<'p>(
        &self,
        pods: &'p BTreeMap<String, PodView>,
        namespaces: &BTreeMap<String, BTreeMap<String, String>>,
        desired: &DesiredState,
    ) -> Found<'p> {
        let mut found = Found::default();
        for pod in pods.values() {
            if pod.injected.is_some() {
                found.injected.entry(&pod.owner).or_default().push(pod);
                continue;
            }
            let quotas = self.quotas_without_proxy(pod, namespaces, desired);
            if quotas.is_empty() {
                continue;
            }
            match self.findings.get(&pod.uid) {
                Some(Finding::Missing) => {
                    found.missing.entry(&pod.owner).or_default().push(MissingProxy { pod, quotas });
                }
                Some(Finding::Skipped(reason)) => found.skipped.push((&pod.owner, reason.clone())),
                Some(Finding::Fine) | None => {}
            }
        }
        found
    }

    /// The events that are due. A workload that is new to this round waits for the next one, which knows how
    /// many its pods are.
    fn due(&mut self, found: &Found<'_>) -> Vec<OwnerEvent> {
        let injected_before = std::mem::replace(&mut self.injected, owners_of(&found.injected));
        let missing_before = std::mem::replace(&mut self.missing, owners_of(&found.missing));
        self.arriving =
            !self.injected.is_subset(&injected_before) || !self.missing.is_subset(&missing_before);
        let skipped = found.skipped.iter().map(|(owner, reason)| OwnerEvent {
            owner: (*owner).clone(),
            event: PodEvent {
                warning: true,
                reason: "InjectionSkipped",
                note: reason.clone(),
                cause: reason.clone(),
            },
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
        let OwnerEvent { owner, event: PodEvent { warning, reason, note, cause } } = due;
        if self.owners.insert((owner.clone(), reason, cause)) {
            let reference = self.reference(cluster, &owner).await;
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

    async fn review_quotas(
        &mut self,
        cluster: &Cluster,
        quotas: &BTreeMap<String, QuotaView>,
        pods: &BTreeMap<String, PodView>,
        desired: &DesiredState,
        heard: &LimiterView,
    ) {
        let first = self.quotas.is_none();
        let mut all = self.quotas.take().unwrap_or_default();
        all.retain(|name, (uid, _)| quotas.get(name).is_some_and(|view| view.uid == *uid));
        let now = Timestamp::now();
        let accounts = heard.report.iter().flat_map(|report| &report.accounts);
        let accounts: HashMap<&str, _> = accounts.map(|account| (account.quota.as_str(), account)).collect();
        for (name, view) in quotas {
            let Some(verdict) = desired.quotas.get(name) else { continue };
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

/// What a round finds in the pods.
#[derive(Default)]
struct Found<'p> {
    injected: BTreeMap<&'p Owner, Vec<&'p PodView>>,
    missing: BTreeMap<&'p Owner, Vec<MissingProxy<'p>>>,
    /// Workloads of pods that can't have a proxy, and why.
    skipped: Vec<(&'p Owner, String)>,
}

/// A pod that should have a proxy, and the quotas that it names.
struct MissingProxy<'p> {
    pod: &'p PodView,
    quotas: Vec<String>,
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

fn not_injected(owner: &Owner, missing: &[MissingProxy<'_>]) -> PodEvent {
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
