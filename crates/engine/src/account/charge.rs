//! What a grant charges to each limit that covers its call.

use super::lanes::{Charged, CounterId, Lanes};
use crate::cost::{Costs, NumberedCosts};
use crate::event::Attempt;
use crate::queue::LaneId;
use crate::time::Time;
use crate::units::{Origin, UnitKey};
use crate::window_counter::AtGrant;

/// What a grant charged to one limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    pub(super) counter: CounterId,
    pub(super) unit: UnitKey,
    /// When the provider has counted it at the latest, as was known at the grant.
    pub(super) settles: Time,
    /// `None`: the grant is one of the time before a restart.
    pub(super) at_grant: Option<AtGrant>,
}

impl Lanes {
    /// Charges one all-or-nothing vector: its cost at each limit that covers the lane.
    pub(super) fn charge(
        &mut self,
        lane: LaneId,
        attempt: Attempt,
        costs: &NumberedCosts,
        now: Time,
        echoed: Time,
    ) -> Vec<Charge> {
        let longest = self.longest_call(lane);
        let mut charges = Vec::with_capacity(self.counters_of(lane).len());
        for place in 0..self.counters_of(lane).len() {
            let counter = self.counters_of(lane)[place];
            let Some(entry) = self.entry_mut(counter) else { continue };
            if let Some(Charged { unit, settles, at_grant }) =
                entry.charge(attempt, costs, now, echoed, longest)
            {
                charges.push(Charge { counter, unit, settles, at_grant: Some(at_grant) });
            }
        }
        charges
    }

    /// Takes over what the reserve holds for a call that was granted from it.
    pub(super) fn claim_units(&mut self, lane: LaneId, costs: &Costs, now: Time) -> Vec<Charge> {
        let counters = self.counters_of(lane).to_vec();
        let claim = |counter: CounterId| {
            let entry = self.entry_mut(counter)?;
            let cost = entry.cost(costs);
            let (limit, window) = entry.window_at(now).filter(|_| !cost.is_zero())?;
            let settles = limit.settles(now, now);
            let unit = window
                .claim_reserved(cost)
                .unwrap_or_else(|| window.charge(now, settles, cost, Origin::Call));
            Some(Charge { counter, unit, settles, at_grant: None })
        };
        counters.into_iter().filter_map(claim).collect()
    }

    /// The same of what is assumed of a predecessor, at limits where that is held for as long as a call lasts.
    pub(super) fn claim_of_predecessor(&mut self, lane: LaneId, costs: &Costs, now: Time) -> Vec<Charge> {
        let counters = self.counters_of(lane).to_vec();
        let claim = |counter: CounterId| {
            let entry = self.entry_mut(counter).filter(|entry| entry.limit.holds_the_bound())?;
            let cost = entry.cost(costs);
            let (_, window) = entry.window_at(now).filter(|_| !cost.is_zero())?;
            let (unit, settles) = window.claim_arriving(cost)?;
            Some(Charge { counter, unit, settles, at_grant: None })
        };
        counters.into_iter().filter_map(claim).collect()
    }

    /// Gives a call of the lane its slots.
    pub(super) fn hold_slots(&mut self, lane: LaneId, attempt: Attempt, costs: &Costs, now: Time) {
        let longest = self.longest_call(lane);
        self.each_entry(lane, |entry| {
            let cost = entry.limit.cost(costs);
            entry.counter_mut().hold_slots(attempt, cost, now, longest);
        });
    }

    /// Gives a call of the lane slots that an earlier incarnation may have given away.
    pub(super) fn claim_slots(&mut self, lane: LaneId, attempt: Attempt, costs: &Costs, now: Time) {
        let longest = self.longest_call(lane);
        self.each_entry(lane, |entry| {
            let cost = entry.limit.cost(costs);
            entry.counter_mut().claim_slots(attempt, cost, now, longest);
        });
    }

    pub(super) fn free_slots(&mut self, lane: LaneId, attempt: Attempt, now: Time) {
        self.each_entry(lane, |entry| {
            if entry.counter().slots().is_some() {
                entry.counter_mut().free_slots(attempt, now);
            }
        });
    }
}
