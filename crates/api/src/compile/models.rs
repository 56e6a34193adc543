//! What is known of models, by the names under which their calls are counted; and which limits a call of one can
//! use up alone.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_dialects::Profile;
use quotakeeper_dialects::profile::{KnownModel, Prices, picodollars_per_token};
use quotakeeper_engine::config::{
    ArrivalOutput, Charged, LimitConfig, ModelFacts, ModelPrices, Reserving, TokenRates, Unit,
};

use crate::words;

/// A call that may cost more of a budget of dollars than this part leaves much of it unused near its end.
const LARGE_PART: u64 = 100;
/// Prices are in picodollars, limits in nanodollars.
const PICODOLLARS_IN_NANODOLLAR: u64 = 1000;

/// What is known of an account's models.
pub(super) struct Models {
    /// By the name under which calls are counted.
    pub(super) known: BTreeMap<String, ModelFacts>,
    /// The dearest and largest of each figure: what a model that is not known counts as.
    pub(super) any: ModelFacts,
}

/// A class of models counts as the largest, dearest and slowest of its models, and what is not known of a model as the
/// largest of all; that its price is not known stays known. A call of a model that says nothing else lasts `max_call`
/// at most.
pub(super) fn compile(profile: &Profile, max_call: Duration) -> Models {
    let mut known: BTreeMap<String, ModelFacts> = BTreeMap::new();
    for model in &profile.models {
        let facts = facts(model, max_call);
        for name in &model.names {
            let class = profile.model_class(name.trim_end_matches('*'));
            if name.ends_with('*') && !profile.is_model_class(class) {
                continue;
            }
            for counted in profile.counted_names(class) {
                let entry = known.entry(counted).or_default();
                *entry = larger(*entry, facts);
            }
        }
    }
    for class in profile.model.iter().flat_map(|model| &model.classes) {
        let of_it = class.models.iter().filter_map(|name| profile.known_model(name.trim_end_matches('*')));
        let all = of_it.map(|model| facts(model, max_call)).fold(ModelFacts::default(), larger);
        for counted in profile.counted_names(&class.name) {
            known.entry(counted).or_insert(all);
        }
    }
    let mut any = known.values().copied().fold(ModelFacts::default(), larger);
    any.max_call = any.max_call.max(Some(max_call));
    for facts in known.values_mut() {
        facts.max_output = facts.max_output.or(any.max_output);
        facts.context = facts.context.or(any.context);
        facts.max_call = facts.max_call.filter(|own| *own != max_call);
    }
    any.max_call = any.max_call.filter(|own| *own != max_call);
    Models { known, any }
}

fn facts(model: &KnownModel, max_call: Duration) -> ModelFacts {
    ModelFacts {
        max_output: model.max_output_tokens.map(u64::from),
        context: model.context_tokens.map(u64::from),
        prices: model.prices.as_ref().map(prices),
        max_call: Some(model.max_call_seconds.map_or(max_call, |own| Duration::from_secs(own.into()))),
    }
}

fn prices(prices: &Prices) -> ModelPrices {
    let input = picodollars_per_token(&prices.input);
    let of = |price: &Option<String>| price.as_deref().map_or(input, picodollars_per_token);
    let call = prices.call.as_deref().map_or(0, picodollars_per_token);
    ModelPrices {
        tokens: TokenRates {
            input,
            cached: of(&prices.cached),
            cache_write: of(&prices.cache_write),
            output: picodollars_per_token(&prices.output),
        },
        // Dollars per call, not per million tokens.
        call: call.saturating_mul(1_000_000),
    }
}

/// The larger of each figure.
fn larger(one: ModelFacts, other: ModelFacts) -> ModelFacts {
    let prices = match (one.prices, other.prices) {
        (Some(one), Some(other)) => Some(ModelPrices {
            tokens: TokenRates {
                input: one.tokens.input.max(other.tokens.input),
                cached: one.tokens.cached.max(other.tokens.cached),
                cache_write: one.tokens.cache_write.max(other.tokens.cache_write),
                output: one.tokens.output.max(other.tokens.output),
            },
            call: one.call.max(other.call),
        }),
        (one, other) => one.or(other),
    };
    ModelFacts {
        max_output: one.max_output.max(other.max_output),
        context: one.context.max(other.context),
        prices,
        max_call: one.max_call.max(other.max_call),
    }
}

/// The limits of which one call can use up so much that it never fits, or that much stays unused, and those that cover
/// a model without a price, as sentences.
pub(super) fn warnings<'l>(limits: impl Iterator<Item = &'l LimitConfig>, models: &Models) -> Vec<String> {
    limits.flat_map(|limit| unpriced(limit, models).into_iter().chain(warning(limit, models))).collect()
}

/// A model that a limit of money names and that has no price.
fn unpriced(limit: &LimitConfig, models: &Models) -> Option<String> {
    let price = |name: &String| models.known.get(name).and_then(|facts| facts.prices);
    let model = limit.models.iter().find(|name| limit.unit == Unit::Dollars && price(name).is_none())?;
    Some(format!(
        "of the model {model}, which {} covers, the provider's profile knows no price; its calls count as those of the \
         dearest model; name it in `models` of an ApiProvider",
        limit.name
    ))
}

fn warning(limit: &LimitConfig, models: &Models) -> Option<String> {
    let covers = |name: &String| limit.models.is_empty() || limit.models.contains(name);
    let covered = models.known.iter().filter(|(name, _)| covers(name)).rev();
    // The first of equals, from behind.
    let (model, most) = covered
        .map(|(name, facts)| (name, most_output(limit, facts, &models.any)))
        .max_by_key(|(_, most)| *most)?;
    let part = if limit.unit == Unit::Dollars { LARGE_PART } else { 1 };
    if u128::from(most) * u128::from(part) <= u128::from(limit.amount) {
        return None;
    }
    let (name, amount) = (&limit.name, words::amount_of(limit.unit, limit.amount));
    let most = words::amount_of(limit.unit, most);
    Some(format!(
        "a call of model {model} that sets no maximum of output can use up to {most} of {name} ({amount}), which is held until it ends; set max_tokens"
    ))
}

/// What the most output of a model costs of a limit that holds it for each call; 0: it holds what is learned.
fn most_output(limit: &LimitConfig, facts: &ModelFacts, any: &ModelFacts) -> u64 {
    let Some(tokens) = &limit.tokens else { return 0 };
    let at_arrival = tokens.charged == Charged::AtArrival
        && tokens.arrival.is_some_and(|formula| formula.output != ArrivalOutput::Ignored);
    if tokens.reserving == Reserving::Learned && !at_arrival {
        return 0;
    }
    let rate = match limit.unit {
        Unit::Dollars => facts.prices.or(any.prices).map_or(0, |prices| prices.tokens.output),
        _ => tokens.rates.output,
    };
    let most = facts.max_output.unwrap_or(0).saturating_mul(rate);
    if limit.unit == Unit::Dollars { most / PICODOLLARS_IN_NANODOLLAR } else { most }
}
