//! Which Events are due, and which are not repeated.

#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::time::Duration;

use quotakeeper_engine::event::{Callers, Scope};
use quotakeeper_engine::{ConsumerHangUps, LearnedConcurrency, PauseStatus, Totals};
use quotakeeper_wire::message::NoticeKind;
use quotakeeper_wire::status::{ConsumerNotice, ProxyCounts};
use serde_json::json;

mod budgets;
mod resumed;

use super::consumers::notice_event;
use super::*;
use crate::fixtures::{idle, pause, wait};
use crate::limiter_view::LIMITER_TIMEOUT;
use crate::reconcile::{ObservedState, QuotaView, Reason, Verdict, plan};
use crate::status::{Limiter, status};

pub(super) fn report() -> AccountReport {
    AccountReport { proxies: ProxyCounts { current: 9, connected: 9 }, ..idle("gtm/crm") }
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_793_714_580 + second).unwrap()
}

/// A quota of HubSpot, and what is known of it.
pub(super) struct Scene {
    pub(super) view: QuotaView,
    pub(super) verdict: Verdict,
    pub(super) unwritten: Option<&'static str>,
    pub(super) lost: bool,
    pub(super) replaced: bool,
    pub(super) gate_open_until: Option<Timestamp>,
}

impl Scene {
    pub(super) fn of_tier(tier: &str) -> Scene {
        Scene::of(json!({"provider": {"name": "hubspot", "tier": tier}}))
    }

    pub(super) fn of(spec: serde_json::Value) -> Scene {
        let object = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": "crm", "namespace": "gtm", "generation": 1, "uid": "u"},
            "spec": spec,
        });
        let view = crate::view::quota(serde_json::from_value(object).unwrap(), None).unwrap();
        let name = "gtm/crm".to_owned();
        let observed = ObservedState { quotas: [(name.clone(), view.clone())].into(), ..Default::default() };
        let verdict = plan(&observed).quotas.remove(&name).unwrap();
        Scene { view, verdict, unwritten: None, lost: false, replaced: false, gate_open_until: None }
    }

    pub(super) fn subject<'s>(&'s self, report: Option<&'s AccountReport>, second: i64) -> Subject<'s> {
        Subject {
            view: &self.view,
            verdict: &self.verdict,
            unwritten: self.unwritten,
            limiter: match self.lost {
                true => Limiter::Lost { since: at(0), silence: LIMITER_TIMEOUT, replaced: self.replaced },
                false => Limiter::Connected {
                    account: report,
                    active: None,
                    gate_open_until: self.gate_open_until,
                },
            },
            long_wait_ago: None,
            refusals: None,
            not_injected: 0,
            namespace: "quotakeeper",
            now: at(second),
        }
    }

    /// Before the limiter's first report to a leader.
    pub(super) fn unheard(&self, second: i64) -> Subject<'_> {
        Subject { limiter: Limiter::Unknown, ..self.subject(None, second) }
    }

    pub(super) fn next(&self, state: &mut EventState, report: &AccountReport, second: i64) -> Vec<String> {
        let events = state.next("gtm/crm", &self.subject(Some(report), second));
        events.into_iter().map(|it| format!("{:?} {}: {}", it.target, it.reason.word(), it.note)).collect()
    }

    /// The status is in the cluster now.
    pub(super) fn written(&mut self, report: &AccountReport, second: i64) {
        let status = status(&self.subject(Some(report), second));
        self.view.status = Arc::new(status);
    }
}

pub(super) fn next(state: &mut EventState, report: &AccountReport, second: i64) -> Vec<String> {
    Scene::of_tier("pro").next(state, report, second)
}

/// A daily budget that is used up.
pub(super) fn spent() -> quotakeeper_engine::LimitStatus {
    quotakeeper_engine::LimitStatus {
        window: Duration::from_secs(86_400),
        name: "daily".to_owned(),
        model: None,
        unit: quotakeeper_engine::config::Unit::Requests,
        amount: 625_000,
        used: 625_000,
        reserved: 0,
        used_by_others: 0,
        assumed: 0,
        waiting: 0,
        wait: Duration::ZERO,
        spent: false,
        resets_in: Duration::from_secs(1200),
    }
}

