//! What the answers to one workload's calls say of a limit binds all others too: of a provider that is used from
//! elsewhere it is often the truth, and to wait for another's word would exceed the quota. Were it forged, it would
//! bind the others for a window, and what it says of the limit until their own next answer.

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
