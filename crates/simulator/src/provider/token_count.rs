//! One limit of tokens at the provider, counted in a sliding window, which is stricter than fixed ones, and in buckets.

use std::collections::VecDeque;
use std::time::Duration;

use quotakeeper_engine::config::{CountedAs, LimitConfig};

use super::judge::{Allowed, Keeps};
use crate::random::nanos;
use crate::scenario::TokenProvider;

/// The count of one limit of tokens.
#[derive(Clone, Debug)]
pub(crate) struct TokenCount {
    /// What it allows to all users.
    allowed: Allowed,
    /// What of that is ours.
    ours: u64,
    counted_as: CountedAs,
    /// What it allowed before it changed, and when it did.
    before: Option<(u64, u64)>,
    /// What was charged, and when.
    counted: VecDeque<(u64, u64)>,
    in_window: u64,
    /// Buckets that take on a change of the limit in one way and the other.
    buckets: [TokenBucket; 2],
    over_window: u64,
    /// The most that was missing from a full bucket, in percent of it.
    pub(crate) peak_percent: u64,
    /// What was charged to us in each window from the first charge on.
    by_window: Vec<u64>,
    /// When that was.
    begun: Option<u64>,
}

#[derive(Clone, Debug)]
struct TokenBucket {
    keeps: Keeps,
    /// In N-ths of a nanosecond of refill, as in [`super::judge::Tokens`]; below zero is debt.
    room: i128,
    at: u64,
    over: u64,
}

fn parts(amount: u64, allowed: &Allowed) -> i128 {
    i128::from(amount) * i128::from(nanos(allowed.window))
}

impl TokenBucket {
    fn new(allowed: &Allowed, keeps: Keeps) -> TokenBucket {
        TokenBucket { keeps, room: parts(allowed.burst, allowed), at: 0, over: 0 }
    }

    fn refill(&mut self, at: u64, allowed: &Allowed) {
        let refilled = i128::from(at.saturating_sub(self.at)) * i128::from(allowed.amount);
        self.room = (self.room + refilled).min(parts(allowed.burst, allowed));
        self.at = self.at.max(at);
    }

    fn charge(&mut self, amount: u64, allowed: &Allowed) {
        self.room -= parts(amount, allowed);
        self.over += u64::from(self.room < 0);
    }
}

impl TokenCount {
    pub(crate) fn new(limit: &LimitConfig, provider: &TokenProvider) -> TokenCount {
        let allowed = allowed(limit, provider);
        TokenCount {
            allowed,
            ours: limit.amount,
            counted_as: limit.counted_as,
            before: None,
            counted: VecDeque::new(),
            in_window: 0,
            buckets: [Keeps::Rest, Keeps::Level].map(|keeps| TokenBucket::new(&allowed, keeps)),
            over_window: 0,
            peak_percent: 0,
            by_window: Vec::new(),
            begun: None,
        }
    }

    fn advance(&mut self, at: u64) {
        let window = nanos(self.allowed.window);
        while let Some((_, amount)) = self.counted.front().filter(|(first, _)| first + window <= at) {
            self.in_window -= amount;
            self.counted.pop_front();
        }
        self.buckets.iter_mut().for_each(|bucket| bucket.refill(at, &self.allowed));
    }

    /// So much is charged to us. It counts, whether or not there is room.
    pub(crate) fn charge(&mut self, at: u64, amount: u64) {
        if amount == 0 {
            return;
        }
        self.take(at, amount);
        *self.of_window(at) += amount;
        self.over_window += u64::from(!self.window_holds(at));
        let full = parts(self.allowed.burst, &self.allowed);
        let least = self.buckets.iter().map(|bucket| bucket.room).min().unwrap_or(full);
        let percent = u64::try_from((full - least) * 100 / full.max(1)).unwrap_or(u64::MAX);
        self.peak_percent = self.peak_percent.max(percent);
    }

    fn take(&mut self, at: u64, amount: u64) {
        self.advance(at);
        self.in_window += amount;
        self.counted.push_back((at, amount));
        self.buckets.iter_mut().for_each(|bucket| bucket.charge(amount, &self.allowed));
    }

