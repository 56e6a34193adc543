//! The provider: what it counts, what it rejects.

mod by_allocation;
pub(crate) mod headers;
mod judge;
mod shared;
mod token_count;
mod tokens;

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::config::{AccountConfig, CountedAs, LimitConfig, Unit};
use quotakeeper_engine::event::{CallClass, Observation, Rejection, RejectionClass, Scope};

use crate::clock::{Clock, Moment};
use crate::scenario::{Closed, Scenario, TokenProvider, TokenWork};
use by_allocation::ByAllocation;
use judge::{Allowed, FixedPhases, Keeps, Sliding, Tokens};
pub(crate) use shared::Key;
use shared::Shared;
use token_count::TokenCount;
pub(crate) use tokens::CallTokens;

/// Calls over the quota, by how the provider may count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// N in every stretch of W.
    pub sliding: u64,
    /// N in a fixed window, in the worst of thirteen phases.
    pub fixed: u64,
    /// A bucket of b.
    pub bucket: u64,
    /// Calls at the same time.
    pub concurrent: u64,
    /// Of an account that others use as well: although answers had told.
    pub told: u64,
    /// Charges of tokens.
    pub tokens: u64,
}

impl Over {
    /// The worst of all counts.
    pub fn most(&self) -> u64 {
        self.sliding.max(self.fixed).max(self.bucket).max(self.concurrent).max(self.told).max(self.tokens)
    }
}

/// What the provider answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) rejection: Option<Rejection>,
    /// What the proxy reads in its headers.
    pub(crate) observations: Vec<Observation>,
}

/// The wait in a rejection that one workload alone has seen.
const CLAIMED: Duration = Duration::from_secs(3600);

/// The provider of the account.
#[derive(Debug)]
pub(crate) struct Provider {
    clock: Clock,
    limits: Vec<LimitConfig>,
    counts: BTreeMap<(String, Option<String>), Count>,
    closed: Vec<Closed>,
    /// What calls use of tokens, and how it counts them.
    tokens: Option<TokenWork>,
    /// What it really allows of the first limit.
    really: Option<Sliding>,
    /// The first limit, if others use it as well.
    shared: Option<Shared>,
    by_allocation: ByAllocation,
    pub(crate) rejections: u64,
    /// When calls were counted, all of them.
    pub(crate) arrivals: Vec<Moment>,
}

/// A limit of a window, counted in all ways.
#[derive(Debug)]
struct Window {
    sliding: Sliding,
    fixed: FixedPhases,
    /// Buckets that take on a change of the limit in one way and the other.
    tokens: [Tokens; 2],
}

#[derive(Debug)]
enum Count {
    Window(Box<Window>),
    Concurrent { now: u64, over: u64 },
    Tokens(Box<TokenCount>),
}

impl Provider {
    pub(crate) fn new(scenario: &Scenario, clock: Clock) -> Provider {
        let limits = limits_of(&scenario.account);
        let really = scenario.upstream.allows_percent.and_then(|percent| {
            let mut less = allowed(limits.first()?);
            less.amount = less.amount * percent / 100;
            Some(Sliding::new(less))
        });
        let shared = scenario.upstream.shared.as_ref().zip(limits.first());
        Provider {
            clock,
            shared: shared.map(|(shared, limit)| Shared::new(shared, limit)),
            limits,
            counts: BTreeMap::new(),
            closed: scenario.upstream.closed.clone(),
            tokens: scenario.tokens.clone(),
            really,
            by_allocation: ByAllocation::new(&scenario.account),
            rejections: 0,
            arrivals: Vec::new(),
        }
    }

