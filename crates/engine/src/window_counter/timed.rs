//! Units by time, the earliest first.
//!
//! They come nearly in order, so most are pushed at the end of a sorted queue.

use std::collections::VecDeque;

use crate::time::Time;
use crate::units::UnitKey;

/// A unit, and when something happens to it.
pub(super) type Timed = (Time, UnitKey);

/// Units in the order of their times.
#[derive(Clone, Debug, Default)]
pub(super) struct TimedUnits(VecDeque<Timed>);

impl TimedUnits {
    pub(super) fn push(&mut self, at: Time, key: UnitKey) {
        if self.0.back().is_none_or(|last| *last <= (at, key)) {
            self.0.push_back((at, key));
        } else {
            let place = self.0.partition_point(|entry| *entry <= (at, key));
            self.0.insert(place, (at, key));
        }
    }

    pub(super) fn first(&self) -> Option<Timed> {
        self.0.front().copied()
    }

    pub(super) fn pop(&mut self) -> Option<Timed> {
        self.0.pop_front()
    }

    pub(super) fn last(&self) -> Option<Time> {
        self.0.back().map(|(at, _)| *at)
    }

    /// How many have their time by `at`.
    pub(super) fn by(&self, at: Time) -> usize {
        self.0.partition_point(|entry| entry.0 <= at)
    }

    /// The time before which so many others come.
    pub(super) fn place(&self, place: usize) -> Option<Time> {
        self.0.get(place).map(|(at, _)| *at)
    }
}
