//! Calls that come to a lane and leave it, and how long they wait.

use std::sync::Arc;
use std::time::Duration;

use super::{Lane, Lanes, Limit};
use crate::cost::{Amount, CostsNumber, NumberedCosts};
use crate::queue::LaneId;
use crate::time::Time;

/// What a call of a lane is expected to draw of each limit that covers it, where its costs are not the usual ones. Of
/// those the amounts are not listed: that is worked out for all of them at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    /// Whose call it was worked out for last.
    of: Option<(LaneId, CostsNumber)>,
    pub(super) is_unusual: bool,
    /// By the places of limits.
    amounts: Vec<(usize, Amount)>,
}

impl Expected {
    /// Takes in a call's costs, in the same memory, unless it has just these.
    fn set(&mut self, limits: &[Arc<Limit>], (id, lane): (LaneId, &Lane), costs: &NumberedCosts) {
        if self.of.replace((id, costs.number())) == Some((id, costs.number())) {
            return;
        }
        self.amounts.clear();
        self.is_unusual = !costs.are_usual();
        if self.is_unusual {
            let expected = |place: &usize| (*place, limits[*place].expected(costs));
            self.amounts.extend(lane.limits.iter().map(expected));
        }
    }

    /// Limits, or lanes, are others than before.
    pub(super) fn forget(&mut self) {
        self.of = None;
    }

    /// What it draws of this limit; `None`: it has the usual costs.
    fn of(&self, place: usize) -> Option<Amount> {
        let own = self.amounts.iter().find(|(limit, _)| *limit == place).map(|(_, amount)| *amount);
        self.is_unusual.then(|| own.unwrap_or_default())
    }

    pub(super) fn of_all(&self) -> impl Iterator<Item = (usize, Amount)> {
        self.amounts.iter().copied()
    }
}

impl Lanes {
    /// A call of these costs comes to the lane.
    pub(in crate::account) fn call_waits(&mut self, id: LaneId, costs: &NumberedCosts) {
        self.waiting += 1;
        let Lanes { expected, limits, lanes, counters, .. } = self;
        let lane = &mut lanes[id.0 as usize];
        expected.set(limits, (id, lane), costs);
        lane.waiting.add(expected);
        for counter in &lane.counters {
            if let Some(entry) = counters.get_mut(*counter) {
                entry.waiting.add(expected.of(entry.limit.place));
            }
        }
    }

    /// It leaves the lane.
    pub(in crate::account) fn call_leaves(&mut self, id: LaneId, costs: &NumberedCosts) {
        self.waiting = self.waiting.saturating_sub(1);
        let Lanes { expected, limits, lanes, counters, .. } = self;
        let lane = &mut lanes[id.0 as usize];
        expected.set(limits, (id, lane), costs);
        lane.waiting.remove(expected);
        for counter in &lane.counters {
            if let Some(entry) = counters.get_mut(*counter) {
                entry.waiting.remove(expected.of(entry.limit.place));
            }
        }
    }

    /// Calls that wait.
    pub(in crate::account) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The lanes in which calls wait.
    pub(in crate::account) fn with_waiting(&self) -> Vec<LaneId> {
        let all = (0..).map(LaneId).zip(&self.lanes);
        all.filter(|(_, lane)| lane.waiting.calls > 0).map(|(id, _)| id).collect()
    }

    /// The costs of each call that waits in the lane, where they need not be looked up call by call.
    pub(in crate::account) fn costs_of_each(&self, lane: LaneId) -> Option<NumberedCosts> {
        self.lane(lane).waiting.costs_of_each()
    }

    /// How long until the lane's limits have let `ahead` calls and one of these costs through, as far as
    /// those draw on the same limits.
    pub(in crate::account) fn wait_for(
        &mut self,
        id: LaneId,
        costs: &NumberedCosts,
        now: Time,
        ahead: u64,
    ) -> Duration {
        self.longest_wait(id, costs, (now, ahead), |_| true)
    }

    /// How long until the lane's windows let one call of these costs through, if it came first.
    pub(in crate::account) fn wait_for_windows(
        &mut self,
        id: LaneId,
        costs: &NumberedCosts,
        now: Time,
    ) -> Duration {
        self.longest_wait(id, costs, (now, 0), |limit| limit.counts_a_window())
    }

    fn longest_wait(
        &mut self,
        id: LaneId,
        costs: &NumberedCosts,
        (now, ahead): (Time, u64),
        asks: impl Fn(&Limit) -> bool,
    ) -> Duration {
        let Lanes { expected, limits, lanes, counters, .. } = self;
        let lane = &lanes[id.0 as usize];
        expected.set(limits, (id, lane), costs);
        let mut wait = Duration::ZERO;
        for counter in &lane.counters {
            if let Some(entry) = counters.get_mut(*counter).filter(|entry| asks(&entry.limit)) {
                wait = wait.max(entry.wait_for(now, expected.of(entry.limit.place), ahead));
            }
        }
        wait
    }

    /// The limit for which a call of these costs waits the longest behind `ahead` others, with the model where models are
    /// counted apart, and how long; none: it waits for none.
    pub(in crate::account) fn longest_hold(
        &mut self,
        id: LaneId,
        costs: &NumberedCosts,
        now: Time,
        ahead: u64,
    ) -> Option<(String, Option<String>, Duration)> {
        let Lanes { expected, limits, lanes, counters, .. } = self;
        let lane = &lanes[id.0 as usize];
        expected.set(limits, (id, lane), costs);
        let mut longest: Option<(String, Option<String>, Duration)> = None;
        for counter in &lane.counters {
            let Some(entry) = counters.get_mut(*counter) else { continue };
            let wait = entry.wait_for(now, expected.of(entry.limit.place), ahead);
            if wait > longest.as_ref().map_or(Duration::ZERO, |(_, _, wait)| *wait) {
                longest = Some((entry.limit.shown_name().to_owned(), entry.model.clone(), wait));
            }
        }
        longest
    }
}
