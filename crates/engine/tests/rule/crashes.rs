//! A crash costs capacity, never correctness.

use quotakeeper_engine::Engine;
use quotakeeper_engine::config::LimitConfig;
use quotakeeper_engine::cost::{Amount, Demand};
use quotakeeper_engine::event::{
    Attempt, CallClass, CallId, Event, Fingerprint, GrantProgress, Observation, ResumedGrant, SessionId,
};
use quotakeeper_engine::time::Time;

use crate::world::*;

#[test]
fn grants_stay_within_the_precharge() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    w.commit(3);
    w.ask(10);
    assert_eq!(w.grants().len(), 3);
    w.pass(MS * 101);
    w.commit(3);
    w.ask(0);
    assert_eq!(w.grants().len(), 3);
    w.pass(MS * 101);
    assert_eq!(w.grants().len(), 0, "not beyond the horizon");
}

#[test]
fn the_ledger_is_committed_while_calls_wait_and_once_after() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    assert_eq!(w.engine.commit_due(w.now), None, "without a ledger there is nothing to write");
    w.alive(1);
    let (begun, _) = (w.now, w.commit(3));
    assert_eq!(w.engine.commit_due(w.now), None, "nothing has changed");
    w.ask(2);
    assert_eq!(w.engine.commit_due(w.now), Some(begun + MS * 100), "two grants are only reserved yet");
    w.ask(2);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now), "a call waits for nothing but the ledger");
    w.commit(50);
    assert_eq!(w.grants().len(), 4);
    w.ask_as(2, "job", CallClass::default(), None);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now), "the ledger does not know session 2");
    w.commit(50);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now + MS * 100));
    w.pass(MS * 101);
    w.commit(50);
    assert_eq!(w.engine.commit_due(w.now), None, "and now it is quiet");
}

#[test]
fn a_session_gets_no_grant_before_it_is_in_the_ledger() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    w.commit(50);
    w.ask_as(2, "job", CallClass::default(), None);
    assert_eq!(w.grants().len(), 0);
    w.commit(50);
    assert_eq!(w.grants().len(), 1);
}

/// The horizon became longer when the disk was slow and is short again. The commit under way is on the
/// disk already when the process dies without having learned of it.
#[test]
fn a_record_covers_all_grants_after_it_when_the_horizon_becomes_shorter() {
    let config = || vec![limit("requests", 600, 60)];
    let mut w = World::new(config());
    w.alive(1);
    w.commit(600);
    let reserve = w.engine.reserve(w.now, MS * 900);
    w.engine.snapshot(w.now);
    w.tell(Event::Committed(reserve));
    w.pass(MS * 450);

    let reserve = w.engine.reserve(w.now, MS * 100);
    let snapshot = w.engine.snapshot(w.now);
    let mut granted = 0;
    w.ask(100);
    for _ in 0..50 {
        let grants = w.grants();
        granted += grants.len() as u64;
        assert!(grants.is_empty() || w.now <= reserve.horizon, "granted after the horizon of the record");
        grants.into_iter().for_each(|attempt| w.answered(attempt));
        w.pass(MS * 10);
    }
    assert!(granted > 0, "calls need not wait for the disk");
    assert!(Amount(granted) <= reserve.of("requests"), "{granted} granted, reserved: {reserve:?}");

    let engine = Engine::restart(account(config()), snapshot, reserve, w.now);
    assert!(World::with(engine, w.now).used("requests") >= granted);
}

#[test]
fn a_horizon_that_became_shorter_is_reached_after_a_few_commits() {
    let mut w = World::new(vec![limit("requests", 600, 60)]);
    w.alive(1);
    let mut horizons = Vec::new();
    for wanted in [900, 100, 100, 100, 100] {
        let reserve = w.engine.reserve(w.now, MS * wanted);
        w.engine.snapshot(w.now);
        let length = reserve.horizon.since(reserve.as_of);
        horizons.push(length.as_millis());
        w.tell(Event::Committed(reserve));
        w.pass(length / 2);
    }
    assert_eq!(horizons, [900, 450, 225, 112, 100]);
}

