//! One limit's count, in one partition: the log, the units in flight, the bucket.
//!
//! A granted call is *in flight* until S, the latest time at which the provider can have counted
//! it, and in the *log* until S + W, when the provider can count it no longer. In between it is in
//! the bucket's *level*, which drains at N/W. A further call fits iff log < N and
//! level + in flight + 1 ≤ b; how the provider counts says which of the two is asked.

mod bulk;
mod snapshot;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

pub use bulk::Ramp;
pub use snapshot::{ArrivingSnapshot, UnitSnapshot, WindowSnapshot};

use bulk::Bulk;

use crate::bucket::Bucket;
use crate::config::{CountedAs, LimitConfig, Pacing};
use crate::mutant::{self, Mutant};
use crate::time::{Time, nanos, stretched};
use crate::units::{Origin, Unit, UnitKey, Units};

/// From here on a window is a budget, not a rate.
const LONG: Duration = Duration::from_secs(3600);
/// So many units of others are kept in bulk, fewer one by one.
const MANY: u64 = 1024;

type Timers = BinaryHeap<Reverse<(Time, UnitKey)>>;

/// The count of a limit of requests.
#[derive(Clone, Debug)]
pub(crate) struct WindowCounter {
    amount: u64,
    /// W(1+ρ).
    window: Duration,
    asks_log: bool,
    asks_bucket: bool,
    /// W/N where grants are spread evenly.
    spacing: Option<Duration>,
    spaced_until: Time,
    /// From then on one call may ask the provider how things stand; until that is known nobody
    /// can say how long a wait is.
    asks_provider: Option<Time>,
    bucket: Bucket,
    units: Units,
    bulk: Bulk,
    in_flight: u64,
    /// Calls charged since the beginning.
    charged: u64,
    settling: Timers,
    leaving: Leaving,
}

/// When units leave the log, the earliest first. They come nearly in order, so a sorted queue takes
/// each at or near its end, and tells at once when the k-th leaves.
#[derive(Clone, Debug, Default)]
struct Leaving(VecDeque<(Time, UnitKey)>);

impl Leaving {
    fn push(&mut self, at: Time, key: UnitKey) {
        let place = self.0.partition_point(|entry| *entry <= (at, key));
        self.0.insert(place, (at, key));
    }

    fn first(&self) -> Option<(Time, UnitKey)> {
        self.0.front().copied()
    }

    fn pop(&mut self) {
        self.0.pop_front();
    }

    fn last(&self) -> Option<Time> {
        self.0.back().map(|(at, _)| *at)
    }

    /// How many leave by `at`; units that moved are still in their old place.
    fn by(&self, at: Time) -> u64 {
        self.0.partition_point(|entry| entry.0 <= at) as u64
    }

    /// When the unit leaves that so many leave before; units that moved are still in their old place.
    fn place(&self, place: usize) -> Option<Time> {
        self.0.get(place).map(|(at, _)| *at)
    }
}

/// What a late or early report did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// The unit was where it should be.
    InTime,
    /// It was written after S: the rule's bound did not hold for it.
    Late(UnitKey),
}

impl WindowCounter {
    pub(crate) fn new(limit: &LimitConfig, amount: u64, now: Time) -> WindowCounter {
        let mut counter = WindowCounter {
            amount,
            window: Duration::ZERO,
            asks_log: false,
            asks_bucket: false,
            spacing: None,
            spaced_until: Time(0),
            asks_provider: None,
            bucket: Bucket::new(limit.effective_burst().min(amount.max(1)), amount, limit.window, now),
            units: Units::default(),
            bulk: Bulk::default(),
            in_flight: 0,
            charged: 0,
            settling: Timers::new(),
            leaving: Leaving::default(),
        };
        counter.apply_limit(limit);
        counter
    }

