//! Calls that cost more than one unit: every place counts amounts, not calls.

use std::time::Duration;

use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{CountedAs, LimitConfig, Pacing};
use quotakeeper_engine::cost::{Amount, Costs, Demand};
use quotakeeper_engine::event::{
    Attempt, Event, Fingerprint, GrantProgress, Observation, RefusalReason, ResumedGrant, SessionId,
};

use crate::world::*;

fn ask(w: &mut World, consumer: &str, cost: u64, calls: usize) {
    for _ in 0..calls {
        w.ask_for(1, consumer, requests(cost), None);
    }
}

fn usage(cost: u64) -> Costs {
    requests(cost).costs
}

fn bucket(amount: u64, seconds: u64, burst: u64) -> LimitConfig {
    LimitConfig {
        counted_as: CountedAs::TokenBucket,
        burst: Some(burst),
        ..limit("requests", amount, seconds)
    }
}

#[test]
fn a_big_call_fills_a_window_like_as_many_small_ones() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    ask(&mut w, "big", 40, 3);
    let big = w.grants();
    assert_eq!((big.len(), w.used("requests")), (2, 80));
    ask(&mut w, "big", 1, 30);
    assert_eq!(w.grants().len(), 0, "the third big call is next, and smaller ones do not overtake it");
    big.into_iter().for_each(|attempt| w.answered(attempt));
    w.pass(SECOND * 10 + MS * 5);
    assert_eq!((w.grants().len(), w.used("requests")), (31, 70));
}

#[test]
fn a_bucket_holds_amounts() {
    let mut w = World::new(vec![bucket(100, 10, 50)]);
    ask(&mut w, "job", 20, 4);
    let first = w.grants();
    assert_eq!(first.len(), 2);
    first.into_iter().for_each(|attempt| w.answered(attempt));
    w.pass(MS * 990);
    assert_eq!(w.grants().len(), 0, "ten a second: 10 of 50 are free, and 10 more after a second");
    w.pass(MS * 15);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_call_that_is_larger_than_the_bucket_goes_alone() {
    let mut w = World::new(vec![bucket(100, 10, 5)]);
    ask(&mut w, "small", 1, 1);
    let small = w.grants();
    ask(&mut w, "big", 30, 1);
    assert_eq!(w.grants().len(), 0, "a small one is in flight");
    w.answered(small[0]);
    w.pass(MS * 105);
    let big = w.grants();
    assert_eq!(big.len(), 1, "the bucket is empty");
    w.answered(big[0]);
    ask(&mut w, "small", 1, 1);
    w.pass(MS * 2_500);
    assert_eq!(w.grants().len(), 0, "its debt has to drain to below the bucket's size");
    w.pass(MS * 110);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn what_can_never_fit_is_refused_at_once() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    ask(&mut w, "job", 101, 1);
    assert_eq!(w.refusals(), [(RefusalReason::NeverFits, None)]);
    ask(&mut w, "job", 100, 1);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_limit_that_is_lowered_below_the_cost_of_a_waiting_call_refuses_it() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    ask(&mut w, "job", 60, 2);
    assert_eq!(w.grants().len(), 1);
    w.tell(Event::Configure(account(vec![sliding("requests", 50, 10)])));
    assert_eq!(w.refusals(), [(RefusalReason::NeverFits, None)]);
}

#[test]
fn a_call_that_draws_nothing_passes_a_full_limit() {
    let mut w = World::new(vec![sliding("requests", 10, 10), concurrent("parallel", 5)]);
    ask(&mut w, "job", 10, 1);
    ask(&mut w, "free", 0, 1);
    assert_eq!((w.grants().len(), w.used("requests"), w.used("parallel")), (2, 10, 2));
}

#[test]
fn a_call_may_need_several_slots() {
    let mut w = World::new(vec![concurrent("parallel", 5)]);
    let costs = Costs { concurrent_requests: Amount(3), ..Costs::default() };
    for _ in 0..2 {
        w.ask_for(1, "job", Demand { costs, ..Demand::default() }, None);
    }
    let first = w.grants();
    assert_eq!((first.len(), w.used("parallel")), (1, 3));
    w.tell(over(first[0]));
    assert_eq!((w.grants().len(), w.used("parallel")), (1, 3));
}

#[test]
fn even_pacing_spaces_amounts() {
    let even = LimitConfig { pacing: Pacing::LeakyBucket, ..sliding("requests", 10, 10) };
    let mut w = World::new(vec![even]);
    ask(&mut w, "job", 3, 2);
    assert_eq!(w.grants().len(), 1);
    w.pass(MS * 2_990);
    assert_eq!(w.grants().len(), 0);
    w.pass(MS * 20);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn turns_are_counted_by_cost() {
    let mut w = World::new(vec![sliding("requests", 60, 10)]);
    ask(&mut w, "filler", 60, 1);
    let filler = w.grants();
    w.answered(filler[0]);
    for _ in 0..40 {
        w.ask_for(2, "big", requests(5), None);
        w.ask_for(3, "small", requests(1), None);
    }
    w.pass(SECOND * 10 + MS * 5);
    let grants = w.grants();
    let big = grants.iter().filter(|attempt| attempt.session == SessionId(2)).count();
    assert!((5..=7).contains(&big), "half of 60 is six calls of five: {big} of {}", grants.len());
}

#[test]
fn a_wait_is_foreseen_by_what_is_ahead_and_not_by_how_many() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    ask(&mut w, "job", 100, 1);
    let first = w.grants();
    w.answered(first[0]);
    // 250 wait: the next starts in the fourth window.
    ask(&mut w, "job", 50, 5);
    w.ask_for(1, "job", requests(50), Some(SECOND * 20));
    let (reason, retry_after) = w.refusals()[0];
    assert_eq!(reason, RefusalReason::WaitTooLong);
    let retry_after = retry_after.unwrap();
    assert!(retry_after > SECOND * 29 && retry_after < SECOND * 31, "{retry_after:?}");
}

#[test]
fn a_wait_behind_units_of_different_costs_is_when_enough_has_left() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    for cost in [10, 60, 30] {
        ask(&mut w, "job", cost, 1);
        let attempt = w.grants()[0];
        w.answered(attempt);
        w.pass(SECOND);
    }
    // Of 100, 10 leave after 7 s, and 60 more a second later.
    w.ask_for(1, "job", requests(40), Some(SECOND));
    let retry_after = w.refusals()[0].1.unwrap();
    assert!(retry_after > SECOND * 8 && retry_after < SECOND * 8 + MS * 10, "{retry_after:?}");
}