/// At the quota and at all workloads that draw on it.
pub(super) fn both(event: &str) -> [String; 2] {
    ["Quota", "Consumers"].map(|target| format!("{target} {event}"))
}

#[test]
fn a_pause_has_an_event_when_it_begins_and_when_it_ends() {
    let mut state = EventState::default();
    let mut paused = report();
    assert!(next(&mut state, &paused, 0).is_empty());
    paused.status.pauses.push(pause(Scope::account(), 8000, "429 TEN_SECONDLY_ROLLING"));
    let note = "gtm/crm: 429 TEN_SECONDLY_ROLLING; all calls of 9 pods paused until 14:03:10 UTC, then sent by themselves";
    assert_eq!(
        next(&mut state, &paused, 2),
        [format!("Quota ProviderPaused: {note}"), format!("Consumers ProviderPaused: {note}")]
    );
    assert!(next(&mut state, &paused, 3).is_empty(), "it has one already");
    assert_eq!(
        state.standing().map(|it| it.note).collect::<Vec<_>>(),
        [note],
        "for a Job that is created now"
    );
    let totals = Totals { refused: 1, ..Totals::default() };
    let ended = AccountReport { totals, ..report() };
    let note = "gtm/crm: calls go again after 8s, 1 call refused meanwhile";
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
    let note = "gtm/crm: insufficient_quota; all calls of 9 pods refused until a person sees to the account at the provider; one call asks again at 14:04:02 UTC";
    assert_eq!(next(&mut state, &paused, 2)[0], format!("Quota ProviderStopped: {note}"));
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
    let mut later =
        EventState::published_before("gtm/crm", &Scene::of_tier("pro").subject(Some(&seen), 7202));
    assert!(next(&mut later, &seen, 7203).is_empty());
    seen.notices =
        vec![notice("gtm/Job/c", NoticeKind::DistrustedCa), notice("gtm/Job/c", NoticeKind::NoCalls)];
    let events = next(&mut later, &seen, 7204);
    assert!(events[0].starts_with("Consumer(\"gtm/Job/c\") ProxyNotTrusted: gtm/crm: "), "{events:?}");
    assert!(events[1].starts_with("Consumer(\"gtm/Job/c\") NoCalls: gtm/crm: "), "{events:?}");
    let warnings =
        seen.notices.iter().map(|notice| notice_event("gtm/crm", notice).unwrap().reason.is_warning());
    assert_eq!(warnings.collect::<Vec<_>>(), [true, false], "a pod without calls may have nothing to do");
}

#[test]
fn a_key_of_another_account_is_told_to_its_workload() {
    let notice = ConsumerNotice {
        consumer: "gtm/Job/a".into(),
        kind: NoticeKind::AnotherOrganization,
        detail: "An answer with status 429 names the organisation org-b".to_owned(),
        proxies: 1,
    };
    let event = notice_event("gtm/crm", &notice).unwrap();
    assert_eq!((event.reason, event.reason.is_warning()), (EventReason::AnotherOrganization, true));
    let note = "gtm/crm: what answers of another account say of limits and rejections is ignored. An answer with status 429 names the organisation org-b.";
    assert_eq!(event.note, note);
}

