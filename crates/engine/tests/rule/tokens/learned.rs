//! What calls use is learned, and held instead of the most that they can use.

use quotakeeper_engine::time::Time;

use super::*;

/// Twenty calls, of a hundred tokens of output each, where the request allows a hundred times as many.
fn teach(w: &mut World) {
    for _ in 0..20 {
        w.asks(&call(1_000, 10_000), 1);
        let attempt = w.grants()[0];
        w.ends(attempt, CallEnd::Seen, Some(used(250, 100)));
        w.pass(SECOND);
    }
    w.pass(SECOND * 70);
}

#[test]
fn what_such_calls_use_is_learned_and_more_of_them_run_at_once() {
    let mut w = World::new(vec![learned(output(8_000, 60, Charged::AsProduced))]);
    w.asks(&call(1_000, 10_000), 30);
    assert_eq!(w.grants().len(), 4, "a quarter of the limit each, until it is known");
    let mut w = World::new(vec![learned(output(8_000, 60, Charged::AsProduced))]);
    teach(&mut w);
    w.asks(&call(1_000, 10_000), 30);
    assert_eq!(w.grants().len(), 30);
}

/// Nobody learns anything of calls whose answers tell no usage: a quarter of the limit each, for good, would be a guess.
#[test]
fn calls_that_tell_no_usage_count_what_is_estimated_of_them() {
    let mut w = World::new(vec![learned(output(8_000, 60, Charged::AsProduced))]);
    let mut granted = 0;
    for _ in 0..20 {
        w.asks(&call(1_000, 10_000), 1);
        for attempt in w.grants() {
            granted += 1;
            w.ends(attempt, CallEnd::Seen, Some(TokenUsage { exact: false, ..used(250, 300) }));
        }
        w.pass(SECOND);
    }
    assert_eq!((granted, w.used("output")), (20, 6_000));
}

#[test]
fn calls_that_a_provider_refuses_show_nothing_of_those_that_it_serves() {
    let mut w = World::new(vec![learned(output(8_000, 60, Charged::AsProduced))]);
    for _ in 0..40 {
        w.asks(&call(1_000, 10_000), 1);
        let attempt = w.grants()[0];
        w.ends(attempt, CallEnd::Seen, Some(used(0, 0)));
        w.pass(SECOND);
    }
    w.pass(SECOND * 70);
    w.asks(&call(1_000, 10_000), 30);
    assert_eq!(w.grants().len(), 4, "as if there had been none");
}

#[test]
fn calls_that_wait_know_what_was_learned_meanwhile() {
    let mut w = World::new(vec![learned(output(8_000, 60, Charged::AsProduced))]);
    w.asks(&call(1_000, 10_000), 60);
    let mut granted = 0;
    for _ in 0..30 {
        for attempt in w.grants() {
            granted += 1;
            w.ends(attempt, CallEnd::Seen, Some(used(250, 100)));
        }
        w.pass(SECOND);
    }
    assert_eq!(granted, 60, "of 6,000 tokens in all");
}

#[test]
fn what_was_learned_survives_a_restart() {
    let limits = || vec![learned(output(8_000, 60, Charged::AsProduced))];
    let mut w = World::new(limits());
    teach(&mut w);
    let (snapshot, reserve) = w.commit(0);
    let mut after = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    after.alive(1);
    after.commit(8_000);
    after.asks(&call(1_000, 10_000), 30);
    assert_eq!(after.grants().len(), 30);
}

#[test]
fn calls_that_came_before_anything_was_learned_have_turns_as_short_as_later_ones() {
    let mut w = World::new(vec![learned(output(8_000, 10, Charged::AsProduced))]);
    for _ in 0..2_000 {
        w.ask_for(1, "early", call(400, 4_000), None);
    }
    let mut granted = [0, 0];
    let mut under_way: Vec<Attempt> = Vec::new();
    for second in 0..60 {
        for attempt in under_way.drain(..) {
            // The clients of a fifth hang up: their turns are as long as what was held.
            let lost = second > 20 && attempt.call.0.is_multiple_of(5);
            w.ends(attempt, if lost { CallEnd::Lost } else { CallEnd::Seen }, Some(used(100, 100)));
        }
        for attempt in w.grants() {
            granted[attempt.session.0 as usize - 1] += 1;
            under_way.push(attempt);
        }
        if second == 20 {
            granted = [0, 0];
            for _ in 0..2_000 {
                w.ask_for(2, "late", call(400, 4_000), None);
            }
        }
        w.pass(SECOND);
    }
    let [early, late] = granted;
    assert!(early + late > 150, "{granted:?}");
    assert!(early * 10 > late * 8 && late * 10 > early * 8, "{granted:?}");
}

/// Nothing of the call that goes first is known for as long as a call may last; what its answer tells of the limit is.
#[test]
fn calls_that_follow_the_first_do_not_wait_until_it_can_change_nothing_more() {
    for hangs_up in [false, true] {
        let limit = learned(tokens(1_000_000, 60, Charged::Unknown));
        let start = Time(3_600_000_000_000);
        let mut w = World::with(Engine::newly_in_force(account(vec![limit]), start), start);
        w.asks(&call(1_000, 3_000), 5);
        let first = w.grants();
        assert_eq!(first.len(), 1, "one asks");
        w.tell(Event::FirstByte { attempt: first[0], latest: w.now, observations: Vec::new() });
        if hangs_up {
            w.tell(Event::Done { attempt: first[0], end: CallEnd::Lost, usage: None });
        }
        assert_eq!(w.grants().len(), 4, "{hangs_up}");
    }
}

#[test]
fn a_crash_leaves_unclaimed_twice_what_was_granted_lately_and_not_all_that_was_free() {
    let limit = learned(tokens(1_000_000, 60, Charged::Unknown));
    let mut w = World::new(vec![limit]);
    w.commit(0);
    w.asks(&call(1_000, 3_000), 2);
    w.commit(10_000);
    assert_eq!(w.grants().len(), 2);
    let reserve = w.engine.reserve(w.now, MS * 100).of("tokens").0;
    assert!((8_000..20_000).contains(&reserve), "{reserve}");
}
