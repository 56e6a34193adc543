//! When units that are in flight settle, the earliest first.
//!
//! What is known at a grant and what reports say later each come nearly in order, but a grant of tokens settles many
//! minutes later than a report, so each has a queue of its own. A unit that has settled, or settles at another time, is
//! still in its old place until that comes first in its queue.

use super::timed::{Timed, TimedUnits};
use crate::time::Time;
use crate::units::UnitKey;

/// Whose word it is when a unit settles.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// What was known at the grant, if no report says anything else.
    AsGranted,
    /// A report's.
    AsReported,
}

/// The units in flight by the times at which they settle.
#[derive(Clone, Debug, Default)]
pub(super) struct Settling {
    granted: TimedUnits,
    reported: TimedUnits,
}

impl Settling {
    /// A unit settles then.
    pub(super) fn push(&mut self, at: Time, key: UnitKey, due: Due) {
        match due {
            Due::AsGranted => self.granted.push(at, key),
            Due::AsReported => self.reported.push(at, key),
        }
    }

    /// Has units come first in both queues that settle when it says there.
    pub(super) fn sweep(&mut self, settles: impl Fn(Timed) -> bool) {
        for queue in [&mut self.granted, &mut self.reported] {
            while queue.first().is_some_and(|first| !settles(first)) {
                queue.pop();
            }
        }
    }

    /// The unit that settles first; to be asked after [`Settling::sweep`].
    pub(super) fn first(&self) -> Option<Timed> {
        match (self.granted.first(), self.reported.first()) {
            (Some(granted), Some(reported)) => Some(granted.min(reported)),
            (granted, reported) => granted.or(reported),
        }
    }

    /// Takes out the units that settle by `now`, the first of them at a time.
    pub(super) fn pop(&mut self, now: Time) -> Option<Timed> {
        let first = self.first().filter(|(at, _)| *at <= now)?;
        if self.granted.first() == Some(first) { self.granted.pop() } else { self.reported.pop() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Amount;
    use crate::units::{Origin, Unit, Units};

    #[test]
    fn units_settle_in_the_order_of_their_times_and_only_at_their_last_ones() {
        let (mut settling, mut units) = (Settling::default(), Units::default());
        let mut unit = |at| units.insert(Unit::in_flight(Amount::ONE, Time(at), Origin::Call));
        let (moved, late, early) = (unit(15), unit(30), unit(20));
        settling.push(Time(40), moved, Due::AsGranted);
        settling.push(Time(30), late, Due::AsGranted);
        settling.push(Time(20), early, Due::AsReported);
        settling.push(Time(15), moved, Due::AsReported);
        let settles = |(at, key)| units.get(key).is_some_and(|unit| unit.settles == at);
        let mut settled = Vec::new();
        for now in [10, 25, 50] {
            settling.sweep(settles);
            while let Some((at, key)) = settling.pop(Time(now)) {
                settled.push((now, at, key));
                settling.sweep(settles);
            }
        }
        assert_eq!(settled, [(25, Time(15), moved), (25, Time(20), early), (50, Time(30), late)]);
        assert_eq!(settling.first(), None, "the place that was left is swept");
    }
}
