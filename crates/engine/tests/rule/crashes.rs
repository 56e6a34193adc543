//! A crash costs capacity, never correctness.

use std::time::Duration;

use quotakeeper_engine::config::LimitConfig;
use quotakeeper_engine::cost::{Amount, Demand};
use quotakeeper_engine::event::{
    Attempt, CallClass, CallId, Event, GrantProgress, Observation, Reserve, ResumedGrant, SessionId,
};
use quotakeeper_engine::time::Time;
use quotakeeper_engine::{Engine, Snapshot};

use crate::world::*;

fn commit(w: &mut World, each: u64) -> (Snapshot, Reserve) {
    w.commit(each)
}

/// As a limiter does: with what the time before may have been granted.
fn commit_ahead(w: &mut World, each: u64) -> (Snapshot, Reserve) {
    let unreconciled = w.engine.reserve(w.now, Duration::ZERO);
    w.commit_beyond(unreconciled, each)
}

#[test]
fn grants_stay_within_the_precharge() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    commit(&mut w, 3);
    w.ask(10);
    assert_eq!(w.grants().len(), 3);
    w.pass(MS * 101);
    commit(&mut w, 3);
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
    let (begun, _) = (w.now, commit(&mut w, 3));
    assert_eq!(w.engine.commit_due(w.now), None, "nothing has changed");
    w.ask(2);
    assert_eq!(w.engine.commit_due(w.now), Some(begun + MS * 100), "two grants are only reserved yet");
    w.ask(2);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now), "a call waits for nothing but the ledger");
    commit(&mut w, 50);
    assert_eq!(w.grants().len(), 4);
    w.ask_as(2, "job", CallClass::default(), None);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now), "the ledger does not know session 2");
    commit(&mut w, 50);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now + MS * 100));
    w.pass(MS * 101);
    commit(&mut w, 50);
    assert_eq!(w.engine.commit_due(w.now), None, "and now it is quiet");
}

#[test]
fn a_session_gets_no_grant_before_it_is_in_the_ledger() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    commit(&mut w, 50);
    w.ask_as(2, "job", CallClass::default(), None);
    assert_eq!(w.grants().len(), 0);
    commit(&mut w, 50);
    assert_eq!(w.grants().len(), 1);
}

/// 100 in 10 s; 20 granted and answered before the commit, 30 of the reserve after it; then the
/// process dies.
fn killed() -> (World, Vec<Attempt>) {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    commit(&mut w, 20);
    w.ask(20);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    let (snapshot, reserve) = commit(&mut w, 30);
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
    commit(&mut w, 100);
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
        let (consumer, demand) = ("job".to_owned(), Demand::default());
        w.tell(Event::ResumeGrant(ResumedGrant { attempt: *attempt, consumer, demand, granted, progress }));
    }
    w.tell(Event::ResumeDone(SessionId(1)));
    assert_eq!(w.used("requests"), 25, "twenty of before, five of the reserve");
}

#[test]
fn calls_in_the_ledger_do_not_consume_the_reserve() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    commit(&mut w, 20);
    w.ask(20);
    let known = w.grants();
    known.iter().for_each(|attempt| w.answered(*attempt));
    let decided = w.now;
    w.pass(SECOND);
    // Another session is awaited too: until it has spoken the reserve is needed.
    w.alive(2);
    let (snapshot, reserve) = commit(&mut w, 30);
    let engine = Engine::restart(account(vec![sliding("requests", 100, 10)]), snapshot, reserve, w.now);
    let mut w = World::with(engine, w.now);
    for attempt in known {
        let (consumer, demand) = ("job".to_owned(), Demand::default());
        let (granted, progress) = (Some(decided), GrantProgress::Answered { latest: decided });
        w.tell(Event::ResumeGrant(ResumedGrant { attempt, consumer, demand, granted, progress }));
        w.tell(Event::Done(attempt));
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
    commit(&mut w, 1);
    w.ask(1);
    let known = w.grants()[0];
    let decided = w.now;
    w.tell(Event::Done(known));
    w.pass(MS);
    // Three slots may have been given to the other session since.
    let (snapshot, reserve) = commit(&mut w, 3);
    let engine = Engine::restart(account(limits()), snapshot, reserve, w.now);
    let mut w = World::with(engine, w.now);
    let (consumer, demand) = ("job".to_owned(), Demand::default());
    let (granted, progress) = (Some(decided), GrantProgress::Answered { latest: decided });
    w.tell(Event::ResumeGrant(ResumedGrant { attempt: known, consumer, demand, granted, progress }));
    w.tell(Event::Done(known));
    w.tell(Event::ResumeDone(SessionId(1)));
    w.alive(1);
    commit(&mut w, 10);
    w.ask(10);
    assert_eq!(w.grants().len(), 1, "one of four is free for sure");
}