#[test]
fn an_open_gate_is_told_to_every_workload_as_soon_as_the_limiter_reports_it() {
    let (mut scene, mut state) = (Scene::of_tier("pro"), EventState::default());
    // The status in the cluster does not say so yet.
    let before = Arc::clone(&scene.view.status);
    assert!(scene.next(&mut state, &report(), 0).is_empty());
    scene.gate_open_until = Some(at(900));
    let open = "GateOpen: The gate is open until 14:18:00 UTC: the calls of all workloads pass at once, whatever the limits. To close it now: kubectl -n quotakeeper delete configmap quotakeeper-gate.";
    assert_eq!(scene.next(&mut state, &report(), 1), both(open));
    assert!(scene.next(&mut state, &report(), 2).is_empty());
    assert_eq!(state.standing().count(), 1, "a Job that is created now is told too");
    let written = status(&scene.subject(Some(&report()), 2));
    scene.view.status = Arc::new(written);
    let mut later = EventState::published_before("gtm/crm", &scene.unheard(3));
    assert!(scene.next(&mut later, &report(), 4).is_empty(), "an earlier leader has published it");
    for mut state in [state, later] {
        scene.lost = true;
        let events = scene.next(&mut state, &report(), 5);
        assert!(events.iter().all(|event| !event.contains("GateClosed")), "it may be open still: {events:?}");
        (scene.lost, scene.gate_open_until) = (false, None);
        let events = scene.next(&mut state, &report(), 6);
        let closed = both("GateClosed: The gate is closed: limits are enforced again.");
        assert!(closed.iter().all(|event| events.contains(event)), "{events:?}");
        scene.view.status = Arc::clone(&before);
        assert!(scene.next(&mut state, &report(), 7).is_empty());
        scene.gate_open_until = Some(at(900));
    }
}

#[test]
fn a_refused_quota_is_told_to_the_workloads_whose_calls_wait() {
    let (mut scene, mut state) = (Scene::of_tier("gold"), EventState::default());
    let events = scene.next(&mut state, &report(), 0);
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, target) in events.iter().zip(["Quota", "Consumers"]) {
        let begins = format!("{target} TierNotFound: gtm/crm is refused: spec.provider.tier: ");
        assert!(event.starts_with(&begins) && event.ends_with("Calls wait until then."), "{event}");
    }
    assert!(scene.next(&mut state, &report(), 1).is_empty(), "it has one already");
    let standing: Vec<PlannedEvent> = state.standing().collect();
    assert_eq!(standing.len(), 1, "for a Job that is created now");
    assert_eq!(format!("Consumers TierNotFound: {}", standing[0].note), events[1]);
    // Another reason is news.
    let message = "The account 7 of hubspot belongs to ApiQuota a/b.".to_owned();
    scene.verdict = Verdict::Refused { reason: Reason::AccountConflict, message, in_force: None };
    let event = "AccountConflict: gtm/crm is refused: The account 7 of hubspot belongs to ApiQuota a/b. Calls wait until then.";
    assert_eq!(scene.next(&mut state, &report(), 2), both(event));
    scene.written(&report(), 2);
    let mut later = EventState::published_before("gtm/crm", &scene.subject(Some(&report()), 3));
    assert!(scene.next(&mut later, &report(), 3).is_empty(), "an earlier leader has published it");
    let mut corrected = Scene::of_tier("pro");
    corrected.view.status = Arc::clone(&scene.view.status);
    let mut latest = EventState::published_before("gtm/crm", &corrected.subject(Some(&report()), 9));
    let event = "Resumed: gtm/crm: its spec is accepted, after 7s";
    assert_eq!(corrected.next(&mut latest, &report(), 9), both(event), "corrected while nobody led");
    let accepted = Scene::of_tier("pro");
    let event = "Resumed: gtm/crm: its spec is accepted, after 9s";
    assert_eq!(accepted.next(&mut state, &report(), 9), both(event));
    assert_eq!(state.standing().count(), 0);
    assert!(accepted.next(&mut state, &report(), 10).is_empty());
}

#[test]
fn a_refused_change_concerns_no_workload_while_what_was_before_is_in_force() {
    let (mut scene, mut state) = (Scene::of_tier("pro"), EventState::default());
    let in_force = scene.verdict.account().cloned();
    let message = "spec.provider.tier: gold. Generation 1 stays in force until then.".to_owned();
    scene.verdict = Verdict::Refused { reason: Reason::TierNotFound, message, in_force };
    let events = scene.next(&mut state, &report(), 0);
    assert_eq!(events.len(), 1);
    assert!(events[0].starts_with("Quota TierNotFound: ") && !events[0].contains("Calls wait"), "{events:?}");
}

