//! How long a request's client waits before it gives up, if the request announces it.

use std::time::Duration;

use http::header::USER_AGENT;
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
/// The runtime of the OpenAI and Anthropic SDKs for JavaScript.
const RUNTIME: HeaderName = HeaderName::from_static("x-stainless-runtime");
/// Node's `fetch` waits no longer for an answer's head, whatever the SDK above it announces
/// (`headersTimeout` of undici).
const NODE: Duration = Duration::from_secs(300);
/// No client is believed to wait longer.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Profile {
    /// How long the client of this request waits before it gives up; `None` if neither the request nor the
    /// profile names a timeout. The first readable one counts: `x-quotakeeper-patience`, `x-stainless-read-timeout`,
    /// `x-stainless-timeout`, `Prefer: wait=N`, the profile's `client.patienceSeconds`. At most [`LONGEST`], and of
    /// Node's `fetch` 300 s unless the first of these headers says otherwise.
    pub fn patience(&self, request: &HeaderMap) -> Option<Duration> {
        let seconds = |name: HeaderName| decimal_seconds(request.get(name)?.to_str().ok()?.trim());
        // The SDKs write 0 or nothing for "no timeout of mine"; nobody waits zero seconds for an answer.
        let timeout = |name: HeaderName| seconds(name).filter(|timeout| !timeout.is_zero());
        let announced = || {
            timeout(READ_TIMEOUT)
                .or_else(|| timeout(TIMEOUT))
                .or_else(|| request.get_all(PREFER).iter().find_map(preferred_wait))
                .or_else(|| Some(Duration::from_secs(self.client.as_ref()?.patience_seconds?.into())))
        };
        let node = is_node(request).then_some(NODE);
        seconds(PATIENCE_HEADER)
            .or_else(|| announced().into_iter().chain(node).min())
            .map(|patience| patience.min(LONGEST))
    }
}

/// Whether Node's `fetch` sends the request: by itself, or under an SDK that names its runtime.
fn is_node(request: &HeaderMap) -> bool {
    let agent = request.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let by_itself = agent == "node" || agent == "undici" || agent.starts_with("undici/");
    by_itself || request.get(RUNTIME).is_some_and(|runtime| runtime == "node")
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
