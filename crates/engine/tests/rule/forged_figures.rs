//! What the answers to one workload's calls say of a limit binds all others too: of a provider that is used from
//! elsewhere it is often the truth, and to wait for another's word would exceed the quota. Were it forged, it would bind
//! the others for a window; for long, or again and again, only until a call of another asks whether it is true.

use std::time::Duration;

use proptest::prelude::*;
use quotakeeper_engine::config::{CountedAs, LimitConfig};
use quotakeeper_engine::event::{CallClass, Observation};

use crate::world::*;

const AMOUNT: u64 = 100;
/// Of a unit beyond its window: validity and delivery bound, rounding of ends, drift of clocks.
const MARGIN: Duration = Duration::from_secs(10);

fn figures() -> impl Strategy<Value = Observation> {
    let (hard, remaining) =
        (proptest::option::of(1..=2 * AMOUNT), proptest::option::of(prop_oneof![Just(0), 0..=AMOUNT]));
    (hard, remaining, proptest::option::of(0..200_u64)).prop_map(|(hard, remaining, ends_in)| Observation {
        limit: "requests".to_owned(),
        hard,
        remaining,
        ends_in: ends_in.map(Duration::from_secs),
    })
}

fn limits() -> impl Strategy<Value = LimitConfig> {
    let counted = prop_oneof![
        Just(CountedAs::Unknown),
        Just(CountedAs::SlidingWindow),
        Just(CountedAs::FixedWindow),
        Just(CountedAs::TokenBucket),
    ];
    (counted, prop_oneof![Just(10), Just(60)])
        .prop_map(|(counted_as, seconds)| LimitConfig { counted_as, ..limit("requests", AMOUNT, seconds) })
}

fn truth() -> Observation {
    Observation { limit: "requests".to_owned(), hard: Some(AMOUNT), remaining: None, ends_in: None }
}

/// The forger has a call waiting at all times, whose answer is forged. How long another's call waits.
fn wait_beside(w: &mut World, forged: &[Observation], forger_goes_on: bool) -> Duration {
    let begun = w.now;
    w.ask_as(2, "honest", CallClass::default(), None);
    let mut forged = forged.iter().cycle();
    while w.now.since(begun) < SECOND * 600 {
        for attempt in w.grants() {
            if attempt.session.0 == 2 {
                w.answered_with(attempt, truth());
                return w.now.since(begun);
            }
            w.answered_with(attempt, forged.next().cloned().unwrap_or_else(truth));
            if forger_goes_on {
                w.ask_as(1, "forger", CallClass::default(), None);
            }
        }
        w.pass(SECOND / 2);
    }
    w.now.since(begun)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_one_workload_is_told_binds_others_for_a_window_at_most(
        limit in limits(),
        forged in proptest::collection::vec(figures(), 1..6),
    ) {
        let window = limit.window;
        let mut w = World::new(vec![limit]);
        // Some calls of everybody have been made.
        w.ask_as(1, "forger", CallClass::default(), None);
        w.ask_as(2, "honest", CallClass::default(), None);
        for attempt in w.grants() {
            w.answered_with(attempt, truth());
        }
        // It ends with one call, or goes on for ever: turns are fair, so that every second is another's.
        w.ask_as(1, "forger", CallClass::default(), None);
        let once = wait_beside(&mut w, &forged, false);
        prop_assert!(once <= window + MARGIN, "{once:?}");
        w.ask_as(1, "forger", CallClass::default(), None);
        for _ in 0..3 {
            let again = wait_beside(&mut w, &forged, true);
            prop_assert!(again <= (window + MARGIN) * 2, "{again:?}");
        }
    }

    #[test]
    fn nothing_of_it_is_left_a_window_after_the_others_were_answered(
        limit in limits(),
        forged in proptest::collection::vec(figures(), 1..6),
    ) {
        let window = limit.window;
        let mut w = World::new(vec![limit]);
        w.ask_as(1, "forger", CallClass::default(), None);
        wait_beside(&mut w, &forged, false);
        let amount = w.engine.status(w.now).limits[0].amount;
        prop_assert_eq!(amount, AMOUNT, "from the first answer that says otherwise");
        w.pass(window + MARGIN);
        let status = w.engine.status(w.now);
        prop_assert_eq!((status.limits[0].used, status.limits[0].used_by_others), (0, 0));
    }
}

