//! The provider's word: it lowers at once, it raises nothing that was not declared, and a stale
//! answer accuses nobody.

use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{CountedAs, LimitConfig};
use quotakeeper_engine::event::Observation;
use quotakeeper_engine::time::Time;

use crate::world::*;

fn seen(hard: Option<u64>, remaining: Option<u64>) -> Observation {
    Observation { limit: "requests".to_owned(), hard, remaining, ends_in: None }
}

#[test]
fn a_lower_limit_in_the_headers_applies_at_once() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    w.answered_with(attempt, seen(Some(10), None));
    w.ask(50);
    assert_eq!(w.grants().len(), 9);
}

#[test]
fn headers_of_one_model_do_not_affect_another() {
    let mut w = World::new(vec![LimitConfig { per_model: true, ..sliding("requests", 100, 10) }]);
    w.ask_as(1, "job", model("large"), None);
    let attempt = w.grants()[0];
    w.answered_with(attempt, seen(Some(5), None));
    for _ in 0..50 {
        w.ask_as(1, "job", model("large"), None);
        w.ask_as(1, "job", model("small"), None);
    }
    assert_eq!(w.grants().len(), 4 + 50);
}

#[test]
fn a_higher_limit_in_the_headers_changes_nothing() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    w.answered_with(attempt, seen(Some(1000), Some(999)));
    w.ask(50);
    assert_eq!(w.grants().len(), 9);
}

#[test]
fn a_lower_limit_lowers_a_share_in_proportion() {
    let share = LimitConfig { declared: Some(100), ..sliding("requests", 20, 10) };
    let mut w = World::new(vec![share]);
    w.ask(1);
    let attempt = w.grants()[0];
    w.answered_with(attempt, seen(Some(50), None));
    w.ask(50);
    assert_eq!(w.grants().len(), 9, "20 of 100 is 10 of 50");
}

#[test]
fn calls_of_others_are_charged_from_the_headers() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    w.answered_with(attempt, seen(Some(100), Some(30)));
    w.ask(200);
    assert_eq!(w.grants().len(), 30);
    assert_eq!(w.engine.status(w.now).limits[0].used_by_others, 69);
}

#[test]
fn a_stale_response_is_not_charged_to_others() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(100);
    let mut grants = w.grants();
    let slow = grants.pop().unwrap();
    grants.into_iter().for_each(|attempt| w.answered(attempt));
    // It was counted in the first window and its answer comes in the second.
    w.pass(SECOND * 11);
    w.ask(50);
    assert_eq!(w.grants().len(), 50);
    w.answered_with(slow, seen(Some(100), Some(0)));
    assert_eq!(w.engine.status(w.now).limits[0].used_by_others, 0);
}

#[test]
fn headers_end_the_cold_start() {
    let start = Time(1_000_000_000_000);
    let engine = Engine::after_unknown_past(account(vec![sliding("requests", 100, 10)]), start);
    let mut w = World::with(engine, start);
    w.ask(300);
    let probe = w.grants()[0];
    w.answered_with(probe, seen(Some(100), Some(99)));
    let opened = w.grants().len();
    assert!((97..=99).contains(&opened), "all but the probe: {opened}");
}

#[test]
fn headers_of_a_used_account_release_what_is_left() {
    let start = Time(1_000_000_000_000);
    let engine = Engine::after_unknown_past(account(vec![sliding("requests", 100, 10)]), start);
    let mut w = World::with(engine, start);
    w.ask(300);
    let probe = w.grants()[0];
    w.answered_with(probe, seen(Some(100), Some(40)));
    let opened = w.grants().len();
    assert!((38..=40).contains(&opened), "{opened}");
}

#[test]
fn unknown_earlier_calls_expire_evenly_in_constant_memory() {
    let start = Time(1_000_000_000_000);
    let amount = 9_000_000;
    let engine = Engine::after_unknown_past(account(vec![sliding("requests", amount, 900)]), start);
    let mut w = World::with(engine, start);
    assert_eq!(w.engine.status(w.now).limits[0].assumed, amount - 1);
    assert!(w.engine.snapshot(w.now).counters[0].units.is_empty());
    w.ask(3);
    assert_eq!(w.grants().len(), 1);
    w.pass(MS * 1);
    assert_eq!(w.grants().len(), 0, "what was sent before may be counted J later");
    w.pass(MS * 300);
    assert_eq!(w.grants().len(), 2);
    w.pass(SECOND * 450);
    let assumed = w.engine.status(w.now).limits[0].assumed;
    assert!((amount * 49 / 100..amount * 51 / 100).contains(&assumed), "{assumed}");
}

#[test]
fn thousands_of_calls_of_others_are_charged_for_one_window() {
    let mut w = World::new(vec![sliding("requests", 5000, 10)]);
    w.ask(1);
    let attempt = w.grants()[0];
    w.answered_with(attempt, seen(Some(5000), Some(10)));
    assert_eq!(w.engine.status(w.now).limits[0].used_by_others, 4989);
    w.ask(20);
    assert_eq!(w.grants().len(), 10);
    w.pass(SECOND * 10 + MS * 5);
    assert_eq!(w.grants().len(), 10);
}

fn fixed(amount: u64, seconds: u64) -> LimitConfig {
    LimitConfig { counted_as: CountedAs::FixedWindow, ..limit("requests", amount, seconds) }
}