#[test]
fn a_limiter_that_is_silent_is_told_to_every_workload_and_ends_nothing_else() {
    let (mut scene, mut state) = (Scene::of_tier("pro"), EventState::default());
    let mut paused = report();
    paused.status.pauses.push(pause(Scope::account(), 60_000, "429"));
    assert_eq!(scene.next(&mut state, &paused, 0).len(), 2);
    scene.lost = true;
    let event = "LimiterUnavailable: gtm/crm: The limiter has not reported since 14:03:00 UTC, and calls wait until it is back; look at it with `kubectl get pods -n quotakeeper`.";
    assert_eq!(scene.next(&mut state, &paused, 8), both(event));
    assert!(scene.next(&mut state, &paused, 10).is_empty(), "nor is the pause over");
    scene.written(&report(), 10);
    let mut later = EventState::published_before("gtm/crm", &scene.subject(None, 11));
    assert!(scene.next(&mut later, &report(), 12).is_empty(), "an earlier leader has published it");
    scene.lost = false;
    let events = scene.next(&mut state, &report(), 30);
    assert_eq!(events[..2], both("Resumed: gtm/crm: the limiter reports again, after 30s"));
    assert_eq!(events[2..], both("Resumed: gtm/crm: calls go again after 30s, 0 calls refused meanwhile"));
}

#[test]
fn a_configuration_that_does_not_arrive_is_told() {
    let (mut scene, mut state) = (Scene::of_tier("pro"), EventState::default());
    scene.unwritten = Some("configmaps is forbidden");
    let (in_force, mut failing) = (report(), report());
    assert_eq!(scene.next(&mut EventState::default(), &in_force, 0).len(), 1, "what was before is in force");
    failing.generation = None;
    let event = "NotWritten: gtm/crm: The limiter's configuration, a ConfigMap in namespace quotakeeper, can't be written: configmaps is forbidden. It is tried again; if that goes on, see whether the operator's Role, a ResourceQuota or a policy forbids it. Calls wait until then.";
    assert_eq!(scene.next(&mut state, &failing, 0), both(event));
    scene.unwritten = None;
    failing.problem = Some("it has 3 limits too many".to_owned());
    let event = "Refused: gtm/crm: The limiter can't apply it: it has 3 limits too many; correct the spec, and see that operator and limiter are of one version. Calls wait until then.";
    assert_eq!(scene.next(&mut state, &failing, 1), both(event));
    failing.generation = Some(1);
    let events = scene.next(&mut EventState::default(), &failing, 2);
    assert_eq!(events.len(), 1, "what was before is in force: {events:?}");
}

#[test]
fn a_budget_that_is_used_up_is_told_once_while_it_hovers() {
    let (mut scene, mut state) = (Scene::of_tier("pro"), EventState::default());
    let with = |used| {
        let mut report = report();
        report.status.limits.push(quotakeeper_engine::LimitStatus { used, ..spent() });
        report
    };
    let (spent, free) = (with(625_000), with(624_000));
    scene.written(&spent, 0);
    let event = "BudgetExhausted: gtm/crm: All of daily is used. It is free again by 14:23:00 UTC. Calls wait or are refused until then; a higher tier or fewer calls help.";
    assert_eq!(scene.next(&mut state, &spent, 0), both(event));
    for second in 1..30 {
        let report = if second % 2 == 0 { &spent } else { &free };
        scene.written(report, second);
        assert!(scene.next(&mut state, report, second).is_empty(), "second {second}");
    }
    // A pause says nothing of budgets.
    let mut paused = free.clone();
    paused.status.pauses.push(pause(Scope::account(), 200_000, "429"));
    scene.written(&paused, 40);
    let events = scene.next(&mut state, &paused, 100);
    assert!(!events.concat().contains("budget"), "{events:?}");
    scene.written(&free, 120);
    assert!(
        scene
            .next(&mut state, &free, 120)
            .contains(&both("Resumed: gtm/crm: its budget has room again, after 120s")[1])
    );
}

