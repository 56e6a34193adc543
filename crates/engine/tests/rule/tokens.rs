//! Limits of tokens: what is held for a call, what it is charged, and when.

mod alone;
mod headers;
mod learned;
mod restarts;

use std::time::Duration;

use proptest::prelude::*;
use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{
    AccountConfig, ArrivalFormula, ArrivalOutput, Charged, CountedAs, LimitConfig, ModelFacts, ModelPrices,
    Reserving, TokenLimit, TokenRates, Unit,
};
use quotakeeper_engine::cost::Demand;
use quotakeeper_engine::event::{
    Action, Attempt, CallClass, CallId, Event, Fingerprint, GrantProgress, Observation, RefusalReason,
    ResumedGrant, SessionId,
};
use quotakeeper_engine::time::Time;
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};

use crate::world::*;

/// A limit of all tokens that holds the most that a call can use.
fn tokens(amount: u64, seconds: u64, charged: Charged) -> LimitConfig {
    let rates = TokenRates { input: 1, cached: 1, cache_write: 1, output: 1 };
    LimitConfig {
        unit: Unit::TotalTokens,
        tokens: Some(TokenLimit { charged, arrival: None, rates, reserving: Reserving::Bound }),
        ..sliding("tokens", amount, seconds)
    }
}

/// A limit of output alone.
fn output(amount: u64, seconds: u64, charged: Charged) -> LimitConfig {
    let limit = tokens(amount, seconds, charged);
    let rates = TokenRates { output: 1, ..TokenRates::default() };
    let tokens = limit.tokens.map(|tokens| TokenLimit { rates, ..tokens });
    LimitConfig { name: "output".to_owned(), unit: Unit::OutputTokens, tokens, ..limit }
}

fn learned(limit: LimitConfig) -> LimitConfig {
    let tokens = limit.tokens.map(|tokens| TokenLimit { reserving: Reserving::Learned, ..tokens });
    LimitConfig { tokens, ..limit }
}

fn with_formula(limit: LimitConfig, bytes_per_token: u64, output: ArrivalOutput) -> LimitConfig {
    let arrival = Some(ArrivalFormula { bytes_per_token, output, exact: true });
    LimitConfig { tokens: limit.tokens.map(|tokens| TokenLimit { arrival, ..tokens }), ..limit }
}

/// A call that sends so many bytes of text and allows so many tokens of output.
fn call(text_bytes: u64, max_output: u64) -> Demand {
    let size = CallSize { text_bytes, max_output: Some(max_output), choices: 1, ..CallSize::default() };
    Demand { size: Some(size), ..Demand::default() }
}

fn used(input: u64, output: u64) -> TokenUsage {
    TokenUsage { input, output, exact: true, ..TokenUsage::default() }
}

impl World {
    fn asks(&mut self, demand: &Demand, calls: usize) {
        for _ in 0..calls {
            self.ask_for(1, "job", demand.clone(), None);
        }
    }

    fn ends(&mut self, attempt: Attempt, end: CallEnd, usage: Option<TokenUsage>) {
        self.tell(Event::FirstByte { attempt, latest: self.now, observations: Vec::new() });
        self.tell(Event::Done { attempt, end, usage });
    }
}

#[test]
fn the_most_that_a_call_can_use_is_held_and_what_it_did_not_use_comes_back_at_its_end() {
    for charged in [Charged::Settled, Charged::AsProduced, Charged::Unknown] {
        let mut w = World::new(vec![tokens(10_000, 60, charged)]);
        w.asks(&call(1_000, 3_000), 3);
        let first = w.grants();
        assert_eq!((first.len(), w.used("tokens")), (2, 8_000), "{charged:?}");
        w.ends(first[0], CallEnd::Seen, Some(used(200, 100)));
        assert_eq!(w.used("tokens"), 8_000, "{charged:?}: the provider may count it for a moment longer");
        w.pass(MS * 310);
        assert_eq!(w.grants().len(), 1, "{charged:?}: 3,700 came back");
        assert_eq!(w.used("tokens"), 8_300);
        // What was used counts for a window from then on.
        w.pass(SECOND * 59);
        assert_eq!(w.used("tokens"), 8_300);
        w.pass(SECOND * 3);
        assert_eq!(w.used("tokens"), 8_000);
    }
}