    /// A call is counted. A rejection says no; the call was counted all the same by limits of
    /// windows, and takes no slot.
    pub(crate) fn arrives(
        &mut self,
        at: Moment,
        key: Key,
        class: &CallClass,
        tokens: Option<CallTokens>,
        workload: &str,
    ) -> Answer {
        self.arrivals.push(at);
        let now = self.clock.read(at);
        let mut rejection = self.rejects(at, now, class, workload);
        let mut observations = Vec::new();
        if let Some(shared) = &mut self.shared {
            let verdict = shared.ours(now, key);
            observations = shared.read(&verdict.headers);
            rejection = rejection.or_else(|| verdict.over.map(used_up));
        }
        if let Some(tokens) = tokens.filter(|_| rejection.is_none()) {
            rejection = self.rejects_tokens(now, class, &tokens);
            if rejection.is_none() {
                observations.extend(self.tokens_arrive(now, class, &tokens));
            }
        }
        self.rejections += u64::from(rejection.is_some());
        if rejection.is_none() {
            self.by_allocation.begins(workload);
        }
        let odd = self.odd();
        for limit in self.limits.iter().filter(|limit| covers(limit, class)) {
            match count(&mut self.counts, limit, class, &odd) {
                Count::Window(window) => {
                    window.sliding.arrives(now);
                    window.fixed.arrives(now);
                    window.tokens.iter_mut().for_each(|tokens| tokens.arrives(now));
                }
                Count::Concurrent { now, over } => {
                    if rejection.is_none() {
                        *now += 1;
                        *over += u64::from(*now > limit.amount);
                    }
                }
                Count::Tokens(_) => {}
            }
        }
        Answer { rejection, observations }
    }

    /// What is odd about how it counts tokens.
    fn odd(&self) -> TokenProvider {
        self.tokens.as_ref().map(|tokens| tokens.provider).unwrap_or_default()
    }

    /// A call of others arrives.
    pub(crate) fn others(&mut self, at: Moment) {
        let now = self.clock.read(at);
        if let Some(shared) = &mut self.shared {
            shared.others(now);
        }
    }

    /// The limiter has granted a call.
    pub(crate) fn granted(&mut self, at: Moment, key: Key) {
        let now = self.clock.read(at);
        if let Some(shared) = &mut self.shared {
            shared.granted(now, key);
        }
    }

    /// The limiter has heard of the answer to a call.
    pub(crate) fn heard(&mut self, at: Moment, key: Key) {
        let now = self.clock.read(at);
        if let Some(shared) = &mut self.shared {
            shared.heard(now, key);
        }
    }

