//! Charges that a provider may still change after the call has arrived: tokens, what they cost, credits.
//!
//! What is held for such a call stays in flight, out of the bucket's level, until nothing can change it any more.
//! There it just shrinks to what was drawn; a level, once poured, is never taken back.

use std::time::Duration;

use super::lanes::{Limit, Taken};
use super::workload_usage::Spent;
use super::{Call, CallState, Charge, Engine, Wanted};
use crate::config::{Charged, LimitConfig, Reserving, TokenLimit, Unit};
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

    /// What is held is no estimate: nothing is known of such calls yet, and it need not be the most either.
    fn holds_a_guess(&self) -> bool {
        self.tokens.reserving == Reserving::Learned && !self.costs.learned
    }

    /// What is still held.
    fn held(&self) -> Amount {
        self.window.cost_of(self.unit)
    }

    /// This is drawn of what is held, and the provider has counted it by J after `at`.
    fn settle(self, now: Time, drawn: Amount, at: Time) {
        self.window.settles_as(now, self.unit, drawn, at + self.limit.counted_after_write);
    }
}

impl Engine {
    /// So many tokens of output have been produced for a call until now. A limit that counts them as they are
    /// produced has counted them by J; the rest stays held, for the call goes on.
    pub(super) fn produced(&mut self, now: Time, attempt: Attempt, output: u64) {
        let Some(tokens) = self.calls.get(&attempt.key()).and_then(|call| call.wanted.costs.tokens) else {
            return;
        };
        let Some(grant) = self.grant_of(attempt) else { return };
        let step = tokens.likely.output.min(tokens.most.output) / STEPS;
        if output <= grant.told.saturating_add(step) {
            return;
        }
        let mut running = grant.running.take();
        if let Some(running) = &mut running {
            self.estimates.produced(running, output);
        }
        let rest = running.as_ref().map_or(output / 10, |running| {
            self.estimates.rest(running, tokens.likely.output, tokens.most.output)
        });
        self.each_open(now, attempt, |open| {
            let more = open.produced(output) - open.produced(open.told);
            let counted_by = now + open.limit.counted_after_write;
            if !more.is_zero() {
                open.window.produced(open.unit, more, counted_by, open.produced(rest));
            }
        });
        if let Some(grant) = self.grant_of(attempt) {
            grant.told = output;
            grant.running = running;
        }
    }

    /// A call is over. Where its end was seen and its usage told, what was drawn replaces what was held, and the
    /// provider has counted it by J. Of one whose usage is only estimated, no less is counted than was held, unless
    /// that was a guess. A provider goes on with a call whose client is gone: all that was held counts, where that is what is likely once so much
    /// has been produced, where it is the most when the longest call has ended.
    pub(super) fn settle_tokens(
        &mut self,
        now: Time,
        attempt: Attempt,
        end: CallEnd,
        usage: Option<TokenUsage>,
    ) {
        let seen = end == CallEnd::Seen || mutant::active(Mutant::HangUpIsAnEnd);
        self.count_usage(now, attempt, end, usage);
        let lasts = self.learn(now, attempt, seen, usage);
        self.correct_turns(now, attempt, usage.filter(|usage| seen && usage.exact));
        let mut beyond = false;
        self.each_open(now, attempt, |open| {
            open.window.first_answered();
            let held = open.held();
            let drawn = usage.map(|usage| open.tokens.drawn(open.counts(), open.costs, &usage));
            let drawn = drawn.map(|drawn| drawn - open.produced(open.told));
            beyond |= drawn.is_some_and(|drawn| drawn > held);
            let exact = usage.is_some_and(|usage| match open.counts() {
                Unit::Credits => usage.credits.is_some(),
                _ => usage.exact,
            });
            match drawn {
                Some(drawn) if seen && (exact || open.holds_a_guess()) => open.settle(now, drawn, now),
                _ if seen => open.settle(now, drawn.unwrap_or_default().max(held), now),
                _ if mutant::active(Mutant::LossCountsWhatCame) => open.settle(now, Amount::ZERO, now),
                drawn => {
                    let drawn = drawn.unwrap_or_default().max(held);
                    match lasts.filter(|_| open.tokens.reserving == Reserving::Learned) {
                        Some(lasts) => open.settle(now, drawn, now + lasts),
                        None => open.window.settle_up(now, open.unit, held, drawn),
                    }
                }
            }
        });
        // The ledger holds what was held: only of more it knows nothing.
        if beyond {
            self.durability.past_learned();
        }
    }

