//! How many turns a call takes, by the account's limit that it draws on most.

use std::sync::Arc;

use super::{Lanes, Limit};
use crate::config::Unit;
use crate::cost::{Amount, Costs};
use crate::mutant::{self, Mutant};
use crate::queue::LaneId;
use crate::tokens::TokenUsage;

impl Lanes {
    /// What a call of these costs draws of each of the account's own limits that covers the lane.
    fn draws_on_account(&self, lane: LaneId, costs: Costs) -> impl Iterator<Item = Amount> {
        let limits = self.lane(lane).limits.iter().filter_map(|place| self.limits.get(*place));
        limits.filter(|limit| limit.is_of_account()).map(move |limit| limit.cost(costs))
    }

    /// How many turns of a call of cost 1 a call of these costs takes.
    pub(in crate::account) fn turns(&self, lane: LaneId, costs: Costs) -> u32 {
        if costs.are_usual() {
            return 1;
        }
        let most = match costs.tokens {
            None => self.draws_on_account(lane, costs).map(|cost| u128::from(cost.0)).max().unwrap_or(1),
            Some(_) if mutant::active(Mutant::TurnOfZero) => return 0,
            Some(_) => self.refill(lane, |limit| limit.cost(costs)).div_ceil(self.turn()),
        };
        u32::try_from(most.max(1)).unwrap_or(u32::MAX)
    }

    /// The same of a call that has used so much.
    pub(in crate::account) fn turns_of(&self, lane: LaneId, costs: Costs, usage: &TokenUsage) -> u32 {
        if mutant::active(Mutant::TurnOfZero) {
            return 0;
        }
        let drawn = |limit: &Limit| match (&limit.config.tokens, &costs.tokens) {
            (Some(tokens), Some(costs)) if tokens.settles_at_end() => {
                tokens.drawn(limit.config.unit, costs, usage)
            }
            _ => limit.cost(costs),
        };
        let turns = self.refill(lane, drawn).div_ceil(self.turn());
        u32::try_from(turns.max(1)).unwrap_or(u32::MAX)
    }

    /// Nanoseconds in which the limit that a call draws on most has refilled what it draws. Windows of an hour and
    /// more are no rates, and count only where nothing else does.
    fn refill(&self, lane: LaneId, cost: impl Fn(&Limit) -> Amount) -> u128 {
        let refills = |rates: bool| {
            let limits = self.lane(lane).limits.iter().filter_map(|place| self.limits.get(*place));
            let measures = |limit: &&Arc<Limit>| limit.is_of_account() && limit.counts_a_window();
            let limits = limits.filter(|limit| measures(limit) && limit.is_a_rate() == rates);
            limits.map(|limit| limit.refill(cost(limit))).max()
        };
        refills(true).or_else(|| refills(false)).unwrap_or(0)
    }

    /// Nanoseconds of refill of a turn: that of a call at the limit of requests that refills fastest.
    fn turn(&self) -> u128 {
        let measures = |limit: &&Arc<Limit>| {
            limit.is_of_account() && limit.config.unit == Unit::Requests && limit.is_a_rate()
        };
        let of_requests = self.limits.iter().filter(measures);
        of_requests.map(|limit| limit.refill(Amount::ONE)).min().unwrap_or(1_000_000).max(1)
    }
}
