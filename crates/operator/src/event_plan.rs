//! Which Events a quota and its workloads get: one when something begins, and one when it ends. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use quotakeeper_api::quota::ApiQuotaStatus;
use quotakeeper_wire::status::AccountReport;
use quotakeeper_wire::tier::TierBasis;

use crate::conditions::{find, reasons, types, with_reason};
use crate::event_reason::EventReason;
use crate::status::{Limiter, Subject, gate_is_open};

mod budgets;
mod consumers;
mod costs;
mod obstacles;
mod pauses;

use budgets::BudgetEvents;
use consumers::{ConsumerEvents, Round};
use costs::CostEvents;
use obstacles::{Obstacle, ObstacleKind, Published, Sight};
use pauses::Pause;

/// A budget that is used up and has been free for no longer than this many seconds is used up still: it hovers.
const HOVERING_SECONDS: i64 = 60;

/// The object of an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The quota.
    Quota,
    /// A workload.
    Consumer(String),
    /// All workloads that draw on the quota.
    Consumers,
}

/// An Event to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedEvent {
    /// Its object.
    pub target: Target,
    /// Its reason, which its type follows from.
    pub reason: EventReason,
    /// Its note, a sentence.
    pub note: String,
}

/// What is under way at a quota, and has been published.
#[derive(Clone, Debug, Default)]
pub struct EventState {
    /// What keeps calls from going.
    obstacles: BTreeMap<ObstacleKind, Begun>,
    drift: bool,
    /// What was said of the open gate.
    gate_open: Option<String>,
    /// What was last said to be learned of a tier that is not declared.
    tier: Option<TierFigures>,
    paused: Option<Pause>,
    budgets: BudgetEvents,
    /// How many calls the provider takes at the same time, by scope.
    concurrency: BTreeMap<String, u64>,
    consumers: ConsumerEvents,
    costs: CostEvents,
    /// An earlier leader has published what the first report says.
    inherits_report: bool,
}

/// An obstacle that has had its Event.
#[derive(Clone, Debug)]
struct Begun {
    obstacle: Obstacle,
    since: Timestamp,
    seen: Timestamp,
}

impl Begun {
    /// The Events of an obstacle that has changed, if it has.
    fn goes_on(
        &mut self,
        quota: &str,
        kind: ObstacleKind,
        obstacle: Obstacle,
        now: Timestamp,
    ) -> Vec<PlannedEvent> {
        self.seen = now;
        let (held, holds, same) =
            (self.obstacle.holds_calls, obstacle.holds_calls, self.obstacle.is_same(&obstacle));
        // What authors were told of the limiter stands until it is back.
        if same && (held == holds || kind == ObstacleKind::Limiter && held) {
            return Vec::new();
        }
        let mut events = Vec::new();
        if !same || holds {
            events.extend(targets(holds, obstacle.reason, &obstacle.note));
        }
        if held && !holds {
            let note = format!("{quota}: calls go as configured before, after {}s", seconds(self.since, now));
            events.push(PlannedEvent { target: Target::Consumers, reason: EventReason::Resumed, note });
        }
        self.obstacle = obstacle;
        events
    }
}

impl EventState {
    /// What an earlier leader has published: by the status that it wrote, and by the limiter's first report, unless
    /// that comes so late that it tells of another time.
    pub fn published_before(quota: &str, subject: &Subject<'_>) -> EventState {
        let (status, now) = (&*subject.view.status, subject.now);
        let reason = |type_: &str, wanted: &str| with_reason(&status.conditions, type_, wanted).is_some();
        let obstacles = obstacles::published(quota, subject).into_iter();
        let mut state = EventState {
            obstacles: obstacles
                .map(|Published { kind, obstacle, since }| (kind, Begun { obstacle, since, seen: now }))
                .collect(),
            drift: reason(types::LIMITS_IN_SYNC, reasons::LOWER_LIMITS),
            gate_open: with_reason(&status.conditions, types::THROTTLED, reasons::GATE_OPEN)
                .map(|it| it.message.clone()),
            inherits_report: true,
            ..EventState::default()
        };
        state.inherit_report(quota, subject);
        state
    }

