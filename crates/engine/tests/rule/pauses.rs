//! A rejection pauses every call of its scope at once, and the pause resumes by itself.

use quotakeeper_engine::config::LimitConfig;
use quotakeeper_engine::cost::Demand;
use quotakeeper_engine::event::{
    Action, Attempt, CallClass, Event, Fingerprint, GrantProgress, RefusalReason, Rejection, RejectionClass,
    ResumedGrant, Scope,
};

use crate::world::*;

#[test]
fn a_rejection_pauses_all_grants_and_its_call_is_retried_first() {
    let mut w = World::new(vec![limit("requests", 100, 10)]);
    w.ask(30);
    let attempt = w.grants()[0];
    w.sent_back(attempt, Scope::account(), Some(SECOND * 8));
    w.grants();
    w.pass(SECOND * 8);
    assert_eq!(w.grants().len(), 0);
    w.pass(MS * 10);
    let probe = w.grants();
    assert_eq!(probe.len(), 1, "one probe");
    assert_eq!((probe[0].call, probe[0].number), (attempt.call, 2), "the call that was sent back");
    w.answered(probe[0]);
    assert!(w.actions.iter().any(|action| matches!(action, Action::Resumed { .. })));
    let ramp = w.grants().len();
    assert!((1..=3).contains(&ramp), "not a stampede: {ramp}");
}

#[test]
fn a_second_rejection_pauses_again() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(1);
    for _ in 0..5 {
        let attempt = w.grants()[0];
        w.sent_back(attempt, Scope::account(), Some(SECOND));
        w.pass(SECOND + MS * 10);
    }
    let attempt = w.grants()[0];
    assert_eq!(attempt.number, 6);
    w.answered(attempt);
    assert!(w.refusals().is_empty());
}

#[test]
fn retry_after_runs_from_the_response() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    let answered = w.now;
    w.pass(SECOND * 3);
    let rejection = Rejection {
        shared_with: None,
        organization: None,
        class: RejectionClass::Quota,
        scope: Scope::account(),
        wait: Some(SECOND * 8),
        reason: String::new(),
    };
    let (observations, again) = (vec![], true);
    w.tell(Event::Rejected { attempt, latest: answered, observations, rejection, again });
    w.pass(SECOND * 5 - MS);
    assert_eq!(w.grants().len(), 0);
    w.pass(MS * 10);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_pause_of_one_limit_does_not_affect_other_endpoints() {
    let search = LimitConfig { endpoint: Some("search".to_owned()), ..sliding("search", 5, 1) };
    let mut w = World::new(vec![sliding("requests", 100, 10), search]);
    w.ask_as(1, "job", endpoint("search"), None);
    let attempt = w.grants()[0];
    w.sent_back(attempt, Scope::limit("search"), Some(SECOND * 30));
    w.ask(1);
    assert_eq!(w.grants().len(), 1);
    w.ask_as(1, "job", endpoint("search"), None);
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn a_rejection_of_an_unknown_limit_pauses_the_account() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    w.sent_back(attempt, Scope::limit("secret"), Some(SECOND * 30));
    w.ask(1);
    assert_eq!(w.grants().len(), 0);
}

fn refused(w: &mut World, attempt: Attempt) {
    let rejection = Rejection {
        shared_with: None,
        organization: None,
        class: RejectionClass::Terminal,
        scope: Scope::account(),
        wait: None,
        reason: "insufficient_quota".to_owned(),
    };
    w.tell(Event::Rejected { attempt, latest: w.now, observations: vec![], rejection, again: false });
}

#[test]
fn a_provider_that_stops_is_asked_once_more_and_then_calls_are_refused_at_once() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    refused(&mut w, attempt);
    w.ask(3);
    let asks_again = w.grants();
    assert_eq!((asks_again.len(), w.refusals().len()), (1, 0), "the others are held");
    refused(&mut w, asks_again[0]);
    let words = |action: &Action| matches!(action, Action::Refuse { words: Some(words), .. } if words == "insufficient_quota");
    assert!(w.actions.iter().any(words), "in the provider's words");
    assert_eq!(w.refusals(), [(RefusalReason::ProviderStopped, None); 2], "those that wait");
    w.ask(1);
    assert_eq!(w.refusals().len(), 1, "and those that come");
    w.pass(SECOND * 61);
    w.ask(2);
    assert_eq!(w.grants().len(), 1, "after a minute one asks again");
    assert_eq!(w.refusals().len(), 0);
}

