//! How limits of tokens fare, by the provider's count: what `simulate tokens` prints. Beside each figure is what it has
//! to be, and a figure that is not is marked.

use std::fmt::Write;

use crate::campaign::campaign;
use crate::report::Report;
use crate::stories::tokens::steady;
use crate::stories::{self, Story};

/// In steady load: the most that may count at any instant, in percent.
const PEAK_AT_MOST: u64 = 130;
/// The least that is used in any window, in percent of what could be.
const WINDOW_AT_LEAST: u64 = 50;
/// Rejections in 10,000 calls, at most.
const REJECTED_AT_MOST: f64 = 1.0;
/// Used of what could be, in points below it at most.
const BELOW_AT_MOST: f64 = 1.0;

/// What the worlds of a story came to: of each figure the mean or the worst.
#[derive(Clone, Debug, Default)]
struct Row {
    worlds: u64,
    calls: u64,
    rejections: u64,
    over: u64,
    used: u64,
    steady: u64,
    in_flight: u64,
    peak: u64,
    worst_window: Option<u64>,
    fairness: Option<u64>,
    failed: u64,
    /// Of each allocation, summed.
    parts: Vec<u64>,
}

impl Row {
    fn add(&mut self, report: &Report) {
        self.worlds += 1;
        self.calls += report.counted;
        self.rejections += report.rejections;
        self.over += report.over.tokens;
        self.used += report.tokens_used.unwrap_or(0);
        self.steady += report.tokens_steady.unwrap_or(0);
        self.in_flight += report.tokens_in_flight;
        self.peak = self.peak.max(report.tokens_peak);
        self.worst_window = least(self.worst_window, report.worst_window);
        self.fairness = least(self.fairness, Some(report.fairness));
        self.failed += u64::from(!report.faults().is_empty());
        let parts: Vec<u64> = report.parts().map(|(_, used)| used).collect();
        self.parts.resize(parts.len(), 0);
        self.parts.iter_mut().zip(parts).for_each(|(sum, used)| *sum += used);
    }

    /// In 10,000 calls.
    fn rejected(&self) -> f64 {
        self.rejections as f64 * 10_000.0 / self.calls.max(1) as f64
    }

    /// A sum over its worlds of hundredths of a percent, as a mean in percent.
    fn percent(&self, sum: u64) -> f64 {
        sum as f64 / self.worlds.max(1) as f64 / 100.0
    }
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// A figure beside what it has to be, marked where it is not.
fn beside(figure: String, holds: bool, target: Option<String>) -> String {
    let mark = if holds { "" } else { "!" };
    target.map_or(figure.clone(), |target| format!("{figure}{mark} ({target})"))
}

/// The stories of tokens and of allocations, each in so many worlds, and steady loads. Used is the mean; the other
/// figures are of the worst world.
pub fn table(seeds: u64) -> String {
    let mut table = format!(
        "{:26} {:>6} {:>7} {:>5} {:>14} {:>12} {:>11} {:>12} {:>6} {:>6}\n",
        "story", "worlds", "calls", "over", "used %", "peak %", "window %", "rejected", "Jain", "failed"
    );
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let named = |story: &Story| ["tokens-", "shared-"].iter().any(|name| story.name.starts_with(name));
    for story in stories::all().into_iter().filter(named) {
        let mut row = Row::default();
        campaign(&[story], 0..seeds, cores, None, |outcome| row.add(&outcome.report));
        write_story(&mut table, story, &row);
    }
    write_steady(&mut table, seeds);
    table
}

fn write_story(table: &mut String, story: Story, row: &Row) {
    let expects = story.scenario(0).expects;
    let used = row.percent(row.used);
    let (peak, window, rejected) = (row.peak, row.worst_window.unwrap_or(0), row.rejected());
    let least_used = expects.tokens_used_at_least.map(|least| least as f64 / 100.0);
    let _ = writeln!(
        table,
        "{:26} {:>6} {:>7} {:>5} {:>14} {:>12} {:>11} {:>12} {:>6.3} {:>6}",
        story.name,
        row.worlds,
        row.calls,
        row.over,
        beside(
            format!("{used:.1}"),
            least_used.is_none_or(|least| used >= least),
            least_used.map(|it| format!("≥ {it}"))
        ),
        beside(
            peak.to_string(),
            expects.tokens_peak_at_most.is_none_or(|most| peak <= most),
            expects.tokens_peak_at_most.map(|most| format!("≤ {most}"))
        ),
        beside(
            window.to_string(),
            expects.worst_window_at_least.is_none_or(|least| window >= least),
            expects.worst_window_at_least.map(|least| format!("≥ {least}"))
        ),
        beside(
            format!("{rejected:.1}"),
            expects.rejected_at_most.is_none_or(|most| rejected <= most as f64),
            expects.rejected_at_most.map(|most| format!("≤ {most}"))
        ),
        row.fairness.unwrap_or(0) as f64 / 1e6,
        row.failed
    );
    for (part, sum) in expects.parts.iter().zip(&row.parts) {
        let (from, to) = (part.from.as_secs(), part.to.as_secs());
        let (least, most) = part.percent;
        let used = sum / row.worlds.max(1);
        let target = Some(format!("{least} to {most}"));
        let figure = beside(used.to_string(), (least..=most).contains(&used), target);
        let _ = writeln!(table, "  {:24} {from} to {to} s: {figure} %", part.allocation);
    }
}

fn write_steady(table: &mut String, seeds: u64) {
    let _ = writeln!(
        table,
        "\n{:46} {:>7} {:>5} {:>16} {:>12} {:>11} {:>12}",
        "steady load", "calls", "over", "used %", "peak %", "window %", "rejected"
    );
    for load in steady::ALL {
        let mut row = Row::default();
        (0..seeds.clamp(1, 3)).for_each(|seed| row.add(&load.measure(seed)));
        let (used, peak, rejected) = (row.percent(row.steady), row.peak, row.rejected());
        let could = load.could_use(used, row.percent(row.in_flight)) - load.left_by_lumps();
        let window = row.worst_window.unwrap_or(0);
        let _ = writeln!(
            table,
            "{:46} {:>7} {:>5} {:>16} {:>12} {:>11} {:>12}",
            load.name,
            row.calls,
            row.over,
            beside(format!("{used:.1}"), used + BELOW_AT_MOST >= could, Some(format!("of {could:.1}"))),
            beside(peak.to_string(), peak <= PEAK_AT_MOST, Some(format!("≤ {PEAK_AT_MOST}"))),
            beside(
                window.to_string(),
                window as f64 * 100.0 >= WINDOW_AT_LEAST as f64 * could,
                Some(format!("≥ {:.0}", WINDOW_AT_LEAST as f64 * could / 100.0))
            ),
            beside(
                format!("{rejected:.1}"),
                rejected <= REJECTED_AT_MOST,
                Some(format!("≤ {REJECTED_AT_MOST}"))
            ),
        );
    }
}