    /// A stretch that reaches back before a change is held to the larger amount, and what came since to the new one.
    fn window_holds(&self, at: u64) -> bool {
        match self.before.filter(|(change, _)| at < change + nanos(self.allowed.window)) {
            Some((change, larger)) => {
                let since = self.counted.iter().rev().take_while(|(then, _)| *then >= change);
                let since: u64 = since.map(|(_, amount)| amount).sum();
                self.in_window <= larger && since <= self.allowed.amount
            }
            None => self.in_window <= self.allowed.amount,
        }
    }

    /// Others charge so much, as far as there is room.
    pub(crate) fn others(&mut self, at: u64, amount: u64) {
        if self.wait(at, amount).is_none() {
            self.take(at, amount);
        }
    }

    fn of_window(&mut self, at: u64) -> &mut u64 {
        let since = at - (*self.begun.get_or_insert(at)).min(at);
        let place = usize::try_from(since / nanos(self.allowed.window).max(1)).unwrap_or(usize::MAX);
        if self.by_window.len() <= place {
            self.by_window.resize(place + 1, 0);
        }
        &mut self.by_window[place]
    }

    /// A part of what was charged at an instant is given back.
    pub(crate) fn refund(&mut self, at: u64, charged_at: u64, amount: u64) {
        if amount == 0 {
            return;
        }
        self.advance(at);
        let of_window = self.of_window(charged_at);
        *of_window = of_window.saturating_sub(amount);
        for bucket in &mut self.buckets {
            bucket.room += parts(amount, &self.allowed);
        }
        if let Some(charge) =
            self.counted.iter_mut().rev().find(|(then, before)| *then == charged_at && *before >= amount)
        {
            charge.1 -= amount;
            self.in_window -= amount;
        }
        self.advance(at);
    }

    /// How long until so much has room, or anything has where that is nothing; `None`: it has now.
    pub(crate) fn wait(&mut self, at: u64, amount: u64) -> Option<Duration> {
        self.advance(at);
        let amount = amount.max(1);
        if counts_a_bucket(self.counted_as) {
            let room = self.buckets.iter().map(|bucket| bucket.room).min().unwrap_or_default();
            let missing = parts(amount, &self.allowed) - room;
            let wait = u64::try_from(missing).ok().filter(|missing| *missing > 0)?;
            return Some(Duration::from_nanos(wait.div_ceil(self.allowed.amount.max(1))));
        }
        let first = self.counted.front().filter(|_| self.in_window + amount > self.allowed.amount)?;
        Some(Duration::from_nanos((first.0 + nanos(self.allowed.window)).saturating_sub(at)))
    }

    /// What remains, as answers say.
    pub(crate) fn remaining(&mut self, at: u64) -> u64 {
        self.advance(at);
        if counts_a_bucket(self.counted_as) {
            let room = self.buckets.iter().map(|bucket| bucket.room).min().unwrap_or_default();
            let one = parts(1, &self.allowed).max(1);
            return u64::try_from(room.max(0) / one).unwrap_or(u64::MAX);
        }
        self.allowed.amount.saturating_sub(self.in_window)
    }

    /// What it allows to all users.
    pub(crate) fn amount(&self) -> u64 {
        self.allowed.amount
    }

    /// It allows something else from now on.
    pub(crate) fn change(&mut self, at: u64, limit: &LimitConfig, provider: &TokenProvider) {
        self.advance(at);
        let old = self.allowed;
        self.allowed = allowed(limit, provider);
        self.ours = limit.amount;
        self.before = Some((at, old.amount.max(self.allowed.amount)));
        for bucket in self.buckets.iter_mut().filter(|bucket| bucket.keeps == Keeps::Level) {
            bucket.room += parts(self.allowed.burst, &self.allowed) - parts(old.burst, &old);
        }
        self.advance(at);
    }

    /// What was charged to us in each whole window of so long a time.
    fn by_whole_window(&self, length: Duration) -> impl Iterator<Item = u64> {
        let whole = usize::try_from(nanos(length) / nanos(self.allowed.window).max(1)).unwrap_or(usize::MAX);
        (0..whole).map(|place| self.by_window.get(place).copied().unwrap_or(0))
    }

    /// The same in percent of what is allowed.
    pub(crate) fn percent_by_window(&self, length: Duration) -> Vec<u64> {
        self.by_whole_window(length).map(|used| used * 100 / self.ours.max(1)).collect()
    }

