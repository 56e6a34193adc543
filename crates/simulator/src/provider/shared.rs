//! The first limit of an account that others use as well, as the provider really counts it, written apart from the
//! engine.
//!
//! Whether a call that is one too many could have been held back is judged by what the limiter had heard when it
//! granted the call. Each answer allows as many further calls as it says remain, and what comes back after it. What
//! came back shortly before is allowed too, because the limiter cannot know how much of that the provider had counted
//! as back already. Calls that were under way when the answer was heard are not held against it: which of them the
//! provider had counted is not told. Nor does it tell whether calls that were rejected count: as many may come from
//! others. A call beyond that is *told*: a fault. All others are what nobody could know: use by others since the newest
//! answer, and calls that were under way meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use http::HeaderMap;
use quotakeeper_dialects::profile::Profile;
use quotakeeper_engine::config::{CountedAs, LimitConfig};
use quotakeeper_engine::event::{CallId, SessionId};

use super::headers::{self, Standing};
use super::judge::Allowed;
use crate::random::nanos;
use crate::scenario;

/// One call of a proxy.
pub(crate) type Key = (SessionId, CallId);

/// How much longer than the provider the limiter may count a call: J, until its messages have come, and for drift.
const COUNTED_LONGER: Duration = Duration::from_millis(1_500);
/// How exactly the end of a window can be known that is told in whole seconds.
const TOLD_WITHIN: Duration = Duration::from_secs(3);

/// How the provider counts.
#[derive(Clone, Copy, Debug)]
enum Counting {
    Sliding,
    /// Windows that begin so long before the world does.
    Fixed(u64),
    /// A bucket; what is in it, in N-ths of a nanosecond of drain, as of a time.
    Bucket {
        level: u128,
        at: u64,
    },
}

/// A call that was counted.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at: u64,
    ours: bool,
}

/// What an answer said.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// When it was counted, and so what it says was true.
    at: u64,
    remaining: u64,
    /// What may have come back just before.
    slack: u64,
    heard: Option<u64>,
}

/// What became of a call of ours.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) headers: HeaderMap,
    /// It was one too many: how long until there is room.
    pub(crate) over: Option<Duration>,
}

/// The limit.
#[derive(Debug)]
pub(crate) struct Shared {
    style: scenario::Shared,
    name: String,
    allowed: Allowed,
    counting: Counting,
    profile: Profile,
    counted: VecDeque<Counted>,
    /// Calls of ours that were one too many.
    rejected: VecDeque<u64>,
    /// When our calls were granted.
    grants: BTreeMap<Key, u64>,
    /// When those were granted that the provider has counted, the earliest first.
    granted: Vec<u64>,
    answers: VecDeque<Answer>,
    dropped: usize,
    /// The answer that each call has on its way to the limiter.
    on_its_way: BTreeMap<Key, usize>,
    /// Calls over although answers had told; see above.
    pub(crate) told: u64,
    /// Other calls over.
    pub(crate) untold: u64,
    /// When calls were counted, all of them.
    pub(crate) all: Vec<u64>,
}

impl Shared {
    pub(crate) fn new(style: &scenario::Shared, limit: &LimitConfig) -> Shared {
        let counting = match limit.counted_as {
            CountedAs::Unknown | CountedAs::SlidingWindow => Counting::Sliding,
            CountedAs::FixedWindow => Counting::Fixed(nanos(style.phase)),
            CountedAs::TokenBucket | CountedAs::LeakyBucket => Counting::Bucket { level: 0, at: 0 },
        };
        Shared {
            style: style.clone(),
            name: limit.name.clone(),
            allowed: super::allowed(limit),
            counting,
            profile: headers::profile(&style.headers, &limit.name, limit.window),
            counted: VecDeque::new(),
            rejected: VecDeque::new(),
            grants: BTreeMap::new(),
            granted: Vec::new(),
            answers: VecDeque::new(),
            dropped: 0,
            on_its_way: BTreeMap::new(),
            told: 0,
            untold: 0,
            all: Vec::new(),
        }
    }

