//! Forced answers: what the control port says that the next requests get, whatever the limits say.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::counting::NANOS_PER_MILLI;

/// An order to answer some requests in a certain way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Force {
    /// The account; everybody when absent.
    pub account: Option<String>,
    /// Only requests for this model.
    pub model: Option<String>,
    /// The status; 429 when absent.
    pub status: u16,
    /// The value of the Retry-After header; without it the answer has none.
    pub retry_after: Option<String>,
    /// The body: a string is sent as it is, anything else as JSON. When absent, the provider's own for the status.
    pub body: Option<Value>,
    /// Headers to add or to replace. With `content-encoding: gzip`, the body is compressed.
    pub headers: BTreeMap<String, String>,
    /// Trailers, after the body.
    pub trailers: BTreeMap<String, String>,
    /// For so many requests; 1 when neither this nor `for_millis` is given. With both, what ends first ends it.
    pub requests: Option<u64>,
    /// For so many milliseconds from now.
    pub for_millis: Option<u64>,
}

impl Default for Force {
    fn default() -> Self {
        Self {
            account: None,
            model: None,
            status: 429,
            retry_after: None,
            body: None,
            headers: BTreeMap::new(),
            trailers: BTreeMap::new(),
            requests: None,
            for_millis: None,
        }
    }
}

/// A forced answer that can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum ForceError {
    /// Not a final status.
    #[error("status {0} can't be forced: use 200 to 599")]
    Status(u16),
    /// Not a header.
    #[error("header {name:?} with value {value:?} can't be sent: use a token and visible ASCII")]
    Header {
        /// The header's name.
        name: String,
        /// The header's value.
        value: String,
    },
}

impl Force {
    /// Whether the answer can be sent.
    ///
    /// # Errors
    /// Names what can't.
    pub fn check(&self) -> Result<(), ForceError> {
        if !(200..600).contains(&self.status) {
            return Err(ForceError::Status(self.status));
        }
        let retry_after = self.retry_after.as_ref().map(|value| ("retry-after", value));
        let fields = self.headers.iter().chain(&self.trailers).map(|(name, value)| (name.as_str(), value));
        for (name, value) in fields.chain(retry_after) {
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                return Err(ForceError::Header { name: name.to_owned(), value: value.clone() });
            }
        }
        Ok(())
    }
}

/// What one request is answered with.
#[derive(Debug, Clone)]
pub(crate) struct ForcedAnswer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: Option<Value>,
    pub headers: BTreeMap<String, String>,
    pub trailers: BTreeMap<String, String>,
}

impl ForcedAnswer {
    /// Its trailers; those that can't be sent were refused with the order.
    pub(crate) fn trailers(&self) -> HeaderMap {
        let field = |(name, value): (&String, &String)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        };
        self.trailers.iter().filter_map(field).collect()
    }
}

/// The orders in force, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Forces {
    standing: Vec<Standing>,
}

#[derive(Debug)]
struct Standing {
    force: Force,
    left: Option<u64>,
    until: Option<u64>,
}

impl Forces {
    pub(crate) fn add(&mut self, force: Force, now: u64) {
        let until = force.for_millis.map(|millis| now.saturating_add(millis.saturating_mul(NANOS_PER_MILLI)));
        let left = force.requests.or(if until.is_none() { Some(1) } else { None });
        self.standing.push(Standing { force, left, until });
    }

    /// The answer for a request, if one is forced; uses up one of its requests.
    pub(crate) fn take(&mut self, account: &str, model: Option<&str>, now: u64) -> Option<ForcedAnswer> {
        self.standing.retain(|order| order.left != Some(0) && order.until.is_none_or(|until| now < until));
        let order = self.standing.iter_mut().find(|order| {
            let wanted = &order.force;
            wanted.account.as_deref().is_none_or(|name| name == account)
                && wanted.model.as_deref().is_none_or(|name| Some(name) == model)
        })?;
        order.left = order.left.map(|left| left - 1);
        let Force { status, retry_after, body, headers, trailers, .. } = order.force.clone();
        Some(ForcedAnswer { status, retry_after, body, headers, trailers })
    }

    /// Forgets an account's orders, or all.
    pub(crate) fn reset(&mut self, account: Option<&str>) {
        self.standing.retain(|order| account.is_some() && order.force.account.as_deref() != account);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MILLI: u64 = NANOS_PER_MILLI;

    #[test]
    fn an_order_ends_with_its_requests_or_its_time() {
        let mut forces = Forces::default();
        forces.add(Force { account: Some("a".into()), requests: Some(2), ..Force::default() }, 0);
        forces.add(Force { status: 503, for_millis: Some(10), ..Force::default() }, 0);
        let mut status = |account, now| forces.take(account, None, now).map(|answer| answer.status);
        assert_eq!(status("a", 0), Some(429));
        assert_eq!(status("b", 1), Some(503));
        assert_eq!(status("a", 2), Some(429));
        assert_eq!(status("a", 10 * MILLI - 1), Some(503));
        assert_eq!(status("a", 10 * MILLI), None);
    }

    #[test]
    fn an_unsendable_order_is_refused() {
        let force = |status, name: &str, value: &str| Force {
            status,
            headers: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            ..Force::default()
        };
        assert!(force(429, "x-reason", "calm").check().is_ok());
        assert!(force(100, "x", "y").check().is_err());
        assert!(force(429, "x y", "z").check().is_err());
        assert!(force(429, "x", "a\nb").check().is_err());
        let retry_after = Some("1\r\n".to_owned());
        assert!(Force { retry_after, ..Force::default() }.check().is_err());
    }
}
