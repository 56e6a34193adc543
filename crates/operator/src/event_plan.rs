//! Which Events a quota and its workloads get: one when something begins, and one when it ends. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_api::quota::ApiQuotaStatus;
use quotakeeper_engine::event::Callers;
use quotakeeper_engine::{ConsumerHangUps, PauseStatus};
use quotakeeper_wire::message::NoticeKind;
use quotakeeper_wire::status::{AccountReport, ConsumerNotice};
use quotakeeper_wire::tier::TierBasis;

use crate::conditions::{UNKNOWN, find, reasons, types, with_reason};
use crate::status::{Subject, words};

mod obstacles;

use obstacles::{Obstacle, ObstacleKind, Published, Sight};

/// A workload whose calls have waited this long gets an Event.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// Clients that hang up sooner than this were not waiting.
const NOTICED_WAIT: Duration = Duration::from_secs(1);
/// After this many seconds without waiting calls a workload gets a new Event the next time.
const QUIET_SECONDS: i64 = 60;
/// A budget that is used up and has been free for no longer than this many seconds is used up still: it hovers.
const HOVERING_SECONDS: i64 = 60;
/// An end of a pause that is later by more than this many seconds gets a new Event.
const LATER_SECONDS: i64 = 30;
/// So many hang-ups of a workload get an Event, and another after so many seconds.
const HANG_UPS: u64 = 3;
const HANG_UPS_SECONDS: i64 = 600;
/// A notice that no proxy has repeated for this many seconds gets a new Event the next time: pods come and go.
const NOTICE_QUIET_SECONDS: i64 = 3600;
/// The most workloads of a quota that get an Event at a time.
const MOST_CONSUMERS: usize = 50;

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
    /// Its type is Warning, not Normal.
    pub warning: bool,
    /// Its reason, in CamelCase.
    pub reason: &'static str,
    /// Its note, a sentence.
    pub note: String,
}

/// What is under way at a quota, and has been published.
#[derive(Clone, Debug, Default)]
pub struct EventState {
    /// What keeps calls from going.
    obstacles: BTreeMap<ObstacleKind, Begun>,
    drift: bool,
    /// What was last said to be learned of a tier that is not declared.
    tier: Option<TierFigures>,
    usage_unknown: bool,
    gate_open: bool,
    paused: Option<Pause>,
    /// How many calls the provider takes at the same time, by scope.
    concurrency: BTreeMap<String, u64>,
    /// When calls of a workload were last seen to wait.
    waiting: BTreeMap<String, Timestamp>,
    /// When a notice of a workload was last in a report.
    notices: BTreeMap<(String, NoticeKind), Timestamp>,
    /// How many hang-ups of a workload have had an Event, and when.
    hang_ups: BTreeMap<String, (u64, Timestamp)>,
}

/// An obstacle that has had its Event.
#[derive(Clone, Debug)]
struct Begun {
    obstacle: Obstacle,
    since: Timestamp,
    seen: Timestamp,
}

#[derive(Clone, Debug)]
struct Pause {
    since: Timestamp,
    refused: u64,
    /// The provider refuses until a person acts.
    stopped: bool,
    /// The end that the last Event told.
    until: Timestamp,
    /// The last Event's reason and note.
    told: (&'static str, String),
}

impl EventState {
    /// What an earlier leader has published, by the status that it wrote; pauses and waits that are under way count
    /// as published.
    pub fn published_before(quota: &str, subject: &Subject<'_>) -> EventState {
        let (status, report, now) = (&*subject.view.status, subject.report(), subject.now);
        let reason = |type_: &str, wanted: &str| with_reason(&status.conditions, type_, wanted).is_some();
        let waiting = report.into_iter().flat_map(waiters).map(|(consumer, _)| (consumer.to_owned(), now));
        let notices = report.into_iter().flat_map(|report| &report.notices);
        let hang_ups = report.into_iter().flat_map(|report| &report.status.hang_ups);
        EventState {
            obstacles: obstacles::published(quota, subject)
                .into_iter()
                .map(|Published { kind, obstacle, since }| (kind, Begun { obstacle, since, seen: now }))
                .collect(),
            drift: reason(types::LIMITS_IN_SYNC, reasons::LOWER_LIMITS),
            tier: report.and_then(tier_figures),
            usage_unknown: reason(types::THROTTLED, reasons::USAGE_UNKNOWN),
            gate_open: reason(types::THROTTLED, reasons::GATE_OPEN),
            paused: report.and_then(|report| {
                let pause = longest(report)?;
                let (refused, until) = (report.totals.refused, end(pause, now));
                let told = (paused_reason(pause), paused_note(quota, report, pause, now));
                Some(Pause { since: now, refused, stopped: pause.stopped, until, told })
            }),
            concurrency: report.into_iter().flat_map(learned).collect(),
            waiting: waiting.collect(),
            notices: notices.map(|notice| ((notice.consumer.to_string(), notice.kind), now)).collect(),
            hang_ups: hang_ups.map(|of_one| (of_one.consumer.to_string(), (of_one.calls, now))).collect(),
        }
    }

