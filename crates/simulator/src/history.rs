//! What has happened, and what should not have.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::event::{CallId, SessionId};

use crate::clock::Moment;
use crate::scenario::Scenario;

/// Different problems that are kept word by word.
const KEPT: usize = 8;

/// What has happened so far.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) asked: u64,
    pub(crate) under_way: u64,
    /// When a call last came to its end.
    pub(crate) last_end: Moment,
    pub(crate) completed: u64,
    pub(crate) refused: u64,
    pub(crate) hung_up: u64,
    pub(crate) died: u64,
    /// Calls that a proxy did not take on.
    pub(crate) not_taken: u64,
    pub(crate) grants: u64,
    /// Grants of each call minus requests of it that were counted.
    unsent: BTreeMap<(SessionId, CallId), i64>,
    pub(crate) proxy_crashes: u64,
    pub(crate) restarts: u64,
    pub(crate) takeovers: u64,
    pub(crate) handovers: u64,
    pub(crate) asking_calls: u64,
    /// Requests that were counted later than J after they left.
    pub(crate) late_counts: u64,
    /// Times that an engine asked to be woken at once.
    pub(crate) idle_wakes: u64,
    hold: Duration,
    holds: u32,
    /// What was in flight of the first limit of tokens at each sample, in all, in hundredths of a percent of it.
    in_flight: u64,
    samples: u64,
    /// Calls completed by pod, and when.
    pub(crate) by_pod: Vec<Vec<Moment>>,
    pub(crate) longest_wait: Duration,
    /// Times that the provider had counted more than the ledger had charged.
    pub(crate) under_charged: u64,
    pub(crate) problems: BTreeMap<String, u64>,
}

impl History {
    pub(crate) fn new(scenario: &Scenario) -> History {
        History {
            asked: 0,
            under_way: 0,
            last_end: Moment(0),
            completed: 0,
            refused: 0,
            hung_up: 0,
            died: 0,
            not_taken: 0,
            grants: 0,
            unsent: BTreeMap::new(),
            proxy_crashes: 0,
            restarts: 0,
            takeovers: 0,
            handovers: 0,
            asking_calls: 0,
            late_counts: 0,
            idle_wakes: 0,
            hold: Duration::ZERO,
            holds: 0,
            in_flight: 0,
            samples: 0,
            by_pod: vec![Vec::new(); scenario.pods.len()],
            longest_wait: Duration::ZERO,
            under_charged: 0,
            problems: BTreeMap::new(),
        }
    }

    pub(crate) fn asked(&mut self) {
        self.asked += 1;
        self.under_way += 1;
    }

    fn ended(&mut self, now: Moment, calls: u64) {
        self.under_way -= calls;
        self.last_end = now;
    }

    pub(crate) fn refused(&mut self, now: Moment) {
        self.refused += 1;
        self.ended(now, 1);
    }

    pub(crate) fn hung_up(&mut self, now: Moment) {
        self.hung_up += 1;
        self.ended(now, 1);
    }

    /// Calls that died with their proxy.
    pub(crate) fn died(&mut self, now: Moment, calls: u64) {
        self.died += calls;
        self.proxy_crashes += 1;
        self.ended(now, calls);
    }

    pub(crate) fn completed(&mut self, now: Moment, pod: usize, asked: Moment) {
        self.completed += 1;
        self.ended(now, 1);
        self.by_pod[pod].push(now);
        self.longest_wait = self.longest_wait.max(now.since(asked));
    }

    pub(crate) fn granted(&mut self, session: SessionId, call: CallId) {
        self.grants += 1;
        *self.unsent.entry((session, call)).or_default() += 1;
    }

    /// Each request at the provider is one grant's.
    pub(crate) fn counted(&mut self, session: SessionId, call: CallId) {
        let unsent = self.unsent.entry((session, call)).or_default();
        *unsent -= 1;
        if *unsent < 0 {
            self.problem("a request was sent without a grant of its own");
        }
    }

    /// From grant to the time by which the call is known to be counted.
    pub(crate) fn held(&mut self, hold: Duration) {
        self.hold += hold;
        self.holds += 1;
    }

    pub(crate) fn mean_hold(&self) -> Duration {
        self.hold / self.holds.max(1)
    }

    /// So much of a limit of tokens is in flight, in hundredths of a percent of it.
    pub(crate) fn in_flight(&mut self, part: u64) {
        self.in_flight += part;
        self.samples += 1;
    }

    /// The mean of these.
    pub(crate) fn mean_in_flight(&self) -> u64 {
        self.in_flight / self.samples.max(1)
    }

    /// The provider has counted so much, the ledger has charged so much.
    pub(crate) fn compared(&mut self, counted: u64, charged: u64) {
        self.under_charged += u64::from(counted > charged);
    }

    pub(crate) fn problem(&mut self, what: &str) {
        if let Some(count) = self.problems.get_mut(what) {
            *count += 1;
        } else if self.problems.len() < KEPT {
            self.problems.insert(what.to_owned(), 1);
        }
    }
}
