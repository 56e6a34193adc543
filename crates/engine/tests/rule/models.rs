//! Models that are counted apart, and calls whose model nobody knows: such a call may have been of
//! any model, also of one that is seen later.

use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{LimitConfig, Pacing};
use quotakeeper_engine::event::{
    Action, Attempt, CallClass, Event, Observation, Rejection, RejectionClass, Scope, Selector, SessionId,
};

use crate::world::*;

fn per_model(limit: LimitConfig) -> LimitConfig {
    LimitConfig { per_model: true, ..limit }
}

fn ten_each() -> World {
    World::new(vec![per_model(sliding("requests", 10, 10))])
}

fn ask(w: &mut World, class: &CallClass, calls: usize) {
    for _ in 0..calls {
        w.ask_as(1, "job", class.clone(), None);
    }
}

/// Asks for so many calls, and says how many were granted at once.
fn granted(w: &mut World, class: &CallClass, calls: usize) -> Vec<Attempt> {
    ask(w, class, calls);
    w.grants()
}

fn used(w: &mut World, model: Option<&str>) -> u64 {
    let status = w.engine.status(w.now);
    status.limits.iter().filter(|limit| limit.model.as_deref() == model).map(|limit| limit.used).sum()
}

fn waiting(w: &mut World, model: &str) -> u64 {
    let status = w.engine.status(w.now);
    status
        .limits
        .iter()
        .filter(|limit| limit.model.as_deref() == Some(model))
        .map(|limit| limit.waiting)
        .sum()
}

#[test]
fn a_call_of_an_unknown_model_is_charged_to_every_model() {
    let mut w = ten_each();
    granted(&mut w, &model("large"), 3);
    granted(&mut w, &model("small"), 5);
    assert_eq!(granted(&mut w, &CallClass::default(), 5).len(), 5);
    assert_eq!(granted(&mut w, &CallClass::default(), 1).len(), 0, "small has no more room");
    assert_eq!(granted(&mut w, &model("large"), 9).len(), 1, "one of two is kept for the call that waits");
    assert_eq!((used(&mut w, Some("large")), used(&mut w, Some("small"))), (9, 10));
}

#[test]
fn a_call_of_an_endpoint_that_is_counted_apart_draws_on_no_model() {
    let except_endpoints = vec!["files".to_owned()];
    let mut w = World::new(vec![LimitConfig { except_endpoints, ..per_model(sliding("requests", 10, 10)) }]);
    let upload = CallClass { endpoint: Some("files".to_owned()), model: None, allocation: None };
    assert_eq!(granted(&mut w, &model("large"), 10).len(), 10);
    assert_eq!(granted(&mut w, &upload, 20).len(), 20, "it waited for a model");
    assert_eq!(granted(&mut w, &model("small"), 10).len(), 10, "it was charged to a model");
}

#[test]
fn a_model_seen_later_is_charged_for_earlier_unknown_calls() {
    let mut w = ten_each();
    assert_eq!(granted(&mut w, &CallClass::default(), 7).len(), 7);
    assert_eq!(granted(&mut w, &model("late"), 10).len(), 3);
    assert_eq!(granted(&mut w, &model("later"), 10).len(), 3, "and so may this one");
}

#[test]
fn the_outcome_of_an_unknown_call_reaches_every_model() {
    let mut w = ten_each();
    granted(&mut w, &model("early"), 1);
    let unknown = granted(&mut w, &CallClass::default(), 9);
    ask(&mut w, &model("early"), 9);
    ask(&mut w, &model("late"), 10);
    assert_eq!(w.grants().len(), 1);
    unknown.into_iter().for_each(|attempt| w.answered(attempt));
    w.pass(SECOND * 10 + MS * 5);
    // Without the answers each would be held for D + J longer.
    assert_eq!(w.grants().len(), 9 + 9);
}

#[test]
fn an_unsent_unknown_call_is_refunded_at_every_model() {
    let mut w = ten_each();
    granted(&mut w, &model("early"), 1);
    let unknown = granted(&mut w, &CallClass::default(), 4);
    granted(&mut w, &model("late"), 1);
    assert_eq!((used(&mut w, Some("early")), used(&mut w, Some("late"))), (5, 5));
    for attempt in unknown {
        w.tell(Event::Unused { attempt, again: false });
    }
    assert_eq!((used(&mut w, Some("early")), used(&mut w, Some("late")), used(&mut w, None)), (1, 1, 0));
}

#[test]
fn a_late_unknown_call_is_charged_again_at_every_model() {
    let mut w = ten_each();
    let unknown = granted(&mut w, &CallClass::default(), 1);
    granted(&mut w, &model("late"), 1);
    w.pass(SECOND * 13);
    assert_eq!(used(&mut w, Some("late")), 0);
    w.tell(Event::Sent { attempt: unknown[0], latest: w.now });
    assert_eq!(used(&mut w, Some("late")), 1);
    assert_eq!(granted(&mut w, &model("latest"), 20).len(), 9);
}

