//! After a restart: lost grants, proxies that return or never do, and limiters that are killed again.

use quotakeeper_engine::Engine;
use quotakeeper_engine::cost::{Amount, Demand};
use quotakeeper_engine::event::{
    Attempt, CallClass, Event, Fingerprint, GrantProgress, ResumedGrant, SessionId,
};
use quotakeeper_engine::time::Time;

use crate::world::*;

fn held(w: &mut World, attempt: Attempt, granted: Time, progress: GrantProgress) {
    let (consumer, demand) = ("job".into(), Demand::default());
    w.tell(Event::ResumeGrant(ResumedGrant {
        attempt,
        consumer,
        demand,
        credential: Fingerprint(0),
        granted: Some(granted),
        progress,
        over: false,
    }));
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
    w.commit(20);
    w.ask(1);
    let first = w.grants()[0];
    w.pass(MS);
    let (snapshot, reserve) = w.commit(5);
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
    w.commit(5);
    w.ask(1);
    let call = w.grants()[0];
    w.commit(5);
    assert_eq!(w.engine.commit_due(w.now), None, "the call is in the ledger");
    w.answered(call);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now + MS * 100), "at the horizon, with others");
    let (snapshot, _) = w.commit(5);
    assert_eq!((snapshot.calls.len(), w.engine.commit_due(w.now)), (0, None));
}

#[test]
fn a_deleted_pod_is_not_waited_for() {
    let limits = || vec![sliding("requests", 100, 10), concurrent("parallel", 1)];
    let mut w = World::new(limits());
    w.alive(1);
    w.alive(2);
    w.commit(5);
    w.ask(1);
    w.tell(Event::PodDeleted(SessionId(1)));
    assert!(w.engine.commit_due(w.now).is_some());
    let (snapshot, _) = w.commit(5);
    assert_eq!((snapshot.calls.len(), snapshot.sessions.as_slice()), (0, &[SessionId(2)][..]));

    // Session 2 dies while the limiter restarts: what it was granted is used, and it is not waited for.
    w.alive(3);
    let (snapshot, reserve) = w.commit(5);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    w.tell(Event::PodDeleted(SessionId(2)));
    w.alive(3);
    w.tell(Event::ResumeDone(SessionId(3)));
    assert_eq!(w.used("requests"), 6);
    let (snapshot, _) = w.commit(0);
    assert_eq!(snapshot.sessions, [SessionId(3)]);
}

/// It says hello before it is granted anything, and is new then.
#[test]
fn a_disconnected_proxy_is_not_waited_for() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    w.commit(5);
    w.tell(Event::Disconnected(SessionId(1)));
    assert_eq!(w.commit(5).0.sessions, []);
    w.ask(1);
    assert_eq!(w.grants().len(), 0, "a restart would not wait for it");
    assert_eq!(w.engine.commit_due(w.now), Some(w.now));
    assert_eq!(w.commit(5).0.sessions, [SessionId(1)]);
    assert_eq!(w.grants().len(), 1);
}

/// Its pod has died while no limiter was there to hear of it.
#[test]
fn a_proxy_that_never_returns_affects_one_restart_only() {
    let limits = || vec![sliding("requests", 100, 10)];
    let mut w = World::new(limits());
    w.alive(21);
    let (snapshot, reserve) = w.commit(5);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    w.alive(22);
    assert_eq!(w.commit(0).0.sessions, [SessionId(22), SessionId(21)]);
    assert_eq!(w.used("requests"), 5);
    w.pass(SECOND * 13);
    assert_eq!(w.used("requests"), 0);
    assert!(!w.commit(0).0.sessions.contains(&SessionId(21)));
}

/// The limiter in between has died before it heard anybody.
#[test]
fn a_grant_keeps_its_slot_across_two_kills() {
    let limits = || vec![sliding("requests", 100, 10), concurrent("parallel", 4)];
    let mut w = World::new(limits());
    w.alive(1);
    w.alive(2);
    let (snapshot, reserve) = w.commit(4);
    for _ in 0..3 {
        w.ask_as(2, "job", CallClass::default(), None);
    }
    let (lost, decided) = (w.grants(), w.now);
    assert_eq!(lost.len(), 3);
    w.pass(MS * 10);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    let (snapshot, reserve) = w.commit_ahead(0);
    w.pass(MS * 10);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    w.alive(1);
    w.tell(Event::ResumeDone(SessionId(1)));
    w.commit_ahead(10);
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
    let (snapshot, reserve) = w.commit(20);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    w.alive(1);
    let reserve = w.commit_ahead(3).1;
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
    let (mut snapshot, mut reserve) = w.commit(20);
    for kills in 1..=10 {
        w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
        assert_eq!(w.used("requests"), 20 * kills);
        w.alive(1);
        (snapshot, reserve) = w.commit_ahead(20);
    }
}
