//! What is known of a call's tokens: when it comes, and again when its turn comes.

use super::{Engine, Wanted};
use crate::cost::{Costs, Demand, NumberedCosts};
use crate::estimate::{EstimateKey, Estimates, bound};
use crate::name::Consumer;
use crate::queue::CallKey;
use crate::token_costs::TokenCosts;

/// As whose call the use of tokens of a call is learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimated {
    pub(super) key: EstimateKey,
    /// The revision of the estimates that its costs rest on.
    as_of: u64,
}

impl Estimated {
    /// A call whose costs rest on what is known now.
    pub(super) fn now(key: EstimateKey, estimates: &Estimates) -> Estimated {
        Estimated { key, as_of: estimates.revision() }
    }
}

impl Engine {
    /// What a call draws, with what is known of its tokens where a limit of the account counts any, and as whose call
    /// that is learned.
    pub(super) fn costs_of(&mut self, consumer: &Consumer, demand: &Demand) -> (Costs, Option<Estimated>) {
        if !self.lanes.charges_afterwards() {
            return (demand.costs, None);
        }
        let (size, class) = (demand.size, &demand.class);
        let key = self.estimates.key(consumer, class);
        let most = bound(&self.config, class.model.as_deref(), size.as_ref());
        let likely = self.estimates.likely(key, size.as_ref(), most);
        let prices = self.config.prices_of(class.model.as_deref());
        let tokens = TokenCosts {
            likely: likely.usage,
            learned: likely.known,
            most,
            size,
            prices,
            credits: demand.costs.credits,
        };
        (Costs { tokens: Some(tokens), ..demand.costs }, Some(Estimated::now(key, &self.estimates)))
    }

    /// What a waiting call draws under another configuration: limits may count tokens now that counted none, of which
    /// nobody knows the size, and prices may have changed.
    pub(super) fn reconfigure_costs(&mut self, key: CallKey) {
        let Some(Wanted { lane, consumer, costs, .. }) = self.calls.get(&key).map(|call| &call.wanted) else {
            return;
        };
        let class = self.lanes.class_of(*lane).clone();
        let size = costs.tokens.and_then(|tokens| tokens.size);
        let demand = Demand { class, costs: Costs { tokens: None, ..**costs }, size };
        let consumer = consumer.clone();
        let (costs, estimate) = self.costs_of(&consumer, &demand);
        if let Some(call) = self.calls.get_mut(&key) {
            (call.wanted.costs, call.wanted.estimate) = (self.costs_numbers.number(costs), estimate);
        }
    }

    /// What the call draws by what is known now: more calls may have ended since it came.
    pub(super) fn renewed_costs(&mut self, key: CallKey) -> NumberedCosts {
        let Some(call) = self.calls.get_mut(&key) else { return NumberedCosts::usual() };
        let Wanted { lane, costs, estimate, .. } = &mut call.wanted;
        let (Some(tokens), Some(estimate)) = (costs.tokens, estimate) else { return *costs };
        if std::mem::replace(&mut estimate.as_of, self.estimates.revision()) == self.estimates.revision() {
            return *costs;
        }
        let likely = self.estimates.likely(estimate.key, tokens.size.as_ref(), tokens.most);
        if (likely.usage, likely.known) != (tokens.likely, tokens.learned) {
            self.lanes.call_leaves(*lane, costs);
            let tokens = TokenCosts { likely: likely.usage, learned: likely.known, ..tokens };
            *costs = self.costs_numbers.number(Costs { tokens: Some(tokens), ..**costs });
            self.lanes.call_waits(*lane, costs);
        }
        *costs
    }
}
