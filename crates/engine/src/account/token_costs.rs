//! What is known of a call's tokens when it comes.

use super::Engine;
use crate::config::ModelFacts;
use crate::cost::{Costs, Demand};
use crate::name::Consumer;
use crate::token_costs::{TokenAmounts, TokenCosts};
use crate::tokens::CallSize;

impl Engine {
    /// What a call draws, with what is known of its tokens where a limit of the account counts any.
    pub(super) fn costs_of(&self, _consumer: &Consumer, demand: &Demand) -> Costs {
        if !self.lanes.counts_tokens() {
            return demand.costs;
        }
        let facts = self.facts_of(demand.class.model.as_deref());
        let most = most(&facts, demand.size.as_ref());
        let tokens =
            TokenCosts { likely: most, learned: false, most, size: demand.size, prices: facts.prices };
        Costs { tokens: Some(tokens), ..demand.costs }
    }

    /// What is known of a model; what is not, as of the dearest and largest.
    fn facts_of(&self, model: Option<&str>) -> ModelFacts {
        let any = self.config.any_model;
        let own = model.and_then(|model| self.config.models.get(model)).copied().unwrap_or_default();
        ModelFacts {
            max_output: own.max_output.or(any.max_output),
            context: own.context.or(any.context),
            prices: own.prices.or(any.prices),
        }
    }
}

/// The most tokens that a call can use. A token is a byte at least, so its text bounds its input, unless it refers to
/// input that is not in it, or nobody could read it; then only the model's context does.
fn most(facts: &ModelFacts, size: Option<&CallSize>) -> TokenAmounts {
    let text = size.filter(|size| !size.stored_input);
    let text = text.map_or(u64::MAX, |size| size.text_bytes.saturating_add(size.media_tokens));
    let named = size.and_then(|size| size.max_output).unwrap_or(u64::MAX);
    let one = named.min(facts.max_output.or(facts.context).unwrap_or(u64::MAX));
    let choices = size.map_or(1, CallSize::choices);
    TokenAmounts { input: text.min(facts.context.unwrap_or(u64::MAX)), output: one.saturating_mul(choices) }
}
