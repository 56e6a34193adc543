//! Which Events a quota and its workloads get: one when something begins, and one when it ends. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_api::quota::ApiQuotaStatus;
use quotakeeper_engine::PauseStatus;
use quotakeeper_engine::event::Callers;
use quotakeeper_wire::message::NoticeKind;
use quotakeeper_wire::status::{AccountReport, ConsumerNotice};
use quotakeeper_wire::tier::TierBasis;

use crate::conditions::{UNKNOWN, find, reasons, types, with_reason};
use crate::reconcile::{Reason, Verdict};
use crate::status::words;

/// A workload whose calls have waited this long gets an Event.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// After this many seconds without waiting calls a workload gets a new Event the next time.
const QUIET_SECONDS: i64 = 60;
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
    conflict: bool,
    drift: bool,
    /// What was last said to be learned of a tier that is not declared.
    tier: Option<TierFigures>,
    exhausted: bool,
    usage_unknown: bool,
    gate_open: bool,
    paused: Option<Pause>,
    /// How many calls the provider takes at the same time, by scope.
    concurrency: BTreeMap<String, u64>,
    /// When calls of a workload were last seen to wait.
    waiting: BTreeMap<String, Timestamp>,
    /// When a notice of a workload was last in a report.
    notices: BTreeMap<(String, NoticeKind), Timestamp>,
}

#[derive(Clone, Debug)]
struct Pause {
    since: Timestamp,
    refused: u64,
    /// The provider refuses until a person acts.
    stopped: bool,
}

impl EventState {
    /// What an earlier leader has published, by the status that it wrote; pauses and waits that are under way count
    /// as published.
    pub fn published_before(
        status: &ApiQuotaStatus,
        report: Option<&AccountReport>,
        now: Timestamp,
    ) -> EventState {
        let reason = |type_: &str, wanted: &str| with_reason(&status.conditions, type_, wanted).is_some();
        let waiting = report.into_iter().flat_map(waiters).map(|(consumer, _)| (consumer.to_owned(), now));
        EventState {
            conflict: reason(types::ACCEPTED, Reason::AccountConflict.word()),
            drift: reason(types::LIMITS_IN_SYNC, reasons::LOWER_LIMITS),
            tier: report.and_then(tier_figures),
            exhausted: reason(types::THROTTLED, reasons::BUDGET_EXHAUSTED),
            usage_unknown: reason(types::THROTTLED, reasons::USAGE_UNKNOWN),
            gate_open: reason(types::THROTTLED, reasons::GATE_OPEN),
            paused: report.filter(|report| !report.status.pauses.is_empty()).map(|report| Pause {
                since: now,
                refused: report.totals.refused,
                stopped: report.status.pauses.iter().any(|pause| pause.stopped),
            }),
            concurrency: report.into_iter().flat_map(learned).collect(),
            waiting: waiting.collect(),
            notices: report
                .into_iter()
                .flat_map(|report| &report.notices)
                .map(|notice| ((notice.consumer.to_string(), notice.kind), now))
                .collect(),
        }
    }

