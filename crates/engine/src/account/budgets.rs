//! Calls that a budget has no room for: they wait if there is room again within their patience, and are refused at
//! once if not. No earlier try makes sense.

use std::time::Duration;

use super::calls::Refusal;
use super::lanes::SpentBudget;
use super::{Engine, Wanted};
use crate::cost::Costs;
use crate::event::RefusalReason;
use crate::queue::{CallKey, LaneId};
use crate::time::Time;

impl Engine {
    /// How long a call may wait for a budget that may otherwise wait for `allowed`.
    fn budget_patience(&self, allowed: Duration) -> Duration {
        self.config.queue.max_budget_wait.map_or(allowed, |budget| budget.min(allowed))
    }

    /// The refusal of a call that may wait for `allowed` and would have to wait longer for a budget, with `ahead` calls
    /// before it.
    pub(super) fn budget_refusal(
        &mut self,
        now: Time,
        lane: LaneId,
        costs: &Costs,
        allowed: Duration,
        ahead: u64,
    ) -> Option<Refusal> {
        if self.waits_however_long() {
            return None;
        }
        let patience = self.budget_patience(allowed);
        let spent = self.lanes.spent_budget(lane, costs, now, ahead)?;
        (spent.wait > patience).then(|| Refusal::from(spent))
    }

    /// The refusal of a waiting call that may be granted at `until` at the earliest, if that is for a budget and later
    /// than it may wait.
    pub(super) fn refusal_by_budget(
        &mut self,
        now: Time,
        key: CallKey,
        until: Time,
        costs: &Costs,
    ) -> Option<Refusal> {
        let call = self.calls.get(&key).filter(|_| self.enforces())?;
        let Wanted { lane, deadline, .. } = call.wanted;
        let allowed = deadline.since(now);
        let late = until > now + self.budget_patience(allowed);
        if late { self.budget_refusal(now, lane, costs, allowed, 0) } else { None }
    }
}

impl From<SpentBudget> for Refusal {
    fn from(spent: SpentBudget) -> Refusal {
        Refusal {
            reason: RefusalReason::BudgetExhausted,
            retry_after: Some(spent.wait),
            words: Some(spent.to_string()),
        }
    }
}
