//! Calls that need more of a limit than there ever is.

use std::fmt;

use super::entry::Entry;
use super::{LaneId, Lanes};
use crate::config::Unit;
use crate::cost::{Amount, Costs};

/// A call needs more of a limit than there ever is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::account) struct TooLarge {
    limit: String,
    unit: Unit,
    cost: Amount,
    amount: Amount,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooLarge { limit, unit, cost, amount } = self;
        let cost = unit.figure(*cost);
        write!(f, "it can draw {cost} of the limit {limit}, which allows {}", unit.figure(*amount))?;
        if unit.counts_tokens() { write!(f, "; allow it fewer tokens of output") } else { Ok(()) }
    }
}

impl Lanes {
    /// The limit of which a call of these costs needs more than there is, in an account that is all its own.
    pub(in crate::account) fn never_fits(&self, lane: LaneId, costs: Costs) -> Option<TooLarge> {
        let too_large = |entry: &Entry| {
            let (amount, cost) = (entry.counter.amount(), entry.cost(costs));
            let limit = &entry.limit.config;
            (amount < cost).then(|| TooLarge { limit: limit.name.clone(), unit: limit.unit, cost, amount })
        };
        self.entries_of(lane).find_map(too_large)
    }
}
