//! What an account's log adds up to. A pure function of the log and the limits: anyone can work it out again.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::amounts::AmountSummary;
use crate::counting::{CountedAs, Limit, NANOS_PER_MILLI, window_index_of};
use crate::dialect::Dialect;
use crate::log::{Ended, Entry, Protocol, Verdict};
use crate::tokens::Unit;
use crate::used::used;

/// One account's totals and windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The credential.
    pub account: String,
    /// The provider that it called; absent before its first call.
    pub provider: Option<Dialect>,
    /// Requests by verdict.
    pub totals: Totals,
    /// Answers by how they ended; what never happened is left out.
    pub ended: BTreeMap<Ended, u64>,
    /// Requests by HTTP version; what never happened is left out.
    pub protocols: BTreeMap<Protocol, u64>,
    /// The most that a request was counted after its arrival, in nanoseconds (see [`Entry::counted_nanos`]).
    pub largest_shift_nanos: u64,
    /// Each limit of requests, in the order of the rules; one that is per model, once for each model.
    pub limits: Vec<LimitSummary>,
    /// Each limit of tokens, credits and money; the same. Not from the log: charges come while answers are produced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amounts: Vec<AmountSummary>,
}

/// Requests by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // The verdicts are described where they are defined.
pub struct Totals {
    pub ok: u64,
    pub over: u64,
    pub forced: u64,
    pub down: u64,
    pub unauthorized: u64,
    pub invalid: u64,
}

impl Totals {
    /// All requests.
    pub fn all(&self) -> u64 {
        self.ok + self.over + self.forced + self.down + self.unauthorized + self.invalid
    }
}

/// One limit's windows. They count what was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitSummary {
    /// The limit's name.
    pub limit: String,
    /// The model, where the limit is per model.
    pub model: Option<String>,
    /// How many calls fit a window.
    pub count: u64,
    /// The window's length in milliseconds.
    pub window_millis: u64,
    /// The kind of window.
    pub counted_as: CountedAs,
    /// Accepted calls in window after window: fixed windows as they are counted, others end to end from the first
    /// accepted call on.
    pub windows: Vec<u64>,
    /// The most accepted calls within any span of the window's length (t − W, t].
    pub largest_sliding: u64,
    /// Accepted calls in percent of what the windows allow, the first and the last left out; absent below three.
    pub used_percent: Option<f64>,
    /// The same of the fuller half of these windows, which a machine that stood still for some of them leaves alone.
    pub fuller_half_percent: Option<f64>,
    /// Calls that were rejected because of this limit.
    pub over: u64,
}

/// Sums up a log under `limits`.
pub fn summarize(account: &str, provider: Option<Dialect>, limits: &[Limit], log: &[Entry]) -> Summary {
    let mut totals = Totals::default();
    let (mut ended, mut protocols) = (BTreeMap::new(), BTreeMap::new());
    for entry in log {
        *match entry.verdict {
            Verdict::Ok => &mut totals.ok,
            Verdict::Over => &mut totals.over,
            Verdict::Forced => &mut totals.forced,
            Verdict::Down => &mut totals.down,
            Verdict::Unauthorized => &mut totals.unauthorized,
            Verdict::Invalid => &mut totals.invalid,
        } += 1;
        *ended.entry(entry.ended).or_default() += 1;
        *protocols.entry(entry.protocol).or_default() += 1;
    }
    let requests = limits.iter().filter(|limit| limit.unit == Unit::Requests);
    Summary {
        account: account.to_owned(),
        provider,
        totals,
        ended,
        protocols,
        largest_shift_nanos: log
            .iter()
            .map(|entry| entry.counted_nanos - entry.arrival_nanos)
            .max()
            .unwrap_or(0),
        limits: requests.flat_map(|limit| summarize_limit(limit, log)).collect(),
        amounts: Vec::new(),
    }
}

fn summarize_limit(limit: &Limit, log: &[Entry]) -> Vec<LimitSummary> {
    let mut by_model: BTreeMap<Option<&str>, Vec<&Entry>> = BTreeMap::new();
    for entry in log {
        let model = entry.model.as_deref();
        if limit.matches(model, entry.endpoint.as_deref()) {
            by_model.entry(model.filter(|_| limit.per_model)).or_default().push(entry);
        }
    }
    let one = |(model, entries): (Option<&str>, Vec<&Entry>)| {
        let accepted: Vec<u64> = entries
            .iter()
            .filter(|entry| entry.verdict == Verdict::Ok)
            .map(|entry| entry.counted_nanos)
            .collect();
        let windows = windows(limit, &accepted);
        let used = used(limit.count, &windows);
        LimitSummary {
            limit: limit.name.clone(),
            model: model.map(str::to_owned),
            count: limit.count,
            window_millis: limit.window_millis,
            counted_as: limit.counted_as,
            largest_sliding: largest_sliding(limit.window_nanos(), &accepted),
            used_percent: used.map(|used| used.all),
            fuller_half_percent: used.map(|used| used.fuller_half),
            windows,
            over: entries
                .iter()
                .filter(|entry| entry.exceeded.as_deref() == Some(limit.name.as_str()))
                .count() as u64,
        }
    };
    by_model.into_iter().map(one).collect()
}

fn windows(limit: &Limit, accepted: &[u64]) -> Vec<u64> {
    let Some(&first) = accepted.first() else {
        return Vec::new();
    };
    let phase =
        if limit.counted_as == CountedAs::Fixed { limit.phase_millis * NANOS_PER_MILLI } else { first };
    let index_of = |at: u64| window_index_of(at, phase, limit.window_nanos());
    let mut windows = Vec::new();
    for &at in accepted {
        let index = usize::try_from(index_of(at) - index_of(first)).unwrap_or(0);
        if windows.len() <= index {
            windows.resize(index + 1, 0);
        }
        windows[index] += 1;
    }
    windows
}

fn largest_sliding(window: u64, accepted: &[u64]) -> u64 {
    let mut inside = VecDeque::new();
    let mut largest = 0;
    for &at in accepted {
        inside.push_back(at);
        while inside.front().is_some_and(|oldest| at - oldest >= window) {
            inside.pop_front();
        }
        largest = largest.max(inside.len() as u64);
    }
    largest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn limit(counted_as: CountedAs, phase_millis: u64) -> Limit {
        Limit { phase_millis, ..Limit::new("l", 2, 10, counted_as) }
    }

    #[test]
    fn windows_run_from_the_first_accepted_call_and_the_outer_ones_are_left_out() {
        // In milliseconds; the first at 5: windows [5, 15), [15, 25), [25, 35), [35, 45).
        let accepted: Vec<u64> = [5, 14, 15, 35].map(|at| at * NANOS_PER_MILLI).into();
        assert_eq!(windows(&limit(CountedAs::Sliding, 0), &accepted), [2, 1, 0, 1]);
        // Fixed with phase 5 has the same edges; with phase 0: [0, 10), [10, 20), [20, 30), [30, 40).
        assert_eq!(windows(&limit(CountedAs::Fixed, 5), &accepted), [2, 1, 0, 1]);
        assert_eq!(windows(&limit(CountedAs::Fixed, 0), &accepted), [1, 2, 0, 1]);
    }

    #[test]
    fn the_largest_span_leaves_out_what_is_exactly_a_window_old() {
        assert_eq!(largest_sliding(10, &[0, 5, 10, 14, 15]), 3);
        assert_eq!(largest_sliding(10, &[0, 10, 20]), 1);
        assert_eq!(largest_sliding(10, &[]), 0);
    }
}