    /// The Events that are due now; `status` is the newest.
    pub fn next(
        &mut self,
        quota: &str,
        verdict: &Verdict,
        status: &ApiQuotaStatus,
        report: Option<&AccountReport>,
        now: Timestamp,
    ) -> Vec<PlannedEvent> {
        let mut events = Vec::new();
        let conflict = match verdict {
            Verdict::Refused { reason: Reason::AccountConflict, message, .. } => Some(message.clone()),
            _ => None,
        };
        if begins(&mut self.conflict, conflict.is_some()) {
            events.push(on_quota(true, "AccountConflict", conflict.unwrap_or_default()));
        }
        let Some(report) = report else { return events };
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
        let exhausted = condition(types::THROTTLED, reasons::BUDGET_EXHAUSTED);
        if begins(&mut self.exhausted, exhausted.is_some()) {
            let used_up = status.limits.iter().filter(|limit| limit.remaining == Some(0));
            let free = used_up.filter_map(|limit| limit.reset_time.as_ref()).map(|time| time.0).max();
            let free = free.map(|at| format!(" It is free again by {}.", words::until(at, now)));
            let note = exhausted.unwrap_or_default() + &free.unwrap_or_default();
            events.push(on_quota(true, reasons::BUDGET_EXHAUSTED, note));
        }
        let unknown = condition(types::THROTTLED, reasons::USAGE_UNKNOWN);
        if begins(&mut self.usage_unknown, unknown.is_some()) {
            let note = format!("{quota}: {}", unknown.unwrap_or_default());
            events.extend(on_all(true, reasons::USAGE_UNKNOWN, note));
        }
        self.bypass(status, &mut events);
        self.pauses(quota, report, now, &mut events);
        self.learned_concurrency(quota, report, &mut events);
        self.waits(quota, report, now, &mut events);
        self.notices(quota, report, now, &mut events);
        events
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

    fn pauses(
        &mut self,
        quota: &str,
        report: &AccountReport,
        now: Timestamp,
        events: &mut Vec<PlannedEvent>,
    ) {
        let longest = report.status.pauses.iter().max_by_key(|pause| (pause.stopped, pause.remaining));
        match (longest, &mut self.paused) {
            (Some(pause), known) if known.as_ref().is_none_or(|known| pause.stopped && !known.stopped) => {
                let (since, refused) = (now, report.totals.refused);
                let begun = known.get_or_insert(Pause { since, refused, stopped: false });
                begun.stopped = pause.stopped;
                events.extend(on_all(true, reasons::PROVIDER_PAUSED, paused_note(quota, report, pause, now)));
            }
            (None, Some(pause)) => {
                let seconds = now.as_second().saturating_sub(pause.since.as_second());
                let refused = report.totals.refused.saturating_sub(pause.refused);
                let calls = words::counted(i64::try_from(refused).unwrap_or(i64::MAX), "call");
                let note = format!("{quota}: after {seconds}s, {calls} refused meanwhile");
                self.paused = None;
                events.extend(on_all(false, "Resumed", note));
            }
            (Some(_), _) | (None, None) => {}
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

/// What is paused and for how long, or refused until when one call asks again.
fn paused_note(quota: &str, report: &AccountReport, pause: &PauseStatus, now: Timestamp) -> String {
    let seconds = i64::try_from(pause.remaining.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    let end = Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now);
    let end = words::until(end, now);
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

fn on_quota(warning: bool, reason: &'static str, note: String) -> PlannedEvent {
    PlannedEvent { target: Target::Quota, warning, reason, note }
}

/// At the quota and at all workloads that draw on it.
fn on_all(warning: bool, reason: &'static str, note: String) -> [PlannedEvent; 2] {
    [Target::Quota, Target::Consumers].map(|target| PlannedEvent {
        target,
        warning,
        reason,
        note: note.clone(),
    })
}

/// Whether something has begun since the last time.
fn begins(before: &mut bool, now: bool) -> bool {
    !std::mem::replace(before, now) && now
}

#[cfg(test)]
mod begins_once;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use quotakeeper_engine::event::Scope;
    use quotakeeper_engine::{LearnedConcurrency, Totals};
    use quotakeeper_wire::status::ProxyCounts;

    use crate::fixtures::{idle, pause, wait};

    fn report() -> AccountReport {
        AccountReport { proxies: ProxyCounts { current: 9, connected: 9 }, ..idle("gtm/crm") }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_793_714_580 + second).unwrap()
    }

    fn next(state: &mut EventState, report: &AccountReport, second: i64) -> Vec<String> {
        let verdict = Verdict::Refused { reason: Reason::Invalid, message: String::new(), in_force: None };
        let events = state.next("gtm/crm", &verdict, &ApiQuotaStatus::default(), Some(report), at(second));
        events.into_iter().map(|it| format!("{:?} {}: {}", it.target, it.reason, it.note)).collect()
    }

    #[test]
    fn a_pause_has_an_event_when_it_begins_and_when_it_ends() {
        let mut state = EventState::default();
        let mut paused = report();
        assert!(next(&mut state, &paused, 0).is_empty());
        paused.status.pauses.push(pause(Scope::account(), 8000, "429 TEN_SECONDLY_ROLLING"));
        let note = "gtm/crm: 429 TEN_SECONDLY_ROLLING; all calls of 9 pods paused until 14:03:10";
        assert_eq!(
            next(&mut state, &paused, 2),
            [format!("Quota ProviderPaused: {note}"), format!("Consumers ProviderPaused: {note}")]
        );
        assert!(next(&mut state, &paused, 3).is_empty(), "it has one already");
        let totals = Totals { refused: 1, ..Totals::default() };
        let ended = AccountReport { totals, ..report() };
        let note = "gtm/crm: after 8s, 1 call refused meanwhile";
        assert_eq!(
            next(&mut state, &ended, 10),
            [format!("Quota Resumed: {note}"), format!("Consumers Resumed: {note}")]
        );
        assert!(next(&mut state, &ended, 11).is_empty());
    }

    #[test]
    fn a_stop_has_an_event_that_says_when_one_call_asks_again() {
        let mut state = EventState::default();
        let mut paused = report();
        paused.status.pauses.push(pause(Scope::account(), 0, "insufficient_quota"));
        assert_eq!(next(&mut state, &paused, 0).len(), 2);
        let stopped = PauseStatus { stopped: true, ..pause(Scope::account(), 60_000, "insufficient_quota") };
        paused.status.pauses[0] = stopped.clone();
        let note = "gtm/crm: insufficient_quota; all calls of 9 pods refused until a person acts; one call asks again at 14:04:02";
        assert_eq!(next(&mut state, &paused, 2)[0], format!("Quota ProviderPaused: {note}"));
        assert!(next(&mut state, &paused, 3).is_empty());
        for (callers, words) in [
            (Callers::Workload("gtm/Job/a".into()), "all calls of workload gtm/Job/a refused"),
            (Callers::Credential(Default::default()), "all calls with one of the credentials refused"),
        ] {
            paused.status.pauses[0] = PauseStatus { callers, ..stopped.clone() };
            let events = next(&mut EventState::default(), &paused, 0);
            assert!(events[0].contains(words), "{events:?}");
        }
    }

    #[test]
    fn what_is_learned_of_concurrency_has_an_event_when_it_changes() {
        let mut state = EventState::default();
        let mut learns = report();
        let mut told = |calls| {
            let (scope, raise_after) = (Scope::model("haiku"), Duration::from_secs(10));
            learns.status.concurrency = vec![LearnedConcurrency { scope, calls, raise_after }];
            next(&mut state, &learns, 0)
        };
        let note = "Quota ConcurrencyLearned: gtm/crm: the provider takes about 4 at a time of model haiku";
        assert_eq!(told(4), [note]);
        assert_eq!([4, 5, 4].map(|calls| told(calls).len()), [0; 3]);
        assert_eq!([8, 2].map(|calls| told(calls).len()), [1; 2]);
    }

    #[test]
    fn a_workload_that_waits_gets_one_event_and_another_after_a_quiet_minute() {
        let mut state = EventState::default();
        let mut waits = report();
        let waiting = |millis| wait("gtm/Job/a", 212, millis);
        waits.status.waiting = vec![waiting(900)];
        assert!(next(&mut state, &waits, 0).is_empty(), "a short wait has no event");
        waits.status.waiting = vec![waiting(9000)];
        assert_eq!(
            next(&mut state, &waits, 1),
            ["Consumer(\"gtm/Job/a\") WaitingForQuota: 212 calls wait, under 1 minute, for gtm/crm"]
        );
        for second in 2..500 {
            assert!(next(&mut state, &waits, second).is_empty());
        }
        assert!(next(&mut state, &report(), 530).is_empty());
        assert!(next(&mut state, &waits, 540).is_empty(), "the pause between two waits was short");
        assert!(next(&mut state, &report(), 601).is_empty());
        assert_eq!(next(&mut state, &waits, 620).len(), 1);
    }

    #[test]
    fn a_notice_has_one_event_per_workload_and_hour() {
        let mut state = EventState::default();
        let mut seen = report();
        let notice = |consumer: &str, kind| ConsumerNotice {
            consumer: consumer.into(),
            kind,
            detail: "POST /v1/responses: its body names no model".to_owned(),
            proxies: 3,
        };
        let unreadable = NoticeKind::UnreadableRequest;
        seen.notices = vec![notice("gtm/Job/a", unreadable), notice("gtm/Job/b", NoticeKind::Unknown)];
        let note = "gtm/crm: a request's model is not known, so it waits for all models and is charged to each. POST /v1/responses: its body names no model.";
        assert_eq!(next(&mut state, &seen, 0), [format!("Consumer(\"gtm/Job/a\") ModelUnknown: {note}")]);
        assert!(next(&mut state, &seen, 1).is_empty());
        assert!(next(&mut state, &report(), 3000).is_empty(), "its pods are replaced");
        assert!(next(&mut state, &seen, 3600).is_empty());
        assert!(next(&mut state, &report(), 7200).is_empty());
        assert_eq!(next(&mut state, &seen, 7201).len(), 1);
        let mut later = EventState::published_before(&ApiQuotaStatus::default(), Some(&seen), at(7202));
        assert!(next(&mut later, &seen, 7203).is_empty());
        seen.notices =
            vec![notice("gtm/Job/c", NoticeKind::DistrustedCa), notice("gtm/Job/c", NoticeKind::NoCalls)];
        let events = next(&mut later, &seen, 7204);
        assert!(events[0].starts_with("Consumer(\"gtm/Job/c\") ProxyNotTrusted: gtm/crm: "), "{events:?}");
        assert!(events[1].starts_with("Consumer(\"gtm/Job/c\") NoCalls: gtm/crm: "), "{events:?}");
        let warnings = seen.notices.iter().map(|notice| notice_event("gtm/crm", notice).unwrap().warning);
        assert_eq!(warnings.collect::<Vec<_>>(), [true, false], "a pod without calls may have nothing to do");
    }

    #[test]
    fn a_new_leader_does_not_repeat_events_of_what_is_under_way() {
        let mut waits = report();
        waits.status.waiting = vec![wait("gtm/Job/a", 2, 9000)];
        let mut state = EventState::published_before(&ApiQuotaStatus::default(), Some(&waits), at(0));
        assert!(next(&mut state, &waits, 1).is_empty());
    }

    #[test]
    fn the_gate_has_an_event_when_it_opens_and_when_it_closes() {
        let throttled = |status: &str, reason: &str, message: &str| ApiQuotaStatus {
            conditions: vec![Condition {
                type_: "Throttled".to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
                observed_generation: Some(1),
                last_transition_time: Time(at(0)),
            }],
            ..ApiQuotaStatus::default()
        };
        let verdict = Verdict::Refused { reason: Reason::Invalid, message: String::new(), in_force: None };
        let next = |state: &mut EventState, status: &ApiQuotaStatus| -> Vec<_> {
            let events = state.next("gtm/crm", &verdict, status, Some(&report()), at(0));
            events.into_iter().map(|it| (it.target, it.warning, it.reason, it.note)).collect()
        };
        let (open, closed) =
            (throttled("False", "GateOpen", "Until 14:18:00."), throttled("False", "NotThrottled", ""));
        let unknown = throttled("Unknown", "Unknown", "");
        let mut state = EventState::default();
        assert_eq!(next(&mut state, &closed), []);
        assert_eq!(
            next(&mut state, &open),
            [(Target::Quota, true, "GateOpen", "Until 14:18:00.".to_owned())]
        );
        assert_eq!(next(&mut state, &open), []);
        assert_eq!(next(&mut state, &unknown), [], "unknown changes nothing");
        let mut later = EventState::published_before(&open, Some(&report()), at(0));
        assert_eq!(next(&mut later, &open), [], "an earlier leader has published it");
        for state in [&mut state, &mut later] {
            let events = next(state, &closed);
            assert_eq!(events.iter().map(|it| (it.1, it.2)).collect::<Vec<_>>(), [(false, "GateClosed")]);
            assert_eq!(next(state, &closed), []);
        }
    }
}