#[test]
fn one_refusal_that_does_not_repeat_stops_nobody() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    refused(&mut w, attempt);
    w.ask(20);
    let asks_again = w.grants();
    w.answered(asks_again[0]);
    while let Some(attempt) = w.grants().first() {
        w.answered(*attempt);
    }
    w.pass(SECOND * 10);
    w.grants();
    assert!(w.refusals().is_empty());
}

#[test]
fn a_manual_pause_ends_manually() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.tell(Event::Pause { scope: Scope::account(), length: SECOND * 300 });
    w.ask(4);
    w.pass(SECOND * 60);
    assert_eq!(w.grants().len(), 0);
    w.tell(Event::Resume(Scope::account()));
    assert_eq!(w.grants().len(), 4);
}

#[test]
fn a_call_past_its_deadline_is_not_retried() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask_as(1, "job", CallClass::default(), Some(SECOND * 5));
    let attempt = w.grants()[0];
    w.pass(SECOND * 4);
    w.sent_back(attempt, Scope::account(), Some(SECOND * 8));
    assert_eq!(w.refusals()[0].0, RefusalReason::WaitExceeded);
}

#[test]
fn the_ramp_grows_until_it_no_longer_limits() {
    let mut w = World::new(vec![sliding("requests", 1000, 10)]);
    w.ask(500);
    let granted = w.grants();
    w.ask(500);
    w.grants();
    for attempt in &granted[1..] {
        w.answered(*attempt);
    }
    w.sent_back(granted[0], Scope::account(), Some(SECOND));
    w.ask(400);
    w.pass(SECOND * 12);
    let mut widths = Vec::new();
    for _ in 0..8 {
        let grants = w.grants();
        widths.push(grants.len());
        grants.into_iter().for_each(|attempt| w.answered(attempt));
        w.pass(MS);
    }
    assert_eq!(widths[0], 1);
    assert!(widths.iter().sum::<usize>() > 300, "{widths:?}");
}

#[test]
fn a_response_reported_in_a_hello_ends_the_probe() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(30);
    let attempt = w.grants()[0];
    w.sent_back(attempt, Scope::account(), Some(SECOND));
    w.grants();
    w.pass(SECOND + MS * 10);
    let probe = w.grants()[0];
    let (consumer, demand, granted) = ("job".into(), Demand::default(), Some(w.now));
    w.tell(Event::ResumeGrant(ResumedGrant {
        attempt: probe,
        consumer,
        demand,
        credential: Fingerprint(0),
        granted,
        progress: GrantProgress::Answered { latest: w.now },
        over: false,
    }));
    assert!(w.actions.iter().any(|action| matches!(action, Action::Resumed { .. })));
    w.ask(10);
    let ramp = w.grants().len();
    assert!((1..=3).contains(&ramp), "the ramp has begun: {ramp}");
}

#[test]
fn a_rejection_repeated_in_a_hello_starts_no_second_probe() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(30);
    let (attempt, decided) = (w.grants()[0], w.now);
    w.pass(MS * 20);
    let rejection = Rejection {
        shared_with: None,
        organization: None,
        class: RejectionClass::Quota,
        scope: Scope::account(),
        wait: Some(SECOND),
        reason: String::new(),
    };
    let (latest, observations, again) = (w.now, vec![], false);
    let rejected = Event::Rejected { attempt, latest, observations, rejection, again };
    w.tell(rejected.clone());
    w.ask(10);
    w.grants();
    w.pass(SECOND + MS * 10);
    assert_eq!(w.grants().len(), 1, "the probe");
    let (consumer, demand, granted) = ("job".into(), Demand::default(), Some(decided));
    w.tell(Event::ResumeGrant(ResumedGrant {
        attempt,
        consumer,
        demand,
        credential: Fingerprint(0),
        granted,
        progress: GrantProgress::Granted,
        over: false,
    }));
    w.tell(rejected);
    w.pass(MS);
    assert_eq!(w.grants().len(), 0, "it is old news");
}

