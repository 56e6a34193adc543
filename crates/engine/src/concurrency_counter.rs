//! A limit of calls that are under way at the same time: a slot each, from grant to end.

use std::time::Duration;

use foldhash::HashMap;

use crate::alarms::Alarms;
use crate::cost::Amount;
use crate::event::Attempt;
use crate::time::{Time, nanos};

/// A proxy names calls too of which it has reported the end, as long as it does not know that this was heard; it repeats
/// the report at once. So a call that is over so soon after it was named may have been over before.
const REPEATED_WITHIN: Duration = Duration::from_secs(5);

/// The slots of one limit.
#[derive(Clone, Debug)]
pub(crate) struct ConcurrencyCounter {
    amount: Amount,
    held: HashMap<Attempt, Held>,
    /// The sum of what is held.
    in_use: Amount,
    /// The same by the time at which a slot is free whatever became of its holder.
    expiry: Alarms<Attempt>,
    longest: Duration,
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
    until: Time,
    /// When a proxy has named it, if an unknown slot was taken for its.
    claimed: Option<Time>,
}

impl ConcurrencyCounter {
    pub(crate) fn new(amount: Amount, longest: Duration) -> ConcurrencyCounter {
        ConcurrencyCounter {
            amount,
            held: HashMap::default(),
            in_use: Amount::ZERO,
            expiry: Alarms::default(),
            longest,
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

    pub(crate) fn hold(&mut self, attempt: Attempt, cost: Amount, now: Time) {
        self.insert(attempt, Held { cost, until: now + self.longest, claimed: None });
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
    pub(crate) fn claim(&mut self, attempt: Attempt, cost: Amount, now: Time) {
        if self.held.contains_key(&attempt) {
            return;
        }
        let claimed = (now < self.unknown_until).then_some(now);
        self.unknown -= cost;
        self.insert(attempt, Held { cost, until: now + self.longest, claimed });
    }

    pub(crate) fn free(&mut self, attempt: Attempt, now: Time) {
        let Some(Held { cost, until, claimed }) = self.let_go(attempt) else {
            return;
        };
        if now < self.unknown_until && claimed.is_some_and(|at| now <= at + REPEATED_WITHIN) {
            self.unknown = (self.unknown + cost).min(self.amount);
        }
        let held = &self.held;
        self.expiry.changed(attempt, |attempt| held.get(&attempt).map(|held| held.until));
        let held_for = self.longest.saturating_sub(until.since(now));
        self.mean_hold = (self.mean_hold * 7 + held_for) / 8;
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