#[test]
fn room_is_kept_for_all_that_a_call_of_an_unknown_model_costs() {
    let limit = LimitConfig { per_model: true, ..sliding("requests", 10, 10) };
    let mut w = World::new(vec![limit]);
    for name in ["a", "b"] {
        let class = model(name);
        w.ask_for(1, name, Demand { costs: usage(6), ..class.into() }, None);
    }
    assert_eq!(w.grants().len(), 2);
    // It needs 8 of both; as its turn is first, 4 of each are not given to others.
    w.ask_for(1, "unknown", requests(8), None);
    for _ in 0..4 {
        w.ask_for(1, "a", Demand { costs: usage(1), ..model("a").into() }, None);
    }
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn an_unused_grant_gives_all_of_its_cost_back() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    ask(&mut w, "job", 70, 2);
    let attempt = w.grants()[0];
    w.tell(Event::Unused { attempt, again: false });
    assert_eq!((w.grants().len(), w.used("requests")), (1, 70));
}

#[test]
fn a_late_write_is_charged_its_cost_once_more() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    ask(&mut w, "job", 30, 1);
    let attempt = w.grants()[0];
    w.pass(SECOND * 12 + MS * 310);
    assert_eq!(w.used("requests"), 0);
    w.tell(Event::Sent { attempt, latest: w.now });
    assert_eq!((w.engine.totals().breaches, w.used("requests")), (1, 30));
}

#[test]
fn what_others_drew_is_told_from_what_ours_cost() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    ask(&mut w, "job", 25, 1);
    let attempt = w.grants()[0];
    let seen =
        Observation { limit: "requests".to_owned(), hard: Some(100), remaining: Some(65), ends_in: None };
    w.answered_with(attempt, seen);
    assert_eq!(w.engine.status(w.now).limits[0].used_by_others, 10);
}

