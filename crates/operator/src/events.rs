//! Writes Events to the cluster, and counts the pods that request a quota and have no proxy.

mod pods;
mod quotas;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::Api;
use quotakeeper_inject::settings::Settings as Injected;
use quotakeeper_wire::status::EVERY_SECONDS;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::caches::Caches;
use crate::cluster::Cluster;
use crate::configuration::AppliedState;
use crate::event_plan::EventState;
use crate::event_reason::EventReason;
use crate::event_writer::EventWriter;
use crate::lease::REQUEST;
use crate::limiter_view::LimiterView;
use crate::pods::{Counts, Owner, PodView};
use crate::reconcile::QuotaView;
use pods::Finding;

/// How long changes are collected before a round: a controller creates its pods one after the other.
const DEBOUNCE: Duration = Duration::from_secs(2);
/// The longest time between two rounds: the limiter may fall silent, and a wait or a pause end, without a change.
const TICK: Duration = Duration::from_secs(EVERY_SECONDS);
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
    /// The limiter's pod is being replaced.
    replaced: bool,
}

/// The Events that this leader has published, and those that wait to be written.
struct EventPublisher {
    writer: EventWriter,
    /// UID and state by quota. None before the first round: an earlier leader may have published already.
    quotas: Option<HashMap<String, (String, EventState)>>,
    /// By the pod's UID.
    findings: HashMap<String, Finding>,
    /// The Events that workloads have had, by reason and cause.
    published: HashSet<(Owner, EventReason, String)>,
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
    /// When this leader looked at quotas for the first time.
    led_since: Option<Timestamp>,
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
        led_since: None,
    };
    let mut changed = caches.peopled.subscribe();
    loop {
        let state = applied.borrow_and_update().clone();
        let limiter_view = limiter.borrow_and_update().clone();
        let cached = (caches.quotas.all(), caches.pods.all(), caches.namespaces.all());
        if let (Some(state), (Some(quotas), Some(pods), Some(namespaces))) = (state, cached) {
            let settings = settings.borrow().clone();
            let (applied, limiter) = (&state, &limiter_view);
            let replaced = caches.limiter_is_replaced(&cluster.namespace, Timestamp::now());
            let observed =
                Observed { cluster, caches, settings, quotas, pods, namespaces, applied, limiter, replaced };
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

impl EventPublisher {
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
