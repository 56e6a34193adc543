//! What limits of tokens, credits and money have let through: figures kept as charges come.

use serde::{Deserialize, Serialize};

use crate::counting::{CountedAs, Limit, NANOS_PER_MILLI, window_index_of};
use crate::tokens::Unit;
use crate::used::used;

/// One such limit, since its rules were last changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AmountSummary {
    /// The limit's name.
    pub limit: String,
    /// What it counts.
    pub unit: Unit,
    /// The model, where the limit is per model.
    pub model: Option<String>,
    /// How much fits a window.
    pub count: u64,
    /// The window's length in milliseconds.
    pub window_millis: u64,
    /// The kind of window.
    pub counted_as: CountedAs,
    /// All that was charged.
    pub used: u64,
    /// The most that counted at any instant, in percent of what fits: more than 100 where running calls went over it.
    pub peak_percent: f64,
    /// What was charged in window after window: fixed windows as they are counted, others from the first charge on.
    pub windows: Vec<u64>,
    /// What was charged in percent of what the windows allow, the first and the last left out; absent below three.
    pub used_percent: Option<f64>,
    /// The same of the fuller half of these windows, which a machine that stood still for some of them leaves alone.
    pub fuller_half_percent: Option<f64>,
    /// The same of the window in which the least was charged.
    pub worst_window_percent: Option<f64>,
    /// Calls that were rejected because of it.
    pub over: u64,
}

/// The figures of one limit in one partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Amounts {
    first: Option<u64>,
    windows: Vec<u64>,
    used: u64,
    peak_percent: f64,
    over: u64,
}

impl Amounts {
    /// An amount was charged at an instant.
    pub(crate) fn charged(&mut self, limit: &Limit, at: u64, amount: u64) {
        self.used += amount;
        let index = self.index(limit, at);
        if self.windows.len() <= index {
            self.windows.resize(index + 1, 0);
        }
        self.windows[index] += amount;
    }

    /// A part of what was charged at an instant was given back.
    pub(crate) fn refunded(&mut self, limit: &Limit, at: u64, amount: u64) {
        self.used = self.used.saturating_sub(amount);
        let index = self.index(limit, at);
        if let Some(window) = self.windows.get_mut(index) {
            *window = window.saturating_sub(amount);
        }
    }

    /// So much counts now.
    pub(crate) fn counts(&mut self, limit: &Limit, used: u64) {
        self.peak_percent = self.peak_percent.max(percent(used, limit.size()));
    }

    /// A call was rejected.
    pub(crate) fn rejected(&mut self) {
        self.over += 1;
    }

    fn index(&mut self, limit: &Limit, at: u64) -> usize {
        let first = *self.first.get_or_insert(at);
        let phase = match limit.counted_as {
            CountedAs::Fixed => limit.phase_millis * NANOS_PER_MILLI,
            CountedAs::Sliding | CountedAs::Bucket => first,
        };
        let index_of = |at| window_index_of(at, phase, limit.window_nanos());
        usize::try_from(index_of(at) - index_of(first)).unwrap_or(0)
    }

    pub(crate) fn summary(&self, limit: &Limit, model: Option<&str>) -> AmountSummary {
        let used = used(limit.count, &self.windows);
        AmountSummary {
            limit: limit.name.clone(),
            unit: limit.unit,
            model: model.map(str::to_owned),
            count: limit.count,
            window_millis: limit.window_millis,
            counted_as: limit.counted_as,
            used: self.used,
            peak_percent: self.peak_percent,
            windows: self.windows.clone(),
            used_percent: used.map(|used| used.all),
            fuller_half_percent: used.map(|used| used.fuller_half),
            worst_window_percent: used.map(|used| used.worst),
            over: self.over,
        }
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_peak_and_the_worst_window_are_told() {
        let limit = Limit { unit: Unit::TotalTokens, ..Limit::new("t", 100, 10, CountedAs::Sliding) };
        let mut amounts = Amounts::default();
        for (at, amount) in [(5, 50), (16, 80), (24, 20), (27, 30), (36, 10)] {
            amounts.charged(&limit, at * NANOS_PER_MILLI, amount);
        }
        amounts.refunded(&limit, 24 * NANOS_PER_MILLI, 10);
        amounts.counts(&limit, 130);
        amounts.counts(&limit, 40);
        amounts.rejected();
        let summary = amounts.summary(&limit, None);
        assert_eq!(summary.windows, [50, 90, 30, 10]);
        assert_eq!((summary.used, summary.over, summary.peak_percent), (180, 1, 130.0));
        assert_eq!((summary.used_percent, summary.worst_window_percent), (Some(60.0), Some(30.0)));
    }
}