#[test]
fn nothing_of_an_unknown_past_comes_back_before_the_window_ends() {
    let start = Time(1_000_000_000_000);
    let mut w = World::with(Engine::after_unknown_past(account(vec![fixed(60, 30)]), start), start);
    w.ask(100);
    let probe = w.grants()[0];
    w.answered_with(probe, Observation { ends_in: Some(SECOND * 27), ..seen(Some(60), Some(0)) });
    w.pass(SECOND * 27);
    assert_eq!(w.grants().len(), 0);
    w.pass(SECOND * 2);
    assert!(w.grants().len() >= 55, "all that others had used is back");
}

#[test]
fn what_others_used_is_back_when_the_window_ends() {
    let mut w = World::new(vec![fixed(60, 30)]);
    w.ask(1);
    let first = w.grants()[0];
    w.answered_with(first, Observation { ends_in: Some(SECOND * 4), ..seen(Some(60), Some(0)) });
    w.ask(100);
    assert_eq!(w.grants().len(), 0);
    w.pass(SECOND * 4);
    assert_eq!(w.grants().len(), 0);
    w.pass(SECOND * 2);
    assert_eq!(w.grants().len(), 59, "all but our own call");
}

#[test]
fn an_end_later_than_a_window_is_not_believed() {
    let mut w = World::new(vec![fixed(60, 30)]);
    w.ask(1);
    let first = w.grants()[0];
    w.answered_with(first, Observation { ends_in: Some(SECOND * 86_400), ..seen(Some(60), Some(0)) });
    w.ask(100);
    w.pass(SECOND * 31);
    assert_eq!(w.grants().len(), 60);
}

#[test]
fn an_end_is_believed_of_fixed_windows_only() {
    let mut w = World::new(vec![sliding("requests", 60, 30)]);
    w.ask(1);
    let first = w.grants()[0];
    w.answered_with(first, Observation { ends_in: Some(SECOND * 4), ..seen(Some(60), Some(0)) });
    w.ask(100);
    w.pass(SECOND * 29);
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn many_answers_that_tell_the_same_charge_it_once() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(10);
    // Others made 20 calls before any of these was counted.
    for (place, attempt) in w.grants().into_iter().enumerate() {
        w.answered_with(attempt, seen(Some(100), Some(100 - 21 - place as u64)));
    }
    assert_eq!(w.engine.status(w.now).limits[0].used_by_others, 20);
    w.ask(100);
    assert_eq!(w.grants().len(), 70);
}

#[test]
fn use_by_others_stays_charged_while_answers_tell_of_it() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    for second in 0..20 {
        w.ask(1);
        let attempt = w.grants()[0];
        let ours = (second + 1).min(10);
        w.answered_with(attempt, seen(Some(100), Some(100 - 40 - ours)));
        assert_eq!(w.engine.status(w.now).limits[0].used_by_others, 40, "second {second}");
        w.pass(SECOND + MS * 5);
    }
    // They have stopped, longer than a window after they were first seen.
    w.ask(1);
    let attempt = w.grants()[0];
    w.answered_with(attempt, seen(Some(100), Some(90)));
    assert!(w.engine.status(w.now).limits[0].used_by_others <= 1);
}

#[test]
fn in_a_fixed_window_only_our_calls_since_its_beginning_may_explain_what_is_used() {
    let mut w = World::new(vec![fixed(60, 30)]);
    w.ask(60);
    for attempt in w.grants() {
        w.answered_with(attempt, Observation { ends_in: Some(SECOND * 10), ..seen(Some(60), Some(0)) });
    }
    w.pass(SECOND * 30 + MS * 20);
    // A window later, and 20 seconds into the provider's own: others have used 40 of it.
    w.ask(1);
    let attempt = w.grants()[0];
    w.answered_with(attempt, Observation { ends_in: Some(SECOND * 10), ..seen(Some(60), Some(19)) });
    assert_eq!(w.engine.status(w.now).limits[0].used_by_others, 40);
    w.ask(60);
    assert_eq!(w.grants().len(), 19);
}

#[test]
fn use_by_others_fills_a_bucket() {
    let bucket =
        LimitConfig { counted_as: CountedAs::TokenBucket, burst: Some(40), ..limit("requests", 40, 20) };
    let mut w = World::new(vec![bucket]);
    w.ask(1);
    let attempt = w.grants()[0];
    w.answered_with(attempt, seen(Some(40), Some(10)));
    w.ask(100);
    assert_eq!(w.grants().len(), 10);
    w.pass(SECOND);
    assert!((1..=2).contains(&w.grants().len()), "two a second come back");
}

#[test]
fn a_much_smaller_limit_that_an_answer_names_stops_calls_for_a_window_at_most() {
    for counted_as in [CountedAs::Unknown, CountedAs::TokenBucket, CountedAs::SlidingWindow] {
        let mut w =
            World::new(vec![LimitConfig { counted_as, burst: Some(100), ..limit("requests", 10_000, 60) }]);
        w.ask(100);
        let mut grants = w.grants();
        let (last, under_way) = (grants.pop().unwrap(), grants.split_off(50));
        grants.into_iter().for_each(|attempt| w.answered(attempt));
        let told =
            Observation { limit: "requests".to_owned(), hard: Some(3), remaining: None, ends_in: None };
        w.answered_with(last, told);
        under_way.into_iter().for_each(|attempt| w.answered(attempt));
        w.ask(1);
        w.pass(SECOND * 62);
        assert_eq!(w.grants().len(), 1, "{counted_as:?}");
    }
}