const HONEST: &str = "ns/Job/honest";
const FORGER: &str = "ns/Job/forger";

fn nothing_left() -> Observation {
    Observation { limit: "requests".to_owned(), hard: Some(1), remaining: Some(0), ends_in: None }
}

/// How many calls of another are answered in twenty minutes, beside one whose every answer says that nothing is left.
fn answered_beside_a_forger(told: Option<u64>) -> u64 {
    let mut w = World::new(vec![sliding("requests", AMOUNT, 10)]);
    let mut answered = 0;
    let mut waiting = [0; 2];
    for _ in 0..1200 {
        for (place, consumer) in [FORGER, HONEST].into_iter().enumerate() {
            while waiting[place] < 20 {
                waiting[place] += 1;
                w.ask_as(place as u64 + 1, consumer, CallClass::default(), None);
            }
        }
        w.pass(SECOND);
        loop {
            let grants = w.grants();
            for attempt in &grants {
                waiting[attempt.session.0 as usize - 1] -= 1;
                match (attempt.session.0, told) {
                    (1, _) => w.answered_with(*attempt, nothing_left()),
                    (_, Some(hard)) => {
                        w.answered_with(*attempt, Observation { hard: Some(hard), ..truth() });
                    }
                    (_, None) => w.answered(*attempt),
                }
                answered += u64::from(attempt.session.0 == 2);
            }
            if grants.is_empty() {
                break;
            }
        }
    }
    answered
}

#[test]
fn figures_made_up_again_and_again_hold_the_others_for_minutes_and_not_for_good() {
    // Half of what is left of twenty minutes when three were lost.
    for told in [None, Some(AMOUNT)] {
        let answered = answered_beside_a_forger(told);
        assert!(answered >= 5_000, "{answered} of 6,000, {told:?}");
    }
}

fn daily() -> LimitConfig {
    limit("requests", 1000, 86_400)
}

fn used_by_others(w: &mut World) -> u64 {
    w.engine.status(w.now).limits[0].used_by_others
}

fn left(remaining: u64) -> Observation {
    Observation { limit: "requests".to_owned(), hard: Some(1000), remaining: Some(remaining), ends_in: None }
}

/// A world of two workloads, in which the one has heard that others have used up a day's limit.
fn one_has_heard_that_the_day_is_over() -> World {
    let mut w = World::new(vec![daily()]);
    w.ask_as(2, HONEST, CallClass::default(), None);
    w.ask_as(1, FORGER, CallClass::default(), None);
    for attempt in w.grants() {
        let told = if attempt.session.0 == 1 { left(0) } else { left(998) };
        w.answered_with(attempt, told);
    }
    assert!(used_by_others(&mut w) >= 990, "nobody else asks: it binds");
    w
}

#[test]
fn figures_for_a_day_are_doubted_when_another_asks_and_its_answer_decides() {
    let mut w = one_has_heard_that_the_day_is_over();
    w.pass(SECOND * 5);
    w.ask_as(2, HONEST, CallClass::default(), None);
    w.ask_as(2, HONEST, CallClass::default(), None);
    let probe = w.grants();
    assert_eq!(probe.len(), 1, "one call asks");
    w.answered_with(probe[0], left(997));
    assert_eq!(w.grants().len(), 1, "and what it was told holds for the other");
    assert!(used_by_others(&mut w) <= 5);
}

#[test]
fn figures_that_another_hears_too_are_doubted_no_more() {
    let mut w = one_has_heard_that_the_day_is_over();
    w.pass(SECOND * 5);
    w.ask_as(2, HONEST, CallClass::default(), None);
    let probe = w.grants();
    w.answered_with(probe[0], left(0));
    w.pass(SECOND * 100);
    for session in 1..4 {
        w.ask_as(session, &format!("ns/Job/{session}"), CallClass::default(), None);
    }
    w.pass(SECOND * 100);
    assert_eq!(w.grants().len(), 0, "it binds all, and nobody asks again");
    assert!(used_by_others(&mut w) >= 990);
}