    fn apply_limit(&mut self, limit: &LimitConfig) {
        let counted = limit.counted_as;
        self.window = guarded(limit.window);
        self.asks_log =
            matches!(counted, CountedAs::Unknown | CountedAs::FixedWindow | CountedAs::SlidingWindow);
        // Nobody hands out a day's budget drop by drop; pacing it would.
        let rate = limit.window < LONG;
        self.asks_bucket = match counted {
            CountedAs::TokenBucket | CountedAs::LeakyBucket => true,
            CountedAs::Unknown => rate,
            CountedAs::FixedWindow | CountedAs::SlidingWindow => rate && limit.burst.is_some(),
        };
        let even = nanos(limit.window).div_ceil(self.amount.max(1));
        let spaced = rate && limit.pacing == Pacing::LeakyBucket;
        self.spacing = spaced.then(|| guarded(Duration::from_nanos(even)));
    }

    /// Takes on a changed limit: what is charged stays charged, what remains in the bucket remains.
    /// With a longer window the time before the log begins is not known, and counts as used.
    pub(crate) fn reconfigure(&mut self, limit: &LimitConfig, amount: u64, now: Time) {
        self.advance(now);
        let (old_window, lowered) = (self.window, amount < self.amount);
        let mint = mutant::active(Mutant::MintTokensOnRaise);
        self.amount = amount;
        self.bucket.reconfigure(limit.effective_burst().min(amount.max(1)), amount, limit.window, mint);
        self.apply_limit(limit);
        self.bulk.reconfigure(old_window, self.window);
        if lowered && self.count(Origin::Past) > 0 {
            // An unknown past of the old size would close the smaller limit for the rest of its window.
            self.past_is_at_most(0);
            self.fill_with_past(now, amount);
        }
        if self.window == old_window {
            return;
        }
        let moved: Vec<UnitKey> =
            self.units.iter().filter(|(_, unit)| unit.counted).map(|(key, _)| key).collect();
        for key in moved {
            if let Some(unit) = self.units.get_mut(key) {
                unit.leaves = unit.settles + self.window;
                self.leaving.push(unit.leaves, key);
            }
        }
        if self.window > old_window {
            self.fill_with_past(now, amount);
        }
        self.advance(now);
    }

    /// Lets everything happen whose time has come.
    pub(crate) fn advance(&mut self, now: Time) {
        while let Some((at, units)) = self.bulk.arrive(now) {
            self.settle_until(at);
            self.in_flight -= units;
            if !mutant::active(Mutant::GrantsPaced) {
                self.bucket.pour(at, units);
            }
            self.bulk.add(Ramp { units, last: at + self.window, interval: 0, others: false });
        }
        self.settle_until(now);
        while let Some((at, key)) = self.leaving.first() {
            let current = self.units.get(key).is_some_and(|unit| unit.counted && unit.leaves == at);
            if current && at > now {
                break;
            }
            self.leaving.pop();
            if current {
                self.units.remove(key);
            }
        }
        if !self.bulk.is_empty() {
            self.bulk.leave(now);
        }
        self.bucket.drain(now);
    }

    fn settle_until(&mut self, now: Time) {
        while let Some(&Reverse((at, key))) = self.settling.peek() {
            let current = self.units.get(key).is_some_and(|unit| !unit.counted && unit.settles == at);
            if current && at > now {
                break;
            }
            self.settling.pop();
            if current {
                self.settle(key, at);
            }
        }
    }

    fn settle(&mut self, key: UnitKey, at: Time) {
        let window = self.window;
        let Some(unit) = self.units.get_mut(key) else {
            return;
        };
        unit.counted = true;
        unit.settles = at;
        unit.leaves = at + window;
        let leaves = unit.leaves;
        self.in_flight -= 1;
        if !mutant::active(Mutant::GrantsPaced) {
            self.bucket.pour(at, 1);
        }
        self.leaving.push(leaves, key);
    }

