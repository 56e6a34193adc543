//! How good estimates of tokens are: what was expected of calls, as a multiple of what they have used.

use serde::{Deserialize, Serialize};

use crate::tokens::TokenUsage;

/// The upper bounds of the ratios that are counted apart, in thousandths. Larger ones have a count of their own.
pub const RATIO_BOUNDS: [u64; 9] = [500, 750, 900, 1_000, 1_250, 1_500, 2_000, 4_000, 8_000];

/// Calls by how much was expected of them, as a multiple of what they have used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EstimateRatios {
    /// Calls up to each of [`RATIO_BOUNDS`] and beyond the one before, and at last those beyond all.
    pub calls: [u64; RATIO_BOUNDS.len() + 1],
    /// The sum of their ratios, in thousandths.
    pub sum: u64,
}

impl EstimateRatios {
    /// A call of which so much was expected has used so much.
    pub(super) fn add(&mut self, expected: &TokenUsage, used: &TokenUsage) {
        let all = |usage: &TokenUsage| u128::from(usage.input) + u128::from(usage.output);
        let ratio = all(expected) * 1_000 / all(used).max(1);
        let ratio = u64::try_from(ratio).unwrap_or(u64::MAX);
        let place = RATIO_BOUNDS.iter().position(|bound| ratio <= *bound).unwrap_or(RATIO_BOUNDS.len());
        self.calls[place] += 1;
        self.sum = self.sum.saturating_add(ratio);
    }

    /// Whether none is counted.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// All calls.
    pub fn count(&self) -> u64 {
        self.calls.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(input: u64, output: u64) -> TokenUsage {
        TokenUsage { input, output, ..TokenUsage::default() }
    }

    #[test]
    fn ratios_are_counted_by_their_bounds() {
        let mut ratios = EstimateRatios::default();
        for expected in [40, 50, 100, 101, 800, 801] {
            ratios.add(&tokens(expected, 0), &tokens(60, 40));
        }
        ratios.add(&tokens(7, 0), &tokens(0, 0));
        assert_eq!(ratios.calls, [2, 0, 0, 1, 1, 0, 0, 0, 2, 1]);
        assert_eq!((ratios.count(), ratios.sum), (7, 400 + 500 + 1_000 + 1_010 + 8_000 + 8_010 + 7_000));
    }
}
