//! Tiers and the limits in them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Profile;
use super::token_limits::{Charged, Formula, Weights};
use crate::request::CallShape;

/// A plan of the provider and its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tier {
    /// Name of the tier. Example: `tier-4`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// Its limits; a call must fit all that cover it.
    #[schemars(length(min = 1, max = 64))]
    pub limits: Vec<Limit>,
}

/// One dimension of what the provider allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// Name of the limit; headers, rejections and a quota's overrides refer to it. Example: `requests`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// What is counted: `Requests`, `InputTokens`, `OutputTokens`, `TotalTokens`, `ConcurrentRequests`, `Credits` or
    /// `Dollars`.
    pub unit: Unit,

    /// Units per window or period; for `ConcurrentRequests`, units at one time; for `Dollars`, whole dollars.
    /// Example: `500`.
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_i64), extend("format" = "int64"))]
    pub amount: u64,

    /// Length of the window in seconds; absent for `ConcurrentRequests` and with `period`. Example: `60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_622_400), extend("format" = "int32"))]
    pub window_seconds: Option<u32>,

    /// A calendar's `Day`, `Week` (from Monday) or `Month`, in place of `windowSeconds`.
    /// It begins anew at its edge, two
    /// seconds late by this node's clock; a call under way then counts in both. A changed `period` or `timeZone` is in
    /// force from the next edge of the one before. Default: none. Example: `Day`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,

    /// The time zone of `period`, by its IANA name. Default: `UTC`. Example: `America/Los_Angeles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,

    /// How the provider counts: `Unknown`, `TokenBucket`, `LeakyBucket`, `FixedWindow` or `SlidingWindow`.
    /// Default: `Unknown`, which is safe for each of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_as: Option<CountedAs>,

    /// Upper bound, in milliseconds, of the time between sending a call and the provider's counting it.
    /// Default: 1000 for windows of 60 seconds and more, 300 for 10 seconds and less. Example: `300`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60_000), extend("format" = "int32"))]
    pub delivery_millis: Option<u32>,

    /// Size of the provider's bucket: the units that it accepts at once.
    /// Default: derived from amount and window for `Requests`; the amount for other units. Example: `40`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_i64), extend("format" = "int64"))]
    pub burst: Option<u64>,

    /// When the provider counts a call's tokens: `AtArrival` (by `formula`, whatever the usage), `Settled` (by
    /// `formula` first, by the usage at the end), `AsProduced` (as the output is produced) or `Unknown`.
    /// Default: `Unknown`, which is safe for each of the others. Example: `AsProduced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<Charged>,

    /// How the provider estimates the tokens of a call when it arrives; required with `charged: AtArrival`.
    /// Default: four bytes a token and all the output that the request allows, taken for inexact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formula: Option<Formula>,

    /// How much of the limit a token draws, by its kind. Default: 1 for each kind that the unit counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,

    /// The endpoint whose calls this limit covers. Default: every call. Example: `search`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub endpoint: Option<String>,

    /// The models or model classes whose calls this limit covers; a trailing `*` stands for any rest.
    /// Default: every call. Example: `[gpt-4o-mini*]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub models: Vec<String>,

    /// What is counted apart under this limit: `Account`, `Model` or `Endpoint`.
    /// Default: `Account`, all covered calls share one count. Example: `Model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,

    /// Models of which it allows another amount; only with `partition: Model`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub per_model: Vec<ModelAmount>,
}

/// How much of a limit some models may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelAmount {
    /// Models or model classes, without patterns. Example: `[gpt-5-mini]`.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 256)))]
    pub models: Vec<String>,

    /// As the limit's own amount, of each of them. Example: `500000`.
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_i64), extend("format" = "int64"))]
    pub amount: u64,
}

/// What a limit counts.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Unit {
    /// Calls.
    #[default]
    Requests,
    /// Tokens of the prompt.
    InputTokens,
    /// Tokens of the answer.
    OutputTokens,
    /// Tokens of prompt and answer.
    TotalTokens,
    /// Calls under way at one time.
    ConcurrentRequests,
    /// The provider's own cost units.
    Credits,
    /// Money, by the prices of `models`.
    Dollars,
}

/// A calendar's period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of a month to the next.
    Month,
}

impl Period {
    /// The longest that one can last. Clocks are set back by three hours at most (Casey Station, 2020).
    pub fn longest(self) -> Duration {
        let days = match self {
            Period::Day => 1,
            Period::Week => 7,
            Period::Month => 31,
        };
        Duration::from_secs((days * 24 + 3) * 3600)
    }
}

