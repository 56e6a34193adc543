//! Whose turn it is, how long one waits, and who is told at once that it won't do.

use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{LimitConfig, OnExceeded};
use quotakeeper_engine::event::{CallClass, Event, Observation, RefusalReason, Scope, SessionId};

use crate::world::*;

fn drain(w: &mut World, seconds: u32) -> Vec<u64> {
    let mut sessions = Vec::new();
    for _ in 0..seconds * 10 {
        for attempt in w.grants() {
            sessions.push(attempt.session.0);
            w.answered(attempt);
        }
        w.pass(MS * 100);
    }
    sessions
}

#[test]
fn a_workload_of_many_replicas_gets_no_more_than_a_single_pod() {
    let mut w = World::new(vec![limit("requests", 20, 10)]);
    for session in 2..8 {
        for _ in 0..20 {
            w.ask_as(session, "large", CallClass::default(), None);
        }
    }
    for _ in 0..20 {
        w.ask_as(1, "small", CallClass::default(), None);
    }
    let served = drain(&mut w, 10);
    let small = served.iter().filter(|session| **session == 1).count();
    assert!((8..=11).contains(&small), "{small} of {}", served.len());
}

#[test]
fn weights_share_a_backlog() {
    let mut config = account(vec![limit("requests", 40, 10)]);
    config.weights.insert("sales".into(), 3);
    let mut w = World::of(config);
    for _ in 0..60 {
        w.ask_as(1, "sales", CallClass::default(), None);
        w.ask_as(2, "batch", CallClass::default(), None);
    }
    let served = drain(&mut w, 10);
    let sales = served.iter().filter(|session| **session == 1).count();
    assert!((served.len() * 7 / 10..=served.len() * 8 / 10).contains(&sales), "{sales} of {}", served.len());
}

#[test]
fn a_call_that_cannot_be_served_in_time_is_refused_at_once() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask(10);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    w.ask_as(1, "job", CallClass::default(), Some(SECOND * 5));
    let (reason, retry_after) = w.refusals()[0];
    assert_eq!(reason, RefusalReason::WaitTooLong);
    let retry_after = retry_after.unwrap();
    assert!(retry_after > SECOND * 10 && retry_after < SECOND * 11, "{retry_after:?}");
    w.pass(retry_after);
    w.ask_as(1, "job", CallClass::default(), Some(SECOND * 5));
    assert_eq!(w.grants().len(), 1, "and the time that it was told is right");
}

#[test]
fn a_patient_call_waits() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask(10);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    w.ask_as(1, "job", CallClass::default(), Some(SECOND * 60));
    assert!(w.refusals().is_empty());
    w.pass(SECOND * 11);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_call_behind_others_is_refused_at_its_own_deadline() {
    let mut config = account(vec![sliding("requests", 10, 60)]);
    // No forecast refuses it before.
    config.assumed = true;
    let mut w = World::of(config);
    for _ in 0..5 {
        w.ask_as(1, "first", CallClass::default(), None);
        w.ask_as(1, "second", CallClass::default(), None);
    }
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    w.pass(SECOND * 5);
    w.ask_as(1, "first", CallClass::default(), None);
    w.ask_as(2, "second", CallClass::default(), Some(SECOND * 5));
    w.pass(SECOND * 6);
    assert_eq!(
        w.refusals().into_iter().map(|(reason, _)| reason).collect::<Vec<_>>(),
        [RefusalReason::WaitExceeded]
    );
    assert!(w.grants().is_empty(), "the first waits for longer");
}

