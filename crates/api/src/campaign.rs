//! `ApiCampaign`: how many records a workflow is to work through, and what each of them calls. `quotakeeper plan` reads it.

mod rules;

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use quotakeeper_dialects::decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::quota::Amount;

pub use rules::problems;

/// The campaign that a team plans: its records, its deadline, and what each record calls.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "quotakeeper.dev",
    version = "v1alpha1",
    kind = "ApiCampaign",
    plural = "apicampaigns",
    singular = "apicampaign",
    category = "quotakeeper",
    namespaced,
    derive = "PartialEq",
    doc = "A campaign: how many records it has, until when it is to be done, and what each record calls."
)]
#[serde(rename_all = "camelCase")]
pub struct ApiCampaignSpec {
    /// How many records there are: a whole number, or with `k` for thousands or `M` for millions. Example: `50k`.
    pub records: Amount,

    /// When it begins. Default: now. Example: `2026-12-01T09:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::bounded::time")]
    pub start: Option<Time>,

    /// When all records are to be done. Default: none. Example: `2026-12-01T17:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::bounded::time")]
    pub deadline: Option<Time>,

    /// The same as a time after the beginning, in seconds. Default: none. Example: `3600`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_622_400))]
    pub deadline_seconds: Option<i32>,

    /// How many records are worked on at the same time, by all pods together. Default: as many as the quotas can use,
    /// and the plan says how many that are. Example: `20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub workers: Option<i32>,

    /// What is done with each record, one step after the other.
    /// Example: `[{quota: openai, model: gpt-4o-mini, inputTokens: 900, outputTokens: 200}]`.
    #[schemars(length(min = 1, max = 16))]
    pub steps: Vec<CampaignStep>,

    /// What else draws on the quotas meanwhile. Default: nothing. Example: `[{quota: openai, callsPerMinute: 100}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub others: Vec<OtherLoad>,
}

/// What a record calls of one quota.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CampaignStep {
    /// The calls' quota, by its name. Example: `openai`.
    #[schemars(length(min = 1, max = 253))]
    pub quota: String,

    /// Calls for each record that reaches the step: a whole number, or a decimal in quotes. Default: 1. Example: `"1.3"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Decimal>,

    /// What each of them is.
    #[serde(flatten)]
    pub call: CallFigures,

    /// How many of the records that reach this step go on to the next one, in percent. Default: 100. Example: `60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub continue_percent: Option<i32>,
}

/// A load on a quota that is not the campaign's.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherLoad {
    /// The calls' quota, by its name. Example: `openai`.
    #[schemars(length(min = 1, max = 253))]
    pub quota: String,

    /// Calls in a minute, evenly spread. Example: `100`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub calls_per_minute: i32,

    /// What each of them is.
    #[serde(flatten)]
    pub call: CallFigures,
}

/// What a call is, on an average.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallFigures {
    /// The model that it names. Default: none. Example: `gpt-4o-mini`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub model: Option<String>,

    /// The provider's endpoint, as its profile names it. Default: none of those. Example: `search`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub endpoint: Option<String>,

    /// Tokens that it sends. Default: 0. Example: `900`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000_000))]
    pub input_tokens: Option<i32>,

    /// Tokens that it gets. Default: 0. Example: `200`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000_000))]
    pub output_tokens: Option<i32>,

    /// The most tokens that it lets the answer have (`max_tokens`). Default: the model's most. Example: `500`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000_000))]
    pub max_output_tokens: Option<i32>,

    /// What it costs in the provider's own units. Default: what the provider's profile says. Example: `10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000_000))]
    pub credits: Option<i32>,

    /// How long its answer takes, in milliseconds, from the request to the last byte. Default: 1000. Example: `2500`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400_000))]
    pub answer_millis: Option<i32>,

    /// How far these averages may be off, in percent, as a pilot has measured. Default: 10. Example: `4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 90))]
    pub spread_percent: Option<i32>,
}

/// A number that need not be whole, as it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Decimal {
    /// A whole number.
    Number(i64),
    /// A decimal with at most six places.
    Text(String),
}

impl Decimal {
    /// The number in millionths; none: it is negative, no number, or has more places.
    pub fn millionths(&self) -> Option<u64> {
        match self {
            Decimal::Number(number) => u64::try_from(*number).ok()?.checked_mul(1_000_000),
            Decimal::Text(text) => decimal::millionths(text),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decimal::Number(number) => number.fmt(f),
            Decimal::Text(text) => text.fmt(f),
        }
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 16})
    }
}
