//! Writes Events to the cluster, and counts the pods that request a quota and have no proxy.

mod missing_proxy;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::{Api, DynamicObject};
use quotakeeper_api::names::{API_VERSION, QUOTAS};
use quotakeeper_inject::decide::{Decision, Input, decide};
use quotakeeper_inject::settings::Settings as Injected;
use quotakeeper_inject::view::Namespace;
use quotakeeper_wire::status::EVERY_SECONDS;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::caches::Caches;
use crate::cluster::Cluster;
use crate::configuration::AppliedState;
use crate::event_plan::{EventState, PlannedEvent, Target};
use crate::event_writer::{DueEvent, EventWriter};
use crate::lease::REQUEST;
use crate::limiter_view::LimiterView;
use crate::pod_events::{PodEvent, pod_events};
use crate::pods::{Counts, Owner, PodView};
use crate::reconcile::QuotaView;
use crate::status::{Limiter, Subject};
use crate::status_writer::limiter;
use missing_proxy::{MissingProxy, not_injected, restart};

/// How long changes are collected before a round: a controller creates its pods one after the other.
const DEBOUNCE: Duration = Duration::from_secs(2);
/// The longest time between two rounds: the limiter may fall silent, and a wait or a pause end, without a change.
const TICK: Duration = Duration::from_secs(EVERY_SECONDS);
/// The most pods that are read from the API server in a round.
const MOST_READS: usize = 50;
/// The most workloads that get an Event about one quota at a time.
const MOST_OWNERS: usize = 50;

/// Why a pod that requests a quota has no proxy.
#[derive(Clone, Debug, PartialEq)]
enum Finding {
    /// It can't have one.
    Skipped(String),
    /// It should have one.
    Missing,
    /// It needs none.
    NotNeeded,
}

/// What a round works from.
struct Observed<'a> {
    cluster: &'a Cluster,
    /// What admission decides by.
    caches: &'a Caches,
    settings: Option<Arc<Injected>>,
    quotas: BTreeMap<String, QuotaView>,
    pods: BTreeMap<String, PodView>,
    /// The labels of namespaces.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    applied: &'a AppliedState,
    limiter: &'a LimiterView,
}

/// The Events that this leader has published, and those that wait to be written.
struct EventPublisher {
    writer: EventWriter,
    /// UID and state by quota. None before the first round: an earlier leader may have published already.
    quotas: Option<HashMap<String, (String, EventState)>>,
    /// By the pod's UID.
    findings: HashMap<String, Finding>,
    /// The Events that workloads have had, by reason and cause.
    published: HashSet<(Owner, &'static str, String)>,
    /// Workloads that had injected pods in the last round, and workloads that had pods without a proxy. A workload
    /// that is new to a round gets its Event in the next one, when all of its pods are there to be counted.
    injected: HashSet<Owner>,
    missing: HashSet<Owner>,
    /// Some workloads were new to the last round.
    arriving: bool,
    uids: HashMap<Owner, Option<String>>,
    /// Workloads whose pods draw on a quota that is gone, with its name.
    orphans: BTreeSet<(Owner, String)>,
    /// Workloads that have had the Event of something that keeps their calls from going still, with its note.
    informed: HashSet<(Owner, String)>,
}

/// Publishes Events and counts pods without a proxy, while this replica leads.
pub async fn run(
    cluster: &Cluster,
    caches: &Caches,
    settings: &watch::Receiver<Option<Arc<Injected>>>,
    mut applied: watch::Receiver<Option<AppliedState>>,
    mut limiter: watch::Receiver<LimiterView>,
    counts: &watch::Sender<Counts>,
) {
    let mut publisher = EventPublisher {
        writer: EventWriter::new(cluster.client.clone()),
        quotas: None,
        findings: HashMap::new(),
        published: HashSet::new(),
        injected: HashSet::new(),
        missing: HashSet::new(),
        arriving: false,
        uids: HashMap::new(),
        orphans: BTreeSet::new(),
        informed: HashSet::new(),
    };
    let mut changed = caches.peopled.subscribe();
    loop {
        let state = applied.borrow_and_update().clone();
        let limiter_view = limiter.borrow_and_update().clone();
        let cached = (caches.quotas.all(), caches.pods.all(), caches.namespaces.all());
        if let (Some(state), (Some(quotas), Some(pods), Some(namespaces))) = (state, cached) {
            let settings = settings.borrow().clone();
            let (applied, limiter) = (&state, &limiter_view);
            let observed = Observed { cluster, caches, settings, quotas, pods, namespaces, applied, limiter };
            let missing = publisher.review_pods(&observed).await;
            counts.send_if_modified(|known| {
                let changed = *known != missing;
                *known = missing;
                changed
            });
            publisher.review_orphans(&observed).await;
            publisher.review_quotas(&observed).await;
            publisher.writer.write(cluster).await;
        }
        let again = if publisher.arriving { Duration::ZERO } else { TICK };
        tokio::select! {
            // The leader's other tasks live as long as this one.
            _ = applied.changed() => {}
            _ = limiter.changed() => {}
            _ = changed.changed() => {}
            () = sleep(again) => {}
        }
        sleep(DEBOUNCE).await;
    }
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

    /// A quota as its status is derived from it, without what has no Event of a quota.
    fn subject<'s>(
        &'s self,
        name: &str,
        view: &'s QuotaView,
        limiter: Limiter<'s>,
        now: Timestamp,
    ) -> Option<Subject<'s>> {
        Some(Subject {
            view,
            verdict: self.applied.desired.quotas.get(name)?,
            unwritten: self.applied.unwritten.get(name).map(String::as_str),
            limiter,
            long_wait_ago: None,
            not_injected: 0,
            namespace: &self.cluster.namespace,
            now,
        })
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
    async fn review_pods(&mut self, observed: &Observed<'_>) -> Counts {
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
        if self.published.insert((owner.clone(), reason, cause.clone())) {
            let regarding = self.reference(cluster, &owner).await;
            self.writer.push(DueEvent { warning, reason, note, regarding, once: Some(cause) });
        }
    }