#[test]
fn a_call_from_before_the_restart_ends_normally() {
    let (mut w, lost) = killed();
    w.alive(1);
    let (consumer, demand) = ("job".to_owned(), Demand::default());
    let (granted, progress) = (Some(w.now), GrantProgress::Sent { latest: w.now });
    w.tell(Event::ResumeGrant(ResumedGrant { attempt: lost[0], consumer, demand, granted, progress }));
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
    commit(&mut w, 100);
    w.ask(60);
    let (snapshot, reserve) = commit(&mut w, 0);
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
    let mut w = World::with(Engine::takeover(config, start), start);
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

/// A day without calls would be the price of a lost ledger otherwise.
#[test]
fn after_a_takeover_one_call_probes_a_long_window() {
    let day = account(vec![sliding("requests", 250_000, 86_400)]);
    let start = Time(90_000_000_000_000);
    let mut w = World::with(Engine::takeover(day, start), start);
    w.ask(50);
    w.pass(SECOND * 2 + MS * 290);
    assert_eq!(w.grants().len(), 0, "the predecessor's calls arrive first");
    w.pass(SECOND * 20);
    let probes = w.grants();
    assert_eq!(probes.len(), 1);
    let seen = Observation { limit: "requests".to_owned(), hard: Some(250_000), remaining: Some(20) };
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
    let (consumer, demand) = ("job".to_owned(), Demand::default());
    let (granted, progress) = (Some(w.now), GrantProgress::Sent { latest: w.now });
    w.tell(Event::ResumeGrant(ResumedGrant { attempt: grants[0], consumer, demand, granted, progress }));
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
        consumer: "job".to_owned(),
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
    w.sent_back(attempt, quotakeeper_engine::event::Scope::Account, Some(SECOND * 60));
    let (snapshot, reserve) = commit(&mut w, 5);
    let engine = Engine::restart(account(vec![sliding("requests", 10, 10)]), snapshot, reserve, w.now);
    let mut w = World::with(engine, w.now);
    w.alive(1);
    w.tell(Event::ResumeDone(SessionId(1)));
    commit(&mut w, 5);
    w.ask(1);
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn assumptions_about_a_predecessor_are_committed() {
    let config = || account(vec![sliding("requests", 100, 10)]);
    let start = quotakeeper_engine::time::Time(1_000_000_000_000);
    let mut w = World::with(Engine::takeover(config(), start), start);
    w.pass(SECOND);
    w.alive(1);
    let (snapshot, reserve) = commit(&mut w, 0);
    let mut w = World::with(Engine::restart(config(), snapshot, reserve, w.now), w.now);
    assert_eq!(w.used("requests"), 100, "in flight");
    w.pass(SECOND * 10);
    assert_eq!(w.used("requests"), 100, "in the log");
    w.alive(1);
    let (snapshot, reserve) = commit(&mut w, 0);
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
    commit(&mut w, 100);
    w.ask(1);
    let probe = w.grants()[0];
    let seen = Observation { limit: "requests".to_owned(), hard: Some(100), remaining: Some(99) };
    w.answered_with(probe, seen);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now));
    commit(&mut w, 100);
    assert_ne!(w.engine.commit_due(w.now), Some(w.now));
}

