//! A counter of a limit: what it charges, whom it holds up, and what people are shown of it.

use std::sync::Arc;
use std::time::Duration;

use super::backlog::Backlog;
use super::limit::Limit;
use super::too_large::Rejected;
use crate::account::counter::{Counter, Usage};
use crate::account::status::LimitStatus;
use crate::cost::{Amount, Costs, CostsNumber, NumberedCosts};
use crate::event::{Attempt, PeriodBegun};
use crate::time::Time;
use crate::units::{Origin, UnitKey};
use crate::window_counter::{AtGrant, WindowCounter};

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
    /// Changed through [`Entry::counter_mut`] alone, so that what is known of it does not outlive it.
    counter: Counter,
    /// When it changes next by more than draining evenly, but for what was charged since that was looked up.
    next_change: Time,
    /// The provider's own figure, where headers have named one: of this model, not of the others.
    pub(in crate::account) observed: Option<u64>,
    pub(super) waiting: Backlog,
    /// What calls of the costs that were last looked at are charged.
    charged: Option<(CostsNumber, Amount)>,
    /// What it last said of such a call.
    said: Option<Said>,
    /// What is kept for calls whose turn comes before, within one round of grants.
    pub(super) kept: Amount,
    /// Whether it had no room for the call that was last looked at.
    pub(super) blocks: bool,
    /// Until then it has no room for a call that has come: a budget that is used up.
    pub(super) spent_until: Option<Time>,
    /// The smallest call that was larger than the bucket, went alone, and was rejected.
    pub(super) rejected: Option<Rejected>,
}

/// When a call may fit, as it was last said.
#[derive(Clone, Copy, Debug)]
struct Said {
    cost: Amount,
    kept: Amount,
    /// `None`: at once.
    until: Option<Time>,
    /// From then on it may be otherwise.
    holds_before: Time,
}

impl Entry {
    pub(super) fn new(limit: Arc<Limit>, model: Option<String>, counter: Counter) -> Entry {
        Entry {
            limit,
            model,
            counter,
            observed: None,
            waiting: Backlog::EMPTY,
            next_change: Time(0),
            charged: None,
            said: None,
            kept: Amount::ZERO,
            blocks: false,
            spent_until: None,
            rejected: None,
        }
    }

    pub(in crate::account) fn counter(&self) -> &Counter {
        &self.counter
    }

    /// The counter, to change it.
    pub(in crate::account) fn counter_mut(&mut self) -> &mut Counter {
        (self.next_change, self.said) = (Time(0), None);
        &mut self.counter
    }

    /// The same with its limit, where that counts windows.
    pub(in crate::account) fn window_mut(&mut self) -> Option<(&Limit, &mut WindowCounter)> {
        (self.next_change, self.said) = (Time(0), None);
        Some((&*self.limit, self.counter.window_mut()?))
    }

    /// The same after everything has happened whose time has come.
    pub(in crate::account) fn window_at(&mut self, now: Time) -> Option<(&Limit, &mut WindowCounter)> {
        self.advance(now);
        self.window_mut()
    }

    /// The same for charges and what becomes known of them: the counter says what these let happen, and when.
    pub(in crate::account) fn charges_at(&mut self, now: Time) -> Option<(&Limit, &mut WindowCounter)> {
        self.advance(now);
        self.said = None;
        Some((&*self.limit, self.counter.window_mut()?))
    }

    /// Lets everything happen whose time has come.
    pub(super) fn advance(&mut self, now: Time) {
        if now < self.quiet_until() {
            self.counter.drain(now);
        } else {
            self.counter.advance(now);
            self.next_change = self.counter.next_change(now);
        }
    }

    /// Before this time it changes only by what is charged and corrected, and by draining evenly.
    fn quiet_until(&self) -> Time {
        self.next_change.min(self.counter.soonest())
    }

    /// The provider's figure by the quota.
    pub(in crate::account) fn declared(&self) -> u64 {
        self.limit.config.amount_of(self.model.as_deref()).hard()
    }

    /// Takes on the limit as it is configured and observed now.
    pub(in crate::account) fn reconfigure(&mut self, now: Time) {
        let amount = self.limit.effective(self.model.as_deref(), self.observed);
        self.counter.reconfigure(&self.limit.config, amount, now);
        (self.spent_until, self.rejected, self.charged) = (None, None, None);
        // What an answer names stops nobody for longer than a window, whatever is granted already.
        let observed = self.observed.is_some();
        if let Some((_, window)) = self.window_mut().filter(|_| observed) {
            window.drain_within_a_window();
        }
    }