    /// Calls over the quota that nobody could have held back.
    pub(crate) fn untold(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.untold)
    }

    /// What was counted of the first limit in `[from, to)`, and in which all users share.
    pub(crate) fn counted_between(&self, from: Moment, to: Moment) -> u64 {
        let all = match &self.shared {
            Some(shared) => {
                let (from, to) = (self.clock.read(from), self.clock.read(to));
                shared.all.iter().filter(|at| (from..to).contains(at)).count()
            }
            None => self.arrivals.iter().filter(|at| (from..to).contains(at)).count(),
        };
        all as u64
    }

    fn rejects(&mut self, at: Moment, now: u64, class: &CallClass, workload: &str) -> Option<Rejection> {
        let since = at.since(Moment(0));
        let closed = self.closed.iter().find(|closed| {
            closed.claimed_by.as_ref().is_none_or(|by| by == workload)
                && in_scope(&closed.scope, class)
                && closed.from <= since
                && since < closed.from + closed.length
        });
        if let Some(closed) = closed {
            let left = match closed.claimed_by {
                Some(_) => CLAIMED,
                None => closed.from + closed.length - since,
            };
            return Some(Rejection {
                shared_with: None,
                organization: None,
                class: RejectionClass::Quota,
                scope: closed.scope.clone(),
                wait: closed.says_when.then(|| whole_seconds(left)),
                reason: "closed".to_owned(),
            });
        }
        let really = self.really.as_mut()?;
        (!really.arrives(now)).then(|| Rejection {
            shared_with: None,
            organization: None,
            class: RejectionClass::Quota,
            scope: Scope::account(),
            wait: Some(Duration::from_secs(1)),
            reason: "others use the account".to_owned(),
        })
    }

    /// The answer to a call that was not rejected has left.
    pub(crate) fn answered(
        &mut self,
        at: Moment,
        arrived: Moment,
        class: &CallClass,
        tokens: Option<CallTokens>,
        workload: &str,
    ) {
        let drawn = tokens.and_then(|tokens| self.drawn_in_all(class, &tokens)).unwrap_or(1);
        self.by_allocation.ends(workload, class.allocation.as_ref(), arrived, drawn);
        let (at, arrived) = (self.clock.read(at), self.clock.read(arrived));
        let odd = self.odd();
        for limit in self.limits.iter().filter(|limit| covers(limit, class)) {
            if let Count::Concurrent { now, .. } = count(&mut self.counts, limit, class, &odd) {
                *now -= 1;
            }
        }
        if let Some(tokens) = tokens {
            self.tokens_end(at, arrived, class, &tokens);
        }
    }

    /// What an allocation has drawn of calls that arrived in `[from, to)`.
    pub(crate) fn drawn_by(&self, allocation: &str, from: Moment, to: Moment) -> u64 {
        self.by_allocation.drawn_by(allocation, from, to)
    }

    /// The counts of the account's limits of tokens.
    fn token_counts(&self) -> impl Iterator<Item = &TokenCount> {
        let of_account = self.counts.iter().filter(|((name, _), _)| allocation_of(name).is_none());
        of_account.filter_map(|(_, count)| match count {
            Count::Tokens(count) => Some(&**count),
            Count::Window(_) | Count::Concurrent { .. } => None,
        })
    }

    /// The most that counted of a limit of tokens at any instant, in percent of it.
    pub(crate) fn tokens_peak(&self) -> u64 {
        self.token_counts().map(|count| count.peak_percent).max().unwrap_or(0)
    }

    /// What was charged of the limits of tokens in a world of this length, in hundredths of a percent of what they
    /// allow; of the one of which the most is used. `None`: there are none.
    pub(crate) fn tokens_used(&self, length: Duration) -> Option<u64> {
        self.token_counts().map(|count| count.used(length)).max()
    }

    /// The same of the window in which the least was used, in percent.
    pub(crate) fn worst_window(&self, length: Duration) -> Option<u64> {
        self.token_counts().filter_map(|count| count.worst_window(length)).max()
    }

    /// What was charged of the limit of tokens of which the most is used, in each whole window, in percent.
    pub(crate) fn tokens_by_window(&self, length: Duration) -> Vec<u64> {
        let fullest = self.token_counts().max_by_key(|count| count.used(length));
        fullest.map_or_else(Vec::new, |count| count.percent_by_window(length))
    }

    /// The same on average, in hundredths of a percent.
    pub(crate) fn tokens_steady(&self, length: Duration) -> Option<u64> {
        self.token_counts().filter_map(|count| count.steady(length)).max()
    }

    /// The provider allows something else from now on.
    pub(crate) fn change(&mut self, at: Moment, account: &AccountConfig) {
        let now = self.clock.read(at);
        let limits = limits_of(account);
        let renamed = self.limits.iter().zip(&limits).filter(|(old, new)| old.name != new.name);
        for (old, new) in renamed {
            let moved: Vec<_> = self.counts.keys().filter(|(name, _)| *name == old.name).cloned().collect();
            for (name, model) in moved {
                if let Some(count) = self.counts.remove(&(name, model.clone())) {
                    self.counts.insert((new.name.clone(), model), count);
                }
            }
        }
        self.limits = limits;
        if let Some((shared, limit)) = self.shared.as_mut().zip(self.limits.first()) {
            shared.change(now, limit);
        }
        let odd = self.odd();
        for limit in &self.limits {
            let of_limit = self.counts.iter_mut().filter(|((name, _), _)| *name == limit.name);
            for (_, count) in of_limit {
                match count {
                    Count::Window(window) => {
                        window.sliding.change(now, allowed(limit));
                        window.fixed.change(now, allowed(limit));
                        window.tokens.iter_mut().for_each(|tokens| tokens.change(now, allowed(limit)));
                    }
                    Count::Tokens(count) => count.change(now, limit, &odd),
                    Count::Concurrent { .. } => {}
                }
            }
        }
    }

    /// What the provider has in its sliding window of a limit.
    pub(crate) fn counted(&mut self, at: Moment, limit: &str, model: Option<&String>) -> Option<u64> {
        let now = self.clock.read(at);
        match self.counts.get_mut(&(limit.to_owned(), model.cloned()))? {
            Count::Window(window) => Some(window.sliding.count_at(now)),
            Count::Concurrent { now, .. } => Some(*now),
            // What the ledger has charged of tokens is held against the limit by `over` alone.
            Count::Tokens(_) => None,
        }
    }

    /// Calls over the quota so far, as far as limits are counted that way.
    pub(crate) fn over(&self) -> Over {
        let told = self.shared.as_ref().map_or(0, |shared| shared.told);
        let mut over = Over { told, concurrent: self.by_allocation.over, ..Over::default() };
        for ((name, _), count) in &self.counts {
            let Some(limit) = self.limits.iter().find(|limit| limit.name == *name) else {
                continue;
            };
            let unknown = limit.counted_as == CountedAs::Unknown;
            match count {
                Count::Window(window) => {
                    let Window { sliding, fixed, tokens } = &**window;
                    if unknown || limit.counted_as == CountedAs::SlidingWindow {
                        over.sliding += sliding.over;
                    }
                    if unknown
                        || matches!(limit.counted_as, CountedAs::SlidingWindow | CountedAs::FixedWindow)
                    {
                        over.fixed += fixed.over();
                    }
                    if unknown || matches!(limit.counted_as, CountedAs::TokenBucket | CountedAs::LeakyBucket)
                    {
                        over.bucket += tokens.iter().map(|tokens| tokens.over).max().unwrap_or(0);
                    }
                }
                Count::Concurrent { over: concurrent, .. } => over.concurrent += concurrent,
                Count::Tokens(count) => over.tokens += count.over(),
            }
        }
        over
    }
}

