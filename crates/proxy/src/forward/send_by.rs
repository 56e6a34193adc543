//! Until when a call may be sent, because its signature or token grows old while it waits.

use std::time::{Duration, Instant};

use http::HeaderMap;
use jiff::Timestamp;
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::expiry::ExpiryCause;
use quotakeeper_engine::event::RefusalReason;
use quotakeeper_engine::patience::patience_for;

use crate::admission::{Reason, Refused};

/// A client signs a call anew as soon as it hears of it.
const SIGN_AGAIN: Duration = Duration::from_secs(1);

/// The end of the time in which a call may be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendBy {
    at: Instant,
    cause: ExpiryCause,
}

impl SendBy {
    /// Of a request that arrived at `arrived`, which was `now` by the clock.
    pub(super) fn of(
        profile: &Profile,
        path_and_query: &str,
        headers: &HeaderMap,
        arrived: Instant,
        now: Timestamp,
    ) -> Option<Self> {
        let expiry = profile.expiry(path_and_query, headers, now)?;
        let left = Duration::try_from(expiry.at.duration_since(now)).unwrap_or_default();
        Some(Self { at: arrived.checked_add(left)?, cause: expiry.cause })
    }

    /// Whether it is too late at `now`.
    pub(super) fn has_passed(self, now: Instant) -> bool {
        now >= self.at
    }

    /// How patient the call's client is, as far as this bound is concerned.
    pub(super) fn patience(self, now: Instant) -> Duration {
        patience_for(self.at.saturating_duration_since(now))
    }

    /// The refusal of a call that would be sent too late.
    pub(super) fn refused() -> Refused {
        Refused { reason: Reason::RequestExpired, retry_after: Some(SIGN_AGAIN), words: None }
    }

    /// What to add to a refusal for `reason`, if this bound is why the call could not wait longer than `deadline`.
    pub(super) fn explains(self, reason: Reason, deadline: Option<Instant>) -> Option<&'static str> {
        use RefusalReason::{WaitExceeded, WaitTooLong};
        let by_time = matches!(reason, Reason::Limiter(WaitTooLong | WaitExceeded) | Reason::RequestExpired);
        (by_time && deadline.is_none_or(|deadline| self.at < deadline)).then_some(match self.cause {
            ExpiryCause::Signature => "its signature is too old by then, sign it again",
            ExpiryCause::Token => "its token has expired by then, send it with a new one",
        })
    }
}
