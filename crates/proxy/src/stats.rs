//! Plain figures of a proxy since its start, for progress lines and the final report.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::record::{CallRecord, Outcome};

/// Figures since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls that came.
    pub calls: u64,
    /// Calls that are over.
    pub ended: u64,
    /// Calls that wait for a grant now.
    pub waiting: u64,
    /// Requests that were sent to providers.
    pub sent: u64,
    /// Quota rejections by providers after which the call waited again and nobody saw it.
    pub forced: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls whose provider could not be reached or whose answer broke off.
    pub failed: u64,
    /// Calls whose client hung up.
    pub client_gone: u64,
}

#[derive(Default)]
pub(crate) struct Counts {
    calls: AtomicU64,
    ended: AtomicU64,
    sent: AtomicU64,
    forced: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    client_gone: AtomicU64,
}

impl Counts {
    pub(crate) fn begun(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn forced(&self) {
        self.forced.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, call: &CallRecord) {
        self.sent.fetch_add(call.attempts.into(), Ordering::Relaxed);
        match call.outcome {
            Outcome::Answered => None,
            Outcome::Refused(_) => Some(&self.refused),
            Outcome::Unreachable | Outcome::BrokenOff => Some(&self.failed),
            Outcome::ClientGone => Some(&self.client_gone),
        }
        .map(|counter| counter.fetch_add(1, Ordering::Relaxed));
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, waiting: usize) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            calls: read(&self.calls),
            ended: read(&self.ended),
            waiting: waiting as u64,
            sent: read(&self.sent),
            forced: read(&self.forced),
            refused: read(&self.refused),
            failed: read(&self.failed),
            client_gone: read(&self.client_gone),
        }
    }
}
