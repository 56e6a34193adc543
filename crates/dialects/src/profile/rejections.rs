//! How the provider rejects calls, and what each rejection means.

use http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TimeFormat;

/// One kind of rejection. All conditions must hold; the first rejection of the list that matches an answer
/// decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// HTTP statuses; 200 if the provider rejects in the body. Example: `[429]`.
    #[schemars(
        length(min = 1, max = 16),
        inner(range(min = 100, max = 599)),
        transform = super::int32_items
    )]
    pub statuses: Vec<u16>,

    /// Endpoints, to one of which the call must belong. Default: no condition. Example: `[batches]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub endpoints: Vec<String>,

    /// Conditions on response headers. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub headers: Vec<HeaderCondition>,

    /// Conditions on the response's body. Default: none, the body is not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub body: Vec<BodyCondition>,

    /// Limits, of any of which the response's headers say that nothing is left. Default: no condition.
    /// Example: `[requests, input-tokens]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub exhausted: Vec<String>,

    /// The kind of rejection: `Quota` (a limit is used up: pause its scope), `Concurrency` (too many at once:
    /// shrink), `Capacity` (the provider is overloaded: back off, quota untouched), `Terminal` (billing or
    /// spend: stop, never retry), `Oversize` (this call alone can't be served, it is
    /// too large or needs what the plan lacks: hand the answer to its caller), `Lock` (a record was
    /// busy: retry, quota untouched) or `Partial` (an answer of several parts, some of which a limit has
    /// rejected: pause its scope for the longest wait, hand the answer to its caller).
    pub class: Class,

    /// What is affected: `Limit` (the one named in `limit`), `Endpoint`, `Model`, `Account` or `Provider`.
    /// Endpoint and model are those of the call; one that has none affects the calls that have none.
    /// Default: `Account`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ScopeKind>,

    /// Scope `Limit`: the limit's name. Example: `daily`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub limit: Option<String>,

    /// Scope `Endpoint`: the affected endpoint, where it is another than the call's. Example: `batch-queue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub endpoint: Option<String>,

    /// Where the answer names the wait; of several sources the longest counts. A wait in whole seconds that is
    /// another one rounded up is the same wait.
    /// Default: `retry-after-ms`, `Retry-After` and the reset of the limit in `limit` if that is used up; without
    /// them, the words of the message (`/error/message` or `/message`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub wait: Vec<WaitSource>,

    /// Where a message names another model whose limit the call's model shares: that one is affected too.
    /// Default: nowhere. Example: `{body: /error/message, after: "(for limit ", until: ")"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_with: Option<NameInText>,

    /// Seconds to wait if the answer names no wait. Default: none, the limiter backs off by itself.
    /// Example: `10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_678_400), extend("format" = "int32"))]
    pub cooldown_seconds: Option<u32>,

    /// Shortest wait in seconds, whatever the answer names. Default: 0. Example: `30`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_678_400), extend("format" = "int32"))]
    pub minimum_seconds: Option<u32>,

    /// Longest wait in seconds, whatever the answer names; after it one call probes.
    /// Default: 3600. Example: `86400`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_678_400), extend("format" = "int32"))]
    pub maximum_seconds: Option<u32>,

    /// Response header that names the reason, for events and metrics. Default: none.
    /// Example: `stripe-rate-limited-reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub reason_header: Option<String>,

    /// JSON pointer to the reason in the body, `*` stands for any element. Default: none.
    /// Example: `/policyName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub reason_body: Option<String>,
}

/// A condition on a response header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderCondition {
    /// Name of the header. Example: `x-ratelimit-remaining`.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,

    /// `Present` or `Absent`. Default: `Present`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<HeaderState>,

    /// Values, any of which matches, in any case. Default: any value. Example: `["0"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub equals: Vec<String>,
}

/// Whether a header is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HeaderState {
    /// The response has the header.
    #[default]
    Present,
    /// The response lacks the header.
    Absent,
}

