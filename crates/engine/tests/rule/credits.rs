//! Limits of credits: what a call costs is known when it comes, or told by its answer.

use proptest::prelude::*;
use quotakeeper_engine::config::{Charged, LimitConfig, Reserving, TokenLimit, TokenRates, Unit};
use quotakeeper_engine::cost::{Amount, Costs, Demand};
use quotakeeper_engine::event::{Attempt, Event, RefusalReason};
use quotakeeper_engine::tokens::{CallEnd, TokenUsage};

use crate::world::*;

fn constant(amount: u64) -> LimitConfig {
    LimitConfig { unit: Unit::Credits, ..sliding("credits", amount, 60) }
}

/// A limit whose calls say in their answers what they have cost.
fn told(amount: u64) -> LimitConfig {
    let (charged, reserving) = (Charged::Settled, Reserving::Bound);
    let tokens = TokenLimit { charged, arrival: None, rates: TokenRates::default(), reserving };
    LimitConfig { tokens: Some(tokens), ..constant(amount) }
}

fn asks(w: &mut World, credits: u64, calls: usize) {
    let costs = Costs { credits: Amount(credits), ..Costs::default() };
    for _ in 0..calls {
        w.ask_for(1, "job", Demand { costs, ..Demand::default() }, None);
    }
}

fn ends(w: &mut World, attempt: Attempt, end: CallEnd, credits: Option<u64>) {
    let usage = credits.map(|credits| TokenUsage { credits: Some(credits), ..TokenUsage::default() });
    w.tell(Event::FirstByte { attempt, latest: w.now, observations: Vec::new() });
    w.tell(Event::Done { attempt, end, usage });
}

#[test]
fn what_a_call_costs_is_drawn_of_the_limit() {
    for limit in [constant(100), told(100)] {
        let mut w = World::new(vec![limit]);
        asks(&mut w, 30, 5);
        assert_eq!((w.grants().len(), w.used("credits")), (3, 90));
        asks(&mut w, 0, 2);
        assert_eq!(w.used("credits"), 90);
    }
}

#[test]
fn what_an_answer_tells_replaces_what_is_held_and_nothing_else_does() {
    let cases = [
        (CallEnd::Seen, Some(10), 70),
        (CallEnd::Seen, Some(50), 110),
        (CallEnd::Seen, None, 90),
        // The provider may go on: what is held counts until the longest call has ended.
        (CallEnd::Lost, Some(10), 90),
        (CallEnd::Lost, None, 90),
    ];
    for (end, credits, used) in cases {
        let mut w = World::new(vec![told(100)]);
        asks(&mut w, 30, 3);
        let grants = w.grants();
        ends(&mut w, grants[0], end, credits);
        w.pass(SECOND * 2);
        assert_eq!(w.used("credits"), used, "{end:?} {credits:?}");
    }
}

#[test]
fn a_call_that_can_never_fit_is_refused_with_both_figures() {
    for limit in [constant(100), told(100)] {
        let mut w = World::new(vec![limit]);
        asks(&mut w, 101, 1);
        assert_eq!(w.refusals(), [(RefusalReason::NeverFits, None)]);
    }
}

proptest! {
    /// Whatever answers say or leave out, no more is granted than fits beside what they have told, or what is held.
    #[test]
    fn an_answer_that_says_nothing_frees_nothing(
        ends_of in prop::collection::vec((any::<bool>(), prop::option::of(prop_oneof![0..60_u64, Just(u64::MAX)])), 1..6)
    ) {
        let mut w = World::new(vec![told(100)]);
        asks(&mut w, 20, 20);
        let grants = w.grants();
        prop_assert_eq!(grants.len(), 5);
        let mut counted = 100_u64;
        for (attempt, (seen, credits)) in grants.into_iter().zip(ends_of) {
            let end = if seen { CallEnd::Seen } else { CallEnd::Lost };
            ends(&mut w, attempt, end, credits);
            let drawn = match credits {
                Some(credits) if seen => credits,
                credits => credits.unwrap_or(0).max(20),
            };
            counted = (counted - 20).saturating_add(drawn);
            w.pass(SECOND * 2);
            let more = w.grants().len() as u64;
            counted = counted.saturating_add(more * 20);
            prop_assert!(more == 0 || counted <= 100, "{} after {:?} {:?}", counted, end, credits);
        }
    }
}