    /// The Events of a quota that are due now.
    pub fn next(&mut self, quota: &str, subject: &Subject<'_>) -> Vec<PlannedEvent> {
        let (status, now) = (&*subject.view.status, subject.now);
        let mut events = Vec::new();
        for (kind, sight) in obstacles::sights(quota, subject) {
            self.obstacle(quota, kind, sight, now, &mut events);
        }
        let Some(report) = subject.report() else { return events };
        let condition = |type_: &str, reason: &str| {
            with_reason(&status.conditions, type_, reason).map(|it| it.message.clone())
        };
        let drift = condition(types::LIMITS_IN_SYNC, reasons::LOWER_LIMITS);
        if begins(&mut self.drift, drift.is_some()) {
            events.push(on_quota(true, "LimitDrift", drift.unwrap_or_default()));
        }
        let learned = condition(types::LIMITS_IN_SYNC, reasons::TIER_LEARNED).zip(tier_figures(report));
        if let Some((note, figures)) = learned
            && self.tier.replace(figures.clone()).as_ref() != Some(&figures)
        {
            events.push(on_quota(false, reasons::TIER_LEARNED, note));
        }
        let unknown = condition(types::THROTTLED, reasons::USAGE_UNKNOWN);
        if begins(&mut self.usage_unknown, unknown.is_some()) {
            let note = format!("{quota}: {}", unknown.unwrap_or_default());
            events.extend(targets(true, true, reasons::USAGE_UNKNOWN, &note));
        }
        self.bypass(status, &mut events);
        self.pauses(quota, report, now, &mut events);
        self.learned_concurrency(quota, report, &mut events);
        self.waits(quota, report, now, &mut events);
        self.hang_ups(quota, report, now, &mut events);
        self.notices(quota, report, now, &mut events);
        events
    }

    /// The Events of what keeps calls from going now, for workloads that begin to draw on the quota meanwhile.
    pub fn standing(&self) -> impl Iterator<Item = PlannedEvent> {
        let obstacles = self.obstacles.values().map(|begun| &begun.obstacle);
        let obstacles = obstacles.filter(|it| it.holds_calls && !it.note.is_empty());
        let obstacles = obstacles.map(|it| (it.reason, &it.note));
        let told = obstacles.chain(self.paused.iter().map(|pause| (pause.told.0, &pause.told.1)));
        let target = Target::Consumers;
        told.map(move |(reason, note)| PlannedEvent {
            target: target.clone(),
            warning: true,
            reason,
            note: note.clone(),
        })
    }

    /// An obstacle has an Event when it begins or changes, and one when it is gone.
    fn obstacle(
        &mut self,
        quota: &str,
        kind: ObstacleKind,
        sight: Sight,
        now: Timestamp,
        events: &mut Vec<PlannedEvent>,
    ) {
        let known = self.obstacles.get_mut(&kind);
        match (sight, known) {
            (Sight::Unknown, _) | (Sight::Clear, None) => {}
            (Sight::Stands(obstacle), Some(known)) if known.obstacle.is_same(&obstacle) => known.seen = now,
            (Sight::Stands(obstacle), known) => {
                let since = known.map_or(now, |known| known.since);
                let (reason, note) = (obstacle.reason, obstacle.note.clone());
                events.extend(targets(obstacle.holds_calls, true, reason, &note));
                self.obstacles.insert(kind, Begun { obstacle, since, seen: now });
            }
            (Sight::Clear, Some(known)) => {
                let hovers = kind == ObstacleKind::Exhausted && seconds(known.seen, now) < HOVERING_SECONDS;
                if !hovers {
                    let (lasted, holds) = (seconds(known.since, now), known.obstacle.holds_calls);
                    let note = format!("{quota}: {} after {lasted}s", kind.over());
                    events.extend(targets(holds, false, "Resumed", &note));
                    self.obstacles.remove(&kind);
                }
            }
        }
    }

    fn bypass(&mut self, status: &ApiQuotaStatus, events: &mut Vec<PlannedEvent>) {
        let Some(throttled) = find(&status.conditions, types::THROTTLED) else { return };
        let open = throttled.reason == reasons::GATE_OPEN;
        // Unknown: there is no report of the limiter, and the gate may still be open.
        let closed = !open && throttled.status != UNKNOWN;
        if open && !self.gate_open {
            self.gate_open = true;
            events.push(on_quota(true, reasons::GATE_OPEN, throttled.message.clone()));
        } else if closed && self.gate_open {
            self.gate_open = false;
            let note = "The gate is closed: limits are enforced again.".to_owned();
            events.push(on_quota(false, "GateClosed", note));
        }
    }