#[test]
fn a_charge_in_flight_is_settled_up_and_down() {
    for (real, others_fit) in [(80, 1), (5, 4)] {
        let mut w = World::new(vec![sliding("requests", 100, 10)]);
        ask(&mut w, "job", 30, 1);
        let attempt = w.grants()[0];
        w.tell(Event::Settled { attempt, usage: usage(real) });
        assert_eq!(w.used("requests"), real);
        w.tell(over(attempt));
        ask(&mut w, "job", 20, 10);
        assert_eq!(w.grants().len(), others_fit);
    }
}

#[test]
fn a_refund_after_the_count_leaves_the_log_but_not_the_level() {
    let mut w = World::new(vec![LimitConfig { burst: Some(40), ..limit("requests", 100, 10) }]);
    ask(&mut w, "job", 40, 1);
    let attempt = w.grants()[0];
    w.tell(Event::FirstByte { attempt, latest: w.now, observations: Vec::new() });
    w.tell(Event::Settled { attempt, usage: usage(10) });
    assert_eq!(w.used("requests"), 10, "in the log");
    ask(&mut w, "job", 20, 1);
    w.pass(MS * 1_990);
    assert_eq!(w.grants().len(), 0, "the provider's bucket may have been empty, and have lost the credit");
    w.pass(MS * 20);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn what_was_drawn_beyond_the_charge_is_debt_that_is_not_forgotten() {
    let mut w = World::new(vec![bucket(100, 10, 100)]);
    ask(&mut w, "job", 10, 1);
    let attempt = w.grants()[0];
    w.tell(Event::FirstByte { attempt, latest: w.now, observations: Vec::new() });
    w.tell(Event::Settled { attempt, usage: usage(200) });
    w.tell(over(attempt));
    ask(&mut w, "job", 1, 1);
    w.pass(SECOND * 10 + MS * 90);
    assert_eq!(w.grants().len(), 0, "twice the bucket drains for ten seconds until anything fits");
    w.pass(MS * 50);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn what_was_drawn_beyond_a_charge_that_has_left_the_log_is_charged_now() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    ask(&mut w, "job", 10, 1);
    let attempt = w.grants()[0];
    w.tell(Event::FirstByte { attempt, latest: w.now, observations: Vec::new() });
    w.pass(SECOND * 11);
    assert_eq!(w.used("requests"), 0);
    w.tell(Event::Settled { attempt, usage: usage(90) });
    assert_eq!(w.used("requests"), 80);
    w.tell(Event::Settled { attempt, usage: usage(90) });
    assert_eq!(w.used("requests"), 80, "and once");
}

#[test]
fn a_report_of_an_earlier_attempt_settles_nothing() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    ask(&mut w, "job", 10, 1);
    let first = w.grants()[0];
    w.tell(Event::Unused { attempt: first, again: true });
    assert_eq!(w.grants().len(), 1);
    w.tell(Event::Settled { attempt: first, usage: usage(90) });
    assert_eq!(w.used("requests"), 10);
}

#[test]
fn grants_stay_within_the_amount_that_the_ledger_has_charged_ahead() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    w.commit(10);
    ask(&mut w, "job", 4, 5);
    assert_eq!(w.grants().len(), 2, "8 of 10");
    assert_eq!(w.engine.commit_due(w.now), Some(w.now));
    w.commit(10);
    assert_eq!(w.grants().len(), 2);
}

#[test]
fn the_next_reserve_is_enough_for_a_call_that_is_larger_than_the_last() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    w.commit(1);
    ask(&mut w, "job", 90, 1);
    assert_eq!(w.grants().len(), 0);
    assert_eq!(w.engine.commit_due(w.now), Some(w.now));
    let snapshot = w.engine.snapshot(w.now);
    let reserve = w.engine.reserve(w.now, MS * 100);
    assert_eq!((snapshot.as_of, reserve.of("requests")), (w.now, Amount(90)));
    w.tell(Event::Committed(reserve));
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn small_calls_of_others_do_not_take_what_the_ledger_has_left_for_a_large_one() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.alive(1);
    w.commit(50);
    let of = |name, cost| Demand { class: endpoint(name), ..requests(cost) };
    w.ask_for(1, "large", of("large", 60), None);
    for _ in 0..5 {
        w.ask_for(1, "small", of("small", 10), None);
    }
    assert_eq!(w.grants().len(), 0, "50 are left, and the turn is that of the large one");
    let reserve = w.engine.reserve(w.now, MS * 100);
    assert_eq!(reserve.of("requests"), Amount(70), "what all need that came until then");
    w.tell(Event::Committed(reserve));
    let granted: Vec<u64> = w.grants().iter().map(|attempt| attempt.call.0).collect();
    assert_eq!(granted, [1, 2]);
}