/// Otherwise each restart would hold the reserves of all before it as calls.
#[test]
fn a_released_reserve_is_committed_at_once() {
    let (mut w, _) = killed();
    w.alive(1);
    commit(&mut w, 0);
    assert_eq!((w.used("requests"), w.engine.commit_due(w.now)), (50, None));
    w.tell(Event::ResumeDone(SessionId(1)));
    assert_eq!((w.used("requests"), w.engine.commit_due(w.now)), (20, Some(w.now)));
}

fn held(w: &mut World, attempt: Attempt, granted: Time, progress: GrantProgress) {
    let (consumer, demand) = ("job".to_owned(), Demand::default());
    w.tell(Event::ResumeGrant(ResumedGrant { attempt, consumer, demand, granted: Some(granted), progress }));
}

/// Its client has hung up since. What the hello says of the first grant says nothing of the second.
#[test]
fn a_lost_grant_holds_no_slot() {
    let mut w = World::new(vec![sliding("requests", 100, 10), concurrent("parallel", 1)]);
    w.ask(1);
    let first = w.grants()[0];
    w.tell(Event::Unused { attempt: first, again: true });
    assert_eq!(w.grants().len(), 1, "the second grant, which is lost");
    w.tell(Event::Disconnected(SessionId(1)));
    w.alive(1);
    let decided = w.now;
    held(&mut w, first, decided, GrantProgress::Granted);
    w.tell(Event::Unused { attempt: first, again: false });
    w.tell(Event::ResumeDone(SessionId(1)));
    assert_eq!(w.engine.status(w.now).under_way, 0);
    w.ask(1);
    assert_eq!(w.grants().len(), 1);
}

/// The ledger knows the first grant of a call, its proxy holds the second: it is one of the reserve's.
#[test]
fn a_newer_grant_replaces_the_one_in_the_ledger() {
    let limits = || vec![sliding("requests", 100, 10), concurrent("parallel", 1)];
    let mut w = World::new(limits());
    w.alive(1);
    commit(&mut w, 20);
    w.ask(1);
    let first = w.grants()[0];
    w.pass(MS);
    let (snapshot, reserve) = commit(&mut w, 5);
    w.tell(Event::Unused { attempt: first, again: true });
    let (second, decided) = (w.grants()[0], w.now);
    w.pass(MS);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    w.alive(1);
    // The first grant's end has been confirmed: the hello tells of it no more.
    held(&mut w, second, decided, GrantProgress::Sent { latest: decided });
    w.tell(Event::ResumeDone(SessionId(1)));
    assert_eq!((w.engine.status(w.now).under_way, w.used("requests")), (1, 2));
    w.answered(second);
    assert_eq!((w.engine.status(w.now).under_way, w.used("parallel")), (0, 0));
}

/// Its proxy may be gone by the next restart, and nobody else can say that the call is over.
#[test]
fn a_finished_call_soon_leaves_the_ledger() {
    let mut w = World::new(vec![sliding("requests", 100, 10), concurrent("parallel", 1)]);
    w.alive(1);
    commit(&mut w, 5);
    w.ask(1);
    let call = w.grants()[0];
    commit(&mut w, 5);
    assert_eq!(w.engine.commit_due(w.now), None, "the call is in the ledger");
    w.answered(call);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now + MS * 100), "at the horizon, with others");
    let (snapshot, _) = commit(&mut w, 5);
    assert_eq!((snapshot.calls.len(), w.engine.commit_due(w.now)), (0, None));
}

#[test]
fn a_deleted_pod_is_not_waited_for() {
    let limits = || vec![sliding("requests", 100, 10), concurrent("parallel", 1)];
    let mut w = World::new(limits());
    w.alive(1);
    w.alive(2);
    commit(&mut w, 5);
    w.ask(1);
    w.tell(Event::PodDeleted(SessionId(1)));
    assert!(w.engine.commit_due(w.now).is_some());
    let (snapshot, _) = commit(&mut w, 5);
    assert_eq!((snapshot.calls.len(), snapshot.sessions.as_slice()), (0, &[SessionId(2)][..]));

    // Session 2 dies while the limiter restarts: what it was granted is used, and it is not waited for.
    w.alive(3);
    let (snapshot, reserve) = commit(&mut w, 5);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    w.tell(Event::PodDeleted(SessionId(2)));
    w.alive(3);
    w.tell(Event::ResumeDone(SessionId(3)));
    assert_eq!(w.used("requests"), 6);
    let (snapshot, _) = commit(&mut w, 0);
    assert_eq!(snapshot.sessions, [SessionId(3)]);
}

