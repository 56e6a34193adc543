//! A limit of calls that are under way at the same time: a slot each, from grant to end.

use std::time::Duration;

use foldhash::HashMap;

use crate::alarms::Alarms;
use crate::cost::Amount;
use crate::event::Attempt;
use crate::time::{Time, nanos};

/// The slots of one limit.
#[derive(Clone, Debug)]
pub(crate) struct ConcurrencyCounter {
    amount: Amount,
    held: HashMap<Attempt, Held>,
    /// The sum of what is held.
    in_use: Amount,
    /// The same by the time at which a slot is free whatever became of its holder.
    expiry: Alarms<Attempt>,
    /// Slots that an earlier incarnation may have given away, until all proxies have spoken or
    /// this time has come.
    unknown: Amount,
    unknown_until: Time,
    /// A moving mean of how long slots were held, for forecasts only.
    mean_hold: Duration,
}

/// The slots of one call.
#[derive(Clone, Copy, Debug)]
struct Held {
    cost: Amount,
    since: Time,
    until: Time,
}

impl ConcurrencyCounter {
    pub(crate) fn new(amount: Amount) -> ConcurrencyCounter {
        ConcurrencyCounter {
            amount,
            held: HashMap::default(),
            in_use: Amount::ZERO,
            expiry: Alarms::default(),
            unknown: Amount::ZERO,
            unknown_until: Time(0),
            mean_hold: Duration::from_secs(1),
        }
    }

    pub(crate) fn resize(&mut self, amount: Amount) {
        self.amount = amount;
    }

    /// Holds `slots` for an incarnation of which nothing more is known.
    pub(crate) fn hold_unknown(&mut self, slots: Amount, until: Time) {
        self.unknown = slots.min(self.amount);
        self.unknown_until = until;
    }

    pub(crate) fn release_unknown(&mut self) {
        (self.unknown, self.unknown_until) = (Amount::ZERO, Time(0));
    }

    pub(crate) fn holds_unknown(&self) -> bool {
        self.unknown > Amount::ZERO
    }

    pub(crate) fn advance(&mut self, now: Time) {
        if self.unknown > Amount::ZERO && now >= self.unknown_until {
            self.unknown = Amount::ZERO;
        }
        while let Some((_, attempt)) = self.expiry.first().filter(|(at, _)| *at <= now) {
            self.let_go(attempt);
            let held = &self.held;
            self.expiry.pop(|attempt| held.get(&attempt).map(|held| held.until));
        }
    }

    fn let_go(&mut self, attempt: Attempt) -> Option<Held> {
        let held = self.held.remove(&attempt)?;
        self.in_use -= held.cost;
        Some(held)
    }

    /// When `cost` slots may be free at the earliest, `kept` being for others; `None`: they are free
    /// now; [`Time::NEVER`]: when a call ends.
    pub(crate) fn blocked_until(&self, cost: Amount, kept: Amount) -> Option<Time> {
        if self.used() + kept + cost <= self.amount {
            return None;
        }
        Some(self.next_change())
    }

    /// When slots become free though no call ends.
    pub(crate) fn next_change(&self) -> Time {
        let unknown = if self.unknown > Amount::ZERO { self.unknown_until } else { Time::NEVER };
        let expiry = self.expiry.first().map_or(Time::NEVER, |(at, _)| at);
        unknown.min(expiry)
    }

    /// Gives a call its slots, until it is freed or has lasted for `longest`.
    pub(crate) fn hold(&mut self, attempt: Attempt, cost: Amount, now: Time, longest: Duration) {
        self.insert(attempt, Held { cost, since: now, until: now + longest });
    }

    fn insert(&mut self, attempt: Attempt, entry: Held) {
        let Held { cost, until, .. } = entry;
        self.let_go(attempt);
        self.in_use += cost;
        self.held.insert(attempt, entry);
        let held = &self.held;
        self.expiry.set(until, attempt, held.len(), |attempt| held.get(&attempt).map(|held| held.until));
    }

    /// Slots that a proxy says it holds from before: some of the unknown ones, where there are.
    pub(crate) fn claim(&mut self, attempt: Attempt, cost: Amount, now: Time, longest: Duration) {
        if self.held.contains_key(&attempt) {
            return;
        }
        self.unknown -= cost;
        self.hold(attempt, cost, now, longest);
    }

    pub(crate) fn free(&mut self, attempt: Attempt, now: Time) {
        let Some(Held { since, until, .. }) = self.let_go(attempt) else {
            return;
        };
        let held = &self.held;
        self.expiry.changed(attempt, |attempt| held.get(&attempt).map(|held| held.until));
        // A hello may name any time: what can't be is no measure.
        if now <= until {
            self.mean_hold = (self.mean_hold * 7 + now.since(since)) / 8;
        }
    }

    pub(crate) fn holds(&self, attempt: Attempt) -> bool {
        self.held.contains_key(&attempt)
    }

    pub(crate) fn used(&self) -> Amount {
        self.in_use + self.unknown
    }

    /// How long calls have held their slots lately, on average.
    pub(crate) fn mean_hold(&self) -> Duration {
        self.mean_hold
    }

    pub(crate) fn amount(&self) -> Amount {
        self.amount
    }

    /// About how long until so many more slots have been given, from how long calls have lasted so far.
    pub(crate) fn wait_for(&self, slots: Amount) -> Duration {
        let free = self.amount - self.used();
        let Some(beyond) = slots.checked_sub(free + Amount::ONE) else {
            return Duration::ZERO;
        };
        let each = nanos(self.mean_hold) / self.amount.0.max(1);
        Duration::from_nanos(each.saturating_mul(beyond.0 + 1))
    }
}
