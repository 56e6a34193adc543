//! What one session can make an engine keep, say and refuse.

use quotakeeper_engine::config::{LimitConfig, Mode};
use quotakeeper_engine::event::{
    Attempt, CallClass, CallId, Callers, Event, Fingerprint, GrantProgress, RefusalReason, Rejection,
    RejectionClass, ResumedGrant, Scope, SessionId,
};

use crate::world::*;

const SESSION: SessionId = SessionId(1);

fn attempt(call: u64) -> Attempt {
    Attempt { session: SESSION, call: CallId(call), number: 1 }
}

fn named(endpoint: &str, model: &str) -> CallClass {
    CallClass { endpoint: Some(endpoint.to_owned()), model: Some(model.to_owned()), allocation: None }
}

/// A proxy says that a call, of which the engine knows nothing, was rejected.
fn claims(w: &mut World, call: u64, class: RejectionClass, scope: Scope, wait: std::time::Duration) {
    let attempt = attempt(call);
    w.tell(Event::ResumeGrant(ResumedGrant {
        attempt,
        consumer: "ns/Job/one".into(),
        credential: Default::default(),
        demand: CallClass::default().into(),
        granted: None,
        progress: GrantProgress::Granted,
        over: false,
    }));
    let rejection = Rejection {
        class,
        scope,
        shared_with: None,
        wait: Some(wait),
        reason: "r".to_owned(),
        organization: None,
    };
    w.tell(Event::Rejected { attempt, latest: w.now, observations: vec![], rejection, again: false });
}

#[test]
fn claimed_rejections_of_ever_new_scopes_are_few_pauses_and_few_tellings() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    for call in 0..20_000 {
        let scope = match call % 3 {
            0 => Scope::endpoint(format!("e{call}")),
            1 => Scope::model(format!("m{call}")),
            _ => Scope::limit(format!("l{call}")),
        };
        claims(&mut w, call, RejectionClass::Quota, scope, SECOND * 30);
    }
    assert!(w.engine.status(w.now).pauses.len() <= 65, "{}", w.engine.status(w.now).pauses.len());
    assert!(w.actions.len() <= 200, "{} tellings, each to all sessions", w.actions.len());
    w.alive(2);
    w.ask_as(2, "ns/Job/other", CallClass::default(), None);
    assert_eq!(w.grants().len(), 0, "what there was no room for pauses the account");
    w.pass(SECOND * 32);
    assert_eq!(w.grants().len(), 1, "and nobody for longer than was claimed");
}

#[test]
fn a_pause_that_is_prolonged_again_and_again_is_told_seldom() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    for call in 0..20_000 {
        claims(&mut w, call, RejectionClass::Quota, Scope::account(), SECOND * 20 + MS * call as u32);
    }
    assert!(w.actions.len() <= 200, "{}", w.actions.len());
}

#[test]
fn pauses_whose_time_has_come_make_room() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    for call in 0..64 {
        claims(&mut w, call, RejectionClass::Quota, Scope::endpoint(format!("e{call}")), SECOND);
    }
    w.pass(SECOND * 5);
    claims(&mut w, 64, RejectionClass::Quota, Scope::endpoint("search"), SECOND * 30);
    assert!(w.engine.status(w.now).pauses.iter().all(|pause| !pause.scope.is_account()));
    w.ask(1);
    assert_eq!(w.grants().len(), 1, "the account is not paused");
}

#[test]
fn concurrency_is_learned_of_few_scopes() {
    let mut w = World::new(vec![sliding("requests", 10_000, 10)]);
    w.ask(3);
    for call in 1000..3000 {
        claims(&mut w, call, RejectionClass::Concurrency, Scope::endpoint(format!("e{call}")), SECOND);
    }
    let learned = w.engine.snapshot(w.now).concurrency.len();
    assert!(learned <= 64, "{learned}");
}

#[test]
fn endpoints_and_models_without_end_share_lanes_but_not_those_that_limits_name() {
    let search = LimitConfig { endpoint: Some("search".to_owned()), ..sliding("search", 1, 1000) };
    let mut w = World::new(vec![sliding("requests", 1_000_000, 10), search]);
    let mut of_search = 0;
    for call in 0..30_000_u64 {
        w.ask_as(1, "job", named(&format!("e{call}"), &format!("m{}", call % 5000)), None);
        for attempt in w.grants() {
            w.answered(attempt);
        }
        if call % 10_000 == 9_999 {
            w.ask_as(1, "job", named("search", &format!("n{call}")), None);
            of_search += w.grants().len();
        }
    }
    assert!(w.engine.classes() <= 10_000, "{}", w.engine.classes());
    assert_eq!(of_search, 1, "its limit holds among all the others");
}