    /// When a further call may fit at the earliest, `kept` units being for others; `None`: now. To
    /// be asked after [`WindowCounter::advance`], and again when the time has come.
    pub(crate) fn blocked_until(&self, now: Time, kept: u64) -> Option<Time> {
        let mut until = now;
        if self.asks_log && self.logged() + kept >= self.amount {
            until = until.max(self.next_change());
        }
        if self.asks_bucket {
            let in_flight = if mutant::active(Mutant::GrantsPaced) { 0 } else { self.in_flight };
            match self.bucket.room_for(in_flight + kept + 1) {
                // What is in flight fills it: only settling makes room for draining.
                Some(Time::NEVER) => until = until.max(self.next_settling()),
                Some(at) => until = until.max(at),
                None => {}
            }
        }
        if let Some(spacing) = self.spacing {
            let before = u32::try_from(kept).unwrap_or(u32::MAX);
            until = until.max(self.spaced_until + spacing.saturating_mul(before));
        }
        (until > now).then_some(until)
    }

    fn next_settling(&self) -> Time {
        let unit = self.settling.peek().map_or(Time::NEVER, |Reverse((at, _))| *at);
        unit.min(self.bulk.next_arrival())
    }

    fn next_change(&self) -> Time {
        let leaving = self.leaving.first().map_or(Time::NEVER, |(at, _)| at);
        leaving.min(self.bulk.next_leaving()).min(self.next_settling())
    }

    /// Charges one call that is counted by `settles` at the latest.
    pub(crate) fn charge(&mut self, now: Time, settles: Time, origin: Origin) -> UnitKey {
        let unit = Unit { settles, leaves: Time::NEVER, counted: false, origin };
        let key = self.units.insert(unit);
        self.in_flight += 1;
        self.charged += 1;
        self.settling.push(Reverse((settles, key)));
        if mutant::active(Mutant::GrantsPaced) {
            self.bucket.pour(now, 1);
        }
        if let Some(spacing) = self.spacing {
            self.spaced_until = self.spaced_until.max(now) + spacing;
        }
        key
    }

    /// The provider has counted the call by `latest`: S = min(S, latest).
    pub(crate) fn counted_by(&mut self, now: Time, key: UnitKey, latest: Time) {
        let window = self.window;
        let Some(unit) = self.units.get_mut(key) else {
            return;
        };
        if latest >= unit.settles {
            return;
        }
        unit.settles = latest;
        if unit.counted {
            unit.leaves = latest + window;
            self.leaving.push(unit.leaves, key);
        } else if latest > now {
            self.settling.push(Reverse((latest, key)));
        } else {
            self.settle(key, latest);
        }
    }

    /// The call was written, and is counted by `bound` at the latest, whatever was assumed before.
    /// One that was believed counted, or out of the log, is charged once more.
    pub(crate) fn written(&mut self, now: Time, key: UnitKey, bound: Time) -> Reported {
        let window = self.window;
        match self.units.get_mut(key) {
            Some(unit) if bound <= unit.settles => {
                self.counted_by(now, key, bound);
                Reported::InTime
            }
            _ if mutant::active(Mutant::IgnoreLateSent) => Reported::InTime,
            Some(unit) if !unit.counted => {
                unit.settles = bound;
                self.settling.push(Reverse((bound, key)));
                Reported::InTime
            }
            Some(unit) => {
                unit.settles = bound;
                unit.leaves = bound + window;
                self.leaving.push(unit.leaves, key);
                self.bucket.pour(now, 1);
                Reported::Late(key)
            }
            None if bound + window > now => {
                let leaves = bound + window;
                let unit = Unit { settles: bound, leaves, counted: true, origin: Origin::Call };
                let key = self.units.insert(unit);
                self.leaving.push(leaves, key);
                self.bucket.pour(now, 1);
                Reported::Late(key)
            }
            None => Reported::Late(key),
        }
    }

    /// The call was not and will not be written. It leaves the log; what the bucket has counted
    /// stays, because calls may have been held back on account of it.
    pub(crate) fn refund(&mut self, key: UnitKey) {
        let Some(unit) = self.units.remove(key) else {
            return;
        };
        if !unit.counted {
            self.in_flight -= 1;
        } else if mutant::active(Mutant::SubtractOnUnused) {
            self.bucket.take_back();
        }
    }

