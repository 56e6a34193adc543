//! Windows and buckets: what may be granted, and when the next.

use quotakeeper_engine::config::{CountedAs, LimitConfig, Pacing};
use quotakeeper_engine::event::Event;
use quotakeeper_engine::time::Time;

use crate::world::*;

#[test]
fn a_sliding_window_grants_a_full_burst_and_then_as_units_expire() {
    let mut w = World::new(vec![sliding("requests", 100, 10)]);
    w.ask(150);
    let first = w.grants();
    assert_eq!(first.len(), 100);
    first.into_iter().for_each(|attempt| w.answered(attempt));
    w.pass(SECOND * 10);
    assert_eq!(w.grants().len(), 0, "a window that is measured by a fast clock is longer");
    w.pass(MS * 5);
    assert_eq!(w.grants().len(), 50, "4 ms after ten seconds, the guard against drift");
}

#[test]
fn an_unreported_unit_is_held_for_validity_and_delivery() {
    let mut w = World::new(vec![sliding("requests", 1, 10)]);
    w.ask(2);
    assert_eq!(w.grants().len(), 1);
    w.pass(SECOND * 12);
    assert_eq!(w.grants().len(), 0, "it may have been counted 2.3 s after the grant");
    w.pass(MS * 310);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn sent_bounds_when_the_call_was_written() {
    let mut w = World::new(vec![sliding("requests", 1, 10)]);
    w.ask(2);
    let attempt = w.grants()[0];
    w.tell(Event::Sent { attempt, latest: w.now });
    w.pass(SECOND * 10 + MS * 290);
    assert_eq!(w.grants().len(), 0, "J after the write");
    w.pass(MS * 20);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn unknown_counting_grants_the_bucket_and_then_the_rate() {
    let mut w = World::new(vec![LimitConfig { burst: Some(5), ..limit("requests", 100, 10) }]);
    w.ask(40);
    let burst = w.grants();
    assert_eq!(burst.len(), 5);
    burst.into_iter().for_each(|attempt| w.answered(attempt));
    let mut granted = 0;
    for _ in 0..10 {
        w.pass(MS * 101);
        let grants = w.grants();
        granted += grants.len();
        grants.into_iter().for_each(|attempt| w.answered(attempt));
    }
    assert!((9..=10).contains(&granted), "one every 100 ms: {granted}");
}

#[test]
fn a_daily_budget_is_not_paced() {
    let day = limit("daily", 1000, 86_400);
    let paced = LimitConfig { burst: Some(5), ..day.clone() };
    let even = LimitConfig { pacing: Pacing::LeakyBucket, ..day.clone() };
    for limit in [day, paced, even] {
        let mut w = World::new(vec![limit]);
        w.ask(1200);
        assert_eq!(w.grants().len(), 1000);
    }
}

#[test]
fn calls_that_may_still_arrive_fill_the_bucket() {
    let mut w = World::new(vec![LimitConfig { burst: Some(5), ..limit("requests", 100, 10) }]);
    w.ask(40);
    assert_eq!(w.grants().len(), 5);
    w.pass(SECOND * 2);
    assert_eq!(w.grants().len(), 0, "five unreported calls may arrive together with any further one");
}

#[test]
fn a_known_token_bucket_keeps_no_log() {
    let bucket = LimitConfig { counted_as: CountedAs::TokenBucket, burst: Some(40), ..limit("shop", 40, 20) };
    let mut w = World::new(vec![bucket]);
    w.ask(200);
    let mut total = 0;
    for _ in 0..400 {
        let grants = w.grants();
        total += grants.len();
        grants.into_iter().for_each(|attempt| w.answered(attempt));
        w.pass(MS * 50);
    }
    assert!((78..=80).contains(&total), "40, then 2 a second for 20 s: {total}");
}

#[test]
fn leaky_pacing_spaces_grants_evenly() {
    let even = LimitConfig { pacing: Pacing::LeakyBucket, ..sliding("requests", 10, 10) };
    let mut w = World::new(vec![even]);
    w.ask(10);
    for second in 0..10 {
        let grants = w.grants();
        assert_eq!(grants.len(), 1, "second {second}");
        grants.into_iter().for_each(|attempt| w.answered(attempt));
        w.pass(SECOND + MS);
    }
}

#[test]
fn all_limits_are_charged_or_none() {
    let search = LimitConfig { endpoint: Some("search".to_owned()), ..sliding("search", 5, 1) };
    let mut w = World::new(vec![sliding("requests", 100, 10), search]);
    for _ in 0..20 {
        w.ask_as(1, "job", endpoint("search"), None);
    }
    assert_eq!(w.grants().len(), 5);
    assert_eq!(w.used("requests"), 5, "calls that wait for one limit hold nothing of another");
    w.ask(95);
    assert_eq!(w.grants().len(), 95, "other endpoints are not held up");
}

#[test]
fn models_are_counted_separately_where_the_provider_does() {
    let mut w = World::new(vec![LimitConfig { per_model: true, ..sliding("rpm", 3, 60) }]);
    for name in ["small", "large"] {
        for _ in 0..5 {
            w.ask_as(1, "job", model(name), None);
        }
    }
    assert_eq!(w.grants().len(), 6);
}

#[test]
fn a_call_of_an_unknown_model_counts_for_any_model() {
    let of = |models: &[&str]| models.iter().map(|model| (*model).to_owned()).collect();
    let mut w = World::new(vec![LimitConfig { models: of(&["large"]), ..sliding("large", 2, 60) }]);
    w.ask(3);
    assert_eq!(w.grants().len(), 2);
    w.ask_as(1, "job", model("small"), None);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_late_write_is_counted_again_and_reported() {
    let mut w = World::new(vec![sliding("requests", 1, 10)]);
    w.ask(2);
    let attempt = w.grants()[0];
    w.pass(SECOND * 12);
    // The proxy stalled between its look at the clock and the write.
    w.tell(Event::Sent { attempt, latest: w.now });
    assert_eq!(w.engine.totals().breaches, 1);
    w.pass(SECOND * 10);
    assert_eq!(w.grants().len(), 0, "its window began with the write");
    w.pass(MS * 310);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_late_write_restores_an_expired_unit() {
    let mut w = World::new(vec![sliding("requests", 1, 10)]);
    w.ask(2);
    let first = w.grants()[0];
    w.pass(SECOND * 12 + MS * 310);
    assert_eq!(w.grants().len(), 1, "the first has left the log");
    w.tell(Event::Sent { attempt: first, latest: w.now });
    assert_eq!((w.engine.totals().breaches, w.used("requests")), (1, 2));
}

#[test]
fn an_unused_grant_leaves_the_log_but_not_the_level() {
    let mut w = World::new(vec![LimitConfig { burst: Some(1), ..limit("requests", 2, 10) }]);
    w.ask(2);
    let attempt = w.grants()[0];
    w.pass(SECOND * 3);
    w.tell(Event::Unused { attempt, again: false });
    assert_eq!(w.used("requests"), 0);
    assert_eq!(w.grants().len(), 0, "it was counted 2.3 s after the grant, and drains from then on");
    w.pass(SECOND * 5);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_silent_session_gets_no_grants() {
    let mut w = World::new(vec![sliding("requests", 1, 1)]);
    w.ask(1);
    let first = w.grants()[0];
    w.ask_as(77, "job", Default::default(), None);
    w.ask_as(2, "job", Default::default(), None);
    w.answered(first);
    // Session 77 says nothing any more; the others do.
    w.pass(SECOND * 3);
    let granted: Vec<u64> = w.grants().iter().map(|attempt| attempt.session.0).collect();
    assert_eq!(granted, [2]);
    w.pass(SECOND * 3);
    w.alive(77);
    assert_eq!(w.grants().len(), 1, "it is next as soon as it is heard");
}

#[test]
fn a_lower_amount_applies_at_once_and_a_raise_adds_no_past_units() {
    let mut w = World::new(vec![LimitConfig { burst: Some(10), ..limit("requests", 100, 10) }]);
    w.ask(100);
    w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    w.tell(Event::Configure(account(vec![LimitConfig { burst: Some(20), ..limit("requests", 200, 10) }])));
    assert_eq!(w.grants().len(), 0, "an empty bucket stays empty, however large it becomes");
    w.tell(Event::Configure(account(vec![LimitConfig { burst: Some(2), ..limit("requests", 5, 10) }])));
    w.pass(SECOND * 2);
    assert_eq!(w.grants().len(), 0, "ten are in the log of a limit of five");
}

#[test]
fn disabled_mode_passes_and_counts_every_call() {
    let mut w = World::new(vec![sliding("requests", 1, 10)]);
    w.ask(5);
    assert_eq!(w.grants().len(), 1);
    let mut open = account(vec![sliding("requests", 1, 10)]);
    open.mode = quotakeeper_engine::config::Mode::Disabled;
    w.tell(Event::Configure(open));
    assert_eq!(w.grants().len(), 4);
    assert_eq!(w.used("requests"), 5);
}

#[test]
fn without_a_lease_nothing_is_granted() {
    let mut w = World::new(vec![sliding("requests", 10, 10)]);
    w.tell(Event::Lease(w.now + SECOND));
    w.ask(1);
    assert_eq!(w.grants().len(), 1);
    w.pass(SECOND);
    w.ask(1);
    assert_eq!(w.grants().len(), 0);
    w.tell(Event::Lease(Time::NEVER));
    assert_eq!(w.grants().len(), 1);
}
