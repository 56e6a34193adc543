//! The Events about quotas: at the quotas, and at the workloads that draw on them.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use quotakeeper_api::names::{API_VERSION, QUOTAS};
use tokio::time::Instant;

use super::{EventPublisher, Observed};
use crate::event_plan::{EventState, PlannedEvent, Target};
use crate::event_reason::EventReason;
use crate::event_writer::DueEvent;
use crate::pod_events::restart;
use crate::pods::{Owner, PodView};
use crate::reconcile::QuotaView;
use crate::status::{Limiter, Subject};
use crate::status_writer::limiter;

/// The most workloads that get an Event of what begins or ends at a quota.
const MOST_OWNERS: usize = 50;
/// Another leader has seen pods that are older than this, in seconds: a change of leader takes less.
const LEADER_CHANGE_SECONDS: i64 = 60;

impl Observed<'_> {
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
            refusals: None,
            not_injected: 0,
            namespace: &self.cluster.namespace,
            now,
        })
    }
}

impl EventPublisher {
    /// Tells workloads that a quota of theirs is gone, and that it is there again.
    pub(super) async fn review_orphans(&mut self, observed: &Observed<'_>) {
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
        for ((owner, quota), gone) in new.chain(ended.map(|orphan| (orphan, false))) {
            let regarding = self.reference(observed.cluster, owner).await;
            let (reason, note) = match gone {
                true => (
                    EventReason::QuotaDeleted,
                    format!(
                        "{quota}: there is no such ApiQuota any more, and calls wait until it is created again; to draw on another, change the annotation {QUOTAS} and {}",
                        restart(owner)
                    ),
                ),
                false => (EventReason::Resumed, format!("{quota}: the ApiQuota is there again")),
            };
            let once = self.once_if_inherited(&note);
            self.writer.push(DueEvent { reason, note, regarding, once });
        }
    }

    /// What stands in a leader's first round may have its Event from the leader before: the same text is not counted.
    fn once_if_inherited(&self, note: &str) -> Option<String> {
        self.quotas.is_none().then(|| note.to_owned())
    }

    /// Publishes what is new about quotas.
    pub(super) async fn review_quotas(&mut self, observed: &Observed<'_>) {
        let first = self.quotas.is_none();
        let mut all = self.quotas.take().unwrap_or_default();
        all.retain(|name, (uid, _)| observed.quotas.get(name).is_some_and(|view| view.uid == *uid));
        let (now, at) = (Timestamp::now(), Instant::now());
        let reports = observed.limiter.current(at).into_iter().flat_map(|report| &report.accounts);
        let reports: HashMap<&str, _> = reports.map(|account| (account.quota.as_str(), account)).collect();
        let (mut due, mut standing) = (Vec::new(), Vec::new());
        for (name, view) in &observed.quotas {
            let report = reports.get(name.as_str()).copied();
            let limiter = limiter(observed.limiter, report, observed.replaced, at);
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
        if first {
            self.led_since = Some(now);
        }
        for (name, view, event) in due {
            self.publish(observed, name, view, event, first).await;
        }
        self.inform_newcomers(observed, standing).await;
        self.quotas = Some(all);
    }

    /// Tells workloads that have begun to draw on a quota what keeps its calls from going already. Those that were
    /// there before this leader have been told by the one before, whose text may differ by a second.
    async fn inform_newcomers(&mut self, observed: &Observed<'_>, standing: Vec<(&String, PlannedEvent)>) {
        let notes: HashSet<&str> = standing.iter().map(|(_, event)| event.note.as_str()).collect();
        self.informed.retain(|(_, note)| notes.contains(note.as_str()));
        let led_since = self.led_since;
        let before = |pod: &&PodView| {
            led_since.is_some_and(|since| seconds_between(pod.created, since) > LEADER_CHANGE_SECONDS)
        };
        for (name, PlannedEvent { reason, note, .. }) in standing {
            let drawing = || observed.pods.values().filter(|pod| observed.draws_on(pod, name));
            let told: BTreeSet<&Owner> = drawing().filter(before).map(|pod| &pod.owner).collect();
            let owners: BTreeSet<&Owner> = drawing().map(|pod| &pod.owner).collect();
            for owner in owners.difference(&told).take(MOST_OWNERS) {
                if self.informed.insert(((*owner).clone(), note.clone())) {
                    let regarding = self.reference(observed.cluster, owner).await;
                    let (note, once) = (note.clone(), Some(note.clone()));
                    self.writer.push(DueEvent { reason, note, regarding, once });
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
        let PlannedEvent { target, reason, note } = event;
        let once = first.then(|| note.clone());
        let pods = &observed.pods;
        let drawing = |pod: &&PodView, consumer: Option<&str>| match consumer {
            Some(consumer) => pod.consumer.as_deref() == Some(consumer),
            None => observed.draws_on(pod, name),
        };
        let owners: BTreeSet<Owner> = match &target {
            Target::Quota => {
                let regarding = quota_reference(name, view);
                return self.writer.push(DueEvent { reason, note, regarding, once });
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
            if reason.is_warning() && target == Target::Consumers {
                self.informed.insert((owner.clone(), note.clone()));
            }
            self.writer.push(DueEvent { reason, note, regarding, once });
        }
    }
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

fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second().saturating_sub(from.as_second())
}