    /// Takes a unit of the reserve over for a call that turns out to have been granted from it.
    pub(crate) fn claim_reserved(&mut self) -> Option<UnitKey> {
        let (key, _) = self.units.iter().find(|(_, unit)| unit.origin == Origin::Reserve && !unit.counted)?;
        if let Some(unit) = self.units.get_mut(key) {
            unit.origin = Origin::Call;
        }
        Some(key)
    }

    /// Whether something of the reserve counts that nobody has taken over.
    pub(crate) fn holds_reserve(&self) -> bool {
        self.units.iter().any(|(_, unit)| unit.origin == Origin::Reserve)
    }

    /// Lets go of what is left of the reserve. The level stays: it was not poured.
    pub(crate) fn release_reserve(&mut self) {
        let reserved: Vec<UnitKey> = self
            .units
            .iter()
            .filter(|(_, unit)| unit.origin == Origin::Reserve)
            .map(|(key, _)| key)
            .collect();
        for key in reserved {
            self.refund(key);
            if mutant::active(Mutant::ReleaseLowersLevel) {
                self.bucket.take_back();
            }
        }
    }

    /// Use of the time before this engine: N units that leave evenly through one window, and a
    /// full bucket but for one call, which asks the provider how things stand.
    pub(crate) fn fill_with_past(&mut self, begin: Time, room_for: u64) {
        let units = self.amount.min(room_for).saturating_sub(1);
        let interval = nanos(self.window).div_ceil(self.amount.max(1));
        self.bulk.add(Ramp { units, last: begin + self.window, interval, others: false });
        self.bucket.set(self.bucket.size() - 1, begin);
    }

    fn insert_counted(&mut self, leaves: Time, origin: Origin) {
        let unit = Unit { settles: leaves - self.window, leaves, counted: true, origin };
        let key = self.units.insert(unit);
        self.leaving.push(leaves, key);
    }

    /// A limiter that takes over knows nothing of what its predecessor granted: a full bucket in
    /// flight until `arrived`, the rest of N leaving the log at the rate at which it can have
    /// come in. A long window without a bucket would be closed for all of it: once the
    /// predecessor's calls have arrived, one call may ask the provider how things stand.
    pub(crate) fn fill_with_predecessor(&mut self, now: Time, arrived: Time) {
        if !self.asks_bucket && self.window >= LONG {
            let units = self.amount.saturating_sub(1);
            self.bulk.add(Ramp { units, last: arrived + self.window, interval: 0, others: false });
            self.insert_counted(arrived, Origin::Past);
            self.asks_provider = Some(arrived);
            return;
        }
        let at_once = if self.asks_bucket { self.bucket.size().min(self.amount) } else { self.amount };
        self.bulk.add_arriving(arrived, at_once);
        self.in_flight += at_once;
        self.charged += at_once;
        if mutant::active(Mutant::GrantsPaced) {
            self.bucket.pour(now, at_once);
        }
        if let Some(spacing) = self.spacing {
            let steps = u32::try_from(at_once).unwrap_or(u32::MAX);
            self.spaced_until = self.spaced_until.max(now) + spacing.saturating_mul(steps);
        }
        // k · W/N · (1 − ρ), rounded down so that none leaves early.
        let interval = nanos(self.window) / self.amount.max(1);
        let interval = interval - crate::time::drift(interval).saturating_mul(2);
        let (units, last) = (self.amount - at_once, arrived + self.window);
        self.bulk.add(Ramp { units, last, interval, others: false });
        self.bucket.drain(now);
    }

    /// The provider says that `used` units are charged to the account in all: no more than that
    /// can be left of an unknown past. Those that would have left first go. Whether any went.
    pub(crate) fn past_is_at_most(&mut self, used: u64) -> bool {
        self.asks_provider = None;
        self.bulk.past_is_at_most(used)
    }

