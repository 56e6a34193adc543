//! What the operator reports of a quota: preformatted strings for `kubectl get`, figures for
//! programs, conditions for both.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Unit;
use super::columns::StatusSummary;

/// How the quota stands. Written on meaningful change only: waits and percentages are coarse.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiQuotaStatus {
    /// The state and the reason in one sentence. The first field by name, so that `kubectl describe` begins with it.
    /// Example: `Queueing: 97 % of requests (10k/min) is used; 212 calls of 2 workloads wait.`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1280))]
    pub brief: Option<String>,

    /// The generation of the spec that this status is about. Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,

    /// Short texts, as `kubectl get apiquotas` shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<StatusSummary>,

    /// The limits in force and their use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 80))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub limits: Vec<LimitStatus>,

    /// The allocations and what they use, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub allocations: Vec<AllocationStatus>,

    /// The calls that wait for their turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<WaitingStatus>,

    /// How many calls were refused of late, because they would have waited too long or the provider stopped the
    /// account; rounded down to 1, 10, 100 and so on. Absent: none for a minute. Example: `100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub refused: Option<i32>,

    /// The proxies that draw on the quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<ProxyStatus>,

    /// Until when the provider's rejection holds all calls back, and one call asks again; absent: not paused.
    /// Example: `2026-11-03T14:03:10Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::bounded::time")]
    pub paused_until: Option<Time>,

    /// The newest checkpoint of what counts in windows of an hour or more. An earlier one that is found later has been
    /// rolled back, as from a backup, and does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,

    /// `Accepted`, `Programmed`, `LimiterAvailable`, `ProviderAvailable`, `LimitsInSync`,
    /// `UsageKnown`, `Throttled` and `Ready`, each with a whole sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::bounded::conditions")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One limit in force and its use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitStatus {
    /// The limit's name. Example: `requests`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// What it counts; the figures below are in this unit, of `Dollars` in whole ones. Example: `TotalTokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,

    /// How much of it is used, for people. Example: `1.2M of 2.0M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub usage: Option<String>,

    /// Where the amount comes from: `Tier`, `Spec` or `Headers`. Example: `Tier`.
    pub source: LimitSource,

    /// The account's amount, in the limit's unit. Example: `10000`.
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub hard: i64,

    /// This cluster's part of it, without the reserve. Example: `1800`.
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub effective: i64,

    /// How much of that is used in the present window. Example: `1750`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub used: Option<i64>,

    /// How much of `used` is held for calls under way, of tokens and `Dollars`: what they don't use comes back.
    /// Example: `4096`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub reserved: Option<i64>,

    /// How much of the account others have used, as the provider's headers show. Example: `300`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub used_by_others: Option<i64>,

    /// How much more counts as used, because it is not known what was used before the limiter began; the condition
    /// `UsageKnown` says why. Example: `9000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub assumed: Option<i64>,

    /// How much is left. Example: `50`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub remaining: Option<i64>,

    /// How many calls wait for this limit. Example: `212`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub waiting: Option<i32>,

    /// When the whole amount is free again. Example: `2026-11-03T14:04:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::bounded::time")]
    pub reset_time: Option<Time>,
}

/// A part of the quota and what it uses.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationStatus {
    /// The allocation's name. Example: `realtime`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// How many of its calls wait. Example: `12`.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub waiting: i32,

    /// What it uses of the quota's limits, and of its own. Of a limit that counts models apart, the model of which the
    /// largest part is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 84))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub limits: Vec<AllocationLimitStatus>,
}

/// A limit as an allocation may use it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllocationLimitStatus {
    /// The limit's name. Example: `sales-budget`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// How much of it is used, for people. Example: `$112 of $200`.
    #[schemars(length(max = 64))]
    pub usage: String,

    /// The most that the allocation may use, in the limit's unit, of `Dollars` in whole ones. Example: `200`.
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub most: i64,

    /// How much of that is used in the present window. Example: `112`.
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub used: i64,

    /// How much of `used` is held for calls under way, of tokens and `Dollars`. Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub reserved: Option<i64>,

    /// How much is left. Example: `88`.
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub remaining: i64,

    /// When all of it is free again, where that takes an hour or longer. Example: `2026-12-01T05:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::bounded::time")]
    pub reset_time: Option<Time>,
}

/// Where a limit's amount comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LimitSource {
    /// The tier of the provider's profile.
    Tier,
    /// The quota's own `limits`.
    Spec,
    /// The provider's response headers.
    Headers,
}

/// The calls that wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingStatus {
    /// How many calls wait. Example: `212`.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub calls: i32,

    /// How long the longest of them has waited, in seconds, coarsely. Example: `30`.
    #[schemars(range(min = 0, max = 86_400))]
    pub longest_seconds: i32,

    /// Of how many workloads they are. Example: `2`.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub workloads: i32,
}

/// A checkpoint of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// The account's key: the provider, and the account's id or the quota's namespace and name. Example:
    /// `hubspot/gtm/crm`.
    #[schemars(length(min = 1, max = 512))]
    pub account: String,

    /// Counts the checkpoints of the account. Example: `12`.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub number: i64,
}

/// The proxies that draw on the quota.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// How many are connected to the limiter. Example: `14`.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub connected: i32,

    /// How many of them have the present configuration. Example: `14`.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub current: i32,

    /// How many pods name this quota and have no proxy. Example: `3`.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub not_injected: i32,
}
