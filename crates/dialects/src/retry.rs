//! Which calls may be sent a second time.

use http::{HeaderMap, Method, StatusCode};

use crate::profile::Profile;

/// The idempotent methods of RFC 9110, 9.2.2, that clients of APIs use.
const IDEMPOTENT: [Method; 5] = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];

impl Profile {
    /// Whether a call that failed with `status`, or without any answer, may be sent again: its method allows
    /// it, the status says that it was not processed, or the request carries the idempotency header.
    ///
    /// The class of a rejection comes first: see [`crate::profile::Class::is_retried`].
    pub fn may_resend(&self, method: &Method, request: &HeaderMap, status: Option<StatusCode>) -> bool {
        let retry = self.retry.clone().unwrap_or_default();
        let by_method = match retry.methods.is_empty() {
            true => IDEMPOTENT.contains(method),
            false => retry.methods.iter().any(|known| known == method.as_str()),
        };
        let unprocessed = status.is_some_and(|status| match retry.unprocessed_statuses.is_empty() {
            true => status == StatusCode::TOO_MANY_REQUESTS,
            false => retry.unprocessed_statuses.contains(&status.as_u16()),
        });
        let keyed = retry.idempotency_header.is_some_and(|header| request.contains_key(&header));
        by_method || unprocessed || keyed
    }

    /// The provider's advice on a retry: `true` or `false` in `x-should-retry`, or in the header that the
    /// profile names; `None` if it is neither.
    pub fn retry_advice(&self, response: &HeaderMap) -> Option<bool> {
        let named = self.retry.as_ref().and_then(|retry| retry.advice_header.as_deref());
        match response.get(named.unwrap_or("x-should-retry"))?.as_bytes() {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }
}