/// What a large call waited for is charged ahead once; the call is gone when it could be granted.
#[test]
fn what_was_charged_ahead_for_a_call_that_is_gone_is_not_granted_beyond_the_next_record() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    w.commit(1);
    let large = w.ask_for(1, "job", requests(60), None);
    let reserve = w.engine.reserve(w.now, MS * 100);
    assert_eq!(reserve.of("requests"), Amount(60));
    w.engine.snapshot(w.now);
    w.tell(Event::Cancel { session: SessionId(1), call: large });
    w.tell(Event::Committed(reserve));

    let reserve = w.engine.reserve(w.now, MS * 100);
    w.engine.snapshot(w.now);
    w.ask(100);
    let granted = w.grants().len() as u64;
    assert!(granted > 0 && Amount(granted) <= reserve.of("requests"), "{granted} granted: {reserve:?}");
}

/// 100 in 10 s; 20 granted and answered before the commit, 30 of the reserve after it; then the
/// process dies.
fn killed() -> (World, Vec<Attempt>) {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    w.commit(20);
    w.ask(20);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    let (snapshot, reserve) = w.commit(30);
    w.ask(40);
    let lost = w.grants();
    assert_eq!(lost.len(), 30);
    w.pass(SECOND / 2);
    let engine = Engine::restart(account(vec![sliding("requests", 100, 10)]), snapshot, reserve, w.now);
    (World::with(engine, w.now), lost)
}

#[test]
fn a_restart_restores_charges_and_holds_the_reserve() {
    let (mut w, _) = killed();
    assert_eq!(w.used("requests"), 50);
    w.alive(1);
    w.commit(100);
    w.ask(100);
    assert_eq!(w.grants().len(), 50);
}

#[test]
fn a_restart_grants_nothing_before_its_own_reserve_is_committed() {
    let (mut w, _) = killed();
    w.ask(1);
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn returning_proxies_release_the_unused_reserve() {
    let (mut w, lost) = killed();
    w.alive(1);
    for attempt in &lost[..5] {
        let (granted, progress) = (Some(w.now), GrantProgress::Answered { latest: w.now });
        let (consumer, demand) = ("job".into(), Demand::default());
        w.tell(Event::ResumeGrant(ResumedGrant {
            attempt: *attempt,
            consumer,
            demand,
            credential: Fingerprint(0),
            granted,
            progress,
            over: false,
        }));
    }
    w.tell(Event::ResumeDone(SessionId(1)));
    assert_eq!(w.used("requests"), 25, "twenty of before, five of the reserve");
}

#[test]
fn calls_in_the_ledger_do_not_consume_the_reserve() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    w.commit(20);
    w.ask(20);
    let known = w.grants();
    known.iter().for_each(|attempt| w.answered(*attempt));
    let decided = w.now;
    w.pass(SECOND);
    // Another session is awaited too: until it has spoken the reserve is needed.
    w.alive(2);
    let (snapshot, reserve) = w.commit(30);
    let engine = Engine::restart(account(vec![sliding("requests", 100, 10)]), snapshot, reserve, w.now);
    let mut w = World::with(engine, w.now);
    for attempt in known {
        let (consumer, demand) = ("job".into(), Demand::default());
        let (granted, progress) = (Some(decided), GrantProgress::Answered { latest: decided });
        w.tell(Event::ResumeGrant(ResumedGrant {
            attempt,
            consumer,
            demand,
            credential: Fingerprint(0),
            granted,
            progress,
            over: false,
        }));
        w.tell(over(attempt));
    }
    w.tell(Event::ResumeDone(SessionId(1)));
    w.pass(SECOND * 9 + MS * 10);
    assert_eq!(w.used("requests"), 30, "the twenty have left, the reserve has not");
}

#[test]
fn calls_in_the_ledger_do_not_consume_slots_held_for_others() {
    let limits = || vec![concurrent("parallel", 4)];
    let mut w = World::new(limits());
    w.alive(1);
    w.alive(2);
    w.commit(1);
    w.ask(1);
    let known = w.grants()[0];
    let decided = w.now;
    w.tell(over(known));
    w.pass(MS);
    // Three slots may have been given to the other session since.
    let (snapshot, reserve) = w.commit(3);
    let engine = Engine::restart(account(limits()), snapshot, reserve, w.now);
    let mut w = World::with(engine, w.now);
    let (consumer, demand) = ("job".into(), Demand::default());
    let (granted, progress) = (Some(decided), GrantProgress::Answered { latest: decided });
    w.tell(Event::ResumeGrant(ResumedGrant {
        attempt: known,
        consumer,
        demand,
        credential: Fingerprint(0),
        granted,
        progress,
        over: false,
    }));
    w.tell(over(known));
    w.tell(Event::ResumeDone(SessionId(1)));
    w.alive(1);
    w.commit(10);
    w.ask(10);
    assert_eq!(w.grants().len(), 1, "one of four is free for sure");
}