#[test]
fn unknown_calls_wait_at_every_model() {
    let mut w = ten_each();
    granted(&mut w, &model("early"), 10);
    ask(&mut w, &CallClass::default(), 3);
    let call = w.ask_as(1, "job", CallClass::default(), None);
    granted(&mut w, &model("late"), 1);
    assert_eq!((waiting(&mut w, "early"), waiting(&mut w, "late")), (4, 4));
    w.tell(Event::Cancel { session: SessionId(1), call });
    assert_eq!((waiting(&mut w, "early"), waiting(&mut w, "late")), (3, 3));
    w.tell(Event::Configure(account(vec![per_model(sliding("requests", 12, 10))])));
    assert_eq!((waiting(&mut w, "early"), waiting(&mut w, "late")), (1, 1), "two more fit");
}

#[test]
fn an_unknown_call_holds_a_slot_of_every_model() {
    let mut w = World::new(vec![per_model(concurrent("parallel", 3))]);
    granted(&mut w, &model("early"), 1);
    let unknown = granted(&mut w, &CallClass::default(), 2);
    assert_eq!(unknown.len(), 2);
    assert_eq!(granted(&mut w, &model("late"), 3).len(), 1);
    assert_eq!(granted(&mut w, &CallClass::default(), 1).len(), 0);
    let late = waiting(&mut w, "late");
    w.tell(over(unknown[0]));
    assert_eq!(w.grants().len(), 1, "a call of late, which has come before");
    w.tell(over(unknown[1]));
    w.grants();
    assert_eq!((late, waiting(&mut w, "late"), waiting(&mut w, "early")), (3, 1, 1));
    assert_eq!(used(&mut w, Some("late")), 3);
}

#[test]
fn the_ledger_restores_unknown_calls_for_later_models() {
    let limits = || vec![per_model(sliding("requests", 10, 10))];
    let mut w = World::new(limits());
    w.alive(1);
    w.commit(20);
    granted(&mut w, &model("early"), 2);
    let unknown = granted(&mut w, &CallClass::default(), 4);
    let (snapshot, reserve) = w.commit(0);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    w.alive(1);
    w.commit(100);
    for _ in 0..10 {
        w.ask_as(2, "job", model("early"), None);
        w.ask_as(2, "job", model("late"), None);
    }
    w.commit(100);
    assert_eq!(w.grants().len(), 4 + 6);
    unknown.into_iter().for_each(|attempt| w.answered(attempt));
    w.pass(SECOND * 10 + MS * 5);
    w.commit(100);
    assert_eq!(w.grants().len(), 4 + 4, "answers to calls of before are known everywhere");
}

#[test]
fn headers_of_an_unknown_model_affect_no_model() {
    let mut w = ten_each();
    granted(&mut w, &model("large"), 1);
    let unknown = granted(&mut w, &CallClass::default(), 1);
    let seen = Observation { limit: "requests".to_owned(), hard: Some(4), remaining: Some(0), ends_in: None };
    w.answered_with(unknown[0], seen);
    assert_eq!(granted(&mut w, &model("large"), 10).len(), 8);
}

#[test]
fn an_unknown_call_gets_its_turn_between_two_busy_models() {
    for limit in [sliding("requests", 10, 10), LimitConfig { burst: Some(2), ..limit("requests", 10, 10) }] {
        for pacing in [Pacing::TokenBucket, Pacing::LeakyBucket] {
            let mut w = World::new(vec![per_model(LimitConfig { pacing, ..limit.clone() })]);
            for _ in 0..30 {
                w.ask_as(1, "one", model("large"), None);
                w.pass(MS * 70);
                w.ask_as(2, "two", model("small"), None);
                w.ask_as(3, "three", CallClass::default(), None);
                w.grants().into_iter().for_each(|attempt| w.answered(attempt));
            }
            let mut unknown = 0;
            for _ in 0..100 {
                w.pass(MS * 200);
                for attempt in w.grants() {
                    unknown += u32::from(attempt.session == SessionId(3));
                    w.answered(attempt);
                }
                w.ask_as(1, "one", model("large"), None);
                w.ask_as(2, "two", model("small"), None);
            }
            assert!((7..=13).contains(&unknown), "{unknown} of about 20 are theirs: {pacing:?}");
        }
    }
}

#[test]
fn models_above_the_bound_share_one_counter() {
    let mut w = ten_each();
    for number in 0..1024 {
        granted(&mut w, &model(&format!("model-{number}")), 1);
    }
    assert_eq!(granted(&mut w, &model("one-too-many"), 6).len(), 6);
    assert_eq!(granted(&mut w, &model("two-too-many"), 6).len(), 4);
    let known = CallClass { endpoint: Some("batches".to_owned()), ..model("model-7") };
    assert_eq!(granted(&mut w, &known, 20).len(), 9, "a model keeps its count at another endpoint");
}