    fn window(&self) -> u64 {
        nanos(self.allowed.window)
    }

    /// When the fixed window began that `at` is in.
    fn began(&self, phase: u64, at: u64) -> u64 {
        at - (at + phase) % self.window()
    }

    fn drained(&self, length: u64) -> u128 {
        u128::from(length) * u128::from(self.allowed.amount)
    }

    /// A unit of a bucket, as its level is measured.
    fn unit(&self) -> u128 {
        u128::from(self.window())
    }

    fn count(&mut self, now: u64) -> u64 {
        let window = self.window();
        while self.counted.front().is_some_and(|first| first.at + 3 * window < now) {
            self.counted.pop_front();
        }
        let since = match self.counting {
            Counting::Sliding => now.saturating_sub(window),
            Counting::Fixed(phase) => self.began(phase, now).saturating_sub(1),
            Counting::Bucket { level, at } => {
                let level = level.saturating_sub(self.drained(now - at));
                self.counting = Counting::Bucket { level, at: now };
                return u64::try_from(level.div_ceil(self.unit())).unwrap_or(u64::MAX);
            }
        };
        (self.counted.len() - self.counted.partition_point(|counted| counted.at <= since)) as u64
    }

    fn most(&self) -> u64 {
        if matches!(self.counting, Counting::Bucket { .. }) {
            self.allowed.burst
        } else {
            self.allowed.amount
        }
    }

    /// How long until something, or the whole of a fixed window, is back.
    fn resets_in(&self, now: u64) -> Duration {
        let window = self.window();
        Duration::from_nanos(match self.counting {
            Counting::Sliding => {
                let first = self.counted.partition_point(|counted| counted.at + window <= now);
                self.counted.get(first).map_or(0, |counted| counted.at + window - now)
            }
            Counting::Fixed(phase) => self.began(phase, now) + window - now,
            Counting::Bucket { level, .. } => {
                let beyond = (level % self.unit()).max(1);
                u64::try_from(beyond.div_ceil(u128::from(self.allowed.amount))).unwrap_or(u64::MAX)
            }
        })
    }

    fn accept(&mut self, now: u64, ours: bool) {
        let unit = self.unit();
        if let Counting::Bucket { level, .. } = &mut self.counting {
            *level += unit;
        }
        self.counted.push_back(Counted { at: now, ours });
        self.all.push(now);
    }

    /// A call of others. One too many is rejected.
    pub(crate) fn others(&mut self, now: u64) {
        if self.count(now) < self.most() {
            self.accept(now, false);
        }
    }

    /// A call of ours.
    pub(crate) fn ours(&mut self, now: u64, key: Key) -> Verdict {
        // Of older ones it is no longer known what came back since.
        while self.answers.front().is_some_and(|first| first.at + 2 * self.window() < now) {
            self.answers.pop_front();
            self.dropped += 1;
        }
        let granted = self.grants.get(&key).copied().unwrap_or(now);
        let over = self.count(now) >= self.most();
        if !over {
            self.accept(now, true);
            let place = self.granted.partition_point(|at| *at <= granted);
            self.granted.insert(place, granted);
        } else {
            let told = self.was_told(now, granted);
            self.told += u64::from(told);
            self.untold += u64::from(!told);
            self.rejected.push_back(now);
        }
        let remaining = self.most() - self.count(now).min(self.most());
        let resets_in = self.resets_in(now);
        let slack = self.slack(now, granted);
        self.on_its_way.insert(key, self.dropped + self.answers.len());
        self.answers.push_back(Answer { at: now, remaining, slack, heard: None });
        let standing = Standing { amount: self.allowed.amount, remaining, resets_in };
        Verdict {
            headers: headers::written(&self.style.headers, standing, now),
            over: over.then_some(resets_in),
        }
    }

