//! A limit that is edited: calls wait no longer than under the strictest of its amounts from the beginning.

use proptest::prelude::*;
use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{CountedAs, LimitConfig};
use quotakeeper_engine::event::Event;
use quotakeeper_engine::time::Time;

use crate::world::{MS, SECOND, World, account, limit, predecessor, sliding};

/// What is known of the time before the engine.
#[derive(Clone, Copy, Debug)]
enum Past {
    Unused,
    Unknown,
}

fn world(past: Past, limit: LimitConfig) -> World {
    let start = Time(200_000_000_000_000);
    let config = account(vec![limit]);
    let engine = match past {
        Past::Unused => Engine::new(config, start),
        Past::Unknown => Engine::after_unknown_past(config, start),
    };
    World::with(engine, start)
}

/// Grants so far of an account that always has calls waiting, after each fifth of a second.
fn granted(past: Past, limit: impl Fn(u64) -> LimitConfig, amounts: &[u64]) -> Vec<usize> {
    let mut w = world(past, limit(amounts[0]));
    w.ask(600);
    let mut total = 0;
    let mut before = amounts[0];
    let mut totals = Vec::new();
    for amount in amounts {
        if *amount != std::mem::replace(&mut before, *amount) {
            w.tell(Event::Configure(account(vec![limit(*amount)])));
        }
        w.pass(MS * 200);
        let grants = w.grants();
        total += grants.len();
        grants.into_iter().for_each(|attempt| w.answered(attempt));
        totals.push(total);
    }
    totals
}

/// The amount in force in each fifth of a second.
fn amounts() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec((2u64..60, 1usize..40), 1..5)
        .prop_map(|parts| parts.into_iter().flat_map(|(amount, steps)| vec![amount; steps]).collect())
}

fn past() -> impl Strategy<Value = Past> {
    prop_oneof![Just(Past::Unused), Just(Past::Unknown)]
}

fn counted_as() -> impl Strategy<Value = CountedAs> {
    prop_oneof![
        Just(CountedAs::Unknown),
        Just(CountedAs::SlidingWindow),
        Just(CountedAs::FixedWindow),
        Just(CountedAs::TokenBucket),
    ]
}

proptest! {
    #[test]
    fn an_edit_costs_no_more_than_the_strictest_amount(
        past in past(),
        counted_as in counted_as(),
        amounts in amounts(),
    ) {
        let limit = |amount| LimitConfig { counted_as, ..limit("requests", amount, 5) };
        let strictest = vec![*amounts.iter().min().unwrap(); amounts.len()];
        let (edited, strict) = (granted(past, limit, &amounts), granted(past, limit, &strictest));
        // A larger limit has a larger bucket, and so another rhythm, of less than two steps.
        for (step, (edited, strict)) in edited.iter().skip(2).zip(&strict).enumerate() {
            prop_assert!(edited >= strict, "step {}: {} and {}", step, edited, strict);
        }
    }
}

#[test]
fn lowering_a_daily_limit_by_a_percent_does_not_stop_its_calls() {
    let day = |amount| account(vec![sliding("daily", amount, 86_400)]);
    let start = Time(200_000_000_000_000);
    let mut w = World::with(Engine::after_unknown_past(day(250_000), start), start);
    w.ask(2_000);
    w.pass(SECOND * 120);
    let before = w.grants();
    assert!((300..400).contains(&before.len()), "{}", before.len());
    before.into_iter().for_each(|attempt| w.answered(attempt));
    w.tell(Event::Configure(day(247_500)));
    w.pass(SECOND * 10);
    let after = w.grants().len();
    assert!(after >= 20, "2.9 a second before, {after} in ten seconds after the edit");
}

#[test]
fn lowering_and_raising_forgets_nothing_of_an_unknown_past() {
    let day = |amount| account(vec![sliding("daily", amount, 86_400)]);
    let start = Time(200_000_000_000_000);
    let mut w = World::with(Engine::after_unknown_past(day(250_000), start), start);
    w.ask(50);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    w.tell(Event::Configure(day(100)));
    assert_eq!(w.engine.status(w.now).limits[0].assumed, 99);
    w.tell(Event::Configure(day(250_000)));
    assert!(w.engine.status(w.now).limits[0].assumed > 249_900);
    assert!(w.grants().len() <= 1);
}

/// The provider may have counted all of them.
#[test]
fn lowering_a_limit_forgets_nothing_that_a_predecessor_may_have_granted() {
    let start = Time(200_000_000_000_000);
    let ten = |amount| account(vec![sliding("requests", amount, 10)]);
    let mut w = World::with(Engine::takeover(ten(100), predecessor(start), start), start);
    w.ask(50);
    w.tell(Event::Configure(ten(20)));
    w.pass(SECOND * 12);
    assert_eq!(w.grants().len(), 0);
    w.pass(SECOND);
    assert_eq!(w.grants().len(), 20);
}

#[test]
fn another_name_is_no_new_count() {
    let mut w = World::new(vec![sliding("requests", 60, 30), sliding("daily", 1000, 86_400)]);
    w.ask(100);
    assert_eq!(w.grants().len(), 60);
    w.pass(SECOND * 5);
    w.tell(Event::Configure(account(vec![sliding("all", 60, 30), sliding("daily", 1000, 86_400)])));
    assert_eq!(w.used("all"), 60);
    w.pass(SECOND * 24);
    assert_eq!(w.grants().len(), 0);
    w.pass(SECOND * 4);
    assert_eq!(w.grants().len(), 40);
}

#[test]
fn a_limit_of_another_window_is_a_new_count() {
    let mut w = World::new(vec![sliding("requests", 60, 30)]);
    w.ask(10);
    assert_eq!(w.grants().len(), 10);
    w.tell(Event::Configure(account(vec![sliding("minutely", 60, 60)])));
    assert_eq!(w.engine.status(w.now).limits[0].assumed, 59);
}

#[test]
fn an_edit_to_a_hundredth_and_less_stops_calls_for_a_window_at_most() {
    let mut w = World::new(vec![limit("requests", 10_000, 60)]);
    w.ask(100);
    let grants = w.grants();
    assert_eq!(grants.len(), 100);
    grants.into_iter().for_each(|attempt| w.answered(attempt));
    w.tell(Event::Configure(account(vec![limit("requests", 3, 60)])));
    w.ask(1);
    w.pass(SECOND * 62);
    assert_eq!(w.grants().len(), 1);
}
