//! Histograms whose bins grow with the value, and the scales that map values to bins.

use serde::{Deserialize, Serialize};

/// Bins of a histogram.
pub(super) const BINS: usize = 96;
/// At this many calls the counts of a histogram are halved, so that it follows what changes.
pub(super) const MOST_CALLS: u32 = 2_048;

/// 2^(i/16) as multiples of 2^−16, rounded: the lower edges of sixteen bins of an octave.
const SIXTEENTHS: [u64; 16] = [
    65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752, 92682, 96785, 101_070, 105_545, 110_218, 115_098,
    120_194, 125_515,
];

/// Which values share a bin. Values below the first bin belong to it, values beyond the last one to that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// The first bin begins at 2 to the power of this.
    first_octave: u32,
    /// Bins of an octave: 4 or 16.
    per_octave: usize,
}

/// 1 to 2^24, a bin a quarter of an octave: a bin's largest value is at most 19 % above its smallest.
pub(super) const TOKENS: Scale = Scale { first_octave: 0, per_octave: 4 };
/// 2^12 to 2^18, a bin a sixteenth of an octave (4.4 %): 1/16 to 4 as multiples of 2^−16.
pub(super) const RATIOS: Scale = Scale { first_octave: 12, per_octave: 16 };

impl Scale {
    /// The bin of a value.
    pub(super) fn bin(self, value: u64) -> usize {
        let octave = value.max(1).ilog2();
        if octave < self.first_octave {
            return 0;
        }
        let mantissa = if octave >= 16 { value >> (octave - 16) } else { value.max(1) << (16 - octave) };
        let step = SIXTEENTHS.len() / self.per_octave;
        let within = (1..self.per_octave).take_while(|bin| SIXTEENTHS[bin * step] <= mantissa).count();
        let bin = (octave - self.first_octave) as usize * self.per_octave + within;
        bin.min(BINS - 1)
    }

    /// The smallest value of a bin; of the first one, which has those below it too, its lower edge.
    pub(super) fn least(self, bin: usize) -> u64 {
        let octave = self.first_octave + (bin / self.per_octave) as u32;
        let edge = SIXTEENTHS[bin % self.per_octave * (SIXTEENTHS.len() / self.per_octave)];
        if octave >= 16 { edge << (octave - 16) } else { edge.div_ceil(1 << (16 - octave)) }
    }

    /// The largest value of a bin; `None`: it is the last one, which has no end.
    pub(super) fn most(self, bin: usize) -> Option<u64> {
        (bin + 1 < BINS).then(|| self.least(bin + 1) - 1)
    }
}

/// A set of bins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BinSet(u128);

impl BinSet {
    /// Adds a bin.
    pub(super) fn insert(&mut self, bin: usize) {
        self.0 |= 1 << bin;
    }

    /// Takes a bin out.
    pub(super) fn remove(&mut self, bin: usize) {
        self.0 &= !(1 << bin);
    }

    /// The last bin.
    pub(super) fn last(self) -> Option<usize> {
        self.0.checked_ilog2().map(|bin| bin as usize)
    }

    /// The bins of both.
    pub(super) fn union(self, other: BinSet) -> BinSet {
        BinSet(self.0 | other.0)
    }
}

impl Iterator for BinSet {
    type Item = usize;

    /// The first bin, which it takes out.
    fn next(&mut self) -> Option<usize> {
        let first = (self.0 != 0).then(|| self.0.trailing_zeros() as usize)?;
        self.remove(first);
        Some(first)
    }
}

/// How many calls are in each bin. In JSON: each bin that is not empty, followed by its count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u16>", into = "Vec<u16>")]
pub(super) struct Bins {
    counts: [u16; BINS],
    total: u32,
    /// The sum of all calls' bins.
    sum: u32,
    /// The bins that are not empty.
    filled: BinSet,
}

impl Default for Bins {
    fn default() -> Bins {
        Bins { counts: [0; BINS], total: 0, sum: 0, filled: BinSet::default() }
    }
}

impl Bins {
    /// All calls.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The counts, by bin.
    pub(super) fn counts(&self) -> &[u16; BINS] {
        &self.counts
    }

    /// Counts a call `weight` times; at most [`MOST_CALLS`] / 2.
    pub(super) fn add(&mut self, bin: usize, weight: u16) {
        if self.total + u32::from(weight) > MOST_CALLS {
            self.halve();
        }
        self.counts[bin] += weight;
        self.total += u32::from(weight);
        self.sum += u32::from(weight) * bin as u32;
        self.filled.insert(bin);
    }

    /// Halves each count, rounding down.
    pub(super) fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.add_up();
    }

    /// Computes anew what follows from the counts.
    fn add_up(&mut self) {
        (self.total, self.sum, self.filled) = (0, 0, BinSet::default());
        for (bin, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.total += u32::from(*count);
            self.sum += u32::from(*count) * bin as u32;
            self.filled.insert(bin);
        }
    }

    /// The bins that are not empty.
    pub(super) fn filled(&self) -> BinSet {
        self.filled
    }

    /// The mean of the calls' bins; 0: there are none.
    pub(super) fn mean(&self) -> f64 {
        f64::from(self.sum) / f64::from(self.total.max(1))
    }

    /// The first bin by which more than `percent` of the calls are counted; `None`: there are none.
    pub(super) fn quantile(&self, percent: u32) -> Option<usize> {
        let mut counted = 0;
        self.filled.into_iter().find(|bin| {
            counted += u32::from(self.counts[*bin]);
            counted * 100 > self.total * percent
        })
    }
}

impl From<Vec<u16>> for Bins {
    /// Bins that do not exist are ignored; more calls than a histogram has are halved.
    fn from(pairs: Vec<u16>) -> Bins {
        let mut bins = Bins::default();
        for pair in pairs.chunks_exact(2) {
            if let Some(count) = bins.counts.get_mut(usize::from(pair[0])) {
                *count = pair[1];
            }
        }
        bins.add_up();
        while bins.total > MOST_CALLS {
            bins.halve();
        }
        bins
    }
}

impl From<Bins> for Vec<u16> {
    fn from(bins: Bins) -> Vec<u16> {
        bins.filled.flat_map(|bin| [bin as u16, bins.counts[bin]]).collect()
    }
}