    fn was_told(&self, now: u64, granted: u64) -> bool {
        let allows = |answer: &Answer, heard: u64| {
            let since = (self.granted.len() - self.granted.partition_point(|at| *at < heard)) as u64;
            let back = self.comes_back(answer.at, now);
            answer.remaining.saturating_add(back).saturating_add(answer.slack) > since
        };
        let heard = |answer: &Answer| answer.heard.filter(|heard| *heard <= granted);
        self.answers.iter().any(|answer| heard(answer).is_some_and(|heard| !allows(answer, heard)))
    }

    /// What came back in `(from, until]`.
    fn comes_back(&self, from: u64, until: u64) -> u64 {
        match self.counting {
            Counting::Sliding => self.left(from, until, |_| true),
            Counting::Fixed(phase) if self.began(phase, from) == self.began(phase, until) => 0,
            Counting::Fixed(_) => u64::MAX,
            Counting::Bucket { .. } => {
                u64::try_from(self.drained(until - from) / self.unit()).unwrap_or(u64::MAX).saturating_add(1)
            }
        }
    }

    /// How many of these calls left a sliding window in `(from, until]`.
    fn left(&self, from: u64, until: u64, which: impl Fn(&Counted) -> bool) -> u64 {
        let window = self.window();
        let left =
            self.counted.iter().skip(self.counted.partition_point(|counted| counted.at + window <= from));
        left.take_while(|counted| counted.at + window <= until).filter(|counted| which(counted)).count()
            as u64
    }

    /// What may have come back before an answer without the limiter knowing it.
    fn slack(&self, now: u64, granted: u64) -> u64 {
        let since = granted.saturating_sub(nanos(COUNTED_LONGER));
        let first = since.saturating_sub(self.window());
        let rejected = (self.rejected.len() - self.rejected.partition_point(|at| *at <= first)) as u64;
        let back = match self.counting {
            Counting::Sliding => self.left(since, now, |counted| counted.ours),
            Counting::Fixed(phase) => {
                let told = self.style.headers.tells_ends(self.allowed.window);
                let began = self.began(phase, now);
                let since = if told {
                    began.saturating_sub(nanos(TOLD_WITHIN))
                } else {
                    now.saturating_sub(self.window())
                };
                let before = self
                    .counted
                    .iter()
                    .filter(|counted| counted.ours && (since..began).contains(&counted.at));
                before.count() as u64
            }
            Counting::Bucket { .. } => self.comes_back(since, now),
        };
        back.saturating_add(rejected)
    }

    /// The limiter has granted a call.
    pub(crate) fn granted(&mut self, now: u64, key: Key) {
        self.grants.insert(key, now);
    }

    /// The limiter has heard of the answer to a call.
    pub(crate) fn heard(&mut self, now: u64, key: Key) {
        if let Some(answer) = self.on_its_way.remove(&key).and_then(|place| place.checked_sub(self.dropped))
            && let Some(answer) = self.answers.get_mut(answer)
        {
            answer.heard = Some(now);
        }
    }

    /// What a proxy reads in an answer.
    pub(crate) fn read(&self, headers: &HeaderMap) -> Vec<quotakeeper_engine::event::Observation> {
        headers::read(&self.profile, headers)
    }

    /// The provider allows something else, or calls it by another name.
    pub(crate) fn change(&mut self, now: u64, limit: &LimitConfig) {
        self.count(now);
        // Answers on their way call it by the old name, or by one that the limiter does not know yet.
        if std::mem::replace(&mut self.name, limit.name.clone()) != limit.name {
            self.on_its_way.clear();
        }
        if self.allowed != super::allowed(limit) {
            // What was said of another amount is no longer true.
            self.dropped += self.answers.len();
            self.answers.clear();
        }
        self.allowed = super::allowed(limit);
        self.profile = headers::profile(&self.style.headers, &limit.name, limit.window);
    }
}
