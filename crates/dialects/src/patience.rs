//! How long a request's client waits before it gives up, if the request announces it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::instant::decimal_seconds;
use crate::profile::Profile;

/// Our own header: seconds, decimals allowed; `0` means not to wait at all.
pub const PATIENCE_HEADER: HeaderName = HeaderName::from_static("x-quotakeeper-patience");
/// The read timeout of the OpenAI and Anthropic SDKs for Python, in seconds.
const READ_TIMEOUT: HeaderName = HeaderName::from_static("x-stainless-read-timeout");
/// The whole call's timeout of their SDKs for other languages, in seconds.
const TIMEOUT: HeaderName = HeaderName::from_static("x-stainless-timeout");
/// Preferences of RFC 7240, of which `wait` (4.3) is read.
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// No client is believed to wait longer.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Profile {
    /// How long the client of this request waits before it gives up; `None` if neither the request nor the
    /// profile names a timeout. The first readable one counts: `x-quotakeeper-patience`, `x-stainless-read-timeout`,
    /// `x-stainless-timeout`, `Prefer: wait=N`, the profile's `client.patienceSeconds`. At most [`LONGEST`].
    pub fn patience(&self, request: &HeaderMap) -> Option<Duration> {
        let seconds = |name: HeaderName| decimal_seconds(request.get(name)?.to_str().ok()?.trim());
        // The SDKs write 0 or nothing for "no timeout of mine"; nobody waits zero seconds for an answer.
        let timeout = |name: HeaderName| seconds(name).filter(|timeout| !timeout.is_zero());
        seconds(PATIENCE_HEADER)
            .or_else(|| timeout(READ_TIMEOUT))
            .or_else(|| timeout(TIMEOUT))
            .or_else(|| request.get_all(PREFER).iter().find_map(preferred_wait))
            .or_else(|| Some(Duration::from_secs(self.client.as_ref()?.patience_seconds?.into())))
            .map(|patience| patience.min(LONGEST))
    }
}

/// `wait=N` of one `Prefer` field (RFC 7240, 2 and 4.3), whole seconds.
fn preferred_wait(field: &HeaderValue) -> Option<Duration> {
    field.to_str().ok()?.split(',').find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        value.trim().trim_matches('"').parse().ok().map(Duration::from_secs)
    })
}
