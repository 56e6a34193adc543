//! How a response is read: whether the provider accepted the call, and the state of its limits.
//!
//! | room | holds |
//! |---|---|
//! | `observe` | the limits' state, from headers |
//! | `answer` | a response as conditions and waits are read from it |
//! | `reject` | which rejection it is |
//! | `wait` | the wait that a rejection names |

mod answer;
mod observe;
mod reject;
mod wait;

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use self::answer::Answer;
use crate::instant::provider_now;
use crate::profile::{Class, Profile, ResetMeans};

/// Longest text from a response that goes into a reason or an organisation, in bytes.
const MAX_TEXT: usize = 128;

/// What is known of a response before its body.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The profile's endpoint that the call belongs to, if it is one of those.
    pub endpoint: Option<&'a str>,
}

/// What was read in one response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Whether the provider accepted the call.
    pub verdict: Verdict,
    /// The limits' state: one for each of the profile's headers that could be read.
    pub observations: Vec<Observation>,
    /// The account that the provider names as charged. See [`Profile::organization_headers`].
    pub organization: Option<String>,
    /// The provider's advice on a retry (`x-should-retry`). With `false`, the client gets the answer as it is.
    pub retry_advice: Option<bool>,
}

/// Whether the provider accepted a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No limit stood in the way; the call may have failed for another reason.
    Accepted,
    /// The provider rejected it.
    Rejected {
        /// The kind of rejection.
        class: Class,
        /// What is affected.
        scope: Scope,
        /// The model, as the provider names it, whose limit the rejected one shares: it is affected too.
        shared_with: Option<String>,
        /// How long the scope pauses, within the rejection's minimum and maximum. `None` for the classes
        /// `Terminal` and `Oversize`, and if neither the answer nor the profile names a wait: then the
        /// limiter backs off by itself.
        wait: Option<Duration>,
        /// The provider's reason, such as `TEN_SECONDLY_ROLLING`; else `status 429`. Printable ASCII, 128
        /// bytes at most.
        reason: String,
    },
}

/// What a rejection affects. Endpoint and model are those of the call: of one that has none, all that have none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The named limit, in the call's partition of it.
    Limit(String),
    /// The calls of the call's endpoint.
    Endpoint,
    /// The calls of this endpoint, which is not the call's.
    OtherEndpoint(String),
    /// The calls of the call's model.
    Model,
    /// All calls of the account.
    Account,
    /// All calls to the provider.
    Provider,
}

/// The state of one limit, as the provider reports it. It may lower what is known, never raise it.
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
    /// How long no call fits under this limit, counted from the response; `None` while units are left or if the
    /// response names no reset.
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
    /// Reads a response. `body` is the beginning of the decoded body if [`Profile::needs_body`] asked for it;
    /// `now` is the wall clock, used if the response has no `Date`.
    pub fn read(&self, head: Head<'_>, body: Option<&[u8]>, now: Timestamp) -> Reading {
        let headers = head.headers;
        let now = provider_now(headers, now);
        let observations = observe::observations(self, headers, body, now);
        let answer = Answer { head, body, observations: &observations, now };
        Reading {
            verdict: reject::verdict(self, &answer),
            observations,
            organization: self.organization(headers),
            retry_advice: self.retry_advice(headers),
        }
    }

    /// Whether [`Profile::read`] wants the beginning of the body of such a response: only where a rejection that
    /// could match looks into it, or the state of a limit stands there, and never in an event stream that was accepted.
    pub fn needs_body(&self, head: Head<'_>) -> bool {
        reject::needs_body(self, head) || observe::needs_body(self, head)
    }

    fn organization(&self, headers: &HeaderMap) -> Option<String> {
        self.organization_headers.iter().find_map(|name| printable(headers.get(name)?.to_str().ok()?))
    }
}

/// The reason of a rejection that names none.
pub(crate) fn unnamed_reason(status: StatusCode) -> String {
    format!("status {}", status.as_u16())
}

/// `text` cut to printable ASCII of bounded length; none where nothing is left.
fn printable(text: &str) -> Option<String> {
    let kept: String =
        text.trim().chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_TEXT).collect();
    (!kept.is_empty()).then_some(kept)
}