    /// A reference with a UID, by which `kubectl describe` finds the Events of an object.
    async fn reference(&mut self, cluster: &Cluster, owner: &Owner) -> ObjectReference {
        let mut reference = owner.reference();
        if owner.uid.is_none() {
            if !self.uids.contains_key(owner)
                && let Ok(uid) = timeout(REQUEST, uid(cluster, owner)).await
            {
                self.uids.insert(owner.clone(), uid);
            }
            reference.uid = self.uids.get(owner).cloned().flatten();
        }
        reference
    }

    /// Tells workloads that a quota of theirs is gone, and that it is there again.
    async fn review_orphans(&mut self, observed: &Observed<'_>) {
        let mut orphans = BTreeSet::new();
        for pod in observed.pods.values() {
            let drawn = pod.injected.iter().flat_map(|status| &status.quotas);
            let gone = drawn.filter(|it| !observed.quotas.contains_key(it.quota.as_str()));
            orphans.extend(gone.map(|it| (pod.owner.clone(), it.quota.to_string())));
        }
        let before = std::mem::replace(&mut self.orphans, orphans.clone());
        let new = orphans.difference(&before).map(|orphan| (orphan, true));
        // Of a quota that is there again; of pods that are gone there is nothing to tell.
        let ended = before.difference(&orphans).filter(|(_, quota)| observed.quotas.contains_key(quota));
        for ((owner, quota), warning) in new.chain(ended.map(|orphan| (orphan, false))) {
            let regarding = self.reference(observed.cluster, owner).await;
            let (reason, note) = match warning {
                true => (
                    "QuotaDeleted",
                    format!(
                        "{quota}: there is no such ApiQuota any more, and calls wait until it is created again; to draw on another, change the annotation {QUOTAS} and {}",
                        restart(owner)
                    ),
                ),
                false => ("Resumed", format!("{quota}: the ApiQuota is there again")),
            };
            let once = self.once_if_inherited(&note);
            self.writer.push(DueEvent { warning, reason, note, regarding, once });
        }
    }

    /// What stands in a leader's first round may have its Event from the leader before: the same text is not counted.
    fn once_if_inherited(&self, note: &str) -> Option<String> {
        self.quotas.is_none().then(|| note.to_owned())
    }

