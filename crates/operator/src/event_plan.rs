//! What people are told by Events: only when something begins or ends, and each thing once. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_api::quota::ApiQuotaStatus;
use quotakeeper_wire::status::AccountReport;

use crate::conditions::{UNKNOWN, find, reasons, types, with_reason};
use crate::reconcile::{Reason, Verdict};
use crate::status::words;

/// A workload whose calls have waited this long gets an Event.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// Whose calls no longer wait for this long, in seconds, is told anew the next time.
const FORGOTTEN: i64 = 60;
/// The most workloads of a quota that are told of one thing.
const MOST_CONSUMERS: usize = 50;

/// Where an Event is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// On the quota.
    Quota,
    /// On a workload: `namespace/kind/name`.
    Consumer(String),
    /// On all workloads that draw on the quota.
    Consumers,
}

/// One thing to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedEvent {
    /// Where.
    pub place: Target,
    /// It needs somebody's attention.
    pub warning: bool,
    /// In one word.
    pub reason: &'static str,
    /// As a sentence.
    pub note: String,
}

/// What was told of a quota.
#[derive(Clone, Debug, Default)]
pub struct EventState {
    conflict: bool,
    drift: bool,
    exhausted: bool,
    gate_open: bool,
    paused: Option<Pause>,
    /// Since when a workload's calls have not been seen to wait.
    waiting: BTreeMap<String, Timestamp>,
}

#[derive(Clone, Debug)]
struct Pause {
    since: Timestamp,
    refused: u64,
}

impl EventState {
    /// What an earlier leader has told, by the status that it left; what is under way at present
    /// counts as told.
    pub fn before(status: &ApiQuotaStatus, report: Option<&AccountReport>, now: Timestamp) -> EventState {
        let reason = |type_: &str, wanted: &str| with_reason(&status.conditions, type_, wanted).is_some();
        let waiting = report.into_iter().flat_map(waiters).map(|(consumer, _)| (consumer.to_owned(), now));
        EventState {
            conflict: reason(types::ACCEPTED, Reason::AccountConflict.word()),
            drift: reason(types::LIMITS_IN_SYNC, reasons::LOWER_TOLD),
            exhausted: reason(types::THROTTLED, reasons::BUDGET_EXHAUSTED),
            gate_open: reason(types::THROTTLED, reasons::GATE_OPEN),
            paused: report
                .filter(|report| !report.status.pauses.is_empty())
                .map(|report| Pause { since: now, refused: report.totals.refused }),
            waiting: waiting.collect(),
        }
    }

    /// What is to be told now; `status` is the newest.
    pub fn next(
        &mut self,
        quota: &str,
        verdict: &Verdict,
        status: &ApiQuotaStatus,
        report: Option<&AccountReport>,
        now: Timestamp,
    ) -> Vec<PlannedEvent> {
        let mut notices = Vec::new();
        let conflict = match verdict {
            Verdict::Refused { reason: Reason::AccountConflict, message, .. } => Some(message.clone()),
            _ => None,
        };
        if begins(&mut self.conflict, conflict.is_some()) {
            notices.push(on_quota(true, "AccountConflict", conflict.unwrap_or_default()));
        }
        let Some(report) = report else { return notices };
        let condition = |type_: &str, reason: &str| {
            with_reason(&status.conditions, type_, reason).map(|it| it.message.clone())
        };
        let drift = condition(types::LIMITS_IN_SYNC, reasons::LOWER_TOLD);
        if begins(&mut self.drift, drift.is_some()) {
            notices.push(on_quota(true, "LimitDrift", drift.unwrap_or_default()));
        }
        let exhausted = condition(types::THROTTLED, reasons::BUDGET_EXHAUSTED);
        if begins(&mut self.exhausted, exhausted.is_some()) {
            let used_up = status.limits.iter().filter(|limit| limit.remaining == Some(0));
            let free = used_up.filter_map(|limit| limit.reset_time.as_ref()).map(|time| time.0).max();
            let free = free.map(|at| format!(" It is free again by {}.", words::until(at, now)));
            let note = exhausted.unwrap_or_default() + &free.unwrap_or_default();
            notices.push(on_quota(true, reasons::BUDGET_EXHAUSTED, note));
        }
        self.gate(status, &mut notices);
        self.pauses(quota, report, now, &mut notices);
        self.waits(quota, report, now, &mut notices);
        notices
    }

