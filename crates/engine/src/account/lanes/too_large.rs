//! Calls that need more of a limit than there ever is.

use std::fmt;
use std::time::Duration;

use super::entry::Entry;
use super::{LaneId, Lanes};
use crate::account::charge::Charge;
use crate::config::Unit;
use crate::cost::{Amount, Costs};
use crate::event::Scope;
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// How long calls as large as a rejected one are refused: the provider's tier may be another by then.
const REFUSED_FOR: Duration = Duration::from_secs(3600);

/// A call needs more of a limit than there ever is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::account) struct TooLarge {
    limit: String,
    unit: Unit,
    cost: Amount,
    most: Most,
}

/// What a call of a limit may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Most {
    /// All of the limit.
    All(Amount),
    /// Less than this: the provider rejected a call of so much that had the whole bucket.
    LessThan(Amount),
}

/// The provider has rejected a call that was larger than the bucket and had it for itself alone: no bucket of it is as
/// large as that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rejected {
    cost: Amount,
    until: Time,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooLarge { limit, unit, cost, most } = self;
        let cost = unit.figure(*cost);
        match most {
            Most::All(amount) => {
                write!(f, "it can draw {cost} of the limit {limit}, which allows {}", unit.figure(*amount))?;
            }
            Most::LessThan(rejected) => {
                let rejected = unit.figure(*rejected);
                write!(
                    f,
                    "it can draw {cost} of the limit {limit} at once, and the provider rejected a call of "
                )?;
                write!(f, "{rejected} for which there was all of the limit's burst")?;
            }
        }
        if unit.counts_tokens() { write!(f, "; allow it fewer tokens of output") } else { Ok(()) }
    }
}

impl Entry {
    /// What a call of these costs needs more of than there is.
    fn too_large(&self, costs: &Costs, now: Time) -> Option<TooLarge> {
        let (amount, cost) = (self.counter().amount(), self.cost(costs));
        let rejected = self.rejected.filter(|rejected| now < rejected.until && rejected.cost <= cost);
        let most = match rejected {
            _ if amount < cost => Most::All(amount),
            Some(rejected) => Most::LessThan(rejected.cost),
            None => return None,
        };
        let limit = &self.limit.config;
        Some(TooLarge { limit: limit.name.clone(), unit: limit.unit, cost, most })
    }

    /// A call that was charged so is rejected for its quota. Returns whether it went alone, larger than the bucket.
    fn rejected_alone(&mut self, charge: &Charge, costs: &Costs, now: Time) -> bool {
        let cost = self.cost(costs);
        let window = self.counter().window();
        let alone =
            window.zip(charge.at_grant).is_some_and(|(window, at_grant)| window.is_alone(&at_grant, cost));
        if alone && !mutant::active(Mutant::RejectedAloneAgain) {
            let before = self.rejected.filter(|rejected| now < rejected.until);
            let cost = before.map_or(cost, |before| before.cost.min(cost));
            self.rejected = Some(Rejected { cost, until: now + REFUSED_FOR });
        }
        alone
    }
}

impl Lanes {
    /// The limit of which a call of these costs needs more than there is, in an account that is all its own.
    pub(in crate::account) fn never_fits(&self, lane: LaneId, costs: &Costs, now: Time) -> Option<TooLarge> {
        self.entries_of(lane).find_map(|entry| entry.too_large(costs, now))
    }

    /// Learns from a rejection for quota of a call with these charges. Returns whether calls are too large now that
    /// were not before.
    pub(in crate::account) fn rejected_alone(
        &mut self,
        charges: &[Charge],
        costs: &Costs,
        scope: &Scope,
        now: Time,
    ) -> bool {
        let mut news = false;
        for charge in charges {
            let Some(entry) = self.entry_mut(charge.counter) else { continue };
            if scope.limit.as_ref().is_none_or(|limit| *limit == entry.limit.config.name) {
                news |= entry.rejected_alone(charge, costs, now);
            }
        }
        news
    }
}
