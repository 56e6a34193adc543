//! What a workload is told of its next call, and of those that wait.

use quotakeeper_engine::event::{CallClass, Fingerprint, RejectionClass};
use quotakeeper_engine::{HeldBy, Outlook};

use crate::world::*;

fn outlook(w: &mut World, consumer: &str, class: CallClass) -> Outlook {
    w.engine.outlook(w.now, &consumer.into(), &class.into(), Fingerprint::default())
}

fn limit_named(name: &str) -> Option<HeldBy> {
    Some(HeldBy::Limit { name: name.to_owned(), model: None })
}

#[test]
fn a_call_that_has_room_waits_for_nothing() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask(4);
    let seen = outlook(&mut w, "job", CallClass::default());
    assert_eq!((seen.next.ahead, seen.next.wait, seen.next.held_by), (0, std::time::Duration::ZERO, None));
    assert_eq!((seen.limits[0].used, seen.limits[0].amount), (4, 10));
    assert_eq!((seen.waiting_calls, seen.all_waiting_calls), (0, 0));
}

#[test]
fn a_wait_is_told_as_long_as_it_lasts() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask(10);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    for _ in 0..3 {
        w.ask_as(1, "job", CallClass::default(), None);
        w.ask_as(2, "other", CallClass::default(), None);
    }
    w.pass(SECOND * 2);
    let seen = outlook(&mut w, "job", CallClass::default());
    assert_eq!((seen.waiting_calls, seen.all_waiting_calls), (3, 6));
    let [waiting] = &seen.waiting[..] else { panic!("{:?}", seen.waiting) };
    assert_eq!((waiting.calls, waiting.waited), (3, SECOND * 2));
    assert_eq!(waiting.turn.held_by, limit_named("requests"));
    assert!(waiting.turn.ahead <= 1 && seen.next.ahead >= 5, "{seen:?}");
    assert_eq!(seen.next.held_by, limit_named("requests"));
    w.pass(waiting.turn.wait.saturating_sub(MS));
    assert!(w.grants().is_empty(), "not before");
    w.pass(MS);
    assert!(!w.grants().is_empty(), "nor after");
}

#[test]
fn the_limit_of_a_model_holds_its_calls_alone() {
    let mut per_model = sliding("requests", 2, 60);
    per_model.per_model = true;
    let mut w = World::new(vec![per_model, sliding("all", 100, 60)]);
    let of = |model: &str| CallClass { model: Some(model.to_owned()), ..CallClass::default() };
    for _ in 0..3 {
        w.ask_as(1, "job", of("large"), None);
    }
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    let large = outlook(&mut w, "job", of("large"));
    let held_by = HeldBy::Limit { name: "requests".to_owned(), model: Some("large".to_owned()) };
    assert_eq!(large.next.held_by, Some(held_by));
    assert_eq!(large.waiting[0].model.as_deref(), Some("large"));
    let small = outlook(&mut w, "job", of("small"));
    assert_eq!(small.next.held_by, None);
}

#[test]
fn a_pause_is_named() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    w.rejected(attempt, RejectionClass::Quota, Some(SECOND * 30));
    w.ask(1);
    let seen = outlook(&mut w, "job", CallClass::default());
    assert!((SECOND * 30..SECOND * 31).contains(&seen.next.wait), "{seen:?}");
    assert!(matches!(seen.next.held_by, Some(HeldBy::Pause { .. })), "{seen:?}");
    assert_eq!(seen.pauses.len(), 1);
}

#[test]
fn the_bound_of_a_workload_is_named() {
    let mut config = account(vec![sliding("requests", 10, 10)]);
    config.sharing.max_concurrent_per_workload = Some(1);
    let mut w = World::of(config);
    w.ask(2);
    assert_eq!(outlook(&mut w, "job", CallClass::default()).next.held_by, Some(HeldBy::WorkloadConcurrency));
    assert_eq!(outlook(&mut w, "other", CallClass::default()).next.held_by, None);
}

#[test]
fn looking_changes_nothing() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask(12);
    let before = w.engine.status(w.now);
    for _ in 0..5 {
        outlook(&mut w, "job", CallClass::default());
    }
    assert_eq!(w.engine.status(w.now), before);
}
