//! How limits of tokens fare in each of their stories, by the provider's count: what `simulate tokens` prints.

use std::fmt::Write;

use crate::campaign::campaign;
use crate::report::Report;
use crate::stories::{self, Story};

/// What the worlds of a story came to: of each figure the mean or the worst.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    worlds: u64,
    calls: u64,
    rejections: u64,
    over: u64,
    used: u64,
    peak: u64,
    worst_window: Option<u64>,
    fairness: Option<u64>,
    failed: u64,
}

impl Row {
    fn add(&mut self, report: &Report) {
        self.worlds += 1;
        self.calls += report.counted;
        self.rejections += report.rejections;
        self.over += report.over.tokens;
        self.used += report.tokens_used.unwrap_or(0);
        self.peak = self.peak.max(report.tokens_peak);
        self.worst_window = least(self.worst_window, report.worst_window);
        self.fairness = least(self.fairness, Some(report.fairness));
        self.failed += u64::from(!report.faults().is_empty());
    }

    /// In 10,000 calls.
    fn rejected(&self) -> f64 {
        self.rejections as f64 * 10_000.0 / self.calls.max(1) as f64
    }
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// The stories of tokens, each in so many worlds. Used is the mean; the other figures are of the worst world.
pub fn table(seeds: u64) -> String {
    let mut table = format!(
        "{:24} {:>7} {:>8} {:>6} {:>7} {:>7} {:>8} {:>9} {:>6} {:>7}\n",
        "story", "worlds", "calls", "over", "used %", "peak %", "window %", "rejected", "Jain", "failed"
    );
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    for story in stories::all().into_iter().filter(|story| story.name.starts_with("tokens-")) {
        let row = row(story, seeds, cores);
        let _ = writeln!(
            table,
            "{:24} {:>7} {:>8} {:>6} {:>7.1} {:>7} {:>8} {:>9.1} {:>6.3} {:>7}",
            story.name,
            row.worlds,
            row.calls,
            row.over,
            row.used as f64 / row.worlds.max(1) as f64 / 100.0,
            row.peak,
            row.worst_window.unwrap_or(0),
            row.rejected(),
            row.fairness.unwrap_or(0) as f64 / 1e6,
            row.failed
        );
    }
    table
}

fn row(story: Story, seeds: u64, cores: usize) -> Row {
    let mut row = Row::default();
    campaign(&[story], 0..seeds, cores, None, |outcome| row.add(&outcome.report));
    row
}
