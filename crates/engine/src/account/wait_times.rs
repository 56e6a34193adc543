//! How long calls have waited for their grants.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The upper bounds of the waits that are counted apart, in milliseconds. Longer ones have a count of their own.
pub const WAIT_BOUNDS: [u64; 11] =
    [10, 100, 500, 1_000, 5_000, 15_000, 60_000, 300_000, 900_000, 3_600_000, 14_400_000];

/// Grants by how long their calls had waited, since the engine started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WaitTimes {
    /// Grants up to each of [`WAIT_BOUNDS`] and beyond the one before, and at last those beyond all.
    pub grants: [u64; WAIT_BOUNDS.len() + 1],
    /// The sum of their waits, in milliseconds.
    pub sum: u64,
}

impl WaitTimes {
    /// A call was granted after it had waited for so long.
    pub(super) fn add(&mut self, waited: Duration) {
        let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let place = WAIT_BOUNDS.iter().position(|bound| millis <= *bound).unwrap_or(WAIT_BOUNDS.len());
        self.grants[place] += 1;
        self.sum = self.sum.saturating_add(millis);
    }

    /// Whether none is counted.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// All grants.
    pub fn count(&self) -> u64 {
        self.grants.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_counted_by_their_bounds() {
        let mut waits = WaitTimes::default();
        assert!(waits.is_empty());
        for millis in [0, 10, 11, 60_000, 60_001, 20_000_000] {
            waits.add(Duration::from_millis(millis));
        }
        assert_eq!(waits.grants, [2, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1]);
        assert_eq!((waits.count(), waits.sum), (6, 20_120_022));
    }
}
