//! What a grant charges to each limit that covers its call.

use super::lanes::{Charged, CounterId, Lanes};
use crate::cost::Costs;
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
        costs: &Costs,
        now: Time,
        echoed: Time,
    ) -> Vec<Charge> {
        let mut charges = Vec::with_capacity(self.counters_of(lane).len());
        for place in 0..self.counters_of(lane).len() {
            let counter = self.counters_of(lane)[place];
            let Some(entry) = self.entry_mut(counter) else { continue };
            if let Some(Charged { unit, settles, at_grant }) = entry.charge(attempt, costs, now, echoed) {
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
            let settles = entry.limit.settles(now, now);
            let window = entry.counter.window_mut().filter(|_| !cost.is_zero())?;
            window.advance(now);
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
            let window = entry.counter.window_mut().filter(|_| !cost.is_zero())?;
            window.advance(now);
            let (unit, settles) = window.claim_arriving(cost)?;
            Some(Charge { counter, unit, settles, at_grant: None })
        };
        counters.into_iter().filter_map(claim).collect()
    }
}
