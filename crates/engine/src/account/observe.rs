//! What response headers change: the provider's word lowers at once, and raises nothing that the
//! quota did not declare.

use std::time::Duration;

use super::figures::Witness;
use super::lanes::Limit;
use super::reports::Answer;
use super::{Charge, Engine};
use crate::config::CountedAs;
use crate::cost::Amount;
use crate::event::{Action, StatedUse};
use crate::mutant::{self, Mutant};
use crate::time::{Time, stretched};
use crate::window_counter::{Left, StatedAmount, Told, WindowEnd};

impl Engine {
    /// Takes in what the answer to an attempt says of the limits that it was charged to.
    pub(super) fn observe(&mut self, now: Time, answer: Answer<'_>, actions: &mut Vec<Action>) {
        let Answer { attempt, latest, observations } = answer;
        if observations.is_empty() {
            return;
        }
        let Some(grant) = self.grant_of(attempt) else {
            return;
        };
        let (granted, charges) = (grant.at, std::mem::take(&mut grant.charges));
        let Some(call) = self.calls.get(&attempt.key()) else {
            return;
        };
        let (lane, costs) = (call.wanted.lane, call.wanted.costs);
        let (by, credential) = (call.wanted.consumer.clone(), call.wanted.credential);
        let mut lowered = false;
        for charge in &charges {
            let Some(entry) = self.lanes.entry(charge.counter) else { continue };
            if !self.lanes.speaks_of(lane, entry) {
                continue;
            }
            let (limit, declared) = (entry.limit.clone(), entry.declared());
            let name = limit.name_in_answers();
            let Some(seen) = observations.iter().find(|seen| name == Some(seen.limit.as_str())) else {
                continue;
            };
            let before = self.standing(charge.counter);
            let (mut news, mut shown) = (false, Amount::ZERO);
            if let Some(hard) = seen.hard.filter(|hard| *hard > 0) {
                news |= self.lanes.observe_hard(charge.counter, hard, now);
            }
            if let Some(remaining) = seen.remaining.filter(|_| !limit.is_maximum()) {
                let hard = seen.hard.unwrap_or(declared);
                let end = seen.ends_in.and_then(|ends_in| window_end(&limit, ends_in, granted, latest));
                let left = Left { remaining: Amount(remaining), end, granted, cost: limit.cost(&costs) };
                let told = self.observe_remaining(now, *charge, Amount(hard) - Amount(remaining), left);
                news |= told.more;
                shown = told.others;
            }
            if news {
                let witness = Witness { by: by.clone(), credential, attempt, granted };
                self.weigh_figures(now, charge.counter, before, witness);
            } else {
                let same = seen.hard.is_some_and(|hard| hard < declared);
                self.compare_figures(charge.counter, &by, shown, same);
            }
            lowered |= news;
        }
        if let Some(grant) = self.grant_of(attempt) {
            grant.charges = charges;
        }
        if lowered {
            self.renew_forecasts(now, actions);
        }
    }

    /// Takes in what a person says of a limit. It lowers what is only assumed, and replaces what others are taken to
    /// have used by then; our own charges stay.
    pub(super) fn use_stated(&mut self, now: Time, stated: &StatedUse, actions: &mut Vec<Action>) {
        let mut changed = false;
        for entry in self.lanes.entries_mut().filter(|it| it.limit.config.name == stated.limit) {
            let total = Amount(stated.amount);
            let left = Amount(entry.declared()) - total;
            let Some((_, counter)) = entry.window_at(now) else { continue };
            let used = StatedAmount { total, ours: counter.amount() - left };
            changed |= counter.use_is_stated(used, stated.at, now);
        }
        if changed {
            self.past_is_better_known();
            self.renew_forecasts(now, actions);
        }
    }

    /// Takes in what the provider said of a limit when it answered the call that was charged; `used` is what is used
    /// in all. Returns what that tells of others.
    fn observe_remaining(&mut self, now: Time, charge: Charge, used: Amount, left: Left) -> Told {
        let Some(entry) = self.lanes.entry_mut(charge.counter) else { return Told::default() };
        let Some((limit, counter)) = entry.window_at(now) else { return Told::default() };
        let estimated = limit.config.tokens.is_some_and(|tokens| tokens.is_estimated());
        let mut learned = counter.past_is_at_most(used, now);
        if let Some(end) = left.end {
            learned |= counter.past_ends(end, now);
        }
        let told = charge.at_grant.map(|at_grant| match estimated {
            true => counter.raise(now, at_grant, left),
            false => counter.learn_of_others(now, at_grant, left),
        });
        if learned {
            self.past_is_better_known();
        }
        told.unwrap_or_default()
    }
}

/// Rounding of what a provider tells in seconds. A time of day is rounded as well as the Date that it is read against.
const ROUNDING: Duration = Duration::from_secs(1);

/// When the window ends in which the provider has counted a call, as its answer says. Believed only of windows with
/// a fixed end, and not where it is further away than a window.
fn window_end(limit: &Limit, ends_in: Duration, granted: Time, latest: Time) -> Option<WindowEnd> {
    let config = &limit.config;
    let fixed = config.counted_as == CountedAs::FixedWindow || mutant::active(Mutant::ResetOfSlidingWindow);
    let near = ends_in <= config.window || mutant::active(Mutant::LateResetBelieved);
    (fixed && near).then(|| WindowEnd {
        earliest: granted + ends_in.saturating_sub(ROUNDING * 2),
        latest: latest + stretched(ends_in) + limit.counted_after_write + ROUNDING,
    })
}
