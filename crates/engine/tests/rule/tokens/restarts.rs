//! What a limiter that begins anew holds of calls that cost tokens.

use super::*;

#[test]
fn a_restart_holds_what_was_under_way() {
    let limits = || vec![tokens(10_000, 60, Charged::AsProduced)];
    let mut w = World::new(limits());
    w.alive(1);
    w.commit(10_000);
    w.asks(&call(1_000, 3_000), 1);
    let attempt = w.grants()[0];
    let (snapshot, reserve) = w.commit(0);
    let mut after = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    after.alive(1);
    assert_eq!(after.used("tokens"), 4_000);
    after.pass(SECOND * 30);
    assert_eq!(after.used("tokens"), 4_000, "it is not over");
    after.ends(attempt, CallEnd::Seen, Some(used(100, 100)));
    after.pass(MS * 310);
    assert_eq!(after.used("tokens"), 200);
}

#[test]
fn what_may_have_been_granted_after_a_commit_is_held_as_long_as_a_call_may_last() {
    let limits = || vec![tokens(10_000, 60, Charged::AsProduced)];
    let mut w = World::new(limits());
    w.alive(1);
    let (snapshot, reserve) = w.commit(6_000);
    let mut after = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    after.pass(SECOND * 120);
    assert_eq!(after.used("tokens"), 6_000);
}

/// A takeover of 10,000 tokens a minute, to which a proxy has named a call of the time before.
fn named(over: bool) -> (World, Attempt) {
    let limits = vec![tokens(10_000, 60, Charged::Settled)];
    let start = Time(3_600_000_000_000);
    let mut config = account(limits);
    config.pause.max_call = SECOND * 300;
    let mut w = World::with(Engine::takeover(config, predecessor(start), start), start);
    let attempt = Attempt { session: SessionId(1), call: CallId(77), number: 1 };
    w.alive(1);
    w.tell(Event::ResumeGrant(ResumedGrant {
        attempt,
        consumer: "job".into(),
        demand: call(1_000, 3_000),
        credential: Fingerprint::default(),
        progress: GrantProgress::Granted,
        over,
        granted: None,
    }));
    (w, attempt)
}

/// A stream of the time before may be counted as late as the longest call lasts. A call that its proxy names is one of
/// those that may have been granted, and comes back at its own end.
#[test]
fn what_a_predecessor_may_have_granted_is_held_as_long_as_a_call_lasts() {
    let (mut w, attempt) = named(false);
    w.tell(Event::ResumeDone(SessionId(1)));
    w.ask_for(1, "job", call(1_000, 2_000), None);
    w.ask_for(1, "job", call(1_000, 2_000), None);
    w.pass(SECOND * 120);
    assert_eq!(w.grants().len(), 0, "a window after the takeover");
    w.ends(attempt, CallEnd::Seen, Some(used(200, 100)));
    w.pass(SECOND);
    assert_eq!(w.grants().len(), 1, "4,000 were its part, of which it has used 300");
    w.pass(SECOND * 300);
    assert_eq!(w.grants().len(), 1);
}

/// The predecessor may have known of the end, and have granted to others what the call did not use.
#[test]
fn a_call_that_is_over_when_it_is_named_gives_nothing_back() {
    let ends: [fn(&mut World, Attempt); 2] = [
        |w, attempt| w.ends(attempt, CallEnd::Seen, Some(used(200, 100))),
        |w, attempt| w.tell(Event::Unused { attempt, again: false }),
    ];
    for end in ends {
        let (mut w, attempt) = named(true);
        end(&mut w, attempt);
        w.tell(Event::ResumeDone(SessionId(1)));
        w.ask_for(1, "job", call(1_000, 0), None);
        w.pass(SECOND * 120);
        assert_eq!((w.grants().len(), w.used("tokens")), (0, 10_000));
    }
}

#[test]
fn an_end_is_written_to_the_ledger_at_once_only_where_it_drew_more_than_was_held() {
    for (drawn, at_once) in [(500, false), (5_000, true)] {
        let mut w = World::new(vec![learned(output(10_000, 60, Charged::AsProduced))]);
        w.alive(1);
        w.commit(10_000);
        w.asks(&call(0, 1_000), 1);
        let attempt = w.grants()[0];
        w.ends(attempt, CallEnd::Seen, Some(used(0, drawn)));
        assert_eq!(w.engine.commit_due(w.now) == Some(w.now), at_once, "{drawn}");
    }
}