/// It says hello before it is granted anything, and is new then.
#[test]
fn a_disconnected_proxy_is_not_waited_for() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    commit(&mut w, 5);
    w.tell(Event::Disconnected(SessionId(1)));
    assert_eq!(commit(&mut w, 5).0.sessions, []);
    w.ask(1);
    assert_eq!(w.grants().len(), 0, "a restart would not wait for it");
    assert_eq!(w.engine.commit_due(w.now), Some(w.now));
    assert_eq!(commit(&mut w, 5).0.sessions, [SessionId(1)]);
    assert_eq!(w.grants().len(), 1);
}

/// Its pod has died while no limiter was there to hear of it.
#[test]
fn a_proxy_that_never_returns_affects_one_restart_only() {
    let limits = || vec![sliding("requests", 100, 10)];
    let mut w = World::new(limits());
    w.alive(21);
    let (snapshot, reserve) = commit(&mut w, 5);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    w.alive(22);
    assert_eq!(commit(&mut w, 0).0.sessions, [SessionId(22), SessionId(21)]);
    assert_eq!(w.used("requests"), 5);
    w.pass(SECOND * 13);
    assert_eq!(w.used("requests"), 0);
    assert!(!commit(&mut w, 0).0.sessions.contains(&SessionId(21)));
}

/// The limiter in between has died before it heard anybody.
#[test]
fn a_grant_keeps_its_slot_across_two_kills() {
    let limits = || vec![sliding("requests", 100, 10), concurrent("parallel", 4)];
    let mut w = World::new(limits());
    w.alive(1);
    w.alive(2);
    let (snapshot, reserve) = commit(&mut w, 4);
    for _ in 0..3 {
        w.ask_as(2, "job", CallClass::default(), None);
    }
    let (lost, decided) = (w.grants(), w.now);
    assert_eq!(lost.len(), 3);
    w.pass(MS * 10);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    let (snapshot, reserve) = commit_ahead(&mut w, 0);
    w.pass(MS * 10);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    w.alive(1);
    w.tell(Event::ResumeDone(SessionId(1)));
    commit_ahead(&mut w, 10);
    w.ask(10);
    assert_eq!(w.grants().len(), 0, "any four may be under way");
    w.alive(2);
    for attempt in lost {
        held(&mut w, attempt, decided, GrantProgress::Granted);
    }
    w.tell(Event::ResumeDone(SessionId(2)));
    assert_eq!(w.grants().len(), 1);
}

/// What is charged ahead of engine 2 is for its own grants: that of the time before comes on top, for the slots'
/// sake.
#[test]
fn the_predecessors_reserve_allows_no_extra_calls() {
    let limits = || vec![sliding("requests", 100, 10), concurrent("parallel", 50)];
    let mut w = World::new(limits());
    w.alive(1);
    w.alive(2);
    let (snapshot, reserve) = commit(&mut w, 20);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    w.alive(1);
    let reserve = commit_ahead(&mut w, 3).1;
    assert_eq!((reserve.of("parallel"), reserve.of("requests")), (Amount(23), Amount(3)));
    w.ask(10);
    assert_eq!(w.grants().len(), 3);
}

/// The second engine has it in its snapshot: a third must not hold it twice, or a limiter that is killed again and
/// again would use a day's quota up by itself.
#[test]
fn windows_hold_the_reserve_once_across_repeated_kills() {
    let limits = || vec![sliding("requests", 1000, 86_400)];
    let mut w = World::new(limits());
    w.alive(1);
    w.alive(2);
    let (mut snapshot, mut reserve) = commit(&mut w, 20);
    for kills in 1..=10 {
        w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
        assert_eq!(w.used("requests"), 20 * kills);
        w.alive(1);
        (snapshot, reserve) = commit_ahead(&mut w, 20);
    }
}
