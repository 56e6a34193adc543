//! What people are told of workloads: their calls, tokens and money, by model.

use quotakeeper_engine::config::{Charged, ModelFacts, ModelPrices, Reserving, TokenLimit, TokenRates, Unit};
use quotakeeper_engine::cost::Demand;
use quotakeeper_engine::event::{Attempt, Event, SessionId};
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};
use quotakeeper_engine::{Engine, ModelUsage};

use crate::world::*;

/// Tokens a minute, of an account that knows what `small` costs, and of other models the most.
fn world() -> World {
    let rates = TokenRates { input: 1, cached: 1, cache_write: 1, output: 1 };
    let counting =
        TokenLimit { charged: Charged::Settled, arrival: None, rates, reserving: Reserving::Learned };
    let limit = quotakeeper_engine::config::LimitConfig {
        unit: Unit::TotalTokens,
        tokens: Some(counting),
        ..sliding("tokens", 1_000_000, 60)
    };
    let mut config = account(vec![limit]);
    let facts = |picodollars: u64| {
        let tokens = TokenRates {
            input: picodollars,
            cached: picodollars / 2,
            cache_write: picodollars,
            output: 4 * picodollars,
        };
        ModelFacts { prices: Some(ModelPrices { tokens, call: 0 }), ..ModelFacts::default() }
    };
    config.models.insert("small".to_owned(), facts(1_000_000));
    config.any_model = facts(10_000_000);
    World::of(config)
}

fn asked(w: &mut World, consumer: &str, named: &str, calls: usize) -> Vec<Attempt> {
    let class = model(named);
    let size = CallSize { text_bytes: 400, max_output: Some(1_000), choices: 1, ..CallSize::default() };
    for _ in 0..calls {
        w.ask_for(1, consumer, Demand { class: class.clone(), size: Some(size), ..Demand::default() }, None);
    }
    w.grants()
}

fn ends(w: &mut World, attempt: Attempt, end: CallEnd, usage: Option<TokenUsage>) {
    w.tell(Event::FirstByte { attempt, latest: w.now, observations: Vec::new() });
    w.tell(Event::Done { attempt, end, usage });
}

fn used(input: u64, cached: u64, output: u64) -> TokenUsage {
    TokenUsage { input, cached, output, exact: true, ..TokenUsage::default() }
}

fn of(w: &mut World, consumer: &str, model: &str) -> ModelUsage {
    let workloads = w.engine.status(w.now).workloads;
    let workload = workloads.into_iter().find(|it| *it.consumer == *consumer).unwrap();
    workload.models.into_iter().find(|it| it.model.as_deref() == Some(model)).unwrap()
}

#[test]
fn tokens_and_money_are_counted_by_workload_and_model() {
    let mut w = world();
    let grants = asked(&mut w, "a", "small", 3);
    ends(&mut w, grants[0], CallEnd::Seen, Some(used(100, 40, 10)));
    ends(&mut w, grants[1], CallEnd::Seen, Some(used(50, 0, 5)));
    let expected = ModelUsage {
        model: Some("small".to_owned()),
        calls: 2,
        input: 150,
        cached: 40,
        output: 15,
        // (60 + 50) · 1,000 + 40 · 500 + 15 · 4,000 nanodollars.
        nanodollars: 190_000,
        ..ModelUsage::default()
    };
    assert_eq!(of(&mut w, "a", "small"), expected);
    let other = asked(&mut w, "b", "unheard-of", 1);
    ends(&mut w, other[0], CallEnd::Seen, Some(used(1, 0, 1)));
    let dearest = of(&mut w, "b", "unheard-of");
    assert_eq!((dearest.unpriced, dearest.nanodollars), (1, 50_000), "as much as the dearest");
    assert_eq!(of(&mut w, "a", "small"), expected, "another workload's are not its own");
}

