//! What a call draws of a limit of tokens, money or credits: reserved at its grant, and charged once its usage is known.

use serde::{Deserialize, Serialize};

use crate::config::{
    ArrivalFormula, ArrivalOutput, Charged, ModelPrices, Reserving, TokenLimit, TokenRates, Unit,
};
use crate::cost::Amount;
use crate::mutant::{self, Mutant};
use crate::tokens::{CallSize, TokenUsage};

/// Tokens of a call, by their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAmounts {
    /// That it sends.
    pub input: u64,
    /// That it gets.
    pub output: u64,
}

/// What is known of a call's tokens before its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenCosts {
    /// What nine of ten such calls use at most.
    pub likely: TokenUsage,
    /// Whether that rests on calls that have ended.
    pub learned: bool,
    /// The most that it can use; `u64::MAX` where nothing bounds it.
    pub most: TokenAmounts,
    /// What a provider sees when it arrives; `None`: nobody could read it.
    pub size: Option<CallSize>,
    /// What its model costs.
    pub prices: Option<ModelPrices>,
    /// What it costs in the provider's own units, until its answer tells.
    pub credits: Amount,
}

/// Picodollars in the unit in which limits of money are counted: a nanodollar. Amounts of calls are rounded up.
const PICODOLLARS: u64 = 1_000;

impl TokenRates {
    /// The most that these tokens count for.
    fn most(&self, of: TokenAmounts) -> u64 {
        let input = self.input.max(self.cached).max(self.cache_write);
        product(input, of.input).saturating_add(product(self.output, of.output))
    }

    /// What a usage counts for. More cached tokens than input ones count as input alone.
    fn of(&self, usage: &TokenUsage) -> u64 {
        let cached = usage.cached.min(usage.input);
        let cache_write = usage.cache_write.min(usage.input - cached);
        let fresh = usage.input - cached - cache_write;
        product(self.input, fresh)
            .saturating_add(product(self.cached, cached))
            .saturating_add(product(self.cache_write, cache_write))
            .saturating_add(product(self.output, usage.output))
    }
}

impl ModelPrices {
    /// What a call with this usage costs, rounded up.
    pub(crate) fn nanodollars(&self, usage: &TokenUsage) -> u64 {
        self.tokens.of(usage).saturating_add(self.call).div_ceil(PICODOLLARS)
    }
}

impl ArrivalFormula {
    /// What the provider counts of a call that has just arrived, and that may have so much output.
    fn charge(&self, rates: &TokenRates, size: &CallSize, most_output: u64) -> u64 {
        let text = size.text_bytes.div_ceil(self.bytes_per_token.max(1));
        let input = product(rates.input, text.saturating_add(size.media_tokens));
        match self.output {
            // Of a request that nothing bounds it knows the input alone.
            ArrivalOutput::Added if most_output == u64::MAX => input,
            ArrivalOutput::Added => input.saturating_add(product(rates.output, most_output)),
            ArrivalOutput::Largest => {
                let named = size.max_output.map_or(0, |one| one.saturating_mul(size.choices()));
                input.max(product(rates.output, named))
            }
            ArrivalOutput::Ignored => input,
        }
    }
}

impl TokenLimit {
    /// Whether what is charged is not known to be what the provider counts, nor corrected by the call's usage.
    pub(crate) fn is_guessed(&self) -> bool {
        !self.settles_at_end() && self.arrival.is_none_or(|formula| !formula.exact)
    }

    /// Whether what is charged for a call that has been answered may not be what the provider counts of it.
    pub(crate) fn is_estimated(&self) -> bool {
        self.settles_at_end() || self.is_guessed()
    }

    /// Whether the provider can still change what it counts for a call after that has arrived.
    pub(crate) fn settles_at_end(&self) -> bool {
        self.charged != Charged::AtArrival
    }

    /// What is held for a call from its grant on, of a limit of `all`. More than that where the call can never fit.
    pub(crate) fn reserved(&self, unit: Unit, costs: &TokenCosts, all: Amount) -> Amount {
        if unit == Unit::Credits {
            return costs.credits;
        }
        let arrival = self.at_arrival(costs);
        let held = match self.reserving {
            Reserving::Bound if mutant::active(Mutant::BoundCutToAmount) => {
                self.bound(unit, costs, all).min(all)
            }
            Reserving::Bound => self.bound(unit, costs, all),
            Reserving::Learned => self.likely(unit, costs, all),
        };
        if !self.settles_at_end() {
            return arrival.unwrap_or(held);
        }
        let at_once = arrival.filter(|_| matches!(self.charged, Charged::Settled | Charged::Unknown));
        held.max(at_once.unwrap_or_default())
    }

