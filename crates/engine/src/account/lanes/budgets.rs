//! Budgets that are used up, as far as a call is concerned.

use std::fmt;
use std::time::Duration;

use super::entry::Entry;
use super::{LaneId, Lanes};
use crate::config::Unit;
use crate::cost::{Amount, Costs};
use crate::time::Time;

/// What is used of a budget leaves no room for a call, whatever calls under way give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::account) struct SpentBudget {
    limit: String,
    unit: Unit,
    /// What is used for good.
    used: Amount,
    /// What calls that come before will use.
    ahead: Amount,
    amount: Amount,
    /// What would be held for the call.
    cost: Amount,
    /// How long until there is room for it.
    pub(in crate::account) wait: Duration,
}

impl fmt::Display for SpentBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SpentBudget { limit, unit, used, ahead, amount, cost, .. } = self;
        let all = unit.figure(*amount);
        if used >= amount {
            return write!(f, "all of {limit} ({all}) is used");
        }
        if *used + *ahead >= *amount {
            return write!(f, "calls that wait already will use all of {limit} ({all})");
        }
        write!(
            f,
            "{} of {limit} ({all}) is used, and it can draw {}",
            unit.figure(*used),
            unit.figure(*cost)
        )?;
        if unit.counts_tokens() { write!(f, "; allow it fewer tokens of output") } else { Ok(()) }
    }
}

impl Lanes {
    /// The budget that is used up for a call of these costs once `ahead` others have had their turns; of several the one
    /// that has room for it last. The status of each says so until then.
    pub(in crate::account) fn spent_budget(
        &mut self,
        lane: LaneId,
        costs: &Costs,
        now: Time,
        ahead: u64,
    ) -> Option<SpentBudget> {
        let mut last: Option<SpentBudget> = None;
        self.each_entry(lane, |entry| {
            let spent = entry.spent_for(costs, now, ahead);
            if spent.as_ref().map(|spent| spent.wait) > last.as_ref().map(|last| last.wait) {
                last = spent;
            }
        });
        last
    }
}

impl Entry {
    fn spent_for(&mut self, costs: &Costs, now: Time, ahead: u64) -> Option<SpentBudget> {
        let cost = self.cost(costs);
        if !self.limit.config.is_budget() || cost.is_zero() {
            return None;
        }
        self.advance(now);
        let config = &self.limit.config;
        let window = self.counter().window()?;
        // What is held for a call whose cost is known at its end may come back. What is only assumed to be used may
        // not be.
        let held = if config.tokens.is_some() { window.in_flight() } else { Amount::ZERO };
        let (used, amount) = (window.used() - held - window.assumed(), window.amount());
        // Those ahead use up what is left. Of a period nothing comes back before its end; another window may let calls
        // through one by one after that.
        let ahead = self.waiting.cost_of(ahead, &self.limit);
        let ahead = if config.period.is_some() { ahead } else { ahead.min(amount - used) };
        if used + ahead + cost <= amount {
            return None;
        }
        let wait = window.wait_for(now, ahead + cost);
        let (limit, unit) = (config.name.clone(), config.unit);
        if used + cost > amount {
            self.spent_until = Some(now + wait);
        }
        Some(SpentBudget { limit, unit, used, ahead, amount, cost, wait })
    }

    /// Whether it lets no more calls through, or only smaller ones than some that have come.
    pub(super) fn is_spent(&self, now: Time) -> bool {
        self.spent_until.is_some_and(|until| now < until)
    }
}
