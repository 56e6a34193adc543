//! What response headers change: the provider's word lowers at once, and raises nothing that the
//! quota did not declare.

use super::Engine;
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
        let charges = grant.units.clone();
        let Some(call) = self.calls.get(&(attempt.session, attempt.call)) else {
            return;
        };
        let lane = call.wanted.lane;
        for charge in charges {
            if !self.lanes.speaks_of(&self.config, lane, charge.counter) {
                continue;
            }
            let Some(name) = self.lanes.limit_name(&self.config, charge.counter).map(str::to_owned) else {
                continue;
            };
            let Some(seen) = observations.iter().find(|seen| seen.limit == name) else {
                continue;
            };
            if let Some(hard) = seen.hard.filter(|hard| *hard > 0) {
                self.lanes.observe_hard(&self.config, charge.counter, hard, now);
            }
            let Some(remaining) = seen.remaining else {
                continue;
            };
            let Some(hard) = seen.hard.or_else(|| self.lanes.declared(&self.config, charge.counter)) else {
                continue;
            };
            let Some(counter) = self.lanes.window(charge.counter) else {
                continue;
            };
            counter.advance(now);
            let learned = counter.past_is_at_most(hard.saturating_sub(remaining));
            // Of ours the provider can have counted what was in the log when this call was
            // granted and what was granted since; a stale answer therefore accuses nobody.
            let ours = charge.logged + (counter.charged() - charge.charged);
            let used = counter.amount().saturating_sub(remaining);
            counter.charge_others(now, used.saturating_sub(ours));
            self.learned_since_snapshot |= learned;
        }
    }
}