#[test]
fn a_charge_at_arrival_is_what_the_formula_says_and_usage_changes_nothing() {
    let limit = with_formula(tokens(1_000, 60, Charged::AtArrival), 4, ArrivalOutput::Largest);
    let mut w = World::new(vec![limit]);
    // 400 bytes are 100 tokens; the output that it allows is more.
    w.asks(&call(400, 300), 4);
    let first = w.grants();
    assert_eq!((first.len(), w.used("tokens")), (3, 900));
    w.ends(first[0], CallEnd::Seen, Some(used(20, 5)));
    assert_eq!((w.grants().len(), w.used("tokens")), (0, 900));
    w.pass(SECOND * 62);
    assert_eq!(w.grants().len(), 1);
}

/// A provider may go on for as long as a call of its model lasts; of an unknown model, as long as any.
#[test]
fn what_a_lost_call_holds_is_held_as_long_as_calls_of_its_model_last() {
    for (model, longest) in [("quick", 30), ("usual", 600), ("slow", 900), ("unknown", 900)] {
        let mut config = account(vec![tokens(1_000, 60, Charged::Settled)]);
        for (name, seconds) in [("quick", Some(30)), ("usual", None), ("slow", Some(900))] {
            let max_call = seconds.map(Duration::from_secs);
            config.models.insert(name.to_owned(), ModelFacts { max_call, ..ModelFacts::default() });
        }
        let mut w = World::of(config);
        w.alive(1);
        let class = CallClass { model: Some(model.to_owned()), ..CallClass::default() };
        w.asks(&Demand { class, ..call(100, 300) }, 1);
        let attempt = w.grants()[0];
        w.ends(attempt, CallEnd::Lost, Some(used(100, 50)));
        w.pass(SECOND * (longest + 50));
        assert_eq!(w.used("tokens"), 400, "{model}");
        w.pass(SECOND * 20);
        assert_eq!(w.used("tokens"), 0, "{model}");
    }
}

/// Of a call that nobody could read the formula says nothing.
#[test]
fn a_call_without_size_is_not_refused_where_others_are_charged_at_arrival() {
    let limit = with_formula(learned(tokens(1_000, 60, Charged::AtArrival)), 4, ArrivalOutput::Largest);
    let mut w = World::new(vec![limit]);
    w.asks(&Demand::default(), 5);
    assert_eq!((w.grants().len(), w.used("tokens")), (4, 1_000), "a quarter each");
}

/// Otherwise one absurd header would close the limit for good.
#[test]
fn a_call_that_fits_the_declared_limit_goes_alone_where_an_answer_names_less() {
    let mut w =
        World::new(vec![with_formula(tokens(1_000, 60, Charged::AtArrival), 4, ArrivalOutput::Added)]);
    w.asks(&call(400, 200), 1);
    let attempt = w.grants()[0];
    let observations =
        vec![Observation { limit: "tokens".to_owned(), hard: Some(1), remaining: None, ends_in: None }];
    w.tell(Event::FirstByte { attempt, latest: w.now, observations });
    w.asks(&call(400, 200), 1);
    w.pass(SECOND * 70);
    assert_eq!((w.grants().len(), w.refusals().len()), (1, 0));
    w.asks(&call(400, 2_000), 1);
    assert_eq!(w.refusals(), [(RefusalReason::NeverFits, None)]);
}

/// A provider that adds the most output can't add what nothing bounds, nor does it count it of a call that it rejects.
#[test]
fn a_call_whose_output_nothing_bounds_does_not_take_the_whole_limit() {
    let limit = with_formula(learned(tokens(8_000, 60, Charged::Unknown)), 4, ArrivalOutput::Added);
    let mut w = World::new(vec![limit]);
    let mut unbounded = call(400, 0);
    unbounded.size.as_mut().unwrap().max_output = None;
    w.asks(&unbounded, 6);
    let first = w.grants();
    assert_eq!((first.len(), w.used("tokens")), (4, 8_000), "a quarter each");
    w.rejected(first[0], quotakeeper_engine::event::RejectionClass::Capacity, None);
    assert_eq!(w.used("tokens"), 6_100, "the text of the rejected one");
}

