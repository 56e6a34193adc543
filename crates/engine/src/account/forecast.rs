//! How long a call would wait, so that one that cannot be served in time is refused at once.

use std::time::Duration;

use super::Engine;
use super::calls::Refusal;
use crate::callers::Caller;
use crate::config::Extent;
use crate::cost::NumberedCosts;
use crate::event::{Action, Callers, RefusalReason};
use crate::queue::LaneId;
use crate::time::Time;

impl Engine {
    /// Whether calls wait, however long they would wait by the limits' amounts: these may be larger at any moment.
    pub(super) fn waits_however_long(&self) -> bool {
        self.config.assumed || self.config.extent == Extent::PartForNow
    }

    /// About how long a new call of this consumer and these costs would wait.
    pub(super) fn forecast(
        &mut self,
        now: Time,
        lane: LaneId,
        costs: &NumberedCosts,
        caller: Caller<'_>,
    ) -> Duration {
        let ahead = self.ahead_of(lane, caller);
        self.wait_behind(now, (lane, caller), costs, ahead)
    }

    /// How many waiting calls have their turn before a new one of this caller.
    pub(super) fn ahead_of(&self, lane: LaneId, caller: Caller<'_>) -> u64 {
        let (group, weight) = (self.lanes.group(lane), self.weight_of(caller.consumer));
        self.queue.ahead_of(group, caller.consumer, weight)
    }

    /// About how long a new call of these costs would wait if `ahead` others came before it: for the lane's pauses, then
    /// for all calls whose turn comes before, at each limit that they draw on.
    pub(super) fn wait_behind(
        &mut self,
        now: Time,
        (lane, caller): (LaneId, Caller<'_>),
        costs: &NumberedCosts,
        ahead: u64,
    ) -> Duration {
        let until = self.paused_until(now, lane).max(self.held_until(now, lane, caller));
        let paused = until.map_or(Duration::ZERO, |until| until.since(now));
        let covering = self.caps.iter().filter(|(scope, _)| self.lanes.covers(lane, scope));
        let capped = covering.map(|(_, cap)| cap.wait_for(ahead.saturating_add(1))).max().unwrap_or_default();
        self.lanes.wait_for(lane, costs, now, ahead).max(paused).max(capped)
    }

    /// About how long a call that waits already still waits at least: as if it came first, as if whoever paused by hand
    /// resumed at once, and as if a call under way ended now, for nobody knows how long those last. Without a caller:
    /// the longest of all callers.
    fn least_wait(
        &mut self,
        now: Time,
        lane: LaneId,
        caller: Option<Caller<'_>>,
        costs: &NumberedCosts,
    ) -> Duration {
        let config = self.config.pause;
        let pauses = self.pauses.iter().filter(|(_, pause)| !pause.by_hand);
        let holds = |callers: &Callers| caller.is_none_or(|caller| callers.cover(caller));
        let pauses = pauses.filter(|(key, _)| holds(&key.callers) && self.lanes.covers(lane, &key.scope));
        let until = pauses.filter_map(|(_, pause)| pause.blocked_until(now, &config)).max();
        let paused = until.map_or(Duration::ZERO, |until| until.since(now));
        self.lanes.wait_for_windows(lane, costs, now).max(paused)
    }

    /// The refusal of a call that may wait for `allowed`, and has to wait for longer.
    pub(super) fn too_long(
        &mut self,
        now: Time,
        (lane, caller): (LaneId, Caller<'_>),
        costs: &NumberedCosts,
        allowed: Duration,
    ) -> Refusal {
        self.budget_refusal(now, lane, costs, allowed, 0).unwrap_or_else(|| {
            let wait = self.wait_behind(now, (lane, caller), costs, 0);
            Refusal::until(RefusalReason::WaitTooLong, wait)
        })
    }

    /// Refuses the waiting calls that cannot be granted by their deadlines any more. To be called when a change may
    /// have made waits longer: a pause by the provider, an edit, use by others.
    pub(super) fn renew_forecasts(&mut self, now: Time, actions: &mut Vec<Action>) {
        if !self.enforces() || self.waits_however_long() || !self.waits_beyond_a_deadline(now) {
            return;
        }
        let waiting: Vec<_> = self.calls.waiting().map(|(key, wanted)| (key, wanted.clone())).collect();
        for (key, wanted) in waiting {
            let (lane, caller, costs) = (wanted.lane, wanted.caller(), wanted.costs);
            if wanted.deadline < now + self.least_wait(now, lane, Some(caller), &costs) {
                let refusal = self.too_long(now, (lane, caller), &costs, wanted.deadline.since(now));
                self.refuse(now, key, refusal, actions);
            }
        }
    }

    /// Whether some lane's first call may wait beyond the earliest deadline: mostly none does, and that is known
    /// without looking at each call.
    fn waits_beyond_a_deadline(&mut self, now: Time) -> bool {
        let Some((earliest, _)) = self.deadlines.first() else { return false };
        self.lanes.with_waiting().into_iter().any(|lane| {
            let each = self.lanes.costs_of_each(lane);
            each.is_none_or(|costs| earliest < now + self.least_wait(now, lane, None, &costs))
        })
    }
}