#[test]
fn a_call_from_before_the_restart_ends_normally() {
    let (mut w, lost) = killed();
    w.alive(1);
    let (consumer, demand) = ("job".into(), Demand::default());
    let (granted, progress) = (Some(w.now), GrantProgress::Sent { latest: w.now });
    w.tell(Event::ResumeGrant(ResumedGrant {
        attempt: lost[0],
        consumer,
        demand,
        credential: Fingerprint(0),
        granted,
        progress,
        over: false,
    }));
    w.tell(Event::ResumeDone(SessionId(1)));
    assert_eq!(w.engine.status(w.now).under_way, 1);
    w.answered(lost[0]);
    assert_eq!(w.engine.status(w.now).under_way, 0);
    assert_eq!(w.used("requests"), 21);
}

#[test]
fn an_unchanged_limit_keeps_its_count_and_a_new_one_starts_unknown() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    w.commit(100);
    w.ask(60);
    let (snapshot, reserve) = w.commit(0);
    let limits = vec![sliding("requests", 100, 10), sliding("daily", 1000, 100)];
    let engine = Engine::restart(account(limits), snapshot, reserve, w.now);
    let mut w = World::with(engine, w.now);
    assert_eq!(w.used("requests"), 60);
    assert_eq!(w.used("daily"), 999);
}

#[test]
fn a_takeover_without_the_ledger_waits_for_the_predecessors_calls() {
    let config = account(vec![LimitConfig { burst: Some(5), ..limit("requests", 100, 10) }]);
    let start = quotakeeper_engine::time::Time(1_000_000_000_000);
    let mut w = World::with(Engine::takeover(config, predecessor(start), start), start);
    w.ask(200);
    w.pass(SECOND * 2 + MS * 290);
    assert_eq!(w.grants().len(), 0, "D + J");
    let mut total = 0;
    for _ in 0..100 {
        w.pass(MS * 100);
        let grants = w.grants();
        total += grants.len();
        grants.into_iter().for_each(|attempt| w.answered(attempt));
    }
    assert!((85..=100).contains(&total), "the rate goes on, not a window later: {total}");
}

/// An account that comes some time after a limiter took over without the ledger.
#[test]
fn a_later_account_waits_only_for_windows_that_its_predecessor_can_have_used() {
    let limits = vec![sliding("minute", 10, 60), sliding("quarter", 1000, 900)];
    let since = Time(90_000_000_000_000);
    let opened = since + SECOND * 120;
    let mut w = World::with(Engine::takeover(account(limits), predecessor(since), opened), opened);
    let status = w.engine.status(w.now);
    assert_eq!(status.limits[0].assumed, 9, "the minute is over: one call asks the provider");
    assert!(status.limits[1].assumed > 800, "the quarter is not: {}", status.limits[1].assumed);
    w.pass(SECOND * 700);
    w.ask(1);
    assert_eq!(w.grants().len(), 0);
    w.pass(SECOND * 100);
    assert_eq!(w.grants().len(), 1);
}

/// A day without calls would be the price of a lost ledger otherwise.
#[test]
fn after_a_takeover_one_call_probes_a_long_window() {
    let day = account(vec![sliding("requests", 250_000, 86_400)]);
    let start = Time(90_000_000_000_000);
    let mut w = World::with(Engine::takeover(day, predecessor(start), start), start);
    w.ask(50);
    w.pass(SECOND * 2 + MS * 290);
    assert_eq!(w.grants().len(), 0, "the predecessor's calls arrive first");
    w.pass(SECOND * 20);
    let probes = w.grants();
    assert_eq!(probes.len(), 1);
    let seen =
        Observation { limit: "requests".to_owned(), hard: Some(250_000), remaining: Some(20), ends_in: None };
    w.answered_with(probes[0], seen);
    // The probe itself may be of the past that the provider tells of, or not.
    assert_eq!(w.grants().len(), 19, "as many as the provider says are left");
}

#[test]
fn a_reconnect_does_not_affect_calls_in_flight() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask(2);
    let grants = w.grants();
    w.tell(Event::Disconnected(SessionId(1)));
    w.alive(1);
    let (consumer, demand) = ("job".into(), Demand::default());
    let (granted, progress) = (Some(w.now), GrantProgress::Sent { latest: w.now });
    w.tell(Event::ResumeGrant(ResumedGrant {
        attempt: grants[0],
        consumer,
        demand,
        credential: Fingerprint(0),
        granted,
        progress,
        over: false,
    }));
    w.tell(Event::ResumeDone(SessionId(1)));
    assert_eq!((w.used("requests"), w.engine.status(w.now).under_way), (2, 1), "the other one is over");
}

