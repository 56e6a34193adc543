//! What a response says: whether the provider accepted the call, and where its limits stand.
//!
//! `response/observe.rs` reads the limits' state from headers, `response/reject.rs` finds the rejection that
//! matches and the wait that it tells.

mod observe;
mod reject;

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use crate::instant::provider_now;
use crate::profile::{Class, Profile, ResetMeans};
use crate::request::CallShape;

/// Longest text from a response that goes into a reason or an organisation, in bytes.
const MAX_TEXT: usize = 128;

/// What one response says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Whether the provider accepted the call.
    pub verdict: Verdict,
    /// Where limits stand, one for each of the profile's headers that could be read.
    pub observations: Vec<Observation>,
    /// The account that the provider says it charged.
    pub organization: Option<String>,
    /// What the provider says of sending the call again (`x-should-retry`); `false` is handed to the caller
    /// as it is.
    pub retry_advice: Option<bool>,
}

/// Whether the provider accepted a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No limit stood in the way; the call may have failed for another reason.
    Accepted,
    /// The provider said no.
    Rejected {
        /// What kind of no.
        class: Class,
        /// What is affected.
        scope: Scope,
        /// How long the scope pauses, within the rejection's minimum and maximum. None for the classes
        /// `Terminal` and `Oversize`, and where neither the answer nor the profile tells: then the limiter
        /// backs off by itself.
        wait: Option<Duration>,
        /// The provider's word for it, such as `TEN_SECONDLY_ROLLING`; else `status 429`. Printable ASCII, 128
        /// bytes at most.
        reason: String,
    },
}

/// What a rejection affects. Endpoint and model are those of the call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The named limit, in the call's partition of it.
    Limit(String),
    /// The calls of the call's endpoint.
    Endpoint,
    /// The calls of the call's model.
    Model,
    /// All calls of the account.
    Account,
    /// All calls to the provider.
    Provider,
}

/// Where one limit stands, by the provider's word. It may lower what is known, never raise it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The profile's name of the limit.
    pub limit: String,
    /// The limit's amount.
    pub hard: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// Time until the reset, counted from the response.
    pub resets_in: Option<Duration>,
    /// What happens at the reset.
    pub reset_means: ResetMeans,
}

impl Observation {
    /// How long no call fits under this limit, counted from the response: none while something is left, or
    /// where the provider does not tell.
    pub fn exhausted_for(&self) -> Option<Duration> {
        let until_reset = self.resets_in.filter(|_| self.remaining == Some(0))?;
        Some(match (self.reset_means, self.hard) {
            // Bit by bit: the first of `hard` units is back after that part of the time.
            (ResetMeans::FullRefill, Some(hard)) if hard > 0 => {
                let nanos = until_reset.as_nanos().div_ceil(hard.into());
                u64::try_from(nanos).map_or(until_reset, Duration::from_nanos)
            }
            _ => until_reset,
        })
    }
}

impl Profile {
    /// What a response says. `body` is the beginning of the decoded body where [`Profile::needs_body`] asked
    /// for it; `now` is the wall clock, used where the response has no `Date`.
    pub fn read(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Option<&[u8]>,
        shape: &CallShape,
        now: Timestamp,
    ) -> Reading {
        let now = provider_now(headers, now);
        let observations = observe::observations(self, headers, now);
        Reading {
            verdict: reject::verdict(self, status, headers, body, shape, &observations, now),
            observations,
            organization: self.organization(headers),
            retry_advice: self.retry_advice(headers),
        }
    }

    /// Whether [`Profile::read`] wants the beginning of the body of such a response: only where a rejection that
    /// could match looks into it, and never in an event stream that was accepted.
    pub fn needs_body(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        reject::needs_body(self, status, headers)
    }

    fn organization(&self, headers: &HeaderMap) -> Option<String> {
        self.organization_headers.iter().find_map(|name| printable(headers.get(name)?.to_str().ok()?))
    }
}

/// `text` cut to printable ASCII of bounded length; none where nothing is left.
fn printable(text: &str) -> Option<String> {
    let kept: String =
        text.trim().chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_TEXT).collect();
    (!kept.is_empty()).then_some(kept)
}
