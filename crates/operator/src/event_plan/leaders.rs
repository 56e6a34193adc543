//! A change of leader: what an earlier one has published is not repeated, and what has changed meanwhile is told.

#![allow(clippy::unwrap_used)]
use std::sync::Arc;
use std::time::Duration;

use quotakeeper_engine::event::Scope;
use quotakeeper_engine::{ConsumerHangUps, LearnedConcurrency, ModelUsage, PauseStatus, WorkloadUsage};
use quotakeeper_wire::message::NoticeKind;
use quotakeeper_wire::status::{AccountReport, ConsumerNotice};

use super::tests::{Scene, report, spent};
use super::*;
use crate::fixtures::{pause, wait};

type Change = fn(&mut Scene, &mut AccountReport);

/// All that has an Event when it begins.
fn situations() -> Vec<(&'static str, Change)> {
    vec![
        ("ProviderPaused", |_, it| it.status.pauses.push(pause(Scope::account(), 90_000, "429"))),
        ("PausedByHand", |_, it| {
            let by_hand = pause(Scope::account(), 90_000, "paused by hand");
            it.status.pauses.push(PauseStatus { by_hand: true, ..by_hand });
        }),
        ("ProviderOverloaded", |_, it| {
            let overloaded = pause(Scope::account(), 90_000, "status 503");
            it.status.pauses.push(PauseStatus { overloaded: true, ..overloaded });
        }),
        ("ProviderStopped", |_, it| {
            let stopped = pause(Scope::account(), 90_000, "insufficient_quota");
            it.status.pauses.push(PauseStatus { stopped: true, ..stopped });
        }),
        ("WaitingForQuota", |_, it| it.status.waiting = vec![wait("gtm/Job/a", 2, 9000)]),
        ("ClientsGiveUp", |_, it| {
            let [shortest, longest, wait] = [5000, 5001, 40_000].map(Duration::from_millis);
            let consumer = "gtm/Job/a".into();
            it.status.hang_ups = vec![ConsumerHangUps { consumer, calls: 20, shortest, longest, wait }];
        }),
        ("NoCalls", |_, it| {
            let detail = "no call has come".to_owned();
            it.notices = vec![ConsumerNotice {
                consumer: "gtm/Job/a".into(),
                kind: NoticeKind::NoCalls,
                detail,
                proxies: 1,
            }];
        }),
        ("CostUnknown", |_, it| {
            let model = ModelUsage { model: Some("foo-9".to_owned()), unpriced: 14, ..ModelUsage::default() };
            let consumer = "gtm/Job/a".into();
            it.status.workloads = vec![WorkloadUsage { consumer, calls: 14, models: vec![model] }];
        }),
        ("ConcurrencyLearned", |_, it| {
            let (scope, raise_after) = (Scope::model("haiku"), Duration::from_secs(10));
            it.status.concurrency = vec![LearnedConcurrency { scope, calls: 4, raise_after }];
        }),
        ("BudgetExhausted", |_, it| it.status.limits.push(spent())),
        ("BudgetNearlyUsed", |_, it| {
            it.status.limits.push(quotakeeper_engine::LimitStatus { used: 520_000, ..spent() });
        }),
        ("TierNotFound", |scene, _| *scene = Scene::of_tier("gold")),
        ("NotWritten", |scene, it| {
            (scene.unwritten, it.generation) = (Some("configmaps is forbidden"), None);
        }),
        ("Refused", |_, it| {
            (it.problem, it.generation) = (Some("it has 3 limits too many".to_owned()), None);
        }),
        ("Refused", |_, it| it.problem = Some("an earlier generation stays in force".to_owned())),
        ("LimiterUnavailable", |scene, _| scene.lost = true),
    ]
}

/// A quota in a situation that the first leader has published, with the status that it has written.
fn published(change: Change) -> (Scene, AccountReport, Vec<String>) {
    let (mut scene, mut seen) = (Scene::of_tier("pro"), report());
    scene.written(&seen, 0);
    let before = Arc::clone(&scene.view.status);
    change(&mut scene, &mut seen);
    scene.view.status = before;
    let (mut first, mut events) = (EventState::default(), Vec::new());
    for second in [2, 4, 6] {
        events.extend(scene.next(&mut first, &seen, second));
        scene.written(&seen, second);
    }
    (scene, seen, events)
}

#[test]
fn a_new_leader_repeats_nothing_however_late_its_first_report_comes() {
    for (reason, change) in situations() {
        let (scene, seen, events) = published(change);
        assert!(events.iter().any(|event| event.contains(&format!(" {reason}: "))), "{reason}: {events:?}");
        for unheard in 0..3 {
            let first = if unheard == 0 { scene.subject(Some(&seen), 8) } else { scene.unheard(8) };
            let mut second = EventState::published_before("gtm/crm", &first);
            let mut again = Vec::new();
            for round in 0..unheard {
                let events = second.next("gtm/crm", &scene.unheard(9 + round));
                again.extend(events.into_iter().map(|event| event.note));
            }
            for round in 0..3 {
                again.extend(scene.next(&mut second, &seen, 12 + 2 * round));
            }
            assert!(again.is_empty(), "{reason}, {unheard} rounds without a report: {again:?}");
        }
    }
}

#[test]
fn a_new_leader_tells_that_what_its_predecessor_told_is_over() {
    const LASTING: [&str; 5] =
        ["BudgetExhausted", "TierNotFound", "NotWritten", "Refused", "LimiterUnavailable"];
    for (reason, change) in situations().into_iter().filter(|(reason, _)| LASTING.contains(reason)) {
        let (scene, _, before) = published(change);
        let mut well = Scene::of_tier("pro");
        well.view.status = Arc::clone(&scene.view.status);
        let mut second = EventState::published_before("gtm/crm", &well.unheard(80));
        let mut events = Vec::new();
        for round in 0..3 {
            events.extend(well.next(&mut second, &report(), 82 + 60 * round));
            well.written(&report(), 82 + 60 * round);
        }
        let count =
            |all: &[String], begins: &str| all.iter().filter(|event| event.starts_with(begins)).count();
        let told = count(&before, &format!("Consumers {reason}: "));
        assert_eq!(count(&events, "Consumers Resumed: "), told, "{reason}: {events:?}");
        assert_eq!(count(&events, "Quota Resumed: "), 1, "{reason}: {events:?}");
    }
}

#[test]
fn a_job_that_begins_under_a_new_leader_reads_what_its_predecessor_wrote() {
    let (scene, _, events) = published(|scene, _| scene.lost = true);
    let mut second = EventState::published_before("gtm/crm", &scene.unheard(8));
    second.next("gtm/crm", &scene.unheard(9));
    let standing: Vec<String> =
        second.standing().map(|it| format!("Quota {}: {}", it.reason.word(), it.note)).collect();
    assert_eq!(standing, [events[0].clone()]);
}

#[test]
fn a_report_that_comes_late_is_news() {
    let scene = Scene::of_tier("pro");
    let mut second = EventState::published_before("gtm/crm", &scene.unheard(0));
    let lost = Scene { lost: true, ..Scene::of_tier("pro") };
    assert_eq!(lost.next(&mut second, &report(), 8).len(), 2);
    let mut paused = report();
    paused.status.pauses.push(pause(Scope::account(), 90_000, "429"));
    let events = scene.next(&mut second, &paused, 30);
    assert!(events.iter().any(|event| event.starts_with("Consumers ProviderPaused: ")), "{events:?}");
}