    /// Counts what a call has used for its workload and model.
    pub(super) fn count_usage(
        &mut self,
        now: Time,
        attempt: Attempt,
        end: CallEnd,
        usage: Option<TokenUsage>,
    ) {
        if !self.lanes.counts_tokens() {
            return;
        }
        let Some(call) = self.calls.get(&attempt.key()) else { return };
        let CallState::Granted(grant) = &call.state else { return };
        let Wanted { consumer, lane, costs, attempts, .. } = &call.wanted;
        let Some(tokens) = costs.tokens.filter(|_| *attempts == attempt.number) else { return };
        let model = self.lanes.class_of(*lane).model.as_deref();
        let has_price = |model| self.config.models.get(model).is_some_and(|facts| facts.prices.is_some());
        // What has been produced, where nothing else is known.
        let told = TokenUsage { output: grant.told, ..TokenUsage::default() };
        let usage = usage.or((grant.told > 0).then_some(told));
        let unpriced = !model.is_some_and(has_price);
        let unbounded = self.holds_all_output(&tokens);
        let spent = Spent { end, usage, prices: tokens.prices, unpriced, unbounded };
        self.usage_by_workload.spent(now, consumer, model, spent);
    }

    /// Whether a limit has held as much output for a call as its model can produce, because it sets no maximum.
    fn holds_all_output(&self, costs: &TokenCosts) -> bool {
        let sets_none = costs.size.is_some_and(|size| size.max_output.is_none());
        sets_none && costs.most.output > 0 && self.config.limits.iter().any(LimitConfig::holds_the_most)
    }

    /// A rejected call has drawn what the provider counts on arrival, where that is known, and nothing else.
    pub(super) fn settle_rejected(&mut self, now: Time, attempt: Attempt, latest: Time) {
        self.learn(now, attempt, true, None);
        self.each_open(now, attempt, |open| {
            let held = open.held();
            let drawn = open.tokens.rejected(open.costs).unwrap_or(held).min(held);
            // Its answer has begun: the provider has decided.
            open.window.settle_up(now, open.unit, held, drawn);
            open.window.counted_by(now, open.unit, latest);
        });
    }

    /// A turn was as long as what was held was foreseen to take; a call that used less, or ended sooner, has not had more
    /// of the capacity than that. Where tokens count but it is not known how many, it stays as long.
    fn correct_turns(&mut self, now: Time, attempt: Attempt, usage: Option<TokenUsage>) {
        let Some(Call { wanted, state, .. }) = self.calls.get_mut(&attempt.key()) else { return };
        let Wanted { lane, costs, consumer, attempts, .. } = wanted;
        let CallState::Granted(grant) = state else { return };
        if *attempts != attempt.number || costs.tokens.is_some() && usage.is_none() {
            return;
        }
        let Some(had) = grant.turns.take() else { return };
        let taken = Taken { usage: usage.as_ref(), held: now.since(grant.at) };
        let taken = self.lanes.turns_of(*lane, costs, taken);
        self.queue.turns_taken(self.lanes.group(*lane), consumer, had, taken);
    }

    /// Learns from a call's end. Returns how long a provider that goes on with it will likely still produce; `None`:
    /// that is not known.
    fn learn(
        &mut self,
        now: Time,
        attempt: Attempt,
        seen: bool,
        usage: Option<TokenUsage>,
    ) -> Option<Duration> {
        let wanted = &self.calls.get(&attempt.key())?.wanted;
        let (tokens, estimate) = (wanted.costs.tokens?, wanted.estimate?.key);
        let grant = self.grant_of(attempt)?;
        let (told, running) = (grant.told, grant.running.take()?);
        if seen {
            if let Some(usage) = usage.filter(|usage| usage.exact && usage.input > 0 && tokens.learned) {
                self.estimate_ratios.add(&tokens.likely, &usage);
            }
            // Without input it was refused: that shows nothing of calls that are served.
            let exact = usage.filter(|usage| usage.exact && usage.input > 0);
            self.estimates.ended(running, tokens.size.as_ref(), exact.as_ref(), now);
            return None;
        }
        self.estimates.lost(running);
        self.estimates.time_to_produce(estimate, tokens.likely.output.saturating_sub(told))
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
            if entry.limit.settling().is_none() {
                continue;
            }
            let Some((limit, window)) = entry.charges_at(now) else { continue };
            let Some(tokens) = limit.settling() else { continue };
            each(Open { limit, tokens, costs: &costs, told, unit: *unit, window });
        }
    }
}