    /// The first time, and when it has changed by more than a quarter: one more is tried time and again.
    fn learned_concurrency(&mut self, quota: &str, report: &AccountReport, events: &mut Vec<PlannedEvent>) {
        for (scope, calls) in learned(report) {
            let told = self.concurrency.get(&scope);
            if told.is_none_or(|told| told.abs_diff(calls) * 4 > *told) {
                let note = format!("{quota}: the provider takes about {calls} at a time of {scope}");
                events.push(on_quota(false, "ConcurrencyLearned", note));
                self.concurrency.insert(scope, calls);
            }
        }
    }

    /// A pause has an Event when it begins, when it becomes a stop, and when its end is put off.
    fn pauses(
        &mut self,
        quota: &str,
        report: &AccountReport,
        now: Timestamp,
        events: &mut Vec<PlannedEvent>,
    ) {
        match (longest(report), &mut self.paused) {
            (Some(pause), known) => {
                let until = end(pause, now);
                let told = known.as_ref().is_some_and(|known| {
                    known.stopped == pause.stopped && seconds(known.until, until) <= LATER_SECONDS
                });
                if told {
                    return;
                }
                let (since, refused) = (now, report.totals.refused);
                let told = (paused_reason(pause), paused_note(quota, report, pause, now));
                events.extend(targets(true, true, told.0, &told.1));
                let stopped = pause.stopped;
                let (since, refused) = known.as_ref().map_or((since, refused), |it| (it.since, it.refused));
                *known = Some(Pause { since, refused, stopped, until, told });
            }
            (None, Some(pause)) => {
                let seconds = seconds(pause.since, now);
                let refused = report.totals.refused.saturating_sub(pause.refused);
                let calls = words::counted(i64::try_from(refused).unwrap_or(i64::MAX), "call");
                let note = format!("{quota}: after {seconds}s, {calls} refused meanwhile");
                self.paused = None;
                events.extend(targets(true, false, "Resumed", &note));
            }
            (None, None) => {}
        }
    }

    fn waits(&mut self, quota: &str, report: &AccountReport, now: Timestamp, events: &mut Vec<PlannedEvent>) {
        let mut new = BTreeSet::new();
        for (consumer, note) in waiters(report) {
            let known = self.waiting.insert(consumer.to_owned(), now).is_some();
            if !known && new.len() < MOST_CONSUMERS {
                new.insert(consumer.to_owned());
                let target = Target::Consumer(consumer.to_owned());
                let note = format!("{note} for {quota}");
                events.push(PlannedEvent { target, warning: false, reason: "WaitingForQuota", note });
            }
        }
        self.waiting.retain(|_, seen| now.as_second().saturating_sub(seen.as_second()) < QUIET_SECONDS);
    }

    /// Clients that hang up while their calls wait: their timeout is shorter than the wait.
    fn hang_ups(
        &mut self,
        quota: &str,
        report: &AccountReport,
        now: Timestamp,
        events: &mut Vec<PlannedEvent>,
    ) {
        let mut new = 0;
        for of_one in report.status.hang_ups.iter().filter(|it| it.longest >= NOTICED_WAIT) {
            let (told, at) = self.hang_ups.get(of_one.consumer.as_str()).copied().unzip();
            // A limiter that has restarted counts from 0.
            let told = told.filter(|told| *told <= of_one.calls).unwrap_or(0);
            let calls = of_one.calls - told;
            let rested = at.is_none_or(|at| seconds(at, now) >= HANG_UPS_SECONDS);
            if calls >= HANG_UPS && rested && new < MOST_CONSUMERS {
                new += 1;
                let note = hang_ups_note(quota, of_one, calls);
                let target = Target::Consumer(of_one.consumer.to_string());
                events.push(PlannedEvent { target, warning: true, reason: "ClientsGiveUp", note });
                self.hang_ups.insert(of_one.consumer.to_string(), (of_one.calls, now));
            }
        }
        let reported = |consumer: &str| report.status.hang_ups.iter().any(|it| it.consumer == *consumer);
        self.hang_ups.retain(|consumer, _| reported(consumer));
    }

