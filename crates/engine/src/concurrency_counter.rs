//! A limit of calls that are under way at the same time: a slot each, from grant to end.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alarms::Alarms;
use crate::event::Attempt;
use crate::time::{Time, nanos};

/// The slots of one limit.
#[derive(Clone, Debug)]
pub(crate) struct ConcurrencyCounter {
    amount: u64,
    held: BTreeMap<Attempt, Time>,
    /// The same by the time at which a slot is free whatever became of its holder.
    expiry: Alarms<Attempt>,
    longest: Duration,
    /// ConcurrencyCounter that an earlier incarnation may have given away, until all proxies have spoken or
    /// this time has come.
    unknown: u64,
    unknown_until: Time,
    /// A moving mean of how long slots were held, for forecasts only.
    mean_hold: Duration,
}

impl ConcurrencyCounter {
    pub(crate) fn new(amount: u64, longest: Duration) -> ConcurrencyCounter {
        ConcurrencyCounter {
            amount,
            held: BTreeMap::new(),
            expiry: Alarms::default(),
            longest,
            unknown: 0,
            unknown_until: Time(0),
            mean_hold: Duration::from_secs(1),
        }
    }

    pub(crate) fn resize(&mut self, amount: u64) {
        self.amount = amount;
    }

    /// Holds `slots` for an incarnation of which nothing more is known.
    pub(crate) fn hold_unknown(&mut self, slots: u64, until: Time) {
        self.unknown = slots.min(self.amount);
        self.unknown_until = until;
    }

    pub(crate) fn release_unknown(&mut self) {
        self.unknown = 0;
    }

    pub(crate) fn holds_unknown(&self) -> bool {
        self.unknown > 0
    }

    pub(crate) fn advance(&mut self, now: Time) {
        if self.unknown > 0 && now >= self.unknown_until {
            self.unknown = 0;
        }
        let held = &mut self.held;
        while let Some((_, attempt)) = self.expiry.first().filter(|(at, _)| *at <= now) {
            held.remove(&attempt);
            self.expiry.pop(|attempt| held.get(&attempt).copied());
        }
    }

    /// When a slot may be free at the earliest, `kept` of them being for others; `None`: one is free
    /// now; [`Time::NEVER`]: when a call ends.
    pub(crate) fn blocked_until(&self, kept: u64) -> Option<Time> {
        if self.used() + kept < self.amount {
            return None;
        }
        let unknown = if self.unknown > 0 { self.unknown_until } else { Time::NEVER };
        let expiry = self.expiry.first().map_or(Time::NEVER, |(at, _)| at);
        Some(unknown.min(expiry))
    }

    pub(crate) fn hold(&mut self, attempt: Attempt, now: Time) {
        let until = now + self.longest;
        self.held.insert(attempt, until);
        let held = &self.held;
        self.expiry.set(until, attempt, held.len(), |attempt| held.get(&attempt).copied());
    }

    /// A slot that a proxy says it holds from before: one of the unknown ones, where there are.
    pub(crate) fn claim(&mut self, attempt: Attempt, now: Time) {
        if self.held.contains_key(&attempt) {
            return;
        }
        self.unknown = self.unknown.saturating_sub(1);
        self.hold(attempt, now);
    }

    pub(crate) fn free(&mut self, attempt: Attempt, now: Time) {
        let Some(until) = self.held.remove(&attempt) else {
            return;
        };
        let held = &self.held;
        self.expiry.changed(attempt, |attempt| held.get(&attempt).copied());
        let held_for = self.longest.saturating_sub(until.since(now));
        self.mean_hold = (self.mean_hold * 7 + held_for) / 8;
    }

    pub(crate) fn used(&self) -> u64 {
        self.held.len() as u64 + self.unknown
    }

    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }

    /// About how long until `calls` more have got a slot, from how long calls have lasted so far.
    pub(crate) fn wait_for(&self, calls: u64) -> Duration {
        let free = self.amount.saturating_sub(self.used());
        let Some(beyond) = calls.checked_sub(free + 1) else {
            return Duration::ZERO;
        };
        let each = nanos(self.mean_hold) / self.amount.max(1);
        Duration::from_nanos(each.saturating_mul(beyond + 1))
    }
}
