//! Calls that wait, and what they draw of limits.

use super::limit::Limit;
use super::waiting::Expected;
use crate::cost::{Amount, NumberedCosts};

/// Calls that wait for a limit. Nearly all have the costs of a single request, so only the others' costs are summed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    pub(super) calls: u64,
    /// How many of them have other costs than a single request.
    unusual: u64,
    /// What those draw of the limit.
    amount: Amount,
}

impl Backlog {
    pub(super) const EMPTY: Backlog = Backlog { calls: 0, unusual: 0, amount: Amount::ZERO };

    /// A call comes that draws so much; `None`: it has the usual costs.
    pub(super) fn add(&mut self, drawn: Option<Amount>) {
        self.calls += 1;
        self.unusual += u64::from(drawn.is_some());
        self.amount += drawn.unwrap_or_default();
    }

    /// It goes.
    pub(super) fn remove(&mut self, drawn: Option<Amount>) {
        self.calls = self.calls.saturating_sub(1);
        self.unusual = self.unusual.saturating_sub(u64::from(drawn.is_some()));
        self.amount -= drawn.unwrap_or_default();
    }

    /// The calls of this lane wait for the limit as well.
    pub(super) fn join(&mut self, limit: &Limit, lane: &LaneBacklog) {
        self.calls += lane.calls;
        self.unusual += lane.unusual;
        self.amount += lane.amounts.get(limit.place).copied().unwrap_or_default();
    }

    /// What `ahead` of the calls draw of a limit, at the mean: whose turn comes first is not looked up.
    pub(super) fn cost_of(&self, ahead: u64, limit: &Limit) -> Amount {
        let ahead = ahead.min(self.calls);
        let usual = limit.usual.0;
        if self.unusual == 0 {
            return Amount(usual.saturating_mul(ahead));
        }
        let usual = usual.saturating_mul(self.calls - self.unusual);
        Amount(mean_of(self.amount + Amount(usual), self.calls, ahead))
    }
}

/// Calls that wait in a lane.
#[derive(Clone, Debug, Default)]
pub(super) struct LaneBacklog {
    pub(super) calls: u64,
    /// How many of them have other costs than a single request.
    unusual: u64,
    /// What those draw of each limit, by its place; of limits beyond its end nothing.
    amounts: Vec<Amount>,
}

impl LaneBacklog {
    /// A call comes.
    pub(super) fn add(&mut self, expected: &Expected) {
        self.calls += 1;
        self.unusual += u64::from(expected.is_unusual);
        for (place, amount) in expected.of_all() {
            self.amounts.resize(self.amounts.len().max(place + 1), Amount::ZERO);
            self.amounts[place] += amount;
        }
    }

    /// It goes.
    pub(super) fn remove(&mut self, expected: &Expected) {
        self.calls = self.calls.saturating_sub(1);
        self.unusual = self.unusual.saturating_sub(u64::from(expected.is_unusual));
        for (place, amount) in expected.of_all() {
            if let Some(known) = self.amounts.get_mut(place) {
                *known -= amount;
            }
        }
    }

    /// The costs of each of the calls, where all have the usual ones.
    pub(super) fn costs_of_each(&self) -> Option<NumberedCosts> {
        (self.unusual == 0).then(NumberedCosts::usual)
    }
}

/// What `part` of `calls` calls draw that draw `amount` in all.
fn mean_of(amount: Amount, calls: u64, part: u64) -> u64 {
    let all = u128::from(amount.0) * u128::from(part);
    u64::try_from(all.div_ceil(u128::from(calls.max(1)))).unwrap_or(u64::MAX)
}