    /// What was charged in so long a time, in hundredths of a percent of what is allowed in it; windows that do not
    /// end in it are left out.
    pub(crate) fn used(&self, length: Duration) -> u64 {
        let windows: Vec<u64> = self.by_whole_window(length).collect();
        let allowed = u128::from(self.ours) * windows.len() as u128;
        let used = windows.into_iter().map(u128::from).sum::<u128>() * 10_000;
        u64::try_from(used / allowed.max(1)).unwrap_or(u64::MAX)
    }

    /// The same on average, without the first two windows and the last.
    pub(crate) fn steady(&self, length: Duration) -> Option<u64> {
        let windows: Vec<u64> = self.by_whole_window(length).skip(2).collect();
        let windows = windows.split_last()?.1;
        let allowed = u128::from(self.ours) * windows.len() as u128;
        let used = windows.iter().map(|used| u128::from(*used)).sum::<u128>() * 10_000;
        u64::try_from(used.checked_div(allowed)?).ok()
    }

    /// The same of the window in which it was least, in percent; the first two are left out, and the last.
    pub(crate) fn worst_window(&self, length: Duration) -> Option<u64> {
        let windows: Vec<u64> = self.by_whole_window(length).skip(2).collect();
        let least = windows.split_last()?.1.iter().min()?;
        Some(least * 100 / self.ours.max(1))
    }

    /// Charges that the limit had no room for, counted as it may be.
    pub(crate) fn over(&self) -> u64 {
        let bucket = self.buckets.iter().map(|bucket| bucket.over).max().unwrap_or(0);
        match self.counted_as {
            CountedAs::SlidingWindow | CountedAs::FixedWindow => self.over_window,
            CountedAs::TokenBucket | CountedAs::LeakyBucket => bucket,
            CountedAs::Unknown => self.over_window.max(bucket),
        }
    }
}

/// How a provider counts that rejects or tells what remains.
fn counts_a_bucket(counted_as: CountedAs) -> bool {
    !matches!(counted_as, CountedAs::SlidingWindow | CountedAs::FixedWindow)
}

/// What the provider allows to all users of the account.
fn allowed(limit: &LimitConfig, provider: &TokenProvider) -> Allowed {
    let amount = limit.declared.unwrap_or(limit.amount);
    let burst = match provider.bucket_percent {
        0 => limit.burst.unwrap_or(amount),
        percent => amount * percent / 100,
    };
    Allowed { amount, window: limit.window, burst }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stories::a_limit;

    const SECOND: u64 = 1_000_000_000;

    fn count() -> TokenCount {
        let limit = LimitConfig { burst: Some(100), ..a_limit(100, Duration::from_secs(1)) };
        TokenCount::new(&limit, &TokenProvider::default())
    }

    fn over_bucket(count: &TokenCount) -> u64 {
        count.buckets[0].over
    }

    #[test]
    fn what_has_no_room_is_over() {
        let mut count = count();
        for (at, amount) in [(0, 60), (1, 40), (SECOND / 2, 50), (SECOND, 50)] {
            count.charge(at, amount);
        }
        // The bucket has refilled by half each time; the window has only lost the first 60.
        assert_eq!((count.over_window, over_bucket(&count)), (2, 0));
        count.charge(SECOND, 51);
        assert_eq!((count.over_window, over_bucket(&count)), (3, 1));
        assert_eq!(count.by_window, [150, 101]);
    }

    #[test]
    fn what_is_given_back_leaves_room() {
        let mut count = count();
        count.charge(0, 90);
        assert!(count.wait(1, 70).is_some());
        count.refund(1, 0, 60);
        assert_eq!(count.wait(1, 70), None);
        count.charge(1, 70);
        assert_eq!((count.over_window, over_bucket(&count), count.by_window[0]), (0, 0, 100));
    }

    #[test]
    fn a_bucket_keeps_its_level_or_its_rest_when_its_limit_is_halved() {
        let mut count = count();
        count.charge(0, 60);
        let half = LimitConfig { burst: Some(50), ..a_limit(50, Duration::from_secs(1)) };
        count.change(1, &half, &TokenProvider::default());
        count.charge(1, 30);
        assert_eq!(count.buckets.map(|bucket| bucket.over), [0, 1]);
    }
}