impl Unit {
    /// Whether what a call draws of it depends on its tokens.
    pub fn counts_tokens(self) -> bool {
        matches!(self, Unit::InputTokens | Unit::OutputTokens | Unit::TotalTokens | Unit::Dollars)
    }
}

/// How the provider counts a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CountedAs {
    /// Not known: paced so that it fits each of the others.
    #[default]
    Unknown,
    /// A bucket that refills continuously.
    TokenBucket,
    /// A bucket that drains at the rate.
    LeakyBucket,
    /// A window that starts anew at its edge.
    FixedWindow,
    /// The last `windowSeconds`, at every moment.
    SlidingWindow,
}

/// What has a count of its own under a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Partition {
    /// One count for the account.
    #[default]
    Account,
    /// One count for each model, or class of models.
    Model,
    /// One count for each named endpoint; all other calls share one.
    Endpoint,
}

impl Tier {
    /// The limit of that name.
    pub fn limit(&self, name: &str) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.name == name)
    }
}

impl Limit {
    /// The window's length, or the longest of the period's; none for a limit of concurrency.
    pub fn window(&self) -> Option<Duration> {
        let window = self.window_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        window.or(self.period.map(Period::longest))
    }

    /// How the provider counts; `Unknown` by default.
    pub fn counted_as(&self) -> CountedAs {
        self.counted_as.unwrap_or_default()
    }
}

impl Profile {
    /// The count that a call draws on under `limit`: none where the limit does not cover the call, the empty
    /// key where all covered calls share one count, else the model's (or its class's) or endpoint's name.
    ///
    /// A call whose model is not known is covered by a limit for given models: counted too often is safe.
    pub fn partition(&self, limit: &Limit, shape: &CallShape) -> Option<String> {
        if limit.endpoint.is_some() && limit.endpoint != shape.endpoint {
            return None;
        }
        if limit.endpoint.is_none() && self.is_apart(shape.endpoint.as_deref()) {
            return None;
        }
        let class = shape.model.as_deref().map(|model| self.model_class(model));
        let counted = self.counted_model(shape).unwrap_or_default();
        if let (Some(model), false) = (&shape.model, limit.models.is_empty()) {
            let covers = |pattern: &String| {
                matches_name(pattern, model) || class.is_some_and(|class| pattern == class)
            };
            if !limit.models.iter().any(covers) {
                return None;
            }
        }
        Some(match limit.partition.unwrap_or_default() {
            Partition::Account => String::new(),
            Partition::Model => counted,
            Partition::Endpoint => shape.endpoint.clone().unwrap_or_default(),
        })
    }

    /// Whether the calls of this endpoint count under no limit but its own.
    pub fn is_apart(&self, endpoint: Option<&str>) -> bool {
        self.endpoints_apart().any(|apart| Some(apart) == endpoint)
    }

    /// The endpoints whose calls count under no limit but their own.
    pub fn endpoints_apart(&self) -> impl Iterator<Item = &str> {
        let apart = self.endpoints.iter().filter(|endpoint| endpoint.apart == Some(true));
        apart.map(|endpoint| endpoint.name.as_str())
    }

    /// The name under which the call's model is counted: its class, with the tier of service where that is counted
    /// apart.
    pub fn counted_model(&self, shape: &CallShape) -> Option<String> {
        let class = self.model_class(shape.model.as_deref()?);
        Some(Self::model_in_tier(class, shape.service_tier.as_deref()))
    }

    /// The name under which a class of models is counted in a tier of service that is counted apart.
    fn model_in_tier(class: &str, tier: Option<&str>) -> String {
        tier.map_or_else(|| class.to_owned(), |tier| format!("{class} ({tier})"))
    }

    /// The names under which a class of models is counted: its own, and those in tiers that are counted apart.
    pub fn counted_names(&self, class: &str) -> Vec<String> {
        let tiers = self.model.iter().filter_map(|model| model.service_tier.as_ref());
        let apart = tiers.flat_map(|tier| &tier.counted_apart).map(|tier| Some(tier.as_str()));
        std::iter::once(None).chain(apart).map(|tier| Self::model_in_tier(class, tier)).collect()
    }

    /// The class that `model` is counted in, or `model` itself.
    pub fn model_class<'a>(&'a self, model: &'a str) -> &'a str {
        let classes = self.model.iter().flat_map(|model| &model.classes);
        classes
            .filter(|class| class.models.iter().any(|pattern| matches_name(pattern, model)))
            .map(|class| class.name.as_str())
            .next()
            .unwrap_or(model)
    }
}

/// Whether `name` is `pattern`, or begins with what stands before the pattern's trailing `*`.
pub(super) fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}
