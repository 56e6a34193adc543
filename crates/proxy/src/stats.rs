//! Plain figures of a proxy since its start, for progress lines and the final report.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quotakeeper_wire::proxy::Counters;

use crate::record::{CallRecord, Outcome, WaitBound, Why};

/// Figures since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls that came.
    pub calls: u64,
    /// Calls that are over.
    pub ended: u64,
    /// Calls whose answer was the provider's.
    pub answered: u64,
    /// Calls that had to wait for a grant before they ended.
    pub waited: u64,
    /// The longest that one of them waited, to the millisecond.
    pub longest_wait: Duration,
    /// Calls that wait for a grant now.
    pub waiting: u64,
    /// Requests that were sent to providers.
    pub sent: u64,
    /// Quota rejections by providers after which the call waited again and nobody saw it.
    pub forced: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Of these: calls that could not be granted within their client's timeout.
    pub refused_for_client: u64,
    /// Of these: calls that could not be granted within the time that the queue lets them wait.
    pub refused_for_queue: u64,
    /// Calls whose provider could not be reached or whose answer broke off.
    pub failed: u64,
    /// Calls whose client hung up.
    pub client_gone: u64,
    /// Of these: calls that waited for a grant and had not been sent.
    pub gone_waiting: u64,
    /// The shortest that one of those waited, to the millisecond.
    pub gone_after: Duration,
    /// The longest that one of those waited, to the millisecond.
    pub gone_by: Duration,
    /// Connections of clients that don't trust the proxy's CA: ended by a TLS alert, or closed without a
    /// request before any call had come.
    pub distrusted: u64,
    /// Grants that were returned because they had run out before the write.
    pub expired: u64,
    /// Requests whose write returned after the grant's validity: the promise does not cover them.
    pub late_writes: u64,
}

#[derive(Default)]
pub(crate) struct Counts {
    calls: AtomicU64,
    ended: AtomicU64,
    answered: AtomicU64,
    waited: AtomicU64,
    longest_wait_millis: AtomicU64,
    sent: AtomicU64,
    forced: AtomicU64,
    refused: AtomicU64,
    refused_by_reason: Mutex<BTreeMap<&'static str, u64>>,
    refused_for_client: AtomicU64,
    refused_for_queue: AtomicU64,
    failed: AtomicU64,
    client_gone: AtomicU64,
    gone_waiting: Mutex<GoneWaiting>,
    pub(crate) distrusted: AtomicU64,
    /// Connections with TLS that have had no request yet, and have not ended without one.
    undecided: AtomicU64,
}

/// Calls whose client hung up before they were sent.
#[derive(Clone, Copy, Default)]
struct GoneWaiting {
    calls: u64,
    shortest: Duration,
    longest: Duration,
}

impl GoneWaiting {
    fn add(&mut self, waited: Duration) {
        self.shortest = if self.calls == 0 { waited } else { self.shortest.min(waited) };
        self.longest = self.longest.max(waited);
        self.calls += 1;
    }
}

impl Counts {
    pub(crate) fn begun(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether any call has come.
    pub(crate) fn has_calls(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > 0
    }

    /// Whether a client has come that knows the proxy, even if it did not trust it.
    pub(crate) fn heard_of(&self) -> bool {
        self.has_calls() || self.distrusted.load(Ordering::Relaxed) > 0
    }

    /// A connection with TLS has come.
    pub(crate) fn connection_began(&self) {
        self.undecided.fetch_add(1, Ordering::AcqRel);
    }

    /// It has had a request, or what there is to say of one that had none is counted.
    pub(crate) fn connection_decided(&self) {
        self.undecided.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether nothing is under way that would change the figures.
    pub(crate) fn is_settled(&self) -> bool {
        let read = |figure: &AtomicU64| figure.load(Ordering::Acquire);
        read(&self.undecided) == 0 && read(&self.ended) >= read(&self.calls)
    }

    pub(crate) fn forced(&self) {
        self.forced.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, call: &CallRecord) {
        self.sent.fetch_add(call.attempts.into(), Ordering::Relaxed);
        match call.outcome {
            Outcome::Answered => &self.answered,
            Outcome::Refused(_) => &self.refused,
            Outcome::Unreachable | Outcome::BrokenOff => &self.failed,
            Outcome::ClientGone => &self.client_gone,
        }
        .fetch_add(1, Ordering::Relaxed);
        if let Outcome::Refused(reason) = call.outcome {
            let mut refused = self.refused_by_reason.lock().unwrap_or_else(PoisonError::into_inner);
            *refused.entry(reason.as_str()).or_default() += 1;
            match call.bound {
                Some(WaitBound::Client(_)) => self.refused_for_client.fetch_add(1, Ordering::Relaxed),
                Some(WaitBound::Queue(_)) => self.refused_for_queue.fetch_add(1, Ordering::Relaxed),
                None => 0,
            };
        }
        if call.outcome == Outcome::ClientGone && call.why != Why::NoWait && call.attempts == 0 {
            self.gone_waiting.lock().unwrap_or_else(PoisonError::into_inner).add(call.waited);
        }
        if call.why != Why::NoWait {
            let millis = u64::try_from(call.waited.as_millis()).unwrap_or(u64::MAX);
            self.waited.fetch_add(1, Ordering::Relaxed);
            self.longest_wait_millis.fetch_max(millis, Ordering::Relaxed);
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused_by_reason(&self) -> BTreeMap<&'static str, u64> {
        self.refused_by_reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn read(&self, waiting: usize, session: Counters) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gone = *self.gone_waiting.lock().unwrap_or_else(PoisonError::into_inner);
        Stats {
            calls: read(&self.calls),
            ended: read(&self.ended),
            answered: read(&self.answered),
            waited: read(&self.waited),
            longest_wait: Duration::from_millis(read(&self.longest_wait_millis)),
            waiting: waiting as u64,
            sent: read(&self.sent),
            forced: read(&self.forced),
            refused: read(&self.refused),
            refused_for_client: read(&self.refused_for_client),
            refused_for_queue: read(&self.refused_for_queue),
            failed: read(&self.failed),
            client_gone: read(&self.client_gone),
            gone_waiting: gone.calls,
            gone_after: gone.shortest,
            gone_by: gone.longest,
            distrusted: read(&self.distrusted),
            expired: session.expired,
            late_writes: session.late_writes,
        }
    }
}