    fn notices(
        &mut self,
        quota: &str,
        report: &AccountReport,
        now: Timestamp,
        events: &mut Vec<PlannedEvent>,
    ) {
        let mut new = 0;
        for notice in &report.notices {
            let Some(event) = notice_event(quota, notice) else { continue };
            let key = (notice.consumer.to_string(), notice.kind);
            if !self.notices.contains_key(&key) {
                if new == MOST_CONSUMERS {
                    continue;
                }
                new += 1;
                events.push(event);
            }
            self.notices.insert(key, now);
        }
        self.notices
            .retain(|_, seen| now.as_second().saturating_sub(seen.as_second()) < NOTICE_QUIET_SECONDS);
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

/// The Event of a notice; none: this version does not know its kind.
fn notice_event(quota: &str, notice: &ConsumerNotice) -> Option<PlannedEvent> {
    let detail = &notice.detail;
    let said = || format!("{quota}: {detail}.");
    let (warning, reason, note) = match notice.kind {
        NoticeKind::UnreadableRequest => {
            let what = "a request's model is not known, so it waits for all models and is charged to each";
            (true, "ModelUnknown", format!("{quota}: {what}. {detail}."))
        }
        NoticeKind::DistrustedCa => (true, "ProxyNotTrusted", said()),
        // It may have nothing to do yet.
        NoticeKind::NoCalls => (false, "NoCalls", said()),
        NoticeKind::Unknown => return None,
    };
    let target = Target::Consumer(notice.consumer.to_string());
    Some(PlannedEvent { target, warning, reason, note })
}

/// How many calls the provider takes at the same time, by scope.
fn learned(report: &AccountReport) -> impl Iterator<Item = (String, u64)> {
    report.status.concurrency.iter().map(|learned| (learned.scope.to_string(), learned.calls))
}

/// The pause that holds its calls back the longest.
fn longest(report: &AccountReport) -> Option<&PauseStatus> {
    report.status.pauses.iter().max_by_key(|pause| (pause.stopped, pause.remaining))
}

/// When a pause ends, in whole seconds.
fn end(pause: &PauseStatus, now: Timestamp) -> Timestamp {
    let seconds = i64::try_from(pause.remaining.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now)
}

/// The word of the state that a pause of all calls has.
fn paused_reason(pause: &PauseStatus) -> &'static str {
    match (pause.stopped, pause.overloaded) {
        (true, _) => reasons::PROVIDER_STOPPED,
        (false, true) => reasons::PROVIDER_OVERLOADED,
        (false, false) => reasons::PROVIDER_PAUSED,
    }
}

/// How long the calls had waited whose clients hung up, how long they would have waited, and what to do.
fn hang_ups_note(quota: &str, of_one: &ConsumerHangUps, calls: u64) -> String {
    let calls = words::counted(i64::try_from(calls).unwrap_or(i64::MAX), "waiting call");
    let (shortest, longest) = (of_one.shortest.as_secs(), of_one.longest.as_secs());
    let after =
        if shortest == longest { format!("{longest}s") } else { format!("{shortest}s to {longest}s") };
    let wait = words::rounded_up_seconds(of_one.wait);
    format!(
        "{quota}: the clients of {calls} hung up after {after}, before their turn; a call waits about {wait}s; set the client's timeout above that, or run fewer workers"
    )
}

/// What is paused and for how long, or refused until when one call asks again.
fn paused_note(quota: &str, report: &AccountReport, pause: &PauseStatus, now: Timestamp) -> String {
    let end = words::until(end(pause, now), now);
    let calls = match pause.callers {
        Callers::All => {
            format!("{} of {}", pause.scope, words::counted(report.proxies.connected.into(), "pod"))
        }
        _ => format!("{}{}", pause.scope, pause.callers),
    };
    let what = match pause.stopped {
        true => format!("refused until a person acts; one call asks again at {end}"),
        false => format!("paused until {end}"),
    };
    format!("{quota}: {}; {calls} {what}", pause.reason)
}

/// Workloads whose calls have waited for [`LONG_WAIT`], and how many calls for how long.
fn waiters(report: &AccountReport) -> impl Iterator<Item = (&str, String)> {
    report.status.waiting.iter().filter(|waiting| waiting.longest >= LONG_WAIT).map(|waiting| {
        let calls = i64::try_from(waiting.calls).unwrap_or(i64::MAX);
        let verb = words::plural(calls, "waits", "wait");
        let longest = words::longest(words::coarse(waiting.longest.as_secs()));
        (waiting.consumer.as_str(), format!("{} {verb}, {longest},", words::counted(calls, "call")))
    })
}

/// An Event at the quota, and at all workloads that draw on it if it concerns their calls.
fn targets(
    workloads: bool,
    warning: bool,
    reason: &'static str,
    note: &str,
) -> impl Iterator<Item = PlannedEvent> {
    let on = |target| PlannedEvent { target, warning, reason, note: note.to_owned() };
    std::iter::once(on(Target::Quota)).chain(workloads.then(|| on(Target::Consumers)))
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second().saturating_sub(from.as_second())
}

fn on_quota(warning: bool, reason: &'static str, note: String) -> PlannedEvent {
    PlannedEvent { target: Target::Quota, warning, reason, note }
}

/// Whether something has begun since the last time.
fn begins(before: &mut bool, now: bool) -> bool {
    !std::mem::replace(before, now) && now
}

#[cfg(test)]
mod tests;
