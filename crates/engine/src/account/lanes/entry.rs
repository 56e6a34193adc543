//! A counter of a limit: what it charges, whom it holds up, and what people are shown of it.

use std::sync::Arc;
use std::time::Duration;

use super::backlog::Backlog;
use super::limit::Limit;
use super::too_large::Rejected;
use crate::account::counter::{Counter, Usage};
use crate::account::status::LimitStatus;
use crate::cost::{Amount, Costs};
use crate::event::{Attempt, PeriodBegun};
use crate::time::Time;
use crate::units::{Origin, UnitKey};
use crate::window_counter::AtGrant;

/// What a grant was charged at a counter.
#[derive(Clone, Copy, Debug)]
pub(in crate::account) struct Charged {
    pub(in crate::account) unit: UnitKey,
    /// When the provider has counted it at the latest.
    pub(in crate::account) settles: Time,
    pub(in crate::account) at_grant: AtGrant,
}

/// A counter of a limit: its only one, or a model's.
#[derive(Debug)]
pub(in crate::account) struct Entry {
    pub(in crate::account) limit: Arc<Limit>,
    pub(in crate::account) model: Option<String>,
    pub(in crate::account) counter: Counter,
    /// The provider's own figure, where headers have named one: of this model, not of the others.
    pub(in crate::account) observed: Option<u64>,
    pub(super) waiting: Backlog,
    /// What is kept for calls whose turn comes before, within one round of grants.
    pub(super) kept: Amount,
    /// Whether it had no room for the call that was last looked at.
    pub(super) blocks: bool,
    /// Until then it has no room for a call that has come: a budget that is used up.
    pub(super) spent_until: Option<Time>,
    /// The smallest call that was larger than the bucket, went alone, and was rejected.
    pub(super) rejected: Option<Rejected>,
}

impl Entry {
    pub(super) fn new(limit: Arc<Limit>, model: Option<String>, counter: Counter) -> Entry {
        Entry {
            limit,
            model,
            counter,
            observed: None,
            waiting: Backlog::EMPTY,
            kept: Amount::ZERO,
            blocks: false,
            spent_until: None,
            rejected: None,
        }
    }

    /// The provider's figure by the quota.
    pub(in crate::account) fn declared(&self) -> u64 {
        self.limit.config.amount_of(self.model.as_deref()).hard()
    }

    /// Takes on the limit as it is configured and observed now.
    pub(in crate::account) fn reconfigure(&mut self, now: Time) {
        let amount = self.limit.effective(self.model.as_deref(), self.observed);
        self.counter.reconfigure(&self.limit.config, amount, now);
        (self.spent_until, self.rejected) = (None, None);
        // What an answer names stops nobody for longer than a window, whatever is granted already.
        if let Some(window) = self.counter.window_mut().filter(|_| self.observed.is_some()) {
            window.drain_within_a_window();
        }
    }

    /// A period has begun, if the limit has any.
    pub(super) fn period_begun(&mut self, period: &PeriodBegun, now: Time) {
        if let Some(window) = self.counter.window_mut().filter(|_| self.limit.config.period.is_some()) {
            window.period_begun(period.begun, period.ends, now);
        }
    }

    /// What is charged here for a call of these costs at its grant.
    pub(in crate::account) fn cost(&self, costs: &Costs) -> Amount {
        self.at_most_all(self.limit.cost(costs))
    }

    /// No more than the counter allows, unless a call that costs more can never fit.
    fn at_most_all(&self, cost: Amount) -> Amount {
        // What an answer has named refuses nobody for good.
        let lowered = self.limit.config.tokens.is_some()
            && cost <= Amount(self.limit.config.amount_of(self.model.as_deref()).amount);
        if lowered || self.limit.takes_chances() { cost.min(self.counter.amount()) } else { cost }
    }

    /// When a call of these costs may fit at the earliest; `None`: now.
    pub(super) fn blocked_until(&mut self, now: Time, costs: &Costs) -> Option<Time> {
        let cost = self.cost(costs);
        self.counter.advance(now);
        // A call that draws nothing passes a full limit.
        let until = if cost.is_zero() { None } else { self.counter.blocked_until(now, cost, self.kept) };
        self.blocks = until.is_some();
        until
    }

    /// About how long until `ahead` of the waiting calls, as far as they draw on this limit, and one of these
    /// costs have been granted.
    pub(super) fn wait_for(&mut self, now: Time, costs: &Costs, ahead: u64) -> Duration {
        self.counter.advance(now);
        let own = self.at_most_all(self.limit.expected(costs));
        self.counter.wait_for(now, self.waiting.cost_of(ahead, &self.limit) + own)
    }

    /// What people are shown of it.
    pub(super) fn status(&mut self, now: Time) -> LimitStatus {
        let Usage { amount, used, reserved, used_by_others, assumed, resets_in } = self.counter.usage(now);
        let ahead = self.waiting.calls.saturating_sub(1);
        LimitStatus {
            name: self.limit.shown_name().to_owned(),
            model: self.model.clone(),
            unit: self.limit.config.unit,
            amount: amount.0,
            used: used.0,
            reserved: reserved.0,
            // What answers reveal may be ours, where more was used than was estimated.
            used_by_others: if self.limit.may_be_exceeded() { 0 } else { used_by_others.0 },
            assumed: assumed.0,
            waiting: self.waiting.calls,
            resets_in,
            wait: self.wait_for(now, &Costs::default(), ahead),
            spent: self.is_spent(now),
        }
    }

    /// Charges a call that is granted on the strength of an echo that was stamped at `echoed` or before.
    /// Returns what was charged, where the limit counts windows and the call draws on it.
    pub(in crate::account) fn charge(
        &mut self,
        attempt: Attempt,
        costs: &Costs,
        now: Time,
        echoed: Time,
    ) -> Option<Charged> {
        let cost = self.cost(costs);
        if cost.is_zero() {
            return None;
        }
        let settles = self.limit.settles(now, echoed);
        let Some(window) = self.counter.window_mut() else {
            self.counter.hold_slots(attempt, cost, now);
            return None;
        };
        window.advance(now);
        let unit = window.charge(now, settles, cost, Origin::Call);
        Some(Charged { unit, settles, at_grant: window.at_grant() })
    }
}