/// The real limit may be larger than what is assumed until the first answer.
#[test]
fn nothing_is_refused_as_too_large_for_an_amount_that_is_only_assumed() {
    let limits = || vec![with_formula(tokens(1_000, 60, Charged::AtArrival), 4, ArrivalOutput::Largest)];
    let mut w = World::new(limits());
    w.tell(Event::Configure(AccountConfig { assumed: true, ..account(limits()) }));
    w.asks(&call(400, 3_000), 2);
    assert_eq!((w.grants().len(), w.refusals().len()), (1, 0), "it goes alone");
    w.tell(Event::Configure(account(limits())));
    assert_eq!(w.refusals(), [(RefusalReason::NeverFits, None)], "now it is known");
}

#[test]
fn what_a_call_does_not_draw_on_does_not_hold_it_up() {
    let mut w = World::new(vec![sliding("requests", 100, 60), output(1_000, 60, Charged::AsProduced)]);
    w.asks(&call(1_000, 1_000), 2);
    assert_eq!(w.grants().len(), 1, "the limit of output is full");
    assert_eq!(w.used("requests"), 1, "the one that waits draws nothing anywhere");
    // An embedding has no output; it waits in another lane.
    let embedding = CallClass { endpoint: Some("embeddings".to_owned()), ..CallClass::default() };
    w.ask_for(1, "job", Demand { class: embedding, ..call(50_000, 0) }, None);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_call_that_can_never_fit_is_refused_at_once() {
    let mut w = World::new(vec![tokens(3_000, 60, Charged::AsProduced)]);
    w.asks(&call(500, 4_096), 1);
    let figures = "it can draw 4596 tokens of the limit tokens, which allows 3000 tokens; allow it fewer tokens of output";
    assert!(w.actions.iter().any(|action| match action {
        Action::Refuse { words: Some(words), .. } => words == figures,
        _ => false,
    }));
    assert_eq!(w.refusals(), [(RefusalReason::NeverFits, None)]);
    // What is likely may be less: it takes its chance, with all that there is.
    let mut w = World::new(vec![learned(tokens(3_000, 60, Charged::AsProduced))]);
    w.asks(&call(500, 4_096), 1);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_call_that_nobody_could_read_goes_alone() {
    let mut w = World::new(vec![tokens(3_000, 60, Charged::Settled)]);
    w.asks(&Demand::default(), 2);
    let alone = w.grants();
    assert_eq!((alone.len(), w.used("tokens")), (1, 3_000));
    w.ends(alone[0], CallEnd::Seen, Some(used(10, 10)));
    w.pass(SECOND * 62);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_call_whose_client_hung_up_counts_until_it_must_be_over() {
    let mut w = World::new(vec![tokens(4_000, 10, Charged::AsProduced)]);
    w.asks(&call(1_000, 3_000), 2);
    let first = w.grants();
    w.ends(first[0], CallEnd::Lost, Some(used(200, 50)));
    w.pass(SECOND * 30);
    assert_eq!(w.grants().len(), 0, "the provider may still be producing");
    let longest = w.engine.config().pause.max_call;
    w.pass(longest - SECOND * 20);
    w.asks(&call(1_000, 3_000), 1);
    assert_eq!(w.grants().len(), 0);
    w.pass(SECOND * 32);
    assert_eq!(w.grants().len(), 1, "it can't any more, and a window has passed since");
}

#[test]
fn a_call_without_usage_is_charged_what_was_held() {
    let mut w = World::new(vec![tokens(4_000, 10, Charged::Settled)]);
    w.asks(&call(1_000, 3_000), 2);
    let first = w.grants();
    w.ends(first[0], CallEnd::Seen, None);
    assert_eq!(w.used("tokens"), 4_000);
    w.pass(SECOND * 11);
    assert_eq!(w.grants().len(), 1, "but it is over");
    // An estimate lets nothing go either.
    let mut w = World::new(vec![tokens(4_000, 10, Charged::Settled)]);
    w.asks(&call(1_000, 3_000), 1);
    let attempt = w.grants()[0];
    w.ends(attempt, CallEnd::Seen, Some(TokenUsage { exact: false, ..used(10, 10) }));
    assert_eq!(w.used("tokens"), 4_000);
}

#[test]
fn progress_enters_the_level_while_the_rest_stays_held() {
    let bucket = LimitConfig { counted_as: CountedAs::TokenBucket, ..output(6_000, 60, Charged::AsProduced) };
    let mut w = World::new(vec![bucket]);
    w.asks(&call(100, 5_000), 1);
    let attempt = w.grants()[0];
    w.tell(Event::FirstByte { attempt, latest: w.now, observations: Vec::new() });
    // 100 tokens a second are just what drains.
    for second in 1..=40 {
        w.pass(SECOND);
        w.tell(Event::Produced { attempt, output: second * 100 });
    }
    let held = w.used("output");
    assert!((1_000..1_500).contains(&held), "4,000 of 5,000 came and have drained: {held}");
    w.tell(Event::Done { attempt, end: CallEnd::Seen, usage: Some(used(25, 4_200)) });
    w.pass(SECOND);
    assert!(w.used("output") < 600, "no more than has not drained yet: {}", w.used("output"));
}

/// The provider may count all of it at the end, when what was charged meanwhile would have left the log.
#[test]
fn progress_stays_held_where_nobody_knows_when_it_is_counted() {
    let mut w = World::new(vec![tokens(10_000, 10, Charged::Unknown)]);
    w.asks(&call(0, 8_000), 1);
    let attempt = w.grants()[0];
    w.tell(Event::FirstByte { attempt, latest: w.now, observations: Vec::new() });
    for output in [2_000, 4_000, 6_000] {
        w.tell(Event::Produced { attempt, output });
        w.pass(SECOND * 20);
    }
    w.asks(&call(0, 4_000), 1);
    assert_eq!(w.grants().len(), 0);
    w.tell(Event::Done { attempt, end: CallEnd::Seen, usage: Some(used(0, 8_000)) });
    w.pass(SECOND * 5);
    assert_eq!(w.grants().len(), 0, "it counts for a window from now on");
    w.pass(SECOND * 6);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_provider_of_which_nothing_is_known_may_have_charged_on_arrival() {
    let limit = with_formula(tokens(10_000, 60, Charged::Unknown), 4, ArrivalOutput::Added);
    let mut w = World::new(vec![limit]);
    w.asks(&call(400, 3_000), 1);
    let attempt = w.grants()[0];
    w.ends(attempt, CallEnd::Seen, Some(used(90, 10)));
    w.pass(MS * 310);
    assert_eq!(w.used("tokens"), 3_100, "the larger of what it asked for and what it used");
}

#[test]
fn a_rejected_call_draws_no_output() {
    let mut w = World::new(vec![output(1_000, 60, Charged::AsProduced)]);
    w.asks(&call(100, 900), 1);
    let attempt = w.grants()[0];
    w.rejected(attempt, quotakeeper_engine::event::RejectionClass::Capacity, None);
    assert_eq!(w.used("output"), 0);
}

#[test]
fn a_large_call_is_not_passed_by_small_ones_of_another_model_for_ever() {
    let mut w = World::new(vec![tokens(1_000, 10, Charged::Settled)]);
    let small = |model: &str| Demand {
        class: CallClass { model: Some(model.to_owned()), ..CallClass::default() },
        ..call(50, 50)
    };
    let mut under_way = Vec::new();
    for _ in 0..12 {
        w.ask_for(1, "small", small("a"), None);
    }
    w.ask_for(
        2,
        "large",
        Demand { class: CallClass { model: Some("b".to_owned()), ..CallClass::default() }, ..call(500, 400) },
        None,
    );
    let mut large = false;
    for _ in 0..60 {
        for attempt in w.grants() {
            large |= attempt.session == SessionId(2);
            under_way.push(attempt);
        }
        if large {
            break;
        }
        w.pass(SECOND);
        for attempt in under_way.drain(..) {
            w.ends(attempt, CallEnd::Seen, Some(used(50, 50)));
        }
        w.ask_for(1, "small", small("a"), None);
        w.ask_for(1, "small", small("a"), None);
    }
    assert!(large, "each small call would take what had just become free");
}

#[test]
fn money_is_counted_by_the_prices_of_the_model() {
    let prices = ModelPrices {
        // $2.50 and $10 per million tokens, $1.25 where a cache knew it.
        tokens: TokenRates {
            input: 2_500_000,
            cached: 1_250_000,
            cache_write: 2_500_000,
            output: 10_000_000,
        },
        call: 0,
    };
    let facts =
        ModelFacts { max_output: Some(4_096), context: Some(128_000), prices: Some(prices), max_call: None };
    let budget = LimitConfig {
        unit: Unit::Dollars,
        name: "budget".to_owned(),
        ..tokens(1_000_000_000, 86_400, Charged::Settled)
    };
    let config = AccountConfig { any_model: facts, ..account(vec![budget]) };
    let mut w = World::of(config);
    w.asks(&call(10_000, 1_000), 1);
    let attempt = w.grants()[0];
    assert_eq!(w.used("budget"), 10_000 * 2_500 + 1_000 * 10_000, "in nanodollars");
    let usage = TokenUsage { cached: 2_000, ..used(3_000, 200) };
    w.ends(attempt, CallEnd::Seen, Some(usage));
    w.pass(MS * 310);
    assert_eq!(w.used("budget"), 1_000 * 2_500 + 2_000 * 1_250 + 200 * 10_000);
}

#[test]
fn who_holds_much_and_uses_little_gets_as_much_as_who_holds_what_it_uses() {
    let mut w = World::new(vec![output(20_000, 10, Charged::Settled)]);
    let mut used_by = [0, 0];
    for _ in 0..1_000 {
        w.ask_for(1, "cautious", call(0, 500), None);
        w.ask_for(2, "wasteful", call(0, 4_000), None);
    }
    for _ in 0..200 {
        for attempt in w.grants() {
            used_by[attempt.session.0 as usize - 1] += 500;
            w.ends(attempt, CallEnd::Seen, Some(used(0, 500)));
        }
        w.pass(SECOND);
    }
    let [cautious, wasteful] = used_by;
    assert!(cautious + wasteful > 150_000, "{used_by:?}");
    assert!(wasteful * 10 > cautious * 8 && cautious * 10 > wasteful * 8, "{used_by:?}");
}

#[test]
fn a_limit_that_begins_to_count_tokens_counts_those_that_wait_already() {
    let mut w = World::new(vec![sliding("requests", 1, 60)]);
    w.asks(&call(1_000, 1_000), 3);
    assert_eq!(w.grants().len(), 1);
    let limits = vec![sliding("requests", 100, 60), tokens(5_000, 60, Charged::Settled)];
    w.tell(Event::Configure(account(limits)));
    w.pass(SECOND * 61);
    assert_eq!(w.grants().len(), 1, "nobody knows its size: it goes alone");
}

/// What a provider counts of a call, when.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Duration,
    amount: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever calls really use, and whenever the provider counts it between their arrival and their end, no stretch
    /// of a window holds more than the limit, as long as the most is held.
    #[test]
    fn nothing_is_over_while_the_bound_is_held(
        calls in prop::collection::vec((1u64..2_000, 1u64..2_000, 0u64..100, 0u64..100, 1u64..20_000, 0u64..4), 1..25),
        charged in prop_oneof![Just(Charged::Settled), Just(Charged::AsProduced), Just(Charged::Unknown)],
    ) {
        let (amount, window) = (5_000, 10);
        let mut w = World::new(vec![tokens(amount, window, charged)]);
        let start = w.now;
        let mut sizes = std::collections::BTreeMap::new();
        for (text, max, input, output, lasts, how) in calls {
            let id = w.ask_for(1, "job", call(text, max), None);
            sizes.insert(id, (text * input / 100, max * output / 100, lasts, how));
        }
        let mut counted: Vec<Counted> = Vec::new();
        let mut under_way: Vec<(Duration, Attempt, u64, u64, u64)> = Vec::new();
        for _ in 0..600 {
            let now = w.now.since(start);
            for attempt in w.grants() {
                let (input, output, lasts, how) = sizes[&attempt.call];
                w.tell(Event::FirstByte { attempt, latest: w.now, observations: Vec::new() });
                under_way.push((now + MS * lasts as u32, attempt, input, output, how));
            }
            let (over, still): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|call| call.0 <= now);
            under_way = still;
            for (_, attempt, input, output, how) in over {
                // A provider goes on with a quarter of them for 20 s after the client has left.
                let at = if how == 0 { now + SECOND * 20 } else { now };
                counted.push(Counted { at, amount: input + output });
                let end = if how == 0 { CallEnd::Lost } else { CallEnd::Seen };
                w.tell(Event::Done { attempt, end, usage: (how != 1).then(|| used(input, output)) });
            }
            w.pass(MS * 250);
        }
        let window = SECOND * window as u32;
        for first in &counted {
            let within = counted.iter().filter(|other| other.at >= first.at && other.at < first.at + window);
            let sum: u64 = within.map(|other| other.amount).sum();
            prop_assert!(sum <= amount, "{sum} from {:?} on", first.at);
        }
    }
}