    /// Publishes what is new about quotas.
    async fn review_quotas(&mut self, observed: &Observed<'_>) {
        let first = self.quotas.is_none();
        let mut all = self.quotas.take().unwrap_or_default();
        all.retain(|name, (uid, _)| observed.quotas.get(name).is_some_and(|view| view.uid == *uid));
        let (now, at) = (Timestamp::now(), Instant::now());
        let reports = observed.limiter.current(at).into_iter().flat_map(|report| &report.accounts);
        let reports: HashMap<&str, _> = reports.map(|account| (account.quota.as_str(), account)).collect();
        let (mut due, mut standing) = (Vec::new(), Vec::new());
        for (name, view) in &observed.quotas {
            let limiter = limiter(observed.limiter, reports.get(name.as_str()).copied(), at);
            let Some(subject) = observed.subject(name, view, limiter, now) else { continue };
            let (_, state) = all.entry(name.clone()).or_insert_with(|| {
                let state = match first {
                    true => EventState::published_before(name, &subject),
                    false => EventState::default(),
                };
                (view.uid.clone(), state)
            });
            due.extend(state.next(name, &subject).into_iter().map(|event| (name, view, event)));
            standing.extend(state.standing().map(|event| (name, event)));
        }
        for (name, view, event) in due {
            self.publish(observed, name, view, event, first).await;
        }
        self.inform_newcomers(observed, standing).await;
        self.quotas = Some(all);
    }

    /// Tells workloads that have begun to draw on a quota what keeps its calls from going already.
    async fn inform_newcomers(&mut self, observed: &Observed<'_>, standing: Vec<(&String, PlannedEvent)>) {
        let notes: HashSet<&str> = standing.iter().map(|(_, event)| event.note.as_str()).collect();
        self.informed.retain(|(_, note)| notes.contains(note.as_str()));
        for (name, PlannedEvent { warning, reason, note, .. }) in standing {
            let drawing = observed.pods.values().filter(|pod| pod.draws_on(name));
            let owners: BTreeSet<&Owner> = drawing.map(|pod| &pod.owner).collect();
            for owner in owners.into_iter().take(MOST_OWNERS) {
                if self.informed.insert((owner.clone(), note.clone())) {
                    let regarding = self.reference(observed.cluster, owner).await;
                    let (note, once) = (note.clone(), Some(note.clone()));
                    self.writer.push(DueEvent { warning, reason, note, regarding, once });
                }
            }
        }
    }

    /// Publishes an event on its target, which may be several workloads.
    async fn publish(
        &mut self,
        observed: &Observed<'_>,
        name: &str,
        view: &QuotaView,
        event: PlannedEvent,
        first: bool,
    ) {
        let PlannedEvent { target, warning, reason, note } = event;
        let once = first.then(|| note.clone());
        let pods = &observed.pods;
        let drawing = |pod: &&PodView, consumer: Option<&str>| match consumer {
            Some(consumer) => pod.consumer.as_deref() == Some(consumer),
            None => pod.draws_on(name),
        };
        let owners: BTreeSet<Owner> = match &target {
            Target::Quota => {
                let regarding = quota_reference(name, view);
                return self.writer.push(DueEvent { warning, reason, note, regarding, once });
            }
            Target::Consumer(consumer) => {
                let living = pods.values().find(|pod| drawing(pod, Some(consumer)));
                // Its last pod may have ended since.
                let owner = living.map(|pod| pod.owner.clone()).or_else(|| Owner::of_consumer(consumer));
                owner.into_iter().collect()
            }
            Target::Consumers => {
                pods.values().filter(|pod| drawing(pod, None)).map(|pod| pod.owner.clone()).collect()
            }
        };
        for owner in owners.into_iter().take(MOST_OWNERS) {
            let regarding = self.reference(observed.cluster, &owner).await;
            let (note, once) = (note.clone(), once.clone());
            if warning && target == Target::Consumers {
                self.informed.insert((owner.clone(), note.clone()));
            }
            self.writer.push(DueEvent { warning, reason, note, regarding, once });
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

/// The UID of a Deployment or a Job; none: it is not there, or it can't be read.
async fn uid(cluster: &Cluster, owner: &Owner) -> Option<String> {
    let (client, namespace) = (cluster.client.clone(), &owner.namespace);
    let metadata = match owner.kind.as_str() {
        "Deployment" => {
            let found = Api::<Deployment>::namespaced(client, namespace).get_metadata_opt(&owner.name).await;
            found.ok()??.metadata
        }
        "Job" => {
            let found = Api::<Job>::namespaced(client, namespace).get_metadata_opt(&owner.name).await;
            found.ok()??.metadata
        }
        _ => return None,
    };
    metadata.uid
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