    fn gate(&mut self, status: &ApiQuotaStatus, notices: &mut Vec<PlannedEvent>) {
        let Some(throttled) = find(&status.conditions, types::THROTTLED) else { return };
        let open = throttled.reason == reasons::GATE_OPEN;
        // Unknown: the limiter is not heard, and the gate may be as it was.
        let closed = !open && throttled.status != UNKNOWN;
        if open && !self.gate_open {
            self.gate_open = true;
            notices.push(on_quota(true, reasons::GATE_OPEN, throttled.message.clone()));
        } else if closed && self.gate_open {
            self.gate_open = false;
            let note = "The gate is closed: limits are enforced again.".to_owned();
            notices.push(on_quota(false, "GateClosed", note));
        }
    }

    fn pauses(
        &mut self,
        quota: &str,
        report: &AccountReport,
        now: Timestamp,
        notices: &mut Vec<PlannedEvent>,
    ) {
        let longest = report.status.pauses.iter().max_by_key(|pause| (pause.stopped, pause.remaining));
        let both = |warning: bool, reason: &'static str, note: String| {
            [Target::Quota, Target::Consumers].map(|place| PlannedEvent {
                place,
                warning,
                reason,
                note: note.clone(),
            })
        };
        match (longest, &self.paused) {
            (Some(pause), None) => {
                self.paused = Some(Pause { since: now, refused: report.totals.refused });
                let seconds = i64::try_from(pause.remaining.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
                let end = Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now);
                let how_long = match pause.stopped {
                    true => "until a person acts".to_owned(),
                    false => format!("until {}", words::until(end, now)),
                };
                let pods = words::counted(report.proxies.connected.into(), "pod");
                let note = format!("{quota}: {}; {} of {pods} paused {how_long}", pause.reason, pause.scope);
                notices.extend(both(true, reasons::PROVIDER_PAUSED, note));
            }
            (None, Some(pause)) => {
                let seconds = now.as_second().saturating_sub(pause.since.as_second());
                let refused = report.totals.refused.saturating_sub(pause.refused);
                let calls = words::counted(i64::try_from(refused).unwrap_or(i64::MAX), "call");
                let note = format!("{quota}: after {seconds}s, {calls} refused meanwhile");
                self.paused = None;
                notices.extend(both(false, "Resumed", note));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn waits(
        &mut self,
        quota: &str,
        report: &AccountReport,
        now: Timestamp,
        notices: &mut Vec<PlannedEvent>,
    ) {
        let mut said = BTreeSet::new();
        for (consumer, note) in waiters(report) {
            let known = self.waiting.insert(consumer.to_owned(), now).is_some();
            if !known && said.len() < MOST_CONSUMERS {
                said.insert(consumer.to_owned());
                let place = Target::Consumer(consumer.to_owned());
                let note = format!("{note} for {quota}");
                notices.push(PlannedEvent { place, warning: false, reason: "WaitingForQuota", note });
            }
        }
        self.waiting.retain(|_, seen| now.as_second().saturating_sub(seen.as_second()) < FORGOTTEN);
    }
}

/// Workloads whose calls have been waiting for more than a moment, and what is said of them.
fn waiters(report: &AccountReport) -> impl Iterator<Item = (&str, String)> {
    report.status.waiting.iter().filter(|waiting| waiting.longest >= LONG_WAIT).map(|waiting| {
        let calls = i64::try_from(waiting.calls).unwrap_or(i64::MAX);
        let verb = words::plural(calls, "waits", "wait");
        let longest = words::longest(words::coarse(waiting.longest.as_secs()));
        (waiting.consumer.as_str(), format!("{} {verb}, {longest},", words::counted(calls, "call")))
    })
}

fn on_quota(warning: bool, reason: &'static str, note: String) -> PlannedEvent {
    PlannedEvent { place: Target::Quota, warning, reason, note }
}

/// Whether something begins that was not there before.
fn begins(before: &mut bool, now: bool) -> bool {
    !std::mem::replace(before, now) && now
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use quotakeeper_engine::Totals;
    use quotakeeper_engine::event::Scope;
    use quotakeeper_wire::status::ProxyCounts;

    use crate::fixtures::{idle, pause, wait};

    fn report() -> AccountReport {
        AccountReport { proxies: ProxyCounts { current: 9, connected: 9 }, ..idle("gtm/crm") }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_793_714_580 + second).unwrap()
    }

    fn said(told: &mut EventState, report: &AccountReport, second: i64) -> Vec<String> {
        let verdict = Verdict::Refused { reason: Reason::Invalid, message: String::new(), in_force: None };
        let notices = told.next("gtm/crm", &verdict, &ApiQuotaStatus::default(), Some(report), at(second));
        notices.into_iter().map(|it| format!("{:?} {}: {}", it.place, it.reason, it.note)).collect()
    }

    #[test]
    fn a_pause_is_told_when_it_begins_and_when_it_ends() {
        let mut told = EventState::default();
        let mut paused = report();
        assert!(said(&mut told, &paused, 0).is_empty());
        paused.status.pauses.push(pause(Scope::account(), 8000, "429 TEN_SECONDLY_ROLLING"));
        let note = "gtm/crm: 429 TEN_SECONDLY_ROLLING; all calls of 9 pods paused until 14:03:10";
        assert_eq!(
            said(&mut told, &paused, 2),
            [format!("Quota ProviderPaused: {note}"), format!("Consumers ProviderPaused: {note}")]
        );
        assert!(said(&mut told, &paused, 3).is_empty(), "once");
        let totals = Totals { refused: 1, ..Totals::default() };
        let ended = AccountReport { totals, ..report() };
        let note = "gtm/crm: after 8s, 1 call refused meanwhile";
        assert_eq!(
            said(&mut told, &ended, 10),
            [format!("Quota Resumed: {note}"), format!("Consumers Resumed: {note}")]
        );
        assert!(said(&mut told, &ended, 11).is_empty());
    }

    #[test]
    fn a_workload_that_waits_is_told_once_and_anew_after_a_minute_of_peace() {
        let mut told = EventState::default();
        let mut waits = report();
        let waiting = |millis| wait("gtm/Job/a", 212, millis);
        waits.status.waiting = vec![waiting(900)];
        assert!(said(&mut told, &waits, 0).is_empty(), "a moment is no wait");
        waits.status.waiting = vec![waiting(9000)];
        assert_eq!(
            said(&mut told, &waits, 1),
            ["Consumer(\"gtm/Job/a\") WaitingForQuota: 212 calls wait, under 1 minute, for gtm/crm"]
        );
        for second in 2..500 {
            assert!(said(&mut told, &waits, second).is_empty());
        }
        assert!(said(&mut told, &report(), 530).is_empty());
        assert!(said(&mut told, &waits, 540).is_empty(), "a short peace is none");
        assert!(said(&mut told, &report(), 601).is_empty());
        assert_eq!(said(&mut told, &waits, 620).len(), 1);
    }

    #[test]
    fn a_new_leader_does_not_tell_again_what_is_under_way() {
        let mut waits = report();
        waits.status.waiting = vec![wait("gtm/Job/a", 2, 9000)];
        let mut told = EventState::before(&ApiQuotaStatus::default(), Some(&waits), at(0));
        assert!(said(&mut told, &waits, 1).is_empty());
    }

    #[test]
    fn an_open_gate_is_told_when_it_opens_and_when_it_closes() {
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
        let next = |told: &mut EventState, status: &ApiQuotaStatus| -> Vec<_> {
            let notices = told.next("gtm/crm", &verdict, status, Some(&report()), at(0));
            notices.into_iter().map(|it| (it.place, it.warning, it.reason, it.note)).collect()
        };
        let (open, closed) =
            (throttled("False", "GateOpen", "Until 14:18:00."), throttled("False", "NotThrottled", ""));
        let unheard = throttled("Unknown", "Unknown", "");
        let mut told = EventState::default();
        assert_eq!(next(&mut told, &closed), []);
        assert_eq!(next(&mut told, &open), [(Target::Quota, true, "GateOpen", "Until 14:18:00.".to_owned())]);
        assert_eq!(next(&mut told, &open), []);
        assert_eq!(next(&mut told, &unheard), [], "nobody knows");
        let mut later = EventState::before(&open, Some(&report()), at(0));
        assert_eq!(next(&mut later, &open), [], "an earlier leader has told of it");
        for told in [&mut told, &mut later] {
            let notices = next(told, &closed);
            assert_eq!(notices.iter().map(|it| (it.1, it.2)).collect::<Vec<_>>(), [(false, "GateClosed")]);
            assert_eq!(next(told, &closed), []);
        }
    }

    #[test]
    fn a_conflict_is_told_once() {
        let mut told = EventState::default();
        let message = "The account org-1 belongs to ApiQuota a/b.".to_owned();
        let verdict = Verdict::Refused { reason: Reason::AccountConflict, message, in_force: None };
        let mut next = || told.next("gtm/crm", &verdict, &ApiQuotaStatus::default(), None, at(0)).len();
        assert_eq!([next(), next()], [1, 0]);
    }
}
