//! One limit's count, in one partition: the log, the units in flight, the bucket.
//!
//! A granted call of cost c is *in flight* until S, the latest time at which the provider can have
//! counted it, and in the *log* until S + W, when the provider can count it no longer. In between it
//! is in the bucket's *level*, which drains at N/W. A further call fits iff log + c ≤ N and
//! level + in flight + c ≤ b; how the provider counts says which of the two is asked. Each charge is
//! one unit, whatever its cost.
//!
//! | room | holds |
//! |---|---|
//! | `advance` | what happens as time passes, and when something does next |
//! | `leaving` | when units leave the log |
//! | `bulk` | units that nobody has to know one by one |
//! | `calendar` | the day, week or month that is open |
//! | `cover` | how much may be granted before the next checkpoint |
//! | `forecast` | how long until so much more has been granted |
//! | `past` | what a counter begins with, and what the provider reveals of it |
//! | `reports` | what becomes known of a charge: counted, written, settled, produced, not used |
//! | `others` | what others have drawn |
//! | `period` | which of our charges the provider's fixed window can have counted |
//! | `settling` | when units in flight have been counted |
//! | `slots` | what calls have drawn of a large limit |
//! | `snapshot` | what the ledger keeps |
//! | `timed` | units by time |
//! | `checkpointed` | what a checkpoint keeps |

mod advance;
mod bulk;
mod calendar;
mod checkpointed;
mod cover;
mod forecast;
mod leaving;
mod others;
mod past;
mod period;
mod reports;
mod settling;
mod slots;
mod snapshot;
mod timed;

use std::time::Duration;

use foldhash::HashMap;

pub use bulk::{Arrival, Ramp};
pub(crate) use checkpointed::Taken;
pub(crate) use others::KnownOthers;
pub(crate) use past::StatedAmount;
pub(crate) use period::{Left, Told, WindowEnd};
pub(crate) use reports::{Granted, Reported};
pub use slots::Slot;
pub use snapshot::{UnitSnapshot, WindowSnapshot};

use bulk::{Bulk, Most};
use calendar::Calendar;
use cover::Cover;
use leaving::Leaving;
use others::{Others, OthersSeen};
use period::Period;
use settling::{Due, Settling};
use slots::Slots;

use crate::bucket::Bucket;
use crate::config::{self, CountedAs, LimitConfig, Pacing};
use crate::cost::Amount;
use crate::mutant::{self, Mutant};
use crate::time::{Time, drift, nanos, stretched};
use crate::units::{Origin, Unit, UnitKey, Units};

/// From here on a window is a budget, not a rate.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// From this amount on calls are kept in slots: fewer take less memory one by one.
const IN_SLOTS: u64 = 10_000;

/// The count of a limit of requests.
#[derive(Clone, Debug)]
pub(crate) struct WindowCounter {
    amount: Amount,
    /// W(1+ρ).
    window: Duration,
    /// How much longer than the provider a call may be counted here: until it has surely arrived, and for ρ.
    outlasts: Duration,
    asks_log: bool,
    asks_bucket: bool,
    /// W/N where grants are spread evenly.
    spacing: Option<Duration>,
    spaced_until: Time,
    /// From then on one call may ask the provider how things stand; until that is known nobody
    /// can say how long a wait is.
    asks_provider: Option<Time>,
    /// Nothing has been counted yet: one call goes first.
    asks_first: bool,
    bucket: Bucket,
    units: Units,
    bulk: Bulk,
    in_flight: Amount,
    /// Charged to calls since the beginning.
    charged: Amount,
    /// What has left flight since the beginning, because the provider has counted it.
    landed: Amount,
    settling: Settling,
    /// What units that are in flight will stand for once they settle, where that is less.
    known: HashMap<UnitKey, Amount>,
    leaving: Leaving,
    /// The earliest of what was put in `settling`, `leaving` and `slots` since [`WindowCounter::advance`].
    soonest: Time,
    /// What calls have drawn that nobody has to know one by one; the other units leave by themselves.
    slots: Slots,
    /// The limit is so large that calls go into slots once they are counted.
    in_slots: bool,
    others: Others,
    /// Poured into the bucket on account of others, since the beginning.
    poured_for_others: Amount,
    period: Period,
    calendar: Calendar,
    /// The limit counts days, weeks or months of a calendar.
    by_calendar: bool,
    /// None: what it grants need not be in a checkpoint.
    cover: Option<Cover>,
}

/// A counter just after a charge. What the provider can have counted of ours when it answers is at most what was
/// there then and what was charged since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtGrant {
    /// What was in the log, without what others have drawn.
    logged: Amount,
    /// What was in flight, the charge included.
    in_flight: Amount,
    /// What was in the bucket.
    level: Amount,
    /// What was charged since the counter began.
    charged: Amount,
    /// What had left flight since the counter began.
    landed: Amount,
    /// What was poured on account of others since the counter began.
    poured_for_others: Amount,
}