#[test]
fn a_pause_of_a_limit_that_counts_models_apart_holds_the_rejected_model_alone() {
    let per_model = LimitConfig { per_model: true, ..sliding("requests", 100, 10) };
    let mut w = World::new(vec![per_model]);
    w.ask_as(1, "job", model("gpt-4o"), None);
    let attempt = w.grants()[0];
    // As a proxy says it that knows of no partitions.
    w.sent_back(attempt, Scope::limit("requests"), Some(SECOND * 30));
    let paused = w.actions.iter().find_map(|action| match action {
        Action::Paused { scope, .. } => Some(scope.to_string()),
        _ => None,
    });
    assert_eq!(paused.as_deref(), Some("limit requests, model gpt-4o"));
    w.ask_as(1, "job", model("gpt-4o-mini"), None);
    assert_eq!(w.grants().len(), 1, "the provider counts it elsewhere");
    w.ask_as(1, "job", model("gpt-4o"), None);
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn a_limit_that_is_not_enforced_pauses_its_own_partition() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask_as(1, "job", model("gpt-4o"), None);
    let attempt = w.grants()[0];
    w.sent_back(attempt, Scope::limit("tokens").of_model_of(&model("gpt-4o")), Some(SECOND * 30));
    w.ask_as(1, "job", model("gpt-4o-mini"), None);
    w.ask(1);
    assert_eq!(w.grants().len(), 2);
    w.ask_as(1, "job", model("gpt-4o"), None);
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn a_pause_of_a_limit_that_goes_ends_and_one_of_a_limit_that_never_was_enforced_stays() {
    for (limit, granted) in [("requests", 1), ("tokens", 0)] {
        let mut w = World::new(vec![sliding("requests", 100, 10)]);
        w.ask_as(1, "job", model("gpt-4o"), None);
        let attempt = w.grants()[0];
        w.tell(over(attempt));
        w.ask_as(1, "job", model("gpt-4o"), None);
        let attempt = w.grants()[0];
        w.sent_back(attempt, Scope::limit(limit).of_model_of(&model("gpt-4o")), Some(SECOND * 30));
        w.tell(Event::Configure(account(vec![sliding("other", 100, 20)])));
        w.pass(SECOND * 11);
        assert_eq!(w.grants().len(), granted, "{limit}");
    }
}

#[test]
fn a_rejected_call_that_cannot_make_it_is_refused_at_once() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask_as(1, "job", CallClass::default(), Some(SECOND * 100));
    let attempt = w.grants()[0];
    w.sent_back(attempt, Scope::account(), Some(SECOND * 250));
    let refusals = w.refusals();
    assert!(
        matches!(refusals[..], [(RefusalReason::WaitTooLong, Some(wait))] if wait >= SECOND * 250),
        "{refusals:?}"
    );
    // One that has the time waits.
    w.tell(Event::Resume(Scope::account()));
    w.ask_as(1, "job", CallClass::default(), Some(SECOND * 500));
    let attempt = w.grants()[0];
    w.sent_back(attempt, Scope::account(), Some(SECOND * 250));
    assert_eq!(w.refusals(), []);
    w.pass(SECOND * 251);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_pause_covers_the_model_whose_limit_is_shared() {
    let mut w = World::new(vec![LimitConfig { per_model: true, ..sliding("requests", 100, 10) }]);
    w.ask_as(1, "job", model("m-latest"), None);
    let attempt = w.grants()[0];
    let rejection = Rejection {
        class: RejectionClass::Quota,
        scope: Scope::limit("requests"),
        shared_with: Some("m".to_owned()),
        organization: None,
        wait: Some(SECOND * 3),
        reason: String::new(),
    };
    w.tell(Event::Rejected { attempt, latest: w.now, observations: vec![], rejection, again: true });
    w.ask_as(1, "job", model("m"), None);
    assert_eq!(w.grants().len(), 0);
    w.ask_as(1, "job", model("other"), None);
    assert_eq!(w.grants().len(), 1);
    w.pass(SECOND * 3 + MS * 10);
    let probe = w.grants();
    assert_eq!(probe.len(), 1, "one call asks for both");
    w.answered(probe[0]);
    w.pass(SECOND);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn rejections_are_counted_by_class() {
    let mut w = World::new(vec![sliding("requests", 1000, 10)]);
    w.ask(5);
    let classes = [
        RejectionClass::Quota,
        RejectionClass::Concurrency,
        RejectionClass::Capacity,
        RejectionClass::Capacity,
        RejectionClass::Terminal,
    ];
    for (attempt, class) in w.grants().into_iter().zip(classes) {
        w.rejected(attempt, class, None);
    }
    let totals = w.engine.totals();
    assert_eq!((totals.rejected, totals.rejected_for_concurrency), (2, 1));
    assert_eq!((totals.rejected_for_capacity, totals.rejected_terminally), (2, 1));
}
