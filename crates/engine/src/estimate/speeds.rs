//! How fast a model produces its output.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bins::{Bins, TOKENS};
use super::learned::ENOUGH;

/// Speeds are kept in thousandths of a token per second.
const SCALE: u64 = 1_000;
/// A call counts once for each of these tokens …
const WEIGHT_OF: u64 = 64;
/// … but not more often than this.
const MOST_WEIGHT: u64 = 16;

/// The speeds of ended calls, from grant to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Speeds(Bins);

impl Speeds {
    /// Learns from a call that has produced `output` tokens. Most of a short call's time is spent before its first
    /// token, so it counts only while there is nothing better.
    pub(super) fn learn(&mut self, output: u64, took: Duration) {
        let weight = (output / WEIGHT_OF).min(MOST_WEIGHT);
        if output == 0 || (weight == 0 && self.0.total() >= ENOUGH) {
            return;
        }
        let nanos = took.as_nanos().max(1);
        let speed = u128::from(output) * u128::from(SCALE) * 1_000_000_000 / nanos;
        let speed = u64::try_from(speed).unwrap_or(u64::MAX);
        self.0.add(TOKENS.bin(speed), weight.max(1) as u16);
    }

    /// How long the slowest tenth takes at least for this many tokens.
    pub(super) fn time_to_produce(&self, output: u64) -> Option<Duration> {
        let speed = TOKENS.least(self.0.quantile(10)?);
        let nanos = u128::from(output) * u128::from(SCALE) * 1_000_000_000 / u128::from(speed);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}
