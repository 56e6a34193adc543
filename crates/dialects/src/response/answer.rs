//! A response as conditions and waits are read from it.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, SERVER};
use jiff::{SignedDuration, Timestamp};

use super::{Head, Observation};
use crate::instant::offset;
use crate::json;
use crate::profile::{BodyCondition, Rejection, TimeFormat};

/// How much of a body is searched as text, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What a response is to a rejection.
pub(super) struct Answer<'a> {
    pub(super) head: Head<'a>,
    /// The beginning of the decoded body; `None`: it was not asked for.
    pub(super) body: Option<&'a [u8]>,
    pub(super) observations: &'a [Observation],
    pub(super) now: Timestamp,
}

impl Answer<'_> {
    /// The values at a pointer into the body. A list around the document makes no difference: some endpoints
    /// answer `[{"error": …}]` where others answer `{"error": …}`.
    pub(super) fn values(&self, pointer: &str) -> Vec<String> {
        let Some(body) = self.body else { return Vec::new() };
        let mut values = json::all(body, pointer);
        if body.trim_ascii_start().starts_with(b"[") {
            values.extend(json::all(body, &format!("/*{pointer}")));
        }
        values
    }

    pub(super) fn matches(&self, rejection: &Rejection) -> bool {
        by_head(rejection, self.head)
            && (rejection.exhausted.is_empty()
                || rejection.exhausted.iter().any(|limit| self.is_exhausted(limit)))
            && rejection.body.iter().all(|wanted| self.body_fits(wanted))
    }

    /// Whether the headers say that nothing is left of the limit.
    fn is_exhausted(&self, limit: &str) -> bool {
        self.observations.iter().any(|seen| seen.limit == limit && seen.remaining == Some(0))
    }

    fn body_fits(&self, wanted: &BodyCondition) -> bool {
        let Some(body) = self.body else { return false };
        let values: Vec<Cow<str>> = match &wanted.at {
            Some(pointer) => self.values(pointer).into_iter().map(Cow::from).collect(),
            None => vec![String::from_utf8_lossy(&body[..body.len().min(MAX_BODY)])],
        };
        values.iter().any(|value| {
            let equal = wanted.equals.is_empty() || wanted.equals.iter().any(|wanted| wanted == value);
            let lower = value.to_lowercase();
            let within = wanted.contains.is_empty()
                || wanted.contains.iter().any(|part| lower.contains(&part.to_lowercase()));
            let recent = wanted.within_seconds.is_none_or(|seconds| self.is_recent(value, seconds));
            equal && within && recent
        })
    }

    /// Whether a value is a time that is past by no more. Clocks may differ by a little.
    fn is_recent(&self, value: &str, seconds: u32) -> bool {
        let ahead = offset(TimeFormat::EpochSeconds, value, self.now);
        ahead.is_some_and(|ahead| ahead.abs() <= SignedDuration::from_secs(seconds.into()))
    }

    /// Whether a CDN or a gateway before the API has answered: in HTML, or in the words of Cloudflare's own errors.
    pub(super) fn is_an_intermediarys(&self) -> bool {
        if !may_be_an_intermediarys(self.head) {
            return false;
        }
        let headers = self.head.headers;
        let body = self.body.unwrap_or_default().trim_ascii_start();
        begins(headers, CONTENT_TYPE, b"text/html")
            || body.starts_with(b"<")
            || is_cloudflares(headers) && body.starts_with(b"error code: 1")
    }
}

/// Whether a CDN may have answered, by the head: with a 429, or as Cloudflare, and not in JSON.
pub(super) fn may_be_an_intermediarys(head: Head<'_>) -> bool {
    let Head { status, headers, .. } = head;
    let text = !headers.contains_key(CONTENT_TYPE) || begins(headers, CONTENT_TYPE, b"text/");
    text && match status.as_u16() {
        429 => true,
        403 | 503 => is_cloudflares(headers),
        _ => false,
    }
}

fn is_cloudflares(headers: &HeaderMap) -> bool {
    begins(headers, SERVER, b"cloudflare")
}

fn begins(headers: &HeaderMap, name: HeaderName, start: &[u8]) -> bool {
    let value = headers.get(name).map(|value| value.as_bytes()).unwrap_or_default();
    value.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
}

/// Whether status, endpoint and headers fit, whatever the body.
pub(super) fn by_head(rejection: &Rejection, head: Head<'_>) -> bool {
    let of_endpoint = rejection.endpoints.is_empty()
        || rejection.endpoints.iter().any(|endpoint| Some(endpoint.as_str()) == head.endpoint);
    rejection.statuses.contains(&head.status.as_u16())
        && of_endpoint
        && rejection.headers.iter().all(|wanted| wanted.holds(head.headers))
}
