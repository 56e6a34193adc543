//! When the process stood still: a call that arrived meanwhile was counted that much later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::counting::NANOS_PER_MILLI;
use crate::shared::Shared;

/// How often the process looks at its clock.
const EVERY: Duration = Duration::from_millis(50);
/// What is shorter is no stall.
const SHORTEST: u64 = 250 * NANOS_PER_MILLI;
/// Older ones are forgotten.
const KEPT: usize = 1_000;

/// A span without a turn of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stall {
    /// When it began, in nanoseconds since the start.
    pub(crate) at_nanos: u64,
    /// How long it lasted, in nanoseconds.
    pub(crate) nanos: u64,
}

/// The stalls so far.
#[derive(Debug, Default)]
pub(crate) struct Stalls(Mutex<VecDeque<Stall>>);

impl Stalls {
    /// Those that are kept, oldest first.
    pub(crate) fn all(&self) -> Vec<Stall> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    fn looked(&self, before: u64, now: u64) {
        let nanos = now.saturating_sub(before);
        if nanos < SHORTEST {
            return;
        }
        let mut stalls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stalls.len() == KEPT {
            stalls.pop_front();
        }
        stalls.push_back(Stall { at_nanos: before, nanos });
    }
}

/// Looks at the clock until the provider stops.
pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut before = shared.now();
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        let now = shared.now();
        shared.stalls.looked(before, now);
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_comes_late_is_a_stall() {
        let stalls = Stalls::default();
        stalls.looked(0, 50 * NANOS_PER_MILLI);
        stalls.looked(50 * NANOS_PER_MILLI, 4_050 * NANOS_PER_MILLI);
        assert_eq!(stalls.all(), [Stall { at_nanos: 50 * NANOS_PER_MILLI, nanos: 4_000 * NANOS_PER_MILLI }]);
    }
}
