//! What response headers change: the provider's word lowers at once, and raises nothing that the
//! quota did not declare.

use super::{Charge, Engine};
use crate::cost::Amount;
use crate::event::{Attempt, Observation};
use crate::time::Time;

impl Engine {
    /// Takes in what the answer to an attempt says of the limits that it was charged to.
    pub(super) fn observe(&mut self, now: Time, attempt: Attempt, observations: &[Observation]) {
        if observations.is_empty() {
            return;
        }
        let Some(grant) = self.grant_of(attempt) else {
            return;
        };
        let charges = grant.charges.clone();
        let Some(call) = self.calls.get(&attempt.key()) else {
            return;
        };
        let lane = call.wanted.lane;
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
                self.lanes.observe_hard(charge.counter, hard, now);
            }
            if let Some(remaining) = seen.remaining {
                let hard = seen.hard.unwrap_or_else(|| limit.declared());
                self.observe_remaining(now, charge, hard, remaining);
            }
        }
    }

    /// Takes in how much of `hard` the provider had left when it answered the call that was charged.
    fn observe_remaining(&mut self, now: Time, charge: Charge, hard: u64, remaining: u64) {
        let Some(counter) = self.lanes.window(charge.counter) else {
            return;
        };
        counter.advance(now);
        let (hard, remaining) = (Amount(hard), Amount(remaining));
        if counter.past_is_at_most(hard - remaining) {
            self.durability.past_learned();
        }
        // Of ours the provider can have counted what was in the log when this call was
        // granted and what was granted since; a stale answer therefore accuses nobody.
        if let Some(at_grant) = charge.at_grant {
            let used = counter.amount() - remaining;
            counter.charge_others(now, used - at_grant.ours(counter.charged()));
        }
    }
}
