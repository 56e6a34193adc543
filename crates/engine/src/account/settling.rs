//! Charges that a provider may still change after the call has arrived: tokens, and what they cost.
//!
//! What is held for such a call stays in flight, out of the bucket's level, until nothing can change it any more.
//! There it just shrinks to what was drawn; a level, once poured, is never taken back.

use super::lanes::Limit;
use super::{CallState, Charge, Engine};
use crate::config::{Charged, TokenLimit, Unit};
use crate::cost::Amount;
use crate::event::Attempt;
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::token_costs::TokenCosts;
use crate::tokens::{CallEnd, TokenUsage};
use crate::units::UnitKey;
use crate::window_counter::WindowCounter;

/// Progress is taken in when it is this part of what is held, so that a long stream is a few charges and not hundreds.
const STEPS: u64 = 16;

/// A charge of a call that is under way, at a limit that the provider may still change.
struct Open<'a> {
    limit: &'a Limit,
    tokens: &'a TokenLimit,
    costs: &'a TokenCosts,
    /// Output tokens that are charged already, apart from the unit.
    told: u64,
    unit: UnitKey,
    window: &'a mut WindowCounter,
}

impl Open<'_> {
    /// The unit of the limit.
    fn counts(&self) -> Unit {
        self.limit.config.unit
    }

    /// What so much output draws, where it is counted while it is produced.
    fn produced(&self, output: u64) -> Amount {
        match self.tokens.charged {
            Charged::AsProduced => self.tokens.produced(self.counts(), self.costs, output),
            _ => Amount::ZERO,
        }
    }

    /// What is still held.
    fn held(&self) -> Amount {
        self.window.cost_of(self.unit)
    }

    /// This is drawn of what is held, and the provider has counted it by J after `at`.
    fn settle(self, now: Time, drawn: Amount, at: Time) {
        let held = self.held();
        self.window.settle_up(now, self.unit, held, drawn);
        self.window.counted_by(now, self.unit, at + self.limit.counted_after_write);
    }
}

impl Engine {
    /// So many tokens of output have been produced for a call until now. A limit that counts them as they are
    /// produced has counted them by J; the rest stays held, a tenth of what came at least, because the call goes on.
    pub(super) fn produced(&mut self, now: Time, attempt: Attempt, output: u64) {
        let Some(tokens) = self.calls.get(&attempt.key()).and_then(|call| call.wanted.costs.tokens) else {
            return;
        };
        let Some(grant) = self.grant_of(attempt) else { return };
        let step = tokens.likely.output.min(tokens.most.output) / STEPS;
        if output <= grant.told.saturating_add(step) {
            return;
        }
        self.each_open(now, attempt, |open| {
            let more = open.produced(output) - open.produced(open.told);
            let counted_by = now + open.limit.counted_after_write;
            if !more.is_zero() {
                open.window.produced(open.unit, more, counted_by);
            }
        });
        if let Some(grant) = self.grant_of(attempt) {
            grant.told = output;
        }
    }

    /// A call is over. Where its end was seen and its usage told, what was drawn replaces what was held, and the
    /// provider has counted it by J. Of one whose usage is not told, no less is counted than was held. A provider
    /// goes on with a call whose client is gone: all that was held counts, when the longest call has ended.
    pub(super) fn settle_tokens(
        &mut self,
        now: Time,
        attempt: Attempt,
        end: CallEnd,
        usage: Option<TokenUsage>,
    ) {
        let seen = end == CallEnd::Seen || mutant::active(Mutant::HangUpIsAnEnd);
        self.each_open(now, attempt, |open| {
            let held = open.held();
            let drawn = usage.map(|usage| open.tokens.drawn(open.counts(), open.costs, &usage));
            let drawn = drawn.map(|drawn| drawn - open.produced(open.told));
            let exact = usage.is_some_and(|usage| usage.exact);
            match drawn {
                Some(drawn) if seen && exact => open.settle(now, drawn, now),
                _ if seen => open.settle(now, drawn.unwrap_or_default().max(held), now),
                Some(drawn) if drawn > held => open.window.settle_up(now, open.unit, held, drawn),
                _ => {}
            }
        });
    }

    /// A rejected call has drawn what the provider counts on arrival, where that is known, and nothing else.
    pub(super) fn settle_rejected(&mut self, now: Time, attempt: Attempt, latest: Time) {
        self.each_open(now, attempt, |open| {
            let held = open.held();
            let drawn = open.tokens.rejected(open.costs).unwrap_or(held).min(held);
            open.settle(now, drawn, latest);
        });
    }

    fn each_open(&mut self, now: Time, attempt: Attempt, mut each: impl FnMut(Open<'_>)) {
        let Some(call) = self.calls.get(&attempt.key()) else { return };
        let CallState::Granted(grant) = &call.state else { return };
        let Some(costs) = call.wanted.costs.tokens.filter(|_| call.wanted.attempts == attempt.number) else {
            return;
        };
        let told = grant.told;
        for Charge { counter, unit, .. } in &grant.charges {
            let Some(entry) = self.lanes.entry_mut(*counter) else { continue };
            let limit = entry.limit.clone();
            let (Some(tokens), Some(window)) = (limit.settling(), entry.counter.window_mut()) else {
                continue;
            };
            window.advance(now);
            each(Open { limit: &limit, tokens, costs: &costs, told, unit: *unit, window });
        }
        self.durability.past_learned();
    }
}
