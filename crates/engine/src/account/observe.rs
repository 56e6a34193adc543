//! What response headers change: the provider's word lowers at once, and raises nothing that the
//! quota did not declare.

use std::time::Duration;

use super::lanes::Limit;
use super::reports::Answer;
use super::{Charge, Engine};
use crate::config::CountedAs;
use crate::cost::Amount;
use crate::event::{Action, StatedUse};
use crate::time::{Time, stretched};
use crate::window_counter::{StatedAmount, WindowEnd};

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
        let (granted, charges) = (grant.at, grant.charges.clone());
        let Some(call) = self.calls.get(&attempt.key()) else {
            return;
        };
        let lane = call.wanted.lane;
        let mut lowered = false;
        for charge in charges {
            let Some(entry) = self.lanes.entry(charge.counter) else { continue };
            if !self.lanes.speaks_of(lane, entry) {
                continue;
            }
            let limit = entry.limit.clone();
            let Some(seen) = observations.iter().find(|seen| seen.limit == limit.config.name) else {
                continue;
            };
            if let Some(hard) = seen.hard.filter(|hard| *hard > 0) {
                lowered |= self.lanes.observe_hard(charge.counter, hard, now);
            }
            if let Some(remaining) = seen.remaining {
                let hard = seen.hard.unwrap_or_else(|| limit.declared());
                let left = Left {
                    used: Amount(hard) - Amount(remaining),
                    remaining: Amount(remaining),
                    end: seen.ends_in.and_then(|ends_in| window_end(&limit, ends_in, granted, latest)),
                };
                lowered |= self.observe_remaining(now, charge, left);
            }
        }
        if lowered {
            self.renew_forecasts(now, actions);
        }
    }

    /// Takes in what a person says of a limit. It lowers what is only assumed, and raises what others are taken to have
    /// used; our own charges stay.
    pub(super) fn use_stated(&mut self, now: Time, stated: &StatedUse) {
        let mut changed = false;
        for entry in self.lanes.entries_mut().filter(|it| it.limit.config.name == stated.limit) {
            let total = Amount(stated.amount);
            let left = Amount(entry.limit.declared()) - total;
            let Some(counter) = entry.counter.window_mut() else { continue };
            counter.advance(now);
            let used = StatedAmount { total, ours: counter.amount() - left };
            changed |= counter.use_is_stated(used, stated.at, now);
        }
        if changed {
            self.durability.past_learned();
        }
    }

    /// Takes in what the provider said of a limit when it answered the call that was charged. Returns whether
    /// others have used some of it.
    fn observe_remaining(&mut self, now: Time, charge: Charge, left: Left) -> bool {
        let Some(counter) = self.lanes.window(charge.counter) else {
            return false;
        };
        counter.advance(now);
        let mut learned = counter.past_is_at_most(left.used, now);
        if let Some(end) = left.end {
            learned |= counter.past_ends(end, now);
        }
        // Of ours the provider can have counted what was in the log when this call was
        // granted and what was granted since; a stale answer therefore accuses nobody.
        let mut others = Amount::ZERO;
        if let Some(at_grant) = charge.at_grant {
            let used = counter.amount() - left.remaining;
            others = used - at_grant.ours(counter.charged());
            counter.charge_others(now, others, left.end.map(|end| end.latest));
        }
        if learned {
            self.durability.past_learned();
        }
        !others.is_zero()
    }
}

/// What an answer says of a limit.
struct Left {
    used: Amount,
    remaining: Amount,
    end: Option<WindowEnd>,
}

/// Rounding of what a provider tells in seconds, and a margin for its clock.
const ROUNDING: Duration = Duration::from_secs(1);

/// When the window ends in which the provider has counted a call, as its answer says. Believed only of windows with
/// a fixed end, and not where it is further away than a window.
fn window_end(limit: &Limit, ends_in: Duration, granted: Time, latest: Time) -> Option<WindowEnd> {
    let config = &limit.config;
    let believed = config.counted_as == CountedAs::FixedWindow && ends_in <= config.window;
    believed.then(|| WindowEnd {
        earliest: granted + ends_in.saturating_sub(ROUNDING),
        latest: latest + stretched(ends_in) + limit.counted_after_write + ROUNDING,
    })
}