impl WindowCounter {
    pub(crate) fn new(limit: &LimitConfig, amount: Amount, now: Time) -> WindowCounter {
        let mut counter = WindowCounter {
            amount,
            window: Duration::ZERO,
            outlasts: Duration::ZERO,
            asks_log: false,
            asks_bucket: false,
            spacing: None,
            spaced_until: Time(0),
            asks_provider: None,
            asks_first: false,
            bucket: Bucket::new(bucket_size(limit, amount), amount, limit.window, now),
            units: Units::default(),
            bulk: Bulk::default(),
            in_flight: Amount::ZERO,
            charged: Amount::ZERO,
            landed: Amount::ZERO,
            settling: Settling::default(),
            known: HashMap::default(),
            leaving: Leaving::default(),
            soonest: Time::NEVER,
            slots: Slots::default(),
            in_slots: false,
            others: Others::default(),
            poured_for_others: Amount::ZERO,
            period: Period::default(),
            calendar: Calendar::default(),
            by_calendar: false,
            cover: None,
        };
        counter.apply_limit(limit);
        counter.bulk.leave(now);
        counter
    }

    fn apply_limit(&mut self, limit: &LimitConfig) {
        let counted = limit.counted_as;
        self.window = guarded(limit.window);
        self.by_calendar = limit.period.is_some();
        if !self.by_calendar {
            self.calendar = Calendar::default();
        }
        self.outlasts = limit.hold() + self.window.saturating_sub(limit.window);
        // A bucket never forgets what was charged too low, a log does after a window.
        let guessed = limit.tokens.is_some_and(|tokens| tokens.is_guessed());
        self.asks_log = guessed
            || matches!(counted, CountedAs::Unknown | CountedAs::FixedWindow | CountedAs::SlidingWindow);
        self.bucket.drain_within_a_window(self.asks_log);
        // Nobody hands out a day's budget drop by drop; pacing it would.
        let rate = limit.window < LONG;
        self.in_slots = self.amount.0 >= IN_SLOTS && !(rate && limit.unit == config::Unit::Requests);
        self.asks_bucket = match counted {
            CountedAs::TokenBucket | CountedAs::LeakyBucket => true,
            // Whose log is at most N has a bucket of N.
            CountedAs::Unknown => rate && !(limit.tokens.is_some() && self.bucket.size() >= self.amount),
            CountedAs::FixedWindow | CountedAs::SlidingWindow => rate && limit.burst.is_some(),
        };
        let even = nanos(limit.window).div_ceil(self.amount.0.max(1));
        let spaced = rate && limit.pacing == Pacing::LeakyBucket;
        self.spacing = spaced.then(|| guarded(Duration::from_nanos(even)));
        self.bulk.set_most(Most { amount: self.amount.0, interval: self.even_interval() });
    }

    /// The most that anybody may have used of it at one time.
    fn at_once(&self) -> Amount {
        if self.asks_bucket { self.bucket.size().min(self.amount) } else { self.amount }
    }

    /// Nanoseconds from one unit of an unknown past to the next: W/N.
    fn even_interval(&self) -> u64 {
        nanos(self.window).div_ceil(self.amount.0.max(1))
    }

    /// The same of a predecessor's units: W/N · (1 − ρ), rounded down so that none leaves early.
    fn closest_interval(&self) -> u64 {
        let interval = nanos(self.window) / self.amount.0.max(1);
        interval - drift(interval).saturating_mul(2)
    }

    /// Takes on a changed limit: what is charged stays charged, and of what is only assumed no more counts than
    /// the new limit allows. So calls wait no longer than under the stricter of the two from the beginning.
    /// With a longer window the time before the log begins is not known, and counts as used.
    pub(crate) fn reconfigure(&mut self, limit: &LimitConfig, amount: Amount, now: Time) {
        self.advance(now);
        let old_window = self.window;
        let mint = mutant::active(Mutant::MintTokensOnRaise);
        self.amount = amount;
        self.bucket.reconfigure(bucket_size(limit, amount), amount, limit.window, mint);
        self.apply_limit(limit);
        self.bulk.reconfigure(old_window, self.window);
        self.slots.reconfigure(old_window, self.window);
        self.bulk.leave(now);
        if mutant::active(Mutant::EditAddsPast) {
            self.fill_with_past(now);
        }
        if self.window == old_window {
            return;
        }
        let moved: Vec<UnitKey> =
            self.units.iter().filter(|(_, unit)| unit.counted).map(|(key, _)| key).collect();
        for key in moved {
            if let Some(unit) = self.units.get_mut(key) {
                unit.leaves = unit.settles + self.window;
                let (leaves, cost) = (unit.leaves, unit.cost());
                self.leaves_at(leaves, key, cost);
            }
        }
        if self.window > old_window {
            self.fill_with_past(now);
        }
        self.advance(now);
    }

