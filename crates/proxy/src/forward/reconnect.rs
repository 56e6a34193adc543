//! When a call tries its provider again after not one byte of it could be written. Nothing has had an effect then,
//! so that any method may be tried again, for as long as its client waits.

use std::time::{Duration, Instant};

use crate::upstream::ConnectError;

/// Before the second try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: how late a call notices that its provider is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// The most tries where another one hardly helps: a name that does not resolve, a certificate that isn't trusted.
const HOPELESS_TRIES: u32 = 2;
/// Pooled connections that turn out closed are replaced at once this often: all of a restarted provider are.
const REPLACEMENTS: u32 = 8;
/// How long a call is tried where neither its client nor the queue bounds that.
const LONGEST: Duration = Duration::from_secs(600);

/// The tries of one call.
#[derive(Debug, Default)]
pub(super) struct Reconnects {
    since: Option<Instant>,
    failed: u32,
    replaced: u32,
}

/// The provider can't be reached, and another try makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GiveUp;

impl Reconnects {
    /// No connection could be made at `now`. The pause before the next try, which begins before `until` (when the
    /// client leaves the provider no time to answer any more) and at most `max_wait` after the first failure.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        passing: bool,
        until: Option<Instant>,
        max_wait: Duration,
    ) -> Result<Duration, GiveUp> {
        let since = *self.since.get_or_insert(now);
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failed.min(8)).min(LONGEST_PAUSE);
        self.failed += 1;
        if !passing {
            return if self.failed < HOPELESS_TRIES { Ok(pause) } else { Err(GiveUp) };
        }
        let next = now + pause;
        let in_time = until.is_none_or(|until| next < until) && next < since + max_wait.min(LONGEST);
        if in_time { Ok(pause) } else { Err(GiveUp) }
    }

    /// A connection closed at `now` before the call was written. The pause before the next try: none for pooled
    /// connections that have grown old, then as after [`Reconnects::refused`].
    pub(super) fn closed(
        &mut self,
        now: Instant,
        until: Option<Instant>,
        max_wait: Duration,
    ) -> Result<Duration, GiveUp> {
        self.replaced += 1;
        if self.replaced <= REPLACEMENTS {
            return Ok(Duration::ZERO);
        }
        self.refused(now, true, until, max_wait)
    }
}

/// Whether the failure may pass by itself: a restart, a full queue of connections, a lost packet.
pub(super) fn may_pass(error: &ConnectError) -> bool {
    match error {
        ConnectError::Tcp { .. }
        | ConnectError::Timeout { .. }
        | ConnectError::Http { .. }
        | ConnectError::Shortage { .. } => true,
        // The library's own errors, such as an untrusted certificate, come as `InvalidData`.
        ConnectError::Tls { source, .. } => {
            use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            matches!(source.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        }
        ConnectError::Resolve(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: Duration = Duration::from_secs(30);

    fn pauses(passing: bool, patience: Option<Duration>, max_wait: Duration) -> Vec<u128> {
        let begun = Instant::now();
        let until = patience.map(|patience| begun + patience);
        let (mut now, mut tries, mut pauses) = (begun, Reconnects::default(), Vec::new());
        while let Ok(pause) = tries.refused(now, passing, until, max_wait) {
            now += pause;
            pauses.push(pause.as_millis());
        }
        pauses
    }

    #[test]
    fn pauses_grow_within_the_patience_and_the_queues_bound() {
        let patience = Some(Duration::from_secs(9));
        assert_eq!(pauses(true, patience, QUEUE), [250, 500, 1000, 2000, 4000]);
        assert_eq!(pauses(true, None, Duration::from_secs(2)), [250, 500, 1000]);
        assert_eq!(pauses(true, Some(Duration::ZERO), QUEUE), [0; 0]);
        let total: u128 = pauses(true, None, Duration::MAX).iter().sum();
        assert!((LONGEST - LONGEST_PAUSE).as_millis() <= total && total <= LONGEST.as_millis(), "{total}");
    }

    #[test]
    fn what_does_not_pass_by_itself_is_tried_twice() {
        assert_eq!(pauses(false, None, QUEUE), [250]);
    }

    #[test]
    fn old_connections_are_replaced_at_once() {
        let (now, mut tries) = (Instant::now(), Reconnects::default());
        for _ in 0..REPLACEMENTS {
            assert_eq!(tries.closed(now, None, QUEUE), Ok(Duration::ZERO));
        }
        assert_eq!(tries.closed(now, None, QUEUE), Ok(FIRST_PAUSE));
    }
}