#[test]
fn each_limit_has_a_reserve_of_its_own() {
    let search = LimitConfig { endpoint: Some("search".to_owned()), ..limit("search", 6, 60) };
    let mut w = World::new(vec![limit("requests", 6_000, 60), search]);
    w.alive(1);
    let reserve = w.engine.reserve(w.now, MS * 100);
    assert_eq!((reserve.of("search"), reserve.of("requests")), (Amount(4), Amount(70)));
}

/// 30 of 100 charged before the commit, 40 of the reserve's 50 after it, in calls of 10.
fn killed() -> (World, Vec<Attempt>) {
    let limits = || vec![sliding("requests", 100, 10), concurrent("parallel", 20)];
    let mut w = World::new(limits());
    w.alive(1);
    w.commit(50);
    ask(&mut w, "job", 30, 1);
    let before = w.grants();
    w.answered(before[0]);
    let (snapshot, reserve) = w.commit(50);
    ask(&mut w, "job", 10, 4);
    let lost = w.grants();
    assert_eq!(lost.len(), 4);
    w.pass(SECOND / 2);
    (World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now), lost)
}

#[test]
fn a_restart_holds_the_reserve_as_one_unit_and_gives_calls_their_part_of_it() {
    let (mut w, lost) = killed();
    assert_eq!(w.used("requests"), 80, "30 and the reserve of 50");
    let snapshot = w.engine.snapshot(w.now);
    assert_eq!(snapshot.counters[0].units.len(), 2);
    w.alive(1);
    for attempt in &lost[..3] {
        w.tell(Event::ResumeGrant(ResumedGrant {
            attempt: *attempt,
            consumer: "job".into(),
            demand: requests(10),
            credential: Fingerprint(0),
            granted: Some(w.now),
            progress: GrantProgress::Answered { latest: w.now },
            over: false,
        }));
    }
    assert_eq!(w.used("requests"), 80, "three calls stand for 30 of the 50");
    w.tell(Event::ResumeDone(SessionId(1)));
    assert_eq!(w.used("requests"), 60, "the rest was never granted");
}

#[test]
fn the_ledger_keeps_costs() {
    let limits = || vec![sliding("requests", 100, 10), concurrent("parallel", 20)];
    let mut w = World::new(limits());
    w.alive(1);
    w.commit(100);
    let costs = Costs { requests: Amount(30), concurrent_requests: Amount(7), ..Costs::default() };
    w.ask_for(1, "job", Demand { costs, ..Demand::default() }, None);
    let attempt = w.grants()[0];
    w.tell(Event::Settled { attempt, usage: usage(45) });
    let (snapshot, reserve) = w.commit(0);
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    assert_eq!((w.used("requests"), w.used("parallel")), (45, 7));
    w.tell(Event::Settled { attempt, usage: usage(20) });
    w.tell(over(attempt));
    assert_eq!((w.used("requests"), w.used("parallel")), (20, 0));
}

#[test]
fn others_are_remembered_as_others_over_a_restart() {
    let limits = || vec![sliding("requests", 5000, 10)];
    let mut w = World::new(limits());
    w.alive(1);
    w.commit(100);
    ask(&mut w, "job", 1, 1);
    let attempt = w.grants()[0];
    let seen =
        Observation { limit: "requests".to_owned(), hard: Some(5000), remaining: Some(10), ends_in: None };
    w.answered_with(attempt, seen);
    let (snapshot, reserve) = w.commit(0);
    assert_eq!(snapshot.counters[0].units.len(), 2, "one entry for 4989");
    let mut w = World::with(Engine::restart(account(limits()), snapshot, reserve, w.now), w.now);
    assert_eq!(w.engine.status(w.now).limits[0].used_by_others, 4989);
    w.pass(Duration::from_secs(11));
    assert_eq!(w.used("requests"), 0);
}