#[test]
fn asking_again_for_a_granted_call_means_its_grant_was_lost() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask(1);
    let lost = w.grants()[0];
    w.tell(Event::Ask(quotakeeper_engine::event::Ask {
        session: SessionId(1),
        call: CallId(1),
        consumer: "job".into(),
        demand: Demand::default(),
        credential: Default::default(),
        patience: None,
        waited: SECOND,
        attempts: 0,
    }));
    let again = w.grants()[0];
    assert_eq!((again.number, w.used("requests")), (lost.number + 1, 1));
}

#[test]
fn a_pause_survives_a_restart() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    w.sent_back(attempt, quotakeeper_engine::event::Scope::account(), Some(SECOND * 60));
    let (snapshot, reserve) = w.commit(5);
    let engine = Engine::restart(account(vec![sliding("requests", 10, 10)]), snapshot, reserve, w.now);
    let mut w = World::with(engine, w.now);
    w.alive(1);
    w.tell(Event::ResumeDone(SessionId(1)));
    w.commit(5);
    w.ask(1);
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn assumptions_about_a_predecessor_are_committed() {
    let config = || account(vec![sliding("requests", 100, 10)]);
    let start = quotakeeper_engine::time::Time(1_000_000_000_000);
    let mut w = World::with(Engine::takeover(config(), predecessor(start), start), start);
    w.pass(SECOND);
    w.alive(1);
    let (snapshot, reserve) = w.commit(0);
    let mut w = World::with(Engine::restart(config(), snapshot, reserve, w.now), w.now);
    assert_eq!(w.used("requests"), 100, "in flight");
    w.pass(SECOND * 10);
    assert_eq!(w.used("requests"), 100, "in the log");
    w.alive(1);
    let (snapshot, reserve) = w.commit(0);
    let mut w = World::with(Engine::restart(config(), snapshot, reserve, w.now), w.now);
    assert_eq!(w.used("requests"), 100);
    w.pass(SECOND + MS * 320);
    assert_eq!(w.used("requests"), 0);
}

/// A restart from what was taken for used before would wait for the whole window.
#[test]
fn usage_learned_from_headers_is_committed_at_once() {
    let config = account(vec![sliding("requests", 100, 3600)]);
    let start = Time(3_600_000_000_000);
    let mut w = World::with(Engine::after_unknown_past(config, start), start);
    w.alive(1);
    w.commit(100);
    w.ask(1);
    let probe = w.grants()[0];
    let seen =
        Observation { limit: "requests".to_owned(), hard: Some(100), remaining: Some(99), ends_in: None };
    w.answered_with(probe, seen);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now));
    w.commit(100);
    assert_ne!(w.engine.commit_due(w.now), Some(w.now));
}

/// Otherwise each restart would hold the reserves of all before it as calls.
#[test]
fn a_released_reserve_is_committed_at_once() {
    let (mut w, _) = killed();
    w.alive(1);
    w.commit(0);
    assert_eq!((w.used("requests"), w.engine.commit_due(w.now)), (50, None));
    w.tell(Event::ResumeDone(SessionId(1)));
    assert_eq!((w.used("requests"), w.engine.commit_due(w.now)), (20, Some(w.now)));
}

/// 100 a day, of which 40 are used and some more may have been granted; then a limiter starts with other names.
#[test]
fn a_restart_with_other_names_of_the_limits_opens_nothing() {
    let day = 86_400;
    let mut w = World::new(vec![sliding("daily", 100, day), sliding("rate", 50, 10)]);
    w.alive(1);
    w.commit(50);
    w.ask(40);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    let (snapshot, reserve) = w.commit(10);
    w.pass(60 * SECOND);
    for names in [["daily", "rate"], ["per-day", "rate"], ["per-day", "a-rate"]] {
        let limits = vec![sliding(names[0], 100, day), sliding(names[1], 50, 10)];
        let mut w =
            World::with(Engine::restart(account(limits), snapshot.clone(), reserve.clone(), w.now), w.now);
        assert_eq!(w.used(names[0]), 50, "{names:?}");
        assert_eq!(w.used(names[1]), 0, "{names:?}: its window has passed");
    }
}