#[test]
fn calls_are_told_apart_whose_tokens_or_end_nobody_told() {
    let mut w = world();
    let grants = asked(&mut w, "a", "small", 6);
    ends(&mut w, grants[0], CallEnd::Seen, None);
    ends(&mut w, grants[1], CallEnd::Seen, Some(TokenUsage { exact: false, ..used(10, 0, 10) }));
    w.tell(Event::FirstByte { attempt: grants[2], latest: w.now, observations: Vec::new() });
    w.tell(Event::Produced { attempt: grants[2], output: 500 });
    w.tell(Event::Done { attempt: grants[2], end: CallEnd::Lost, usage: None });
    let usage = of(&mut w, "a", "small");
    assert_eq!((usage.calls, usage.estimated, usage.lost, usage.output), (3, 3, 1, 510));
    // The pod dies with the other three.
    w.tell(Event::FirstByte { attempt: grants[3], latest: w.now, observations: Vec::new() });
    w.tell(Event::PodDeleted(SessionId(1)));
    assert_eq!(of(&mut w, "a", "small").lost, 4);
}

/// A budget holds the most that a call can use: people are told of calls that leave that to the model.
#[test]
fn calls_that_set_no_maximum_of_output_are_counted_where_it_is_held() {
    let mut w = world();
    w.tell(Event::Configure(reserving_all(&w.engine)));
    let mut config = w.engine.config().clone();
    config.models.get_mut("small").unwrap().max_output = Some(5_000);
    config.models.insert("vectors".to_owned(), ModelFacts { max_output: Some(0), ..ModelFacts::default() });
    w.tell(Event::Configure(config));
    let size = CallSize { text_bytes: 400, choices: 1, ..CallSize::default() };
    for (named, max_output) in [("small", None), ("small", Some(10)), ("vectors", None)] {
        let size = Some(CallSize { max_output, ..size });
        w.ask_for(1, "a", Demand { class: model(named), size, ..Demand::default() }, None);
        let [grant] = w.grants()[..] else { panic!("not granted: {named} {max_output:?}") };
        ends(&mut w, grant, CallEnd::Seen, Some(used(100, 0, 10)));
    }
    assert_eq!((of(&mut w, "a", "small").unbounded, of(&mut w, "a", "vectors").unbounded), (1, 0));
    // What is held otherwise is what such calls use.
    let mut learned = world();
    let one = Demand { class: model("small"), size: Some(size), ..Demand::default() };
    learned.ask_for(1, "a", one, None);
    let grant = learned.grants()[0];
    ends(&mut learned, grant, CallEnd::Seen, Some(used(100, 0, 10)));
    assert_eq!(of(&mut learned, "a", "small").unbounded, 0);
}

#[test]
fn refused_calls_are_counted_for_their_workload_and_model() {
    let mut w = world();
    let size = CallSize { text_bytes: 9, max_output: Some(1), choices: 1, ..CallSize::default() };
    let class = model("small");
    w.tell(Event::Configure(reserving_all(&w.engine)));
    let large = CallSize { max_output: Some(2_000_000), ..size };
    w.ask_for(1, "a", Demand { class, size: Some(large), ..Demand::default() }, None);
    let usage = of(&mut w, "a", "small");
    assert_eq!((usage.refused, usage.calls), (1, 0));
}

/// The account with the most reserved that a call can use.
fn reserving_all(engine: &Engine) -> quotakeeper_engine::config::AccountConfig {
    let mut config = engine.config().clone();
    for tokens in config.limits.iter_mut().filter_map(|limit| limit.tokens.as_mut()) {
        tokens.reserving = Reserving::Bound;
    }
    config
}

#[test]
fn what_was_expected_is_compared_with_what_was_used() {
    let mut w = world();
    for _ in 0..40 {
        for attempt in asked(&mut w, "a", "small", 1) {
            ends(&mut w, attempt, CallEnd::Seen, Some(used(100, 0, 100)));
        }
    }
    let status = w.engine.status(w.now);
    let ratios = status.estimate_ratios;
    assert!((20..=24).contains(&ratios.count()), "nothing is expected of the first sixteen: {ratios:?}");
    assert!(ratios.calls[4..6].iter().sum::<u64>() >= 20, "up to half more than is used: {ratios:?}");
    let learned = status.estimates.iter().find(|it| it.consumer.is_some()).unwrap();
    assert_eq!((learned.samples, learned.known, learned.model.as_deref()), (40, true, Some("small")));
    assert!((100..120).contains(&learned.output_quantile), "{learned:?}");
    assert!((200..300).contains(&learned.input_per_thousand_bytes), "100 of 432 bytes: {learned:?}");
}