    /// A period has begun, if the limit has any.
    pub(super) fn period_begun(&mut self, period: &PeriodBegun, now: Time) {
        if let Some((limit, window)) = self.window_mut()
            && limit.config.period.is_some()
        {
            window.period_begun(period.begun, period.ends, now);
        }
    }

    /// What is charged here for a call of these costs at its grant.
    pub(in crate::account) fn cost(&self, costs: &Costs) -> Amount {
        self.at_most_all(self.limit.cost(costs))
    }

    /// The same of numbered costs: worked out once for those that are looked at again and again.
    pub(super) fn charge_for(&mut self, costs: &NumberedCosts) -> Amount {
        match self.charged {
            Some((number, cost)) if number == costs.number() => cost,
            _ => {
                let cost = self.cost(costs);
                self.charged = Some((costs.number(), cost));
                cost
            }
        }
    }

    /// No more than the counter allows, unless a call that costs more can never fit.
    fn at_most_all(&self, cost: Amount) -> Amount {
        // What an answer has named refuses nobody for good.
        let lowered = self.limit.config.tokens.is_some()
            && cost <= Amount(self.limit.config.amount_of(self.model.as_deref()).amount);
        if lowered || self.limit.takes_chances() { cost.min(self.counter.amount()) } else { cost }
    }

    /// When a call of these costs may fit at the earliest; `None`: now.
    pub(super) fn blocked_until(&mut self, now: Time, costs: &NumberedCosts) -> Option<Time> {
        let (cost, kept) = (self.charge_for(costs), self.kept);
        let holds = |said: &Said| (said.cost, said.kept) == (cost, kept) && now < said.holds_before;
        let until = match self.said.filter(holds) {
            Some(said) => said.until,
            // A call that draws nothing passes a full limit.
            None if cost.is_zero() => None,
            None => {
                self.advance(now);
                let until = self.counter.blocked_until(now, cost, kept);
                let holds_before = self.quiet_until().min(until.unwrap_or(Time::NEVER));
                self.said = Some(Said { cost, kept, until, holds_before });
                until
            }
        };
        self.blocks = until.is_some();
        until
    }

    /// About how long until `ahead` of the waiting calls, as far as they draw on this limit, and one that is expected
    /// to draw so much have been granted; `None`: it has the usual costs.
    pub(super) fn wait_for(&mut self, now: Time, expected: Option<Amount>, ahead: u64) -> Duration {
        self.advance(now);
        let own = self.at_most_all(expected.unwrap_or(self.limit.usual));
        self.counter.wait_for(now, self.waiting.cost_of(ahead, &self.limit) + own)
    }

    /// What people are shown of it.
    pub(super) fn status(&mut self, now: Time) -> LimitStatus {
        self.advance(now);
        let Usage { amount, used, reserved, used_by_others, assumed, resets_in } = self.counter.usage(now);
        let ahead = self.waiting.calls.saturating_sub(1);
        LimitStatus {
            name: self.limit.shown_name().to_owned(),
            model: self.model.clone(),
            unit: self.limit.config.unit,
            window: if self.counter.is_a_window() { self.limit.config.window } else { Duration::ZERO },
            amount: amount.0,
            used: used.0,
            reserved: reserved.0,
            // What answers reveal may be ours, where more was used than was estimated.
            used_by_others: if self.limit.may_be_exceeded() { 0 } else { used_by_others.0 },
            assumed: assumed.0,
            waiting: self.waiting.calls,
            resets_in,
            wait: self.wait_for(now, None, ahead),
            spent: self.is_spent(now),
        }
    }

    /// Charges a call that is granted on the strength of an echo that was stamped at `echoed` or before, and lasts so
    /// long at most. Returns what was charged, where the limit counts windows and the call draws on it.
    pub(in crate::account) fn charge(
        &mut self,
        attempt: Attempt,
        costs: &NumberedCosts,
        now: Time,
        echoed: Time,
        longest: Duration,
    ) -> Option<Charged> {
        let cost = self.charge_for(costs);
        if cost.is_zero() {
            return None;
        }
        let settles = self.limit.settles_call(now, echoed, longest);
        if !self.counter.is_a_window() {
            self.counter_mut().hold_slots(attempt, cost, now, longest);
            return None;
        }
        let (_, window) = self.charges_at(now)?;
        let unit = window.charge(now, settles, cost, Origin::Call);
        Some(Charged { unit, settles, at_grant: window.at_grant() })
    }
}

#[cfg(test)]
mod tests;
