//! Which limits count a call, and what it draws of them once its usage is known.

use crate::config::{AccountConfig, LimitConfig, ModelPrices};
use crate::cost::{Amount, Demand};
use crate::estimate::bound;
use crate::event::CallClass;
use crate::token_costs::TokenCosts;
use crate::tokens::TokenUsage;

impl LimitConfig {
    /// Whether it counts calls of this class, of whatever allocation. Where the model is not known it may be any of them.
    pub fn covers(&self, class: &CallClass) -> bool {
        if class.endpoint.as_ref().is_some_and(|name| self.except_endpoints.contains(name)) {
            return false;
        }
        let endpoint = self.endpoint.as_ref().is_none_or(|name| class.endpoint.as_ref() == Some(name));
        let model = class.model.as_ref().is_none_or(|model| self.models.contains(model));
        endpoint && (self.models.is_empty() || model)
    }
}

impl AccountConfig {
    /// What a call with this usage has drawn in the end of each limit of the account that counts it.
    pub fn drawn(&self, demand: &Demand, usage: &TokenUsage) -> Vec<(&LimitConfig, Amount)> {
        let Demand { class, costs, size } = demand;
        let model = class.model.as_deref();
        let known = TokenCosts {
            likely: *usage,
            learned: true,
            most: bound(self, model, size.as_ref()),
            size: *size,
            prices: self.prices_of(model),
            credits: costs.credits,
        };
        let draws = |limit: &LimitConfig| match &limit.tokens {
            Some(tokens) => tokens.drawn_in_the_end(limit.unit, &known, usage),
            None => costs.of(limit.unit),
        };
        let covering = self.limits.iter().filter(|limit| limit.covers(class));
        covering.map(|limit| (limit, draws(limit))).collect()
    }

    /// What a call with this usage costs, in nanodollars; none: no price is known. Of a model that is not known as much as
    /// of the dearest.
    pub fn price(&self, model: Option<&str>, usage: &TokenUsage) -> Option<Amount> {
        Some(Amount(self.prices_of(model)?.nanodollars(usage)))
    }

    pub(crate) fn prices_of(&self, model: Option<&str>) -> Option<ModelPrices> {
        let own = model.and_then(|model| self.models.get(model)?.prices);
        own.or(self.any_model.prices)
    }
}
