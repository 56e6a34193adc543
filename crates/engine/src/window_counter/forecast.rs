//! How long until so much more has been granted: an estimate, so that a call that cannot be
//! served in time is refused at once.

use std::time::Duration;

use super::{WindowCounter, bulk, spread};
use crate::cost::Amount;
use crate::time::Time;

impl WindowCounter {
    /// When the limit is free again if nothing more is charged.
    pub(crate) fn free_at(&self, now: Time) -> Time {
        let log = self.units.iter().map(
            |(_, unit)| {
                if unit.counted { unit.leaves } else { unit.settles + self.window }
            },
        );
        let arrived = self.bulk.last_arrival().map(|at| at + self.window);
        let log = log.chain(arrived).chain(self.bulk.last_leaving()).chain(self.slots.last());
        let log = if self.asks_log { log.max().unwrap_or(now) } else { now };
        let log = log.min(self.period_ends(now).unwrap_or(Time::NEVER));
        let bucket =
            if self.asks_bucket { self.bucket.room_for(self.bucket.size()).unwrap_or(now) } else { now };
        log.max(bucket).max(now)
    }

    /// About how long until so much more has been granted.
    pub(crate) fn wait_for(&self, now: Time, amount: Amount) -> Duration {
        let mut wait = Duration::ZERO;
        if self.asks_log {
            wait = wait.max(self.log_wait(now, amount));
        }
        if self.asks_bucket {
            let (all, size) = (self.in_flight + amount, self.bucket.size());
            let more = all - size;
            let drained = self.bucket.room_for(all.min(size));
            let now_to_room = drained.map_or(Duration::ZERO, |at| at.since(now));
            let beyond = if more.is_zero() { Duration::ZERO } else { self.bucket.time_of(more) };
            wait = wait.max(now_to_room + beyond);
        }
        if let Some(spacing) = self.spacing {
            wait = wait.max(self.spaced_until.since(now) + spread(spacing, amount - Amount::ONE));
        }
        wait
    }

    fn log_wait(&self, now: Time, amount: Amount) -> Duration {
        if let Some(from) = self.asks_provider {
            return from.since(now);
        }
        let free = self.amount - self.logged();
        let Some(beyond) = amount.checked_sub(free + Amount::ONE) else { return Duration::ZERO };
        // More than `beyond` has to leave; a whole window for each N of it.
        let most = self.amount.0.max(1);
        let windows = u32::try_from(beyond.0 / most).unwrap_or(u32::MAX);
        let whole = self.window;
        let leaves =
            self.leaves_after(Amount(beyond.0 % most)).into_iter().chain(self.period_ends(now)).min();
        let within = leaves.map_or(whole, |at| at.since(now));
        whole.saturating_mul(windows) + within
    }

    /// When more than `before` has left.
    fn leaves_after(&self, before: Amount) -> Option<Time> {
        if self.bulk.is_empty() && self.slots.last().is_none() && self.leaving.is_uniform() {
            return self.leaving.place(before.0);
        }
        let by = |at: Time| self.leaving.by(at) + self.slots.by(at) + self.bulk.left_by(at);
        let last = self.leaving.last().max(self.slots.last()).max(self.bulk.last_leaving())?;
        if by(last) <= before {
            return None;
        }
        Some(bulk::earliest(last, |at| by(at) > before))
    }
}