    /// What a call will have drawn when it is over, for forecasts: what is held for it meanwhile comes back in part.
    /// Until such calls are known, a token for four bytes of text and a tenth of the output that it allows.
    pub(crate) fn expected(&self, unit: Unit, costs: &TokenCosts, all: Amount) -> Amount {
        if !self.settles_at_end() || unit == Unit::Credits {
            return self.reserved(unit, costs, all);
        }
        let text = costs.size.map_or(0, |size| size.text_bytes / 4 + size.media_tokens);
        let guess = TokenUsage {
            input: text.min(costs.most.input),
            output: if costs.most.output == u64::MAX { 0 } else { costs.most.output / 10 },
            ..TokenUsage::default()
        };
        let usage = if costs.learned { costs.likely } else { guess };
        self.value(unit, costs.prices.as_ref(), |rates| rates.of(&usage)).min(all)
    }

    /// What the provider counts when the call arrives, as far as its formula is known.
    fn at_arrival(&self, costs: &TokenCosts) -> Option<Amount> {
        let (formula, size) = (self.arrival.as_ref()?, costs.size.as_ref()?);
        Some(Amount(formula.charge(&self.rates, size, costs.most.output)))
    }

    /// What a call that was rejected has drawn: nothing where the charge comes later.
    pub(crate) fn rejected(&self, costs: &TokenCosts) -> Option<Amount> {
        match self.charged {
            Charged::AsProduced => Some(Amount::ZERO),
            Charged::AtArrival => None,
            Charged::Settled | Charged::Unknown => self.at_arrival(costs),
        }
    }

    /// The most that the call can draw. Of one that nothing bounds: all.
    fn bound(&self, unit: Unit, costs: &TokenCosts, all: Amount) -> Amount {
        let most = self.value(unit, costs.prices.as_ref(), |rates| rates.most(costs.most));
        let unbounded = |rate: u64, tokens: u64| rate > 0 && tokens == u64::MAX;
        let rates = self.rates_of(unit, costs.prices.as_ref());
        let input = rates.input.max(rates.cached).max(rates.cache_write);
        match unbounded(input, costs.most.input) || unbounded(rates.output, costs.most.output) {
            true => most.min(all),
            false => most,
        }
    }

    /// What such a call draws as a rule; a quarter of the limit at most until that is learned.
    fn likely(&self, unit: Unit, costs: &TokenCosts, all: Amount) -> Amount {
        if costs.learned {
            return self.value(unit, costs.prices.as_ref(), |rates| rates.of(&costs.likely)).min(all);
        }
        self.bound(unit, costs, all).min(Amount((all.0 / 4).max(1)))
    }

    /// What the call has drawn, of a usage that is known. `Unknown` counts what it may have been charged on arrival.
    pub(crate) fn drawn(&self, unit: Unit, costs: &TokenCosts, usage: &TokenUsage) -> Amount {
        if unit == Unit::Credits {
            return usage.credits.map_or(costs.credits, Amount);
        }
        let used = self.value(unit, costs.prices.as_ref(), |rates| rates.of(usage));
        match self.charged {
            Charged::Unknown => used.max(self.at_arrival(costs).unwrap_or_default()),
            _ => used,
        }
    }

    /// What the provider has counted of a call with this usage when it is over.
    pub(crate) fn drawn_in_the_end(&self, unit: Unit, costs: &TokenCosts, usage: &TokenUsage) -> Amount {
        let arrival = if self.settles_at_end() { None } else { self.at_arrival(costs) };
        arrival.unwrap_or_else(|| self.drawn(unit, costs, usage))
    }

    /// What so many tokens of output have drawn.
    pub(crate) fn produced(&self, unit: Unit, costs: &TokenCosts, output: u64) -> Amount {
        self.value(unit, costs.prices.as_ref(), |rates| product(rates.output, output))
    }

    fn rates_of(&self, unit: Unit, prices: Option<&ModelPrices>) -> TokenRates {
        match unit {
            Unit::Dollars => prices.map(|prices| prices.tokens).unwrap_or_default(),
            _ => self.rates,
        }
    }

    /// An amount of tokens, or of nanodollars with what the call costs by itself.
    fn value(&self, unit: Unit, prices: Option<&ModelPrices>, count: impl Fn(&TokenRates) -> u64) -> Amount {
        let counted = count(&self.rates_of(unit, prices));
        match unit {
            Unit::Dollars => {
                let call = prices.map_or(0, |prices| prices.call);
                Amount(counted.saturating_add(call).div_ceil(PICODOLLARS))
            }
            _ => Amount(counted),
        }
    }
}

/// The product, or the largest number.
fn product(rate: u64, tokens: u64) -> u64 {
    rate.saturating_mul(tokens)
}