    /// What the limiter's first report says has been published by the leader before.
    fn inherit_report(&mut self, quota: &str, subject: &Subject<'_>) {
        if matches!(subject.limiter, Limiter::Unknown) || !self.inherits_report {
            return;
        }
        self.inherits_report = false;
        let Some(report) = subject.report() else { return };
        self.tier = tier_figures(report);
        self.paused = Pause::of(quota, subject).filter(|_| passing(&subject.view.status).is_none());
        self.budgets = BudgetEvents::told(subject);
        self.concurrency = learned(report).collect();
        self.consumers = ConsumerEvents::told(report, subject.now);
        self.costs = CostEvents::told(report, subject.now);
    }

    /// The Events of a quota that are due now.
    pub fn next(&mut self, quota: &str, subject: &Subject<'_>) -> Vec<PlannedEvent> {
        let (status, now) = (&*subject.view.status, subject.now);
        let passing = passing(status);
        self.inherit_report(quota, subject);
        let mut events = Vec::new();
        for (kind, sight) in obstacles::sights(quota, subject) {
            self.obstacle(quota, kind, sight, subject, &mut events);
        }
        self.gate(subject, &mut events);
        let Some(report) = subject.report() else { return events };
        let condition = |type_: &str, reason: &str| {
            with_reason(&status.conditions, type_, reason).map(|it| it.message.clone())
        };
        let drift = condition(types::LIMITS_IN_SYNC, reasons::LOWER_LIMITS);
        if begins(&mut self.drift, drift.is_some()) {
            events.push(on_quota(EventReason::LimitDrift, drift.unwrap_or_default()));
        }
        let learned = condition(types::LIMITS_IN_SYNC, reasons::TIER_LEARNED).zip(tier_figures(report));
        if let Some((note, figures)) = learned
            && self.tier.replace(figures.clone()).as_ref() != Some(&figures)
        {
            events.push(on_quota(EventReason::TierLearned, note));
        }
        events.extend(pauses::next(&mut self.paused, quota, subject, passing.is_some()));
        events.extend(self.budgets.next(quota, subject));
        self.learned_concurrency(quota, report, &mut events);
        events.extend(self.consumers.next(Round { quota, report, now }));
        events.extend(self.costs.next(Round { quota, report, now }));
        events
    }

    /// The Events of what keeps calls from going now, or lets all of them pass, for workloads that begin to draw on the quota meanwhile.
    pub fn standing(&self) -> impl Iterator<Item = PlannedEvent> {
        let obstacles = self.obstacles.values().map(|begun| &begun.obstacle);
        let obstacles = obstacles.filter(|it| it.holds_calls && !it.note.is_empty());
        let obstacles = obstacles.map(|it| (it.reason, &it.note));
        let told = obstacles.chain(self.paused.iter().map(|pause| (pause.reason, &pause.note)));
        let told = told.chain(self.gate_open.iter().map(|note| (EventReason::GateOpen, note)));
        told.map(|(reason, note)| PlannedEvent { target: Target::Consumers, reason, note: note.clone() })
    }

    /// An obstacle has an Event when it begins or changes, and one when it is gone.
    fn obstacle(
        &mut self,
        quota: &str,
        kind: ObstacleKind,
        sight: Sight,
        subject: &Subject<'_>,
        events: &mut Vec<PlannedEvent>,
    ) {
        let now = subject.now;
        let known = self.obstacles.get_mut(&kind);
        match (sight, known) {
            (Sight::Unknown, _) | (Sight::Clear, None) => {}
            (Sight::Stands(obstacle), None) => {
                events.extend(targets(obstacle.holds_calls, obstacle.reason, &obstacle.note));
                // The limiter is missed a moment after its last report.
                let since = match subject.limiter {
                    Limiter::Lost { since, .. } if kind == ObstacleKind::Limiter => since,
                    _ => now,
                };
                self.obstacles.insert(kind, Begun { obstacle, since, seen: now });
            }
            (Sight::Stands(obstacle), Some(known)) => {
                events.extend(known.goes_on(quota, kind, obstacle, now))
            }
            (Sight::Clear, Some(known)) => {
                let passing = passing(&subject.view.status).filter(|_| kind.is_passed());
                let hovers = kind == ObstacleKind::Exhausted && seconds(known.seen, now) < HOVERING_SECONDS;
                if !hovers || passing.is_some() {
                    let (lasted, holds) = (seconds(known.since, now), known.obstacle.holds_calls);
                    let note = format!("{quota}: {} after {lasted}s", passing.unwrap_or(kind.over()));
                    events.extend(targets(holds, EventReason::Resumed, &note));
                    self.obstacles.remove(&kind);
                }
            }
        }
    }