#[test]
fn a_workload_that_fills_the_queue_keeps_no_other_out() {
    let mut config = account(vec![sliding("requests", 1, 1)]);
    config.queue.max_calls = 100;
    let mut w = World::of(config);
    for _ in 0..200 {
        w.ask_as(1, "ns/Job/greedy", CallClass::default(), None);
    }
    assert!(w.refusals().iter().all(|(reason, _)| *reason == RefusalReason::QueueFull));
    let waiting = w.engine.status(w.now).waiting_calls();
    assert_eq!(waiting, 100, "it has all places");
    for _ in 0..10 {
        w.ask_as(2, "ns/Job/modest", CallClass::default(), None);
    }
    assert_eq!(w.refusals(), [], "the other has its share");
    for _ in 0..200 {
        w.ask_as(2, "ns/Job/modest", CallClass::default(), None);
        w.ask_as(1, "ns/Job/greedy", CallClass::default(), None);
    }
    assert_eq!(w.engine.status(w.now).waiting_calls(), 150, "and no more than that");
}

#[test]
fn calls_that_stand_aside_have_places_too() {
    let mut config = account(vec![sliding("requests", 1, 1000)]);
    config.queue.max_calls = 100;
    config.queue.max_wait = SECOND * 1_000_000;
    let mut w = World::of(config);
    // Nothing is heard of session 20 from then on: its calls stand aside.
    for _ in 0..101 {
        w.ask_as(20, "ns/Job/silent", CallClass::default(), None);
    }
    assert_eq!((w.grants().len(), w.refusals().len()), (1, 0));
    w.pass(SECOND * 5);
    for _ in 0..50 {
        w.ask_as(1, "ns/Job/silent", CallClass::default(), None);
    }
    assert_eq!(w.refusals().len(), 50, "no place is free");
}

#[test]
fn a_session_has_a_bounded_number_of_calls_even_where_none_waits() {
    let mut config = account(vec![sliding("requests", 1, 1)]);
    config.mode = Mode::Disabled;
    let mut w = World::of(config);
    w.ask(20_000);
    assert_eq!(w.grants().len(), 16_384);
    assert_eq!(w.refusals().len(), 20_000 - 16_384);
    w.ask_as(2, "ns/Job/other", CallClass::default(), None);
    assert_eq!(w.grants().len(), 1, "another session goes on");
}

/// Each is short enough to bind everyone on one workload's word; one after the other they would stop all for good.
#[test]
fn pauses_that_one_workload_claims_one_after_the_other_soon_bind_it_alone() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    let mut answered = 0;
    for second in 0..1200 {
        w.alive(1);
        claims(&mut w, 1_000_000 + second, RejectionClass::Quota, Scope::account(), SECOND * 59);
        if w.engine.status(w.now).waiting_calls() < 20 {
            for _ in 0..10 {
                w.ask_as(2, "ns/Job/honest", CallClass::default(), None);
            }
        }
        w.pass(SECOND);
        for attempt in w.grants() {
            w.answered(attempt);
            answered += 1;
        }
    }
    assert!(answered >= 800, "{answered} of about 1,200 less four minutes");
}

#[test]
fn another_workloads_rejection_lets_one_pause_everyone_again() {
    let mut w = World::new(vec![sliding("requests", 1000, 10)]);
    let pauses_all = |w: &mut World, session: u64| {
        w.ask_as(session, &format!("ns/Job/{session}"), CallClass::default(), None);
        let granted = w.grants();
        w.rejected(granted[0], RejectionClass::Quota, Some(SECOND * 5));
        let all = w.engine.status(w.now).pauses.iter().any(|pause| pause.callers == Callers::All);
        w.ask_as(3, "ns/Job/3", CallClass::default(), None);
        w.pass(SECOND * 40);
        for attempt in w.grants() {
            w.answered(attempt);
        }
        w.pass(SECOND * 40);
        all
    };
    assert_eq!([1, 1, 1, 2, 1, 1].map(|session| pauses_all(&mut w, session)), [true; 6]);
}

/// Proxies tell the fingerprints of credentials: a pod can make up as many as it likes.
#[test]
fn credentials_that_one_workload_makes_up_stop_no_other() {
    let mut w = World::new(vec![sliding("requests", 1000, 10)]);
    w.ask_with(2, "ns/Job/honest", CallClass::default().into(), Fingerprint(7), None);
    let honest = w.grants()[0];
    for credential in 100..110 {
        for _ in 0..2 {
            w.ask_with(1, "ns/Job/one", CallClass::default().into(), Fingerprint(credential), None);
            let granted = w.grants();
            granted.iter().for_each(|attempt| w.rejected(*attempt, RejectionClass::Terminal, None));
        }
    }
    let all = w.engine.status(w.now).pauses.into_iter().find(|pause| pause.callers == Callers::All);
    assert!(all.is_none(), "{all:?}");
    w.rejected(honest, RejectionClass::Terminal, None);
    w.ask_with(2, "ns/Job/honest", CallClass::default().into(), Fingerprint(7), None);
    let again = w.grants();
    again.iter().for_each(|attempt| w.rejected(*attempt, RejectionClass::Terminal, None));
    assert!(
        w.engine.status(w.now).pauses.iter().any(|pause| pause.callers == Callers::All),
        "another workload has heard it too"
    );
}