    /// Others have drawn `units` that we did not see: charged from now on for one window.
    pub(crate) fn charge_others(&mut self, now: Time, units: u64) {
        let leaves = now + self.window;
        let units = units.min(self.amount);
        if units >= MANY {
            self.bulk.add(Ramp { units, last: leaves, interval: 0, others: true });
            return;
        }
        for _ in 0..units {
            self.insert_counted(leaves, Origin::Others);
        }
    }

    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }

    /// Calls charged since the beginning: the difference of two readings is what was charged
    /// between them.
    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    /// Units in the log.
    pub(crate) fn logged(&self) -> u64 {
        self.units.len() as u64 + self.bulk.len()
    }

    /// Units of this origin in the log.
    pub(crate) fn count(&self, origin: Origin) -> u64 {
        let units = self.units.iter().filter(|(_, unit)| unit.origin == origin).count() as u64;
        units + self.bulk.count(origin)
    }

    /// What counts against the limit now, in its own terms.
    pub(crate) fn used(&self) -> u64 {
        if self.asks_log { self.logged() } else { self.bucket.units() + self.in_flight }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// When the limit is free again if nothing more is charged.
    pub(crate) fn free_at(&self, now: Time) -> Time {
        let log = self.units.iter().map(
            |(_, unit)| {
                if unit.counted { unit.leaves } else { unit.settles + self.window }
            },
        );
        let arrived = self.bulk.last_arrival().map(|at| at + self.window);
        let log = log.chain(arrived).chain(self.bulk.last_leaving());
        let log = if self.asks_log { log.max().unwrap_or(now) } else { now };
        let bucket =
            if self.asks_bucket { self.bucket.room_for(self.bucket.size()).unwrap_or(now) } else { now };
        log.max(bucket).max(now)
    }

    /// About how long until `calls` more have been granted if all draw on this limit.
    pub(crate) fn wait_for(&self, now: Time, calls: u64) -> Duration {
        let mut wait = Duration::ZERO;
        if self.asks_log {
            wait = wait.max(self.log_wait(now, calls));
        }
        if self.asks_bucket {
            let more = (self.in_flight + calls).saturating_sub(self.bucket.size());
            let drained = self.bucket.room_for((self.in_flight + calls).min(self.bucket.size()));
            let now_to_room = drained.map_or(Duration::ZERO, |at| at.since(now));
            wait = wait.max(now_to_room + self.bucket.time_of(more));
        }
        if let Some(spacing) = self.spacing {
            let steps = u32::try_from(calls.saturating_sub(1)).unwrap_or(u32::MAX);
            wait = wait.max(self.spaced_until.since(now) + spacing.saturating_mul(steps));
        }
        wait
    }

    fn log_wait(&self, now: Time, calls: u64) -> Duration {
        if let Some(from) = self.asks_provider {
            return from.since(now);
        }
        let free = self.amount.saturating_sub(self.logged());
        let Some(beyond) = calls.checked_sub(free + 1) else { return Duration::ZERO };
        // The call waits for the (beyond + 1)th unit to leave; a whole window for each N of them.
        let windows = u32::try_from(beyond / self.amount.max(1)).unwrap_or(u32::MAX);
        let whole = self.window;
        let within = self.leaves_after(beyond % self.amount.max(1)).map_or(whole, |at| at.since(now));
        whole.saturating_mul(windows) + within
    }

    /// When the unit leaves that so many leave before.
    fn leaves_after(&self, before: u64) -> Option<Time> {
        if self.bulk.is_empty() {
            return self.leaving.place(usize::try_from(before).unwrap_or(usize::MAX));
        }
        let by = |at: Time| self.leaving.by(at) + self.bulk.left_by(at);
        let last = self.leaving.last().max(self.bulk.last_leaving())?;
        if by(last) <= before {
            return None;
        }
        Some(bulk::earliest(last, |at| by(at) > before))
    }
}

/// `duration · (1 + ρ)`: what is measured here must hold on the provider's clock too.
pub(crate) fn guarded(duration: Duration) -> Duration {
    if mutant::active(Mutant::NoDriftGuard) { duration } else { stretched(duration) }
}