    /// By the limiter's word: the status in the cluster is written later.
    fn gate(&mut self, subject: &Subject<'_>, events: &mut Vec<PlannedEvent>) {
        // Without a report it may still be open.
        let Limiter::Connected { gate_open_until, .. } = subject.limiter else { return };
        match (gate_open_until, &self.gate_open) {
            (Some(until), None) => {
                let note = gate_is_open(until, subject);
                events.extend(targets(true, EventReason::GateOpen, &note));
                self.gate_open = Some(note);
            }
            (None, Some(_)) => {
                let note = "The gate is closed: limits are enforced again.";
                events.extend(targets(true, EventReason::GateClosed, note));
                self.gate_open = None;
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// The first time, and when it has changed by more than a quarter: one more is tried time and again.
    fn learned_concurrency(&mut self, quota: &str, report: &AccountReport, events: &mut Vec<PlannedEvent>) {
        for (scope, calls) in learned(report) {
            let told = self.concurrency.get(&scope);
            if told.is_none_or(|told| told.abs_diff(calls) * 4 > *told) {
                let note = format!("{quota}: the provider takes about {calls} at a time of {scope}");
                events.push(on_quota(EventReason::ConcurrencyLearned, note));
                self.concurrency.insert(scope, calls);
            }
        }
    }
}

/// Why calls pass whatever budgets and the provider say, as the beginning of a note; none: they don't.
fn passing(status: &ApiQuotaStatus) -> Option<&'static str> {
    match find(&status.conditions, types::THROTTLED).map(|Condition { reason, .. }| reason.as_str()) {
        Some(reasons::GATE_OPEN) => Some("the gate is open and calls pass,"),
        Some(reasons::DISABLED) => Some("the quota is disabled and its calls pass,"),
        _ => None,
    }
}

/// A tier, and the amounts that are told of each limit.
type TierFigures = (String, Vec<(String, u64)>);

/// What was learned of a tier that is not declared. How many workloads confirm it is no news.
fn tier_figures(report: &AccountReport) -> Option<TierFigures> {
    let learned = report.learned.as_ref().filter(|learned| learned.basis != TierBasis::Assumed)?;
    let told = learned.told.iter().map(|told| (told.limit.clone(), told.amount)).collect();
    Some((learned.tier.clone(), told))
}

/// How many calls the provider takes at the same time, by scope.
fn learned(report: &AccountReport) -> impl Iterator<Item = (String, u64)> {
    report.status.concurrency.iter().map(|learned| (learned.scope.to_string(), learned.calls))
}

/// An Event at the quota, and at all workloads that draw on it if it concerns their calls.
fn targets(workloads: bool, reason: EventReason, note: &str) -> impl Iterator<Item = PlannedEvent> {
    let on = move |target| PlannedEvent { target, reason, note: note.to_owned() };
    std::iter::once(on(Target::Quota)).chain(workloads.then(|| on(Target::Consumers)))
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second().saturating_sub(from.as_second())
}

fn on_quota(reason: EventReason, note: String) -> PlannedEvent {
    PlannedEvent { target: Target::Quota, reason, note }
}

/// Whether something has begun since the last time.
fn begins(before: &mut bool, now: bool) -> bool {
    !std::mem::replace(before, now) && now
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod leaders;
#[cfg(test)]
mod tests;
