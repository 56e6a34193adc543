//! How many turns a call takes: by the account's limit that it draws on most, of rates by what refills, of slots by how
//! long it holds them.

use std::sync::Arc;
use std::time::Duration;

use super::{Entry, Lanes, Limit};
use crate::concurrency_counter::ConcurrencyCounter;
use crate::config::Unit;
use crate::cost::{Amount, Costs, CostsNumber, NumberedCosts};
use crate::mutant::{self, Mutant};
use crate::queue::LaneId;
use crate::tokens::TokenUsage;

/// Nanoseconds of refill of what a call draws, as they were worked out last.
#[derive(Clone, Debug, Default)]
pub(super) struct Refilled(Option<((LaneId, CostsNumber), u128)>);

impl Refilled {
    /// Limits, or lanes, are others than before.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

/// What a call has really taken.
#[derive(Clone, Copy, Debug)]
pub(in crate::account) struct Taken<'a> {
    /// `None`: no limit counts tokens.
    pub(in crate::account) usage: Option<&'a TokenUsage>,
    /// For how long it had its slots.
    pub(in crate::account) held: Duration,
}

impl Lanes {
    /// What a call of these costs draws of each of the account's own limits that covers the lane.
    fn draws_on_account(&self, lane: LaneId, costs: &Costs) -> impl Iterator<Item = Amount> {
        let limits = self.lane(lane).limits.iter().filter_map(|place| self.limits.get(*place));
        limits.filter(|limit| limit.is_of_account()).map(move |limit| limit.cost(costs))
    }

    /// Whether how many turns a call takes is known at its end: it draws tokens, or slots, which it holds until then.
    pub(in crate::account) fn corrects_turns(&self, lane: LaneId, costs: &Costs) -> bool {
        costs.tokens.is_some() || self.draws_slots(lane)
    }

    /// How many turns of a call of cost 1 a call of these costs takes.
    pub(in crate::account) fn turns(&mut self, lane: LaneId, costs: &NumberedCosts) -> u32 {
        if !self.corrects_turns(lane, costs) {
            if costs.are_usual() {
                return 1;
            }
            let most = self.draws_on_account(lane, costs).map(|cost| cost.0).max().unwrap_or(1);
            return u32::try_from(most.max(1)).unwrap_or(u32::MAX);
        }
        if mutant::active(Mutant::TurnOfZero) {
            return 0;
        }
        let slots = self.time_of_slots(lane, costs, None);
        let refill = self.refill_of(lane, costs);
        self.whole_turns(refill.max(slots))
    }

    /// Nanoseconds in which what a call draws at its grant is refilled.
    fn refill_of(&mut self, lane: LaneId, costs: &NumberedCosts) -> u128 {
        let of = (lane, costs.number());
        match self.refilled.0 {
            Some((known, refill)) if known == of => refill,
            _ => {
                let refill = self.refill(lane, |limit| limit.cost(costs));
                self.refilled = Refilled(Some((of, refill)));
                refill
            }
        }
    }

    /// The same of a call that has taken so much.
    pub(in crate::account) fn turns_of(
        &mut self,
        lane: LaneId,
        costs: &NumberedCosts,
        taken: Taken<'_>,
    ) -> u32 {
        if mutant::active(Mutant::TurnOfZero) {
            return 0;
        }
        let drawn = |limit: &Limit| match (&limit.config.tokens, &costs.tokens, taken.usage) {
            (Some(tokens), Some(costs), Some(usage)) if tokens.settles_at_end() => {
                tokens.drawn(limit.config.unit, costs, usage)
            }
            _ => limit.cost(costs),
        };
        let slots = self.time_of_slots(lane, costs, Some(taken.held));
        let refill = match taken.usage {
            Some(_) => self.refill(lane, drawn),
            None => self.refill_of(lane, costs),
        };
        self.whole_turns(refill.max(slots))
    }

    fn whole_turns(&self, nanos: u128) -> u32 {
        u32::try_from(nanos.div_ceil(self.turn).max(1)).unwrap_or(u32::MAX)
    }

    /// The account's own slots that calls of the lane draw on.
    fn slots(&self, lane: LaneId) -> impl Iterator<Item = (&Entry, &ConcurrencyCounter)> {
        let own = self.entries_of(lane).filter(|entry| entry.limit.is_of_account());
        own.filter_map(|entry| Some((entry, entry.counter().slots()?)))
    }

    fn draws_slots(&self, lane: LaneId) -> bool {
        self.slots(lane).next().is_some()
    }

    /// Nanoseconds in which as many slots become free as a call draws that holds them for so long, or for as long as
    /// calls do on average.
    fn time_of_slots(&self, lane: LaneId, costs: &Costs, held: Option<Duration>) -> u128 {
        let time = |(entry, slots): (&Entry, &ConcurrencyCounter)| {
            let held = held.unwrap_or(slots.mean_hold());
            held.as_nanos() * u128::from(entry.cost(costs).0) / u128::from(slots.amount().0.max(1))
        };
        self.slots(lane).map(time).max().unwrap_or(0)
    }

    /// Nanoseconds in which the limit that a call draws on most has refilled what it draws. Windows of an hour and
    /// more are no rates, and count only where nothing else does.
    fn refill(&self, lane: LaneId, cost: impl Fn(&Limit) -> Amount) -> u128 {
        let refills = |rates: bool| {
            let limits = self.lane(lane).limits.iter().filter_map(|place| self.limits.get(*place));
            let limits = limits.filter(|limit| limit.measures_windows && limit.is_a_rate() == rates);
            limits.map(|limit| limit.refill(cost(limit))).max()
        };
        refills(true).or_else(|| refills(false)).unwrap_or(0)
    }
}

/// Nanoseconds of refill of a turn: that of a call at the limit of requests that refills fastest.
pub(super) fn turn_of(limits: &[Arc<Limit>]) -> u128 {
    let measures = |limit: &&Arc<Limit>| {
        limit.is_of_account() && limit.config.unit == Unit::Requests && limit.is_a_rate()
    };
    let of_requests = limits.iter().filter(measures);
    of_requests.map(|limit| limit.refill(Amount::ONE)).min().unwrap_or(1_000_000).max(1)
}