    /// When a further call of this cost may fit at the earliest, `kept` being for others; `None`: now.
    /// To be asked after [`WindowCounter::advance`], and again when the time has come.
    pub(crate) fn blocked_until(&self, now: Time, cost: Amount, kept: Amount) -> Option<Time> {
        let mut until = now;
        if self.asks_first && !self.in_flight.is_zero() {
            until = until.max(self.next_settling());
        }
        if self.asks_log && self.logged() + kept + cost > self.amount {
            until = until.max(self.next_change(now));
        }
        if self.asks_bucket {
            let in_flight = if mutant::active(Mutant::GrantsPaced) { Amount::ZERO } else { self.in_flight };
            // One that is larger than the bucket goes alone: a provider that takes it has a larger one.
            match self.bucket.room_for(in_flight + kept + cost.min(self.bucket.size())) {
                // What is in flight fills it: only settling makes room for draining.
                Some(Time::NEVER) => until = until.max(self.next_settling()),
                Some(at) => until = until.max(at),
                None => {}
            }
        }
        if let Some(spacing) = self.spacing {
            until = until.max(self.spaced_until + spread(spacing, kept));
        }
        (until > now).then_some(until)
    }

    /// Charges a call that is counted by `settles` at the latest.
    pub(crate) fn charge(&mut self, now: Time, settles: Time, cost: Amount, origin: Origin) -> UnitKey {
        let key = self.units.insert(Unit::in_flight(cost, settles, origin));
        self.in_flight += cost;
        self.charged += cost;
        self.draw(cost);
        self.settles_at(settles, key, Due::AsGranted);
        if mutant::active(Mutant::GrantsPaced) {
            self.bucket.pour(now, cost);
        }
        if let Some(spacing) = self.spacing {
            self.spaced_until = self.spaced_until.max(now) + spread(spacing, cost);
        }
        key
    }

    /// Whether something of the reserve counts that nobody has taken over.
    pub(crate) fn holds_reserve(&self) -> bool {
        self.units.iter().any(|(_, unit)| unit.origin == Origin::Reserve)
    }

    /// Lets go of what is left of the reserve. The level stays: it was not poured.
    pub(crate) fn release_reserve(&mut self) {
        let reserved = self.units.iter().filter(|(_, unit)| unit.origin == Origin::Reserve);
        let reserved: Vec<(UnitKey, Amount)> = reserved.map(|(key, unit)| (key, unit.cost())).collect();
        for (key, cost) in reserved {
            self.refund(key);
            if mutant::active(Mutant::ReleaseLowersLevel) {
                self.bucket.take_back(cost);
            }
        }
    }

    fn insert_counted(&mut self, unit: Unit) -> UnitKey {
        let key = self.units.insert(unit);
        self.leaves_at(unit.leaves, key, unit.cost());
        key
    }

    pub(crate) fn amount(&self) -> Amount {
        self.amount
    }

    /// How it stands, for an answer to what was charged last.
    pub(crate) fn at_grant(&self) -> AtGrant {
        AtGrant {
            logged: self.logged_by_us(),
            in_flight: self.in_flight,
            level: self.bucket.level(),
            charged: self.charged,
            landed: self.landed,
            poured_for_others: self.poured_for_others,
        }
    }

    /// How much is in the log.
    pub(crate) fn logged(&self) -> Amount {
        self.units.amount() + self.slots.amount() + self.bulk.amount()
    }

    /// How much is free now.
    pub(crate) fn room(&self) -> Amount {
        let log = if self.asks_log { self.amount - self.logged() } else { self.amount };
        let bucket = if self.asks_bucket {
            self.bucket.size() - self.bucket.level() - self.in_flight
        } else {
            self.amount
        };
        log.min(bucket)
    }

    /// How much is in flight: the provider may count it yet, or not.
    pub(crate) fn in_flight(&self) -> Amount {
        self.in_flight
    }

    /// Whether a call was granted so much that it is larger than the bucket, which was empty.
    pub(crate) fn is_alone(&self, at_grant: &AtGrant, cost: Amount) -> bool {
        let larger = self.asks_bucket && cost > self.bucket.size();
        larger && at_grant.in_flight == cost && at_grant.level.is_zero()
    }

    /// What counts against the limit now, in its own terms.
    pub(crate) fn used(&self) -> Amount {
        if self.asks_log { self.logged() } else { self.bucket.level() + self.in_flight }
    }
}

/// The bucket of a limit of this amount.
fn bucket_size(limit: &LimitConfig, amount: Amount) -> Amount {
    // An observed figure lowers the amount, not the bucket.
    Amount(limit.burst_of(limit.amount.max(amount.0))).min(amount.max(Amount::ONE))
}

/// The time that grants of this amount take where one unit takes `spacing`.
fn spread(spacing: Duration, amount: Amount) -> Duration {
    Duration::from_nanos(nanos(spacing).saturating_mul(amount.0))
}

/// `duration · (1 + ρ)`: what is measured here must hold on the provider's clock too.
pub(crate) fn guarded(duration: Duration) -> Duration {
    if mutant::active(Mutant::NoDriftGuard) { duration } else { stretched(duration) }
}
