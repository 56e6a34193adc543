//! How long calls get, learned from those that have ended and from those that are still running.
//!
//! Short calls end first. Who learns from ended calls alone takes all calls for short ones while the long ones are
//! still running, and grants too many. Kaplan and Meier's estimate has both: a call that runs, or that was lost, is
//! known to be longer than what it has produced.

use serde::{Deserialize, Serialize};

use super::bins::{BINS, BinSet, Bins, MOST_CALLS, Scale, TOKENS};
use crate::mutant::{self, Mutant};

/// What the calls of all consumers count for beside a consumer's own: as many calls as this.
const PRIOR: f64 = 16.0;
/// The part of calls that may be longer than the quantile.
const BEYOND_QUANTILE: f64 = 0.1;
/// Where nothing bounds a call, its bound is so many bins beyond the longest one seen: two octaves.
const BEYOND_LONGEST: usize = 8;

/// The lengths of calls, by bins of a [`Scale`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lengths {
    /// Those that ended, by their length.
    #[serde(default)]
    ended: Bins,
    /// Those that were lost, by what they had produced until then.
    #[serde(default)]
    lost: Bins,
    /// Those that run, by what they have produced until now.
    #[serde(skip, default = "none_running")]
    running: [u32; BINS],
    /// All that run.
    #[serde(skip)]
    all_running: u32,
    /// The bins that running calls are in.
    #[serde(skip)]
    reached: BinSet,
}

fn none_running() -> [u32; BINS] {
    [0; BINS]
}

impl Default for Lengths {
    fn default() -> Lengths {
        Lengths {
            ended: Bins::default(),
            lost: Bins::default(),
            running: none_running(),
            all_running: 0,
            reached: BinSet::default(),
        }
    }
}

/// What to expect of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// 0.9 of calls are at most as long.
    pub(super) quantile: u64,
    /// Their mean, rounded up.
    pub(super) mean: u64,
}

impl Expected {
    /// The larger of both: a quantile below the mean would be exceeded by the sum of many calls.
    pub(super) fn amount(self) -> u64 {
        self.quantile.max(self.mean)
    }
}

impl Lengths {
    /// How many have ended lately.
    pub(super) fn ended_calls(&self) -> u32 {
        self.ended.total()
    }

    /// How many were lost lately.
    pub(super) fn lost_calls(&self) -> u32 {
        self.lost.total()
    }

    /// Whether none has ended or was lost.
    pub(super) fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.lost.is_empty()
    }

    /// How many run.
    pub(super) fn running_calls(&self) -> u32 {
        self.all_running
    }

    /// A call begins.
    pub(super) fn begin(&mut self) {
        self.arrive(0);
    }

    /// A running call has got from one bin to another.
    pub(super) fn advance(&mut self, from: usize, to: usize) {
        self.leave(from);
        self.arrive(to);
    }

    fn arrive(&mut self, bin: usize) {
        self.running[bin] += 1;
        self.all_running += 1;
        self.reached.insert(bin);
    }

    /// A running call, which had got as far as this bin, runs no longer.
    pub(super) fn leave(&mut self, bin: usize) {
        self.running[bin] = self.running[bin].saturating_sub(1);
        self.all_running = self.all_running.saturating_sub(1);
        if self.running[bin] == 0 {
            self.reached.remove(bin);
        }
    }

    /// A call has ended in this bin.
    pub(super) fn end(&mut self, bin: usize) {
        self.make_room();
        self.ended.add(bin, 1);
    }

    /// A call was lost after it had got as far as this bin.
    pub(super) fn lose(&mut self, bin: usize) {
        self.make_room();
        self.lost.add(bin, 1);
    }

    /// Ended and lost calls are forgotten together, so that neither kind outweighs the other.
    fn make_room(&mut self) {
        if self.ended.total() + self.lost.total() >= MOST_CALLS {
            self.ended.halve();
            self.lost.halve();
        }
    }

    /// Ended, running and lost.
    fn all(&self) -> u32 {
        if mutant::active(Mutant::EndedCallsOnly) {
            return self.ended.total();
        }
        self.ended.total() + self.lost.total() + self.all_running
    }

    /// The bins that any call is in.
    fn filled(&self) -> BinSet {
        self.ended.filled().union(self.lost.filled()).union(self.reached)
    }

    /// Calls of a bin that have not ended in it: they are known to be longer.
    fn not_ended(&self, bin: usize) -> u32 {
        if mutant::active(Mutant::EndedCallsOnly) {
            return 0;
        }
        self.running[bin] + u32::from(self.lost.counts()[bin])
    }

    /// The bound of a call that nothing bounds.
    fn beyond_longest(&self, everybody: &Lengths, scale: Scale) -> u64 {
        let longest = self.ended.filled().union(everybody.ended.filled()).last().unwrap_or(0);
        scale.most((longest + BEYOND_LONGEST).min(BINS - 2)).unwrap_or(u64::MAX)
    }

    /// What to expect of a call of `own` that has got beyond all bins before `from`, at most `bound`; `u64::MAX`:
    /// nothing bounds it. What is known of everybody's calls counts like [`PRIOR`] calls, one imaginary call at the
    /// bound among them.
    pub(super) fn expect(&self, everybody: &Lengths, scale: Scale, from: usize, bound: u64) -> Expected {
        let bound = if bound == u64::MAX { self.beyond_longest(everybody, scale) } else { bound };
        let prior = (PRIOR / f64::from(everybody.all() + 1)).min(1.0);
        let mut at_risk = prior + f64::from(self.all()) + prior * f64::from(everybody.all());
        let (mut survival, mut mean, mut quantile) = (1.0, 0.0, None);
        for bin in self.filled().union(everybody.filled()) {
            let ended =
                f64::from(self.ended.counts()[bin]) + prior * f64::from(everybody.ended.counts()[bin]);
            let longer = f64::from(self.not_ended(bin)) + prior * f64::from(everybody.not_ended(bin));
            if bin >= from && ended > 0.0 {
                let share = (ended / at_risk).min(1.0);
                let value = scale.most(bin).map_or(bound, |most| most.min(bound));
                mean += survival * share * value as f64;
                survival *= 1.0 - share;
                if quantile.is_none() && survival <= BEYOND_QUANTILE {
                    quantile = Some(value);
                }
            }
            at_risk -= ended + longer;
        }
        mean += survival * bound as f64;
        Expected { quantile: quantile.unwrap_or(bound), mean: (mean.ceil() as u64).min(bound) }
    }

    /// What is still to come of a call of which `produced` has come, as the mean of those that are longer.
    pub(super) fn mean_rest(&self, everybody: &Lengths, produced: u64, bound: u64) -> u64 {
        let from = if produced == 0 { 0 } else { TOKENS.bin(produced) + 1 };
        self.expect(everybody, TOKENS, from, bound).mean.saturating_sub(produced)
    }
}
