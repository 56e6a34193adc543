//! How a limit counts tokens, money and credits, from the profile's limit and the quota's own.

use std::time::Duration;

use quotakeeper_dialects::profile::{self, FormulaOutput, Profile};
use quotakeeper_engine::config::{
    ArrivalFormula, ArrivalOutput, Charged, Reserving, TokenLimit, TokenRates, Unit,
};

use crate::quota;

/// From here on a window is a budget: nothing of it may be overspent.
const BUDGET: Duration = Duration::from_secs(3600);
/// Bytes of English text in a token, as providers that estimate by length say.
const BYTES_PER_TOKEN: u32 = 4;

/// How a limit of a tier counts tokens; `None`: it counts none.
pub(super) fn of_tier(unit: Unit, window: Duration, base: &profile::Limit) -> Option<TokenLimit> {
    of(unit, window, Some(base), None)
}

/// The same of a quota's own limit, which may replace one of the tier.
pub(super) fn of_spec(
    unit: Unit,
    window: Duration,
    base: Option<&profile::Limit>,
    own: &quota::Limit,
) -> Option<TokenLimit> {
    of(unit, window, base, Some(own))
}

fn of(
    unit: Unit,
    window: Duration,
    base: Option<&profile::Limit>,
    own: Option<&quota::Limit>,
) -> Option<TokenLimit> {
    if !unit.counts_tokens() {
        return None;
    }
    let budget = unit == Unit::Dollars || window >= BUDGET;
    let reserving = match own.and_then(|own| own.reserve) {
        Some(quota::Reserve::Bound) => Reserving::Bound,
        Some(quota::Reserve::Learned) => Reserving::Learned,
        None if budget => Reserving::Bound,
        None => Reserving::Learned,
    };
    let charged = match base.and_then(|base| base.charged) {
        Some(charged) => charged_as(charged),
        // What nobody but us counts is what was used.
        None if unit == Unit::Dollars || own.is_some_and(|own| own.period.is_some()) => Charged::Settled,
        None => Charged::Unknown,
    };
    Some(TokenLimit {
        charged,
        arrival: (unit != Unit::Dollars).then(|| arrival(unit, base.and_then(|base| base.formula.as_ref()))),
        rates: rates(unit, base.and_then(|base| base.weights.as_ref())),
        reserving,
    })
}

/// How a limit counts credits that answers tell: they replace what is held. `None`: no answer tells any.
pub(super) fn of_credits(unit: Unit, profile: &Profile) -> Option<TokenLimit> {
    let told = unit == Unit::Credits && profile.tells_credits();
    told.then(|| TokenLimit {
        charged: Charged::Settled,
        arrival: None,
        rates: TokenRates::default(),
        reserving: Reserving::Bound,
    })
}

fn charged_as(charged: profile::Charged) -> Charged {
    match charged {
        profile::Charged::Unknown => Charged::Unknown,
        profile::Charged::AtArrival => Charged::AtArrival,
        profile::Charged::Settled => Charged::Settled,
        profile::Charged::AsProduced => Charged::AsProduced,
    }
}

/// The provider's formula, or the most that one usually is.
fn arrival(unit: Unit, formula: Option<&profile::Formula>) -> ArrivalFormula {
    let output = match formula.and_then(|formula| formula.output) {
        Some(FormulaOutput::Added) => ArrivalOutput::Added,
        Some(FormulaOutput::Largest) => ArrivalOutput::Largest,
        Some(FormulaOutput::Ignored) => ArrivalOutput::Ignored,
        None if unit == Unit::InputTokens => ArrivalOutput::Ignored,
        None => ArrivalOutput::Added,
    };
    let bytes = formula.and_then(|formula| formula.bytes_per_token).unwrap_or(BYTES_PER_TOKEN);
    let exact = formula.and_then(|formula| formula.exact).unwrap_or(false);
    ArrivalFormula { bytes_per_token: bytes.max(1).into(), output, exact }
}

/// What a token draws, by its kind; of money the model's prices say it.
fn rates(unit: Unit, weights: Option<&profile::Weights>) -> TokenRates {
    if unit == Unit::Dollars {
        return TokenRates::default();
    }
    let of = |weight: Option<u32>, default: u64| weight.map_or(default, u64::from);
    let input = of(weights.and_then(|it| it.input), u64::from(unit != Unit::OutputTokens));
    TokenRates {
        input,
        cached: of(weights.and_then(|it| it.cached), input),
        cache_write: of(weights.and_then(|it| it.cache_write), input),
        output: of(weights.and_then(|it| it.output), u64::from(unit != Unit::InputTokens)),
    }
}