#[test]
fn a_pause_whose_end_is_put_off_is_told_again_with_the_new_end() {
    let mut state = EventState::default();
    let mut paused = report();
    paused.status.pauses.push(pause(Scope::account(), 10_000, "TEN_SECONDLY_ROLLING"));
    assert!(next(&mut state, &paused, 0)[0].ends_with("paused until 14:03:10 UTC, then sent by themselves"));
    paused.status.pauses[0].remaining = Duration::from_secs(25);
    assert!(next(&mut state, &paused, 8).is_empty(), "not worth telling");
    let overloaded = pause(Scope::account(), 200_000, "status 503");
    paused.status.pauses[0] = PauseStatus { overloaded: true, ..overloaded };
    let note = "ProviderOverloaded: gtm/crm: status 503; all calls of 9 pods paused until 14:06:30 UTC, then sent by themselves";
    assert_eq!(next(&mut state, &paused, 10), both(note));
    assert!(next(&mut state, &paused, 11).is_empty());
}

#[test]
fn clients_that_give_up_are_told_how_long_the_wait_is_and_their_timeout() {
    let mut state = EventState::default();
    let hang_ups = |calls, shortest, longest| {
        let mut report = report();
        let [shortest, longest, wait] = [shortest, longest, 40_000].map(Duration::from_millis);
        report.status.hang_ups =
            vec![ConsumerHangUps { consumer: "gtm/Job/a".into(), calls, shortest, longest, wait }];
        report
    };
    assert!(next(&mut state, &hang_ups(2, 5000, 5001), 0).is_empty(), "two may be chance");
    let note = |calls, after| {
        format!(
            "Consumer(\"gtm/Job/a\") ClientsGiveUp: gtm/crm: the clients of {calls} waiting calls hung up after {after}, before their turn; a call waits about 40s; set the client's timeout above that, or run fewer workers"
        )
    };
    assert_eq!(next(&mut state, &hang_ups(20, 4990, 5001), 2), [note(20, "5s")]);
    assert!(next(&mut state, &hang_ups(400, 5000, 5001), 600).is_empty());
    assert_eq!(next(&mut state, &hang_ups(420, 5000, 9000), 602), [note(400, "5s to 9s")]);
    assert_eq!(
        next(&mut state, &hang_ups(3, 5000, 5001), 1300),
        [note(3, "5s")],
        "the limiter has restarted"
    );
    assert!(next(&mut EventState::default(), &hang_ups(20, 100, 900), 0).is_empty(), "they hardly waited");
    let scene = Scene::of_tier("pro");
    let seen = hang_ups(20, 5000, 5001);
    let mut later = EventState::published_before("gtm/crm", &scene.subject(Some(&seen), 0));
    assert!(next(&mut later, &seen, 1).is_empty(), "an earlier leader has published it");
}

#[test]
fn a_budget_that_begins_closed_has_one_event_for_all_whose_calls_wait() {
    let mut scene = Scene::of_tier("pro");
    scene.view.status = throttled("True", "UsageUnknown", "How much of daily was used is not known.");
    let mut state = EventState::default();
    let event = "UsageUnknown: gtm/crm: How much of daily was used is not known.";
    assert_eq!(scene.next(&mut state, &report(), 0), both(event));
    assert!(scene.next(&mut state, &report(), 1).is_empty());
    let mut later = EventState::published_before("gtm/crm", &scene.subject(Some(&report()), 2));
    assert!(scene.next(&mut later, &report(), 3).is_empty(), "an earlier leader has published it");
}

/// A status whose condition `Throttled` says this.
pub(super) fn throttled(status: &str, reason: &str, message: &str) -> Arc<ApiQuotaStatus> {
    let condition = Condition {
        type_: "Throttled".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(1),
        last_transition_time: Time(at(0)),
    };
    Arc::new(ApiQuotaStatus { conditions: vec![condition], ..ApiQuotaStatus::default() })
}