#[test]
fn a_call_passes_one_whose_pod_is_heard_no_longer() {
    let mut w = World::new(vec![sliding("requests", 100, 60)]);
    w.ask_for(1, "job", requests(80), None);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    w.pass(SECOND * 5);
    let silent = 20;
    w.ask_for(silent, "large", requests(50), None);
    w.pass(SECOND * 5);
    w.ask_for(2, "small", requests(1), None);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn the_wait_estimate_spans_several_windows() {
    let mut config = account(vec![sliding("requests", 10, 10)]);
    config.queue.max_wait = SECOND * 35;
    let mut w = World::of(config);
    w.ask(10);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    w.ask(40);
    let refused = w.refusals();
    assert_eq!(refused.len(), 10, "30 make it within 35 s: {refused:?}");
    assert!(refused.iter().all(|(_, retry)| retry.unwrap() > SECOND * 40));
}

#[test]
fn a_call_is_refused_at_its_deadline() {
    let mut w = World::new(vec![sliding("requests", 1, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    w.answered(attempt);
    w.ask_as(1, "job", CallClass::default(), Some(SECOND * 15));
    assert!(w.refusals().is_empty(), "it should make it");
    w.tell(Event::Pause { scope: quotakeeper_engine::event::Scope::account(), length: SECOND * 100 });
    w.pass(SECOND * 11);
    assert!(w.refusals().is_empty());
    w.pass(SECOND * 2);
    let refused = w.refusals();
    assert_eq!(refused.len(), 1, "at 80 % of its client's patience");
    assert_eq!(refused[0].0, RefusalReason::WaitExceeded);
    assert!(refused[0].1.unwrap() > SECOND * 80, "when the pause ends");
}

#[test]
fn reject_mode_refuses_calls_that_would_wait() {
    let mut config = account(vec![sliding("requests", 2, 10)]);
    config.on_exceeded = OnExceeded::Reject;
    let mut w = World::of(config);
    w.ask(3);
    assert_eq!(w.grants().len(), 2);
    assert_eq!(w.refusals()[0].0, RefusalReason::QuotaExceeded);
}

#[test]
fn a_full_queue_refuses() {
    let mut config = account(vec![sliding("requests", 1, 1)]);
    config.queue.max_calls = 3;
    let mut w = World::of(config);
    w.ask(5);
    assert_eq!(
        w.refusals().iter().map(|(reason, _)| *reason).collect::<Vec<_>>(),
        [RefusalReason::QueueFull]
    );
}

#[test]
fn a_limit_of_zero_never_fits() {
    let mut w =
        World::new(vec![LimitConfig { endpoint: Some("search".to_owned()), ..sliding("search", 0, 1) }]);
    w.ask_as(1, "job", endpoint("search"), None);
    assert_eq!(w.refusals(), [(RefusalReason::NeverFits, None)]);
    w.ask(1);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_cancelled_call_leaves_the_queue_at_once() {
    let mut w = World::new(vec![sliding("requests", 1, 10)]);
    w.ask(1);
    let first = w.grants()[0];
    let second = w.ask_as(1, "job", CallClass::default(), None);
    w.tell(Event::Cancel { session: SessionId(1), call: second });
    assert_eq!(w.engine.status(w.now).waiting_calls(), 0);
    w.tell(Event::Cancel { session: SessionId(1), call: first.call });
    assert_eq!(w.used("requests"), 0, "a grant that crossed the hang-up is refunded");
}

#[test]
fn hang_ups_of_waiting_calls_are_counted_with_their_waits() {
    let mut config = account(vec![sliding("requests", 1, 40)]);
    config.queue.max_wait = SECOND * 600;
    let mut w = World::of(config);
    w.ask(1);
    let first = w.grants()[0];
    w.answered(first);
    let hung_up = |w: &mut World, after: u64| {
        let call = w.ask_as(1, "job", CallClass::default(), None);
        w.pass(SECOND * u32::try_from(after).unwrap());
        w.tell(Event::Cancel { session: SessionId(1), call });
    };
    hung_up(&mut w, 5);
    hung_up(&mut w, 6);
    w.tell(Event::Cancel { session: SessionId(1), call: first.call });
    let hang_ups = w.engine.status(w.now).hang_ups;
    assert_eq!(hang_ups.len(), 1, "of one workload: {hang_ups:?}");
    let job = &hang_ups[0];
    assert_eq!((job.consumer.as_str(), job.calls), ("job", 2), "a granted call was not waiting");
    assert_eq!((job.shortest.as_secs(), job.longest.as_secs()), (5, 6));
    assert!((30..=41).contains(&job.wait.as_secs()), "{:?}", job.wait);
    w.pass(SECOND * 3600);
    assert_eq!(w.engine.status(w.now).hang_ups, [], "forgotten after an hour");
}

#[test]
fn clients_that_hang_up_together_are_told_the_wait_of_the_last_of_them() {
    let mut config = account(vec![sliding("requests", 1, 10)]);
    config.queue.max_wait = SECOND * 600;
    let mut w = World::of(config);
    w.ask(1);
    let first = w.grants()[0];
    w.answered(first);
    let calls: Vec<_> = (0..5).map(|_| w.ask_as(1, "job", CallClass::default(), None)).collect();
    w.pass(SECOND * 3);
    for call in calls {
        w.tell(Event::Cancel { session: SessionId(1), call });
    }
    let wait = w.engine.status(w.now).hang_ups[0].wait.as_secs();
    assert!((46..=50).contains(&wait), "five calls at one in ten seconds: {wait}");
}

#[test]
fn a_lost_session_removes_its_waiting_calls() {
    let mut w = World::new(vec![sliding("requests", 1, 10)]);
    w.ask(3);
    w.tell(Event::Disconnected(SessionId(1)));
    let status = w.engine.status(w.now);
    assert_eq!((status.waiting_calls(), status.under_way), (0, 1), "the granted one may be on its way");
    w.tell(Event::PodDeleted(SessionId(1)));
    assert_eq!(w.engine.status(w.now).under_way, 0);
    assert_eq!(w.used("requests"), 1, "what it may have sent stays charged");
}

#[test]
fn many_models_use_bounded_memory() {
    let mut w = World::new(vec![LimitConfig { per_model: true, ..sliding("rpm", 1, 60) }]);
    for number in 0..3000 {
        w.ask_as(1, "job", model(&format!("m-{number}")), None);
    }
    assert!(w.grants().len() <= 1025, "models beyond the bound are counted as one");
    assert!(w.engine.status(w.now).limits.len() <= 1026);
}

#[test]
fn a_cold_start_probes_once_and_then_paces_for_one_window() {
    let start = quotakeeper_engine::time::Time(1_000_000_000_000);
    let engine = Engine::after_unknown_past(account(vec![sliding("requests", 100, 10)]), start);
    let mut w = World::with(engine, start);
    w.ask(300);
    assert_eq!(w.grants().len(), 1, "one call asks how things stand");
    let served = drain(&mut w, 10);
    assert!((92..=100).contains(&served.len()), "{}", served.len());
}

#[test]
fn two_endpoints_of_one_consumer_alternate_at_their_shared_limit() {
    let mut w = World::new(vec![sliding("requests", 1, 1)]);
    for _ in 0..4 {
        w.ask_as(1, "job", endpoint("contacts"), None);
        w.ask_as(2, "job", endpoint("search"), None);
    }
    let mut order = Vec::new();
    for _ in 0..8 {
        for attempt in w.grants() {
            order.push(attempt.session.0);
            w.answered(attempt);
        }
        w.pass(SECOND + MS * 5);
    }
    assert_eq!(order, [1, 2, 1, 2, 1, 2, 1, 2], "as they came");
}

/// Three calls of which one may wait long enough for what comes, and two may not.
fn three_waiting(w: &mut World) {
    for patience in [SECOND * 500, SECOND * 50, SECOND * 50] {
        w.ask_as(1, "job", CallClass::default(), Some(patience));
    }
}

fn too_long(w: &mut World) -> usize {
    let refusals = w.refusals();
    assert!(
        refusals.iter().all(|(reason, wait)| *reason == RefusalReason::WaitTooLong && wait.is_some()),
        "{refusals:?}"
    );
    refusals.len()
}

#[test]
fn a_pause_refuses_waiting_calls_that_cannot_outlast_it() {
    let mut w = World::new(vec![concurrent("slots", 1)]);
    w.ask(1);
    let holder = w.grants()[0];
    three_waiting(&mut w);
    w.sent_back(holder, Scope::account(), Some(SECOND * 30));
    assert_eq!(too_long(&mut w), 0, "all have the time");
    w.pass(SECOND * 31);
    let probe = w.grants()[0];
    w.sent_back(probe, Scope::account(), Some(SECOND * 200));
    assert_eq!(too_long(&mut w), 2);
    w.pass(SECOND * 201);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn an_edit_refuses_waiting_calls_that_cannot_outlast_it() {
    let mut w = World::new(vec![sliding("requests", 10, 60)]);
    w.ask(10);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    w.pass(SECOND * 30);
    three_waiting(&mut w);
    assert_eq!((w.grants().len(), too_long(&mut w)), (0, 0));
    w.tell(Event::Configure(account(vec![sliding("requests", 10, 300)])));
    assert_eq!(too_long(&mut w), 2);
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn use_by_others_refuses_waiting_calls_that_cannot_outlast_it() {
    let mut w = World::new(vec![sliding("requests", 100, 300), concurrent("slots", 1)]);
    w.ask(1);
    let holder = w.grants()[0];
    three_waiting(&mut w);
    let used_up =
        Observation { limit: "requests".to_owned(), hard: Some(100), remaining: Some(0), ends_in: None };
    w.answered_with(holder, used_up);
    assert_eq!(too_long(&mut w), 2);
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn a_pause_refuses_no_call_that_only_waits_for_another_to_end() {
    let mut w = World::new(vec![concurrent("slots", 2)]);
    w.ask(1);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    w.ask(2);
    let held = w.grants();
    // A long call makes the mean long, and says nothing of the next one.
    w.pass(SECOND * 400);
    w.tell(over(held[0]));
    w.ask(1);
    let next = w.grants()[0];
    w.ask_as(1, "job", CallClass::default(), Some(SECOND * 500));
    w.pass(SECOND * 370);
    assert_eq!(w.refusals(), []);
    w.sent_back(next, Scope::endpoint("other"), Some(SECOND));
    assert_eq!(too_long(&mut w), 0);
}

#[test]
fn the_calls_of_a_workload_are_counted_that_the_provider_may_have_counted() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    for consumer in ["a", "a", "a", "a", "b"] {
        w.ask_as(1, consumer, CallClass::default(), None);
    }
    let grants = w.grants();
    assert_eq!(w.engine.status(w.now).workloads, [], "what is granted may not be sent");
    w.answered(grants[0]);
    w.answered(grants[0]);
    w.tell(over(grants[1]));
    w.tell(Event::Unused { attempt: grants[2], again: false });
    w.answered(grants[4]);
    let used = |w: &mut World| -> Vec<_> {
        let workloads = w.engine.status(w.now).workloads;
        workloads.into_iter().map(|it| (it.consumer.to_string(), it.calls)).collect()
    };
    assert_eq!(used(&mut w), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    w.pass(SECOND * 3600);
    assert_eq!(used(&mut w), []);
}