/// A condition on the response's body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BodyCondition {
    /// JSON pointer (RFC 6901) to a string, number or truth value; `*` stands for any element of a list or
    /// any member. Default: the body as text. Example: `/error/code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub at: Option<String>,

    /// Values, any of which matches exactly; needs `at`. Default: any value.
    /// Example: `[insufficient_quota]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub equals: Vec<String>,

    /// Texts, any of which must occur, in any case. Default: any value. Example: `[per day]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub contains: Vec<String>,

    /// The value is a time that is past by at most so many seconds, written as seconds since 1970; needs `at`.
    /// Default: any value. Example: `120`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400), extend("format" = "int32"))]
    pub within_seconds: Option<u32>,
}

/// The kind of a rejection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Class {
    /// A limit is used up: its scope pauses.
    #[default]
    Quota,
    /// Too many calls at once.
    Concurrency,
    /// The provider is overloaded; the quota is untouched.
    Capacity,
    /// Billing or spend: no retry helps.
    Terminal,
    /// This call alone can't be served: no retry helps, others are not affected.
    Oversize,
    /// A record was busy; the quota is untouched.
    Lock,
    /// An answer of several parts, some of which a limit has rejected: its scope pauses, the caller gets the answer.
    Partial,
}

/// What a rejection affects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ScopeKind {
    /// One limit, in the call's partition of it.
    Limit,
    /// The calls of the same endpoint.
    Endpoint,
    /// The calls of the same model.
    Model,
    /// All calls of the account.
    #[default]
    Account,
    /// All calls to the provider.
    Provider,
}

/// A name within a text of the response's body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameInText {
    /// JSON pointer to the text, `*` stands for any element. Example: `/error/message`.
    #[schemars(length(min = 1, max = 256))]
    pub body: String,

    /// What stands before the name. Example: `"(for limit "`.
    #[schemars(length(min = 1, max = 64))]
    pub after: String,

    /// What stands after the name. Example: `")"`.
    #[schemars(length(min = 1, max = 64))]
    pub until: String,
}

/// A source of the wait: exactly one of `header`, `body`, `resetOf` and `midnightOf`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitSource {
    /// A response header. Example: `x-amz-retry-after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub header: Option<String>,

    /// A JSON pointer into the response's body, `*` stands for any element.
    /// Example: `/error/details/*/retryDelay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub body: Option<String>,

    /// A limit whose headers carry its reset; counts only while that limit is used up. Example: `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub reset_of: Option<String>,

    /// The end of the day in this time zone, as POSIX writes zones.
    /// Example: `PST8PDT,M3.2.0,M11.1.0`, for US Pacific.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub midnight_of: Option<String>,

    /// How `header` or `body` is written: a format of `headers[].resetFormat`, or `Prose` (a message that names the
    /// wait among its words: `Please try again in 1m2.5s.`). Default: `RetryAfter`. Example: `DeltaMillis`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TimeFormat>,
}

impl HeaderCondition {
    /// Whether the condition holds for these headers.
    pub fn holds(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(&self.name).iter();
        match self.state.unwrap_or_default() {
            HeaderState::Absent => values.next().is_none(),
            HeaderState::Present if self.equals.is_empty() => values.next().is_some(),
            HeaderState::Present => values.any(|value| {
                let value = value.as_bytes().trim_ascii();
                self.equals.iter().any(|wanted| value.eq_ignore_ascii_case(wanted.as_bytes()))
            }),
        }
    }
}

impl Class {
    /// Whether the call may be sent again after the wait; the others go back to the caller at once.
    pub fn is_retried(self) -> bool {
        !matches!(self, Self::Terminal | Self::Oversize | Self::Partial)
    }

    /// Whether a wait belongs to it.
    pub fn has_wait(self) -> bool {
        self.is_retried() || self == Self::Partial
    }
}
