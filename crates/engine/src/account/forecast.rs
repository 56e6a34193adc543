//! How long a call would wait, so that one that cannot be served in time is refused at once.

use std::time::Duration;

use super::Engine;
use crate::callers::Caller;
use crate::cost::Costs;
use crate::queue::LaneId;
use crate::time::Time;

impl Engine {
    /// About how long a new call of this consumer and these costs would wait: for the lane's pauses, then
    /// for all calls whose turn comes before, at each limit that they draw on.
    pub(super) fn forecast(&mut self, now: Time, lane: LaneId, costs: Costs, caller: Caller<'_>) -> Duration {
        let ahead = self.queue.ahead_of(caller.consumer, self.weight_of(caller.consumer));
        self.wait_behind(now, (lane, caller), costs, ahead)
    }

    /// About how long a new call of these costs would wait if `ahead` others came before it.
    pub(super) fn wait_behind(
        &mut self,
        now: Time,
        (lane, caller): (LaneId, Caller<'_>),
        costs: Costs,
        ahead: u64,
    ) -> Duration {
        let until = self.paused_until(now, lane).max(self.held_until(now, lane, caller));
        let paused = until.map_or(Duration::ZERO, |until| until.since(now));
        let covering = self.caps.iter().filter(|(scope, _)| self.lanes.covers(lane, scope));
        let capped = covering.map(|(_, cap)| cap.wait_for(ahead.saturating_add(1))).max().unwrap_or_default();
        self.lanes.wait_for(lane, costs, now, ahead).max(paused).max(capped)
    }
}