fn count<'a>(
    counts: &'a mut BTreeMap<(String, Option<String>), Count>,
    limit: &LimitConfig,
    class: &CallClass,
    odd: &TokenProvider,
) -> &'a mut Count {
    let model = if limit.per_model { class.model.clone() } else { None };
    counts.entry((limit.name.clone(), model)).or_insert_with(|| match limit.unit {
        Unit::ConcurrentRequests => Count::Concurrent { now: 0, over: 0 },
        unit if unit.counts_tokens() => Count::Tokens(Box::new(TokenCount::new(limit, odd))),
        _ => Count::Window(Box::new(Window {
            sliding: Sliding::new(allowed(limit)),
            fixed: FixedPhases::new(allowed(limit)),
            tokens: [Keeps::Rest, Keeps::Level].map(|keeps| Tokens::new(allowed(limit), keeps)),
        })),
    })
}

fn allowed(limit: &LimitConfig) -> Allowed {
    Allowed { amount: limit.amount, window: limit.window, burst: limit.effective_burst() }
}

fn covers(limit: &LimitConfig, class: &CallClass) -> bool {
    let endpoint = limit.endpoint.is_none() || limit.endpoint == class.endpoint;
    let model =
        limit.models.is_empty() || class.model.as_ref().is_some_and(|model| limit.models.contains(model));
    let allocation = allocation_of(&limit.name).is_none_or(|name| class.allocation.as_deref() == Some(name));
    endpoint && model && allocation
}

/// The limits of an account and of its allocations.
fn limits_of(account: &AccountConfig) -> Vec<LimitConfig> {
    let of_allocations = account.sharing.limits(&account.limits).map(|limit| limit.config);
    account.limits.iter().cloned().chain(of_allocations).collect()
}

/// The allocation whose limit this is; `None`: the account's.
fn allocation_of(limit: &str) -> Option<&str> {
    limit.split_once('/').map(|(allocation, _)| allocation)
}

/// Whether a rejection of this scope concerns such a call.
pub(crate) fn in_scope(scope: &Scope, class: &CallClass) -> bool {
    scope.covers_class(class)
}

/// How the provider says that an account is used up, and for how long.
fn used_up(left: Duration) -> Rejection {
    Rejection {
        shared_with: None,
        organization: None,
        class: RejectionClass::Quota,
        scope: Scope::account(),
        wait: Some(whole_seconds(left)),
        reason: "used up".to_owned(),
    }
}

/// Retry-After has whole seconds (RFC 9110, 10.2.3), rounded so that it is not too short.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}