#[test]
fn a_limit_that_becomes_per_model_keeps_its_count() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    let before = granted(&mut w, &model("large"), 6);
    w.tell(Event::Configure(account(vec![per_model(sliding("requests", 10, 10))])));
    assert_eq!(granted(&mut w, &model("small"), 10).len(), 4, "all six may have been its own");
    before.into_iter().for_each(|attempt| w.answered(attempt));
    w.pass(SECOND * 10 + MS * 5);
    assert_eq!(w.grants().len(), 6);
}

/// The provider rejects a call and says whose limit its model shares.
fn rejected_as_sharing(w: &mut World, attempt: Attempt, limit: &str) {
    let rejection = Rejection {
        class: RejectionClass::Quota,
        scope: Scope::limit("requests"),
        shared_with: Some(limit.to_owned()),
        organization: None,
        wait: Some(SECOND),
        reason: String::new(),
    };
    w.tell(Event::Rejected { attempt, latest: w.now, observations: vec![], rejection, again: false });
}

fn limit_of(name: &str) -> Scope {
    Scope { model: Selector::from(name.to_owned()), ..Scope::limit("requests") }
}

#[test]
fn models_that_share_a_limit_draw_on_one_count_from_then_on() {
    let mut w = ten_each();
    granted(&mut w, &model("other"), 2);
    let latest = granted(&mut w, &model("latest"), 4);
    rejected_as_sharing(&mut w, latest[0], "m");
    w.tell(Event::Resume(limit_of("m")));
    assert_eq!(granted(&mut w, &model("m"), 2).len(), 2);
    assert_eq!(granted(&mut w, &model("m-2026-08-01"), 1).len(), 1);
    assert_eq!(granted(&mut w, &model("latest"), 2).len(), 2);
    assert_eq!(granted(&mut w, &model("m"), 9).len(), 1, "4 + 2 + 1 + 2 are used");
    assert_eq!(granted(&mut w, &model("other"), 9).len(), 8, "nobody has said that it shares");
    assert_eq!((waiting(&mut w, "latest"), waiting(&mut w, "m")), (8, 8));
}

#[test]
fn a_model_that_turns_out_to_share_brings_its_own_use_and_its_waiting_calls() {
    let mut w = ten_each();
    granted(&mut w, &model("m"), 7);
    let latest = granted(&mut w, &model("latest"), 12);
    assert_eq!(latest.len(), 10);
    rejected_as_sharing(&mut w, latest[0], "m");
    w.tell(Event::Resume(limit_of("m")));
    assert_eq!(granted(&mut w, &model("m"), 5).len(), 0, "latest has used up its own");
    assert_eq!((waiting(&mut w, "latest"), waiting(&mut w, "m")), (7, 7));
    latest.into_iter().skip(1).for_each(|attempt| w.answered(attempt));
    w.pass(SECOND * 14);
    assert_eq!(w.grants().len(), 7);
}

#[test]
fn a_rejection_of_one_model_pauses_those_that_share_its_limit() {
    let mut w = ten_each();
    let latest = granted(&mut w, &model("latest"), 1);
    rejected_as_sharing(&mut w, latest[0], "m");
    let paused = w.actions.iter().filter_map(|action| match action {
        Action::Paused { scope, .. } => Some(scope.to_string()),
        _ => None,
    });
    assert_eq!(paused.collect::<Vec<_>>(), ["limit requests, model m"], "one pause, under one name");
    w.tell(Event::Resume(limit_of("m")));
    let m = granted(&mut w, &model("m"), 1);
    // This time nobody says that they share.
    w.sent_back(m[0], Scope::limit("requests"), Some(SECOND * 3));
    assert_eq!(granted(&mut w, &model("latest"), 1).len(), 0);
    assert_eq!(granted(&mut w, &model("m-latest"), 1).len(), 0);
    assert_eq!(granted(&mut w, &model("other"), 1).len(), 1);
}

#[test]
fn a_restart_remembers_which_models_share_a_limit() {
    let mut w = ten_each();
    let latest = granted(&mut w, &model("latest"), 4);
    w.commit(20);
    rejected_as_sharing(&mut w, latest[0], "m");
    assert!(w.engine.commit_due(w.now).is_some_and(|due| due <= w.now), "what is learned is written at once");
    w.tell(Event::Resume(limit_of("m")));
    latest.into_iter().skip(1).for_each(|attempt| w.answered(attempt));
    let (snapshot, reserve) = w.commit(0);
    let mut w = World::with(Engine::restart(w.engine.config().clone(), snapshot, reserve, w.now), w.now);
    w.alive(1);
    w.tell(Event::ResumeDone(SessionId(1)));
    w.commit(20);
    assert_eq!(granted(&mut w, &model("m"), 9).len(), 6, "latest has used 4");
    assert_eq!(granted(&mut w, &model("m-2026-08-01"), 1).len(), 0);
    assert_eq!(granted(&mut w, &model("other"), 10).len(), 10);
}
