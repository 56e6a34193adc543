//! Until when a request may be sent: its signature or its token grows old while the call waits, and only its client
//! can make it anew.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::profile::Profile;

/// How long AWS accepts a signature after its date, in seconds
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>).
const AWS_WINDOW: u32 = 300;
/// The part of a window that is left for the way to the provider and for clocks that differ, and the most of it.
const MARGIN_PART: i32 = 10;
const LONGEST_MARGIN: SignedDuration = SignedDuration::from_secs(30);
/// The same of a token, whose lifetime is not known.
const TOKEN_MARGIN: SignedDuration = SignedDuration::from_secs(5);
/// Longer tokens are not read, in bytes.
const LONGEST_TOKEN: usize = 16 * 1024;

/// What bounds the time at which a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// From then on the provider may reject it; a margin is deducted.
    pub at: Timestamp,
    pub cause: ExpiryCause,
}

/// What grows old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryCause {
    /// An AWS signature (version 4) in headers or in the query.
    Signature,
    /// A bearer token that is a JWT (RFC 7519).
    Token,
}

impl Profile {
    /// Until when a request that has arrived at `now` may be sent: `x-amz-date` of a signed request and
    /// `client.signatureSeconds`; `X-Amz-Date` and `X-Amz-Expires` of a presigned one; `exp` of a bearer JWT, which is
    /// read without verification. `None` where nothing bounds it, or where the bound has passed already: waiting makes
    /// that no worse, and the provider's own answer has the client make it anew.
    pub fn expiry(&self, path_and_query: &str, headers: &HeaderMap, now: Timestamp) -> Option<Expiry> {
        let signature = |at| Expiry { at, cause: ExpiryCause::Signature };
        let token = |at| Expiry { at, cause: ExpiryCause::Token };
        let window = self.client.as_ref().and_then(|client| client.signature_seconds).unwrap_or(AWS_WINDOW);
        let bounds = [
            signed(headers, Duration::from_secs(window.into()), now).map(signature),
            presigned(path_and_query, now).map(signature),
            bearer(headers, now).map(token),
        ];
        bounds.into_iter().flatten().min_by_key(|expiry| expiry.at)
    }
}

/// A request that is signed in its headers.
fn signed(headers: &HeaderMap, window: Duration, now: Timestamp) -> Option<Timestamp> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.starts_with("AWS4-").then_some(())?;
    let date = amz_date(headers.get("x-amz-date")?.to_str().ok()?)?;
    before_the_end(date, window.try_into().ok()?, now)
}

/// A request that is signed in its query.
fn presigned(path_and_query: &str, now: Timestamp) -> Option<Timestamp> {
    let (_, query) = path_and_query.split_once('?')?;
    let find = |name: &str| {
        query.split('&').find_map(|part| {
            let (found, value) = part.split_once('=')?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    };
    let date = amz_date(find("X-Amz-Date")?)?;
    let window = SignedDuration::from_secs(find("X-Amz-Expires")?.parse::<u32>().ok()?.into());
    before_the_end(date, window, now)
}

/// A request with a JWT that names its end.
fn bearer(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.len() > LONGEST_TOKEN {
        return None;
    }
    let mut parts = token.trim().split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let exp = claims.get("exp")?;
    // Fractions are allowed (RFC 7519, 2); whole seconds do.
    let seconds = exp.as_i64().or_else(|| exp.as_f64().map(|seconds| seconds as i64))?;
    let end = Timestamp::from_second(seconds).ok()?;
    if end <= now { None } else { end.checked_sub(TOKEN_MARGIN).ok() }
}

/// The end of a window that began at `date`, less a margin; `None` if it has ended.
fn before_the_end(date: Timestamp, window: SignedDuration, now: Timestamp) -> Option<Timestamp> {
    let end = date.checked_add(window).ok()?;
    let margin = (window / MARGIN_PART).min(LONGEST_MARGIN);
    if end <= now { None } else { end.checked_sub(margin).ok() }
}

/// `20130524T000000Z`.
fn amz_date(text: &str) -> Option<Timestamp> {
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    date.to_zoned(TimeZone::UTC).ok().map(|date| date.timestamp())
}
