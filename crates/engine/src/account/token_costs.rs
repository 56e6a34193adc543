//! What is known of a call's tokens when it comes.

use super::Engine;
use crate::config::ModelPrices;
use crate::cost::{Costs, Demand};
use crate::estimate::bound;
use crate::name::Consumer;
use crate::token_costs::TokenCosts;

impl Engine {
    /// What a call draws, with what is known of its tokens where a limit of the account counts any.
    pub(super) fn costs_of(&self, _consumer: &Consumer, demand: &Demand) -> Costs {
        if !self.lanes.counts_tokens() {
            return demand.costs;
        }
        let (model, size) = (demand.class.model.as_deref(), demand.size);
        let most = bound(&self.config, model, size.as_ref());
        let prices = self.prices_of(model);
        let tokens = TokenCosts { likely: most, learned: false, most, size, prices };
        Costs { tokens: Some(tokens), ..demand.costs }
    }

    /// The prices of a model; of one that isn't known, the dearest.
    fn prices_of(&self, model: Option<&str>) -> Option<ModelPrices> {
        let own = model.and_then(|model| self.config.models.get(model));
        own.and_then(|own| own.prices).or(self.config.any_model.prices)
    }
}
