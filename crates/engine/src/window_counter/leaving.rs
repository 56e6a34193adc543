//! When units leave the log, the earliest first.
//!
//! Nearly all units stand for one call, so a place in the queue is how much leaves before it; what the others stand
//! for beyond one is kept beside it.

use std::collections::VecDeque;

use super::timed::{Timed, TimedUnits};
use crate::cost::Amount;
use crate::time::Time;
use crate::units::UnitKey;

/// The units of a log by the times at which they leave. Units that moved or went are still in their old place too.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaving {
    units: TimedUnits,
    beyond_one: RunningSums,
}

impl Leaving {
    pub(super) fn push(&mut self, at: Time, key: UnitKey, cost: Amount) {
        self.units.push(at, key);
        if cost > Amount::ONE {
            self.beyond_one.insert(at, key, cost - Amount::ONE);
        }
    }

    pub(super) fn first(&self) -> Option<Timed> {
        self.units.first()
    }

    pub(super) fn pop(&mut self) {
        if let Some((at, key)) = self.units.pop() {
            self.beyond_one.pop(at, key);
        }
    }

    /// A unit of the log stands for another amount.
    pub(super) fn set_cost(&mut self, at: Time, key: UnitKey, cost: Amount) {
        self.beyond_one.remove(at, key);
        if cost > Amount::ONE {
            self.beyond_one.insert(at, key, cost - Amount::ONE);
        }
    }

    pub(super) fn last(&self) -> Option<Time> {
        self.units.last()
    }

    /// How much leaves by `at`.
    pub(super) fn by(&self, at: Time) -> Amount {
        Amount(self.units.by(at) as u64) + self.beyond_one.by(at)
    }

    /// Whether each of them stands for one call.
    pub(super) fn is_uniform(&self) -> bool {
        self.beyond_one.0.is_empty()
    }

    /// When the unit leaves that so many leave before, if each stands for one call.
    pub(super) fn place(&self, place: u64) -> Option<Time> {
        self.units.place(usize::try_from(place).ok()?)
    }
}

/// Amounts by time, each with the sum of all up to it.
#[derive(Clone, Debug, Default)]
struct RunningSums(VecDeque<Sum>);

#[derive(Clone, Copy, Debug)]
struct Sum {
    at: Time,
    key: UnitKey,
    amount: Amount,
    /// All up to this one, those that were popped included.
    total: u64,
}

impl RunningSums {
    fn insert(&mut self, at: Time, key: UnitKey, amount: Amount) {
        let place = self.0.partition_point(|sum| (sum.at, sum.key) <= (at, key));
        let before = match place.checked_sub(1).and_then(|before| self.0.get(before)) {
            Some(before) => before.total,
            None => self.popped(),
        };
        self.0.insert(place, Sum { at, key, amount, total: before });
        for sum in self.0.range_mut(place..) {
            sum.total = sum.total.wrapping_add(amount.0);
        }
    }

    /// The sum of those that were popped.
    fn popped(&self) -> u64 {
        self.0.front().map_or(0, |first| first.total.wrapping_sub(first.amount.0))
    }

    fn pop(&mut self, at: Time, key: UnitKey) {
        if self.0.front().is_some_and(|first| (first.at, first.key) == (at, key)) {
            self.0.pop_front();
        }
    }

    fn remove(&mut self, at: Time, key: UnitKey) {
        let place = self.0.partition_point(|sum| (sum.at, sum.key) < (at, key));
        if self.0.get(place).is_some_and(|sum| (sum.at, sum.key) == (at, key))
            && let Some(removed) = self.0.remove(place)
        {
            for sum in self.0.range_mut(place..) {
                sum.total = sum.total.wrapping_sub(removed.amount.0);
            }
        }
    }

    fn by(&self, at: Time) -> Amount {
        let place = self.0.partition_point(|sum| sum.at <= at);
        let last = place.checked_sub(1).and_then(|last| self.0.get(last));
        Amount(last.map_or(0, |last| last.total.wrapping_sub(self.popped())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::{Origin, Unit, Units};

    proptest! {
        #[test]
        fn what_leaves_by_a_time_is_the_sum_of_the_costs(
            charges in prop::collection::vec((0u64..50, 1u64..9, 1u64..9), 1..40),
            pops in 0usize..20,
            until in 0u64..60,
        ) {
            let mut units = Units::default();
            let mut leaving = Leaving::default();
            let mut naive = Vec::new();
            for (at, first, corrected) in charges {
                let (at, corrected) = (Time(at), Amount(corrected));
                let key = units.insert(Unit::counted(Amount(first), at, at, Origin::Call));
                leaving.push(at, key, Amount(first));
                if at.0 % 3 == 0 {
                    leaving.set_cost(at, key, corrected);
                    naive.push((at, key, corrected));
                } else {
                    naive.push((at, key, Amount(first)));
                }
            }
            naive.sort_unstable();
            for _ in 0..pops.min(naive.len()) {
                leaving.pop();
                naive.remove(0);
            }
            let expected: Amount =
                naive.iter().filter(|(at, ..)| at.0 <= until).map(|(_, _, cost)| *cost).sum();
            prop_assert_eq!(leaving.by(Time(until)), expected);
            prop_assert_eq!(leaving.is_uniform(), naive.iter().all(|(_, _, cost)| *cost == Amount::ONE));
        }
    }
}
