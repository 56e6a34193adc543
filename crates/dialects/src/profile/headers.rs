//! The response headers that carry a limit's state, and their formats.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HeaderCondition;

/// Response headers with the state of one limit.
///
/// A header that is absent, malformed or implausible is ignored, and so is a format that this version does
/// not know. An older version may therefore know less of a limit, but never allows more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitHeader {
    /// Name of the limit in the tiers. Example: `requests`.
    #[schemars(length(min = 1, max = 63))]
    pub limit: String,

    /// How the state is written: `Separate` (one header a figure: `hard`, `remaining`, `used`, `reset`),
    /// `RateLimitFields` (the structured fields `RateLimit` and `RateLimit-Policy`), `UsedOfLimit`
    /// (`18/5000` in `header`), `KeyValues` (`total=700; remaining=699; resets=50` in `header`) or `Body` (in the answer's
    /// body, where `hard`, `remaining` and `used` are JSON pointers; of JSON answers, and of their first MiB).
    /// Default: `Separate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<HeaderFormat>,

    /// Condition under which the figures are this limit's, if several limits share header names.
    /// Default: none. Example: `{name: x-ratelimit-resource, equals: [core]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<HeaderCondition>,

    /// `Separate`: header with the limit's amount; `Body`: JSON pointer to it. Example: `x-ratelimit-limit-requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub hard: Option<String>,

    /// `Separate`: header with the units left; `Body`: JSON pointer to them. A negative figure means unknown.
    /// Example: `x-ratelimit-remaining-requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub remaining: Option<String>,

    /// `Separate`: header with the units used, if there is none with the units left; `Body`: JSON pointer to them. Needs
    /// `hard`.
    /// Example: `x-rate-limit-used`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub used: Option<String>,

    /// `Separate`: header with the reset. Example: `x-ratelimit-reset-requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub reset: Option<String>,

    /// `Separate`: header with the window's length in milliseconds. If it differs from the limit's window, the
    /// figures belong to another limit and are ignored. Example: `x-hubspot-ratelimit-interval-milliseconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub interval_millis: Option<String>,

    /// How the reset is written: `DeltaSeconds`, `DeltaMillis`, `EpochSeconds`, `EpochMillis`, `GoDuration`,
    /// `Rfc3339`, `HttpDate` or `RetryAfter`. Required with `reset`; `RateLimitFields`
    /// always has seconds. Example: `GoDuration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_format: Option<TimeFormat>,

    /// What happens at the reset: `WindowEnd` (the whole amount is back at once), `FullRefill` (by then
    /// it has come back bit by bit) or `NextUnit` (one unit is back).
    /// Default: `WindowEnd`, the longest wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_means: Option<ResetMeans>,

    /// `RateLimitFields`: the policy's name. Default: the limit's name, or any name if there is one policy only.
    /// Example: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub policy: Option<String>,

    /// `UsedOfLimit` and `KeyValues`: the header. Example: `sforce-limit-info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub header: Option<String>,

    /// `UsedOfLimit`: the key before `=`, for `api-usage=18/5000`. Default: none, the value has no key.
    /// Example: `api-usage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub key: Option<String>,
}

/// How a limit's state is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HeaderFormat {
    /// One header a figure.
    #[default]
    Separate,
    /// `RateLimit` and `RateLimit-Policy`, structured fields (draft-ietf-httpapi-ratelimit-headers-11).
    RateLimitFields,
    /// `18/5000`: used and limit, as Salesforce and Shopify write them.
    UsedOfLimit,
    /// `total=700; remaining=699; resets=50`, as Zendesk writes them; seconds.
    KeyValues,
    /// Numbers in the answer's body, as Shopify's GraphQL API has them; fractions are cut off.
    Body,
    /// A format of a newer version; ignored.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How a point in time, or the time until it, is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TimeFormat {
    /// Seconds from now, decimals allowed.
    DeltaSeconds,
    /// Milliseconds from now.
    DeltaMillis,
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMillis,
    /// A duration as Go prints it: `12ms`, `6m0s`, `23h47m36.648s`.
    GoDuration,
    /// `2026-10-05T14:03:10Z` (RFC 3339).
    Rfc3339,
    /// The three syntaxes of RFC 9110, 5.6.7.
    HttpDate,
    /// Seconds or an HTTP date, as in `Retry-After` (RFC 9110, 10.2.3).
    RetryAfter,
    /// A message that names the wait among its words: `Please try again in 1m2.5s.`
    Prose,
    /// A format of a newer version; ignored.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What happens at a reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ResetMeans {
    /// The whole amount is back at once.
    #[default]
    WindowEnd,
    /// By then the whole amount has come back, bit by bit.
    FullRefill,
    /// One unit is back.
    NextUnit,
}

impl LimitHeader {
    /// The format; `Separate` by default.
    pub fn format(&self) -> HeaderFormat {
        self.format.unwrap_or_default()
    }

    /// Whether these headers carry the limit's amount.
    pub fn has_amount(&self) -> bool {
        match self.format() {
            HeaderFormat::Separate | HeaderFormat::Body => self.hard.is_some(),
            HeaderFormat::RateLimitFields | HeaderFormat::UsedOfLimit | HeaderFormat::KeyValues => true,
            HeaderFormat::Unknown => false,
        }
    }
}
