//! `ApiQuota`: one account at a provider, its limits, who may draw on them and how.
//!
//! The types are the CRD: every string, list and number is bounded, nothing has a schema default
//! (it would keep GitOps tools out of sync), an absent field means what its text says. Rules
//! between fields are in [`rules`], once as CEL for the API server and once in Rust.

mod allocations;
mod amount;
pub(crate) mod columns;
pub mod rules;
mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use allocations::{Allocation, Priority};
pub use amount::{Amount, MAX_AMOUNT, MAX_DOLLARS};
pub use columns::StatusSummary;
pub use status::{
    AllocationLimitStatus, AllocationStatus, ApiQuotaStatus, CheckpointStatus, LimitSource, LimitStatus,
    ProxyStatus, WaitingStatus,
};

/// The account that a team has at a provider: its limits, this cluster's part of them, and what
/// happens to calls that must wait. Example: `spec: {provider: {name: openai}}`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "quotakeeper.dev",
    version = "v1alpha1",
    kind = "ApiQuota",
    plural = "apiquotas",
    singular = "apiquota",
    shortname = "aq",
    category = "quotakeeper",
    namespaced,
    status = "ApiQuotaStatus",
    derive = "PartialEq",
    doc = "One account at an API provider: its limits, who may draw on them, and what happens to calls that must wait.",
    selectable = ".spec.provider.name"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::burst_fits())]
#[x_kube(validation = rules::allocation::guarantees_fit())]
pub struct ApiQuotaSpec {
    /// The provider whose account this is, and the account's tier there.
    pub provider: ProviderRef,

    /// Which account it is and how much of it this cluster may use.
    /// Default: the whole account, named by this quota. Example: `{sharePercent: 20}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,

    /// Limits that replace the tier's limit of the same name, or come on top of the tier's.
    /// Default: the tier's limits as they are.
    /// Example: `[{name: requests, unit: Requests, amount: 10k, windowSeconds: 60}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub limits: Vec<Limit>,

    /// How much of its limits had been used at a time, where you know better than Quotakeeper: after a lost ledger, or
    /// because another system draws on the account. It replaces what is assumed and what is known of others until that
    /// time, is applied once, and the newest statement of a limit counts.
    /// Default: nothing is stated. Example: `[{limit: daily, amount: 120000, at: 2026-11-03T14:03:10Z}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["limit".into()]))]
    pub used: Vec<StatedUse>,

    /// Whose pods may draw on the quota.
    /// Default: the pods of the quota's own namespace. Example: `{namespaces: {from: All}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<Consumers>,

    /// Parts of the quota for sets of pods: shares, maxima, priorities and limits of their own. A pod draws on the first
    /// that selects it; calls of the other pods share what is left.
    /// Default: all workloads share alike.
    /// Example: `[{name: realtime, pods: {matchLabels: {app: chat}}, guaranteedPercent: 50, priority: Interactive}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub allocations: Vec<Allocation>,

    /// The most calls of one workload that may be under way at the same time; the others wait, however much is free.
    /// Default: as many as the limits allow. Example: `20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_concurrent_per_workload: Option<i32>,

    /// How calls are spread within what the provider allows.
    /// Default: a burst, then the rate. Example: `{algorithm: LeakyBucket}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pacing: Option<Pacing>,

    /// What happens to calls that would exceed the quota.
    /// Default: they wait, at most as long as the provider's profile says, else 30 seconds.
    /// Example: `{maxQueueSeconds: 60}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
}

/// A provider and a tier of it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderRef {
    /// Name of the `ApiProvider`; it can't be changed. Example: `openai`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::name(), validation = rules::provider_stays())]
    pub name: String,

    /// The account's plan at the provider, as its profile names it.
    /// Default: the one whose limits the provider's answers tell; until then, and where they tell none, the lowest.
    /// Example: `tier-4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub tier: Option<String>,
}

/// What the provider counts against, and this cluster's part of it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::something_left())]
pub struct Account {
    /// The account's id at the provider. Of several quotas with the same id, only the oldest is in force.
    /// Default: the quota's namespace and name. Example: `org-9f2c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = rules::account_id())]
    pub id: Option<String>,

    /// The account as answers name it in the provider's `organizationHeaders`. What an answer that names another says of
    /// limits and rejections is ignored, and the workload is told: its key belongs to another account.
    /// Default: answers are not compared. Example: `acme-inc-9f2c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = rules::organization())]
    pub organization: Option<String>,

    /// This cluster's part of each limit, in percent. Default: 100. Example: `20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub share_percent: Option<i32>,

    /// What is kept free of that part, in percent of it, for people and clients that are not seen
    /// here. Default: 0. Example: `10`, which leaves 18 % of the account with a share of 20 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 99))]
    pub reserve_percent: Option<i32>,
}

/// One dimension of what the account may use.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::window_needed())]
#[x_kube(validation = rules::window_or_period())]
#[x_kube(validation = rules::window_forbidden())]
#[x_kube(validation = rules::period_forbidden())]
#[x_kube(validation = rules::zone_forbidden())]
#[x_kube(validation = rules::counting_forbidden())]
#[x_kube(validation = rules::counting_of_period())]
#[x_kube(validation = rules::reserve_forbidden())]
#[x_kube(validation = rules::dollars_range())]
pub struct Limit {
    /// Name of the limit, unique in the quota; the tier's limit of that name is replaced, and keeps
    /// the endpoint and models that it covers. Example: `requests`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::name())]
    pub name: String,

    /// What is counted: `Requests` (calls in a window), `ConcurrentRequests` (calls under way at the same time),
    /// `InputTokens`, `OutputTokens`, `TotalTokens` (both together), `Credits` (the provider's own unit) or `Dollars`
    /// (by the prices of the provider's models). Example: `Requests`.
    pub unit: Unit,

    /// How many fit into a window or period, or may be under way: a whole number, or with `k` for thousands
    /// or `M` for millions; of `Dollars` also a decimal with at most six places, in quotes, such as `"412.50"`, and at
    /// most 10000000. It is the account's amount; share and reserve are taken off it. Example: `10k`.
    #[x_kube(validation = rules::amount_milli())]
    #[x_kube(validation = rules::amount_binary())]
    #[x_kube(validation = rules::amount_form())]
    #[x_kube(validation = rules::amount_range())]
    pub amount: Amount,

    /// Length of the window in seconds; without it a limit needs a `period`. Without meaning for
    /// `ConcurrentRequests`. Default: none. Example: `60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_622_400))]
    pub window_seconds: Option<i32>,

    /// A calendar's `Day`, `Week` (from Monday) or `Month`, in place of `windowSeconds`.
    /// It begins anew at its edge, two
    /// seconds late by this node's clock; a call under way then counts in both. A changed `period` or `timeZone` is in
    /// force from the next edge of the one before. Default: none. Example: `Month`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,

    /// The time zone of `period`, by its IANA name. Default: `UTC`. Example: `America/New_York`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,

    /// The models whose calls the limit covers, or classes of models as the provider's profile names them; a model that
    /// shares a class is counted with all of it.
    /// Default: those of the tier's limit of that name, else all. Example: `[gpt-4o-mini]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub models: Vec<String>,

    /// How the provider counts: `Unknown`, `TokenBucket`, `LeakyBucket`, `FixedWindow` or
    /// `SlidingWindow`. Default: what the tier's limit of that name says, else `Unknown`, which is
    /// safe for each of the others. Example: `SlidingWindow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_as: Option<CountedAs>,

    /// What is held for a call until its usage is known, of tokens and `Dollars`: `Bound` (the most that it can use:
    /// nothing is overspent, and what is not used comes back at its end) or `Learned` (what such calls use).
    /// Default: `Bound` for `Dollars` and for an hour and longer, else `Learned`. Example: `Bound`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Reserve>,
}

/// How much of a limit had been used.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatedUse {
    /// Name of a limit that is in force and has a window or period; of a limit that an allocation declares,
    /// `ALLOCATION/LIMIT`. Example: `daily`.
    #[schemars(length(min = 1, max = 127))]
    #[x_kube(validation = rules::limit_of_any())]
    pub limit: String,

    /// How much all clients of the account had used in the window until `at`, in the limit's unit, of `Dollars` in whole
    /// ones; of a limit that counts models apart, of each model. Example: `120000`.
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub amount: i64,

    /// When that was so. A time to come is waited for. One that is longer ago than the limit's window has no effect.
    /// Example: `2026-11-03T14:03:10Z`.
    #[schemars(schema_with = "crate::bounded::time")]
    pub at: Time,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unit {
    /// Calls in a window.
    Requests,
    /// Calls under way at the same time.
    ConcurrentRequests,
    /// Tokens that calls send.
    InputTokens,
    /// Tokens that calls get.
    OutputTokens,
    /// Both together.
    TotalTokens,
    /// The provider's own cost units.
    Credits,
    /// Money.
    Dollars,
}

impl Unit {
    /// Whether what a call draws of it is known only when it has ended.
    pub fn is_settled_later(self) -> bool {
        matches!(self, Unit::InputTokens | Unit::OutputTokens | Unit::TotalTokens | Unit::Dollars)
    }
}

/// A calendar's period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of a month to the next.
    Month,
}

impl From<Period> for quotakeeper_dialects::profile::Period {
    fn from(period: Period) -> Self {
        match period {
            Period::Day => Self::Day,
            Period::Week => Self::Week,
            Period::Month => Self::Month,
        }
    }
}

/// What is held for a call until its usage is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Reserve {
    /// The most that it can use.
    Bound,
    /// What such calls use, learned from those before.
    Learned,
}

/// How the provider counts a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CountedAs {
    /// Not known: kept so that it fits each of the others.
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

/// Whose pods may draw on the quota.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Consumers {
    /// The namespaces whose pods may draw.
    /// Default: the quota's own. Example: `{from: All}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<ConsumerNamespaces>,
}

/// Namespaces whose pods may draw on the quota.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::selector_needed())]
#[x_kube(validation = rules::selector_forbidden())]
pub struct ConsumerNamespaces {
    /// `Same` (the quota's own), `All`, or `Selector` (those whose labels match `selector`).
    /// Example: `Selector`.
    pub from: NamespacesFrom,

    /// Labels of the namespaces; only with `from: Selector`, and required there.
    /// Default: absent. Example: `{matchLabels: {team: gtm}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::bounded::label_selector")]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The quota's own namespace.
    Same,
    /// Every namespace.
    All,
    /// The namespaces whose labels match the selector.
    Selector,
}

/// How calls are spread; where the provider counts more strictly, that holds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::burst_forbidden())]
pub struct Pacing {
    /// `TokenBucket` (a burst, then the rate) or `LeakyBucket` (evenly).
    /// Default: `TokenBucket`. Example: `LeakyBucket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<PacingAlgorithm>,

    /// The most calls that may be sent at once, of each limit of `Requests`; only with
    /// `TokenBucket`. Default: derived from each limit's amount and window. Example: `200`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub burst: Option<i32>,
}

/// How calls are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PacingAlgorithm {
    /// A burst, then the rate.
    TokenBucket,
    /// Evenly.
    LeakyBucket,
}

/// What happens to calls that would exceed the quota.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::queue_forbidden())]
pub struct Enforcement {
    /// `Enforce`, or `Disabled`: every call passes at once and is still counted, the switch for
    /// incidents. Default: `Enforce`. Example: `Disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// `Queue` (the call waits its turn) or `Reject` (it is refused with 429 and Retry-After).
    /// Default: `Queue`. Example: `Reject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exceeded: Option<OnExceeded>,

    /// The longest that a call may wait, in seconds; the client's own timeout wins where it is
    /// shorter. Only with `onExceeded: Queue`.
    /// Default: what the provider's profile says, else 30; while no limiter answers, as long as
    /// the client waits. Example: `60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub max_queue_seconds: Option<i32>,
}

/// Whether calls are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Calls wait for their turn.
    Enforce,
    /// Every call passes at once and is still counted.
    Disabled,
}

/// What happens to a call that can't be sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnExceeded {
    /// It waits.
    Queue,
    /// It is refused.
    Reject,
}

impl ApiQuotaSpec {
    /// This cluster's part of the account in percent (1 to 100).
    pub fn share_percent(&self) -> i32 {
        let share = self.account.as_ref().and_then(|account| account.share_percent);
        share.unwrap_or(100)
    }

    /// What is kept free of the share, in percent of it (0 to 99).
    pub fn reserve_percent(&self) -> i32 {
        let reserve = self.account.as_ref().and_then(|account| account.reserve_percent);
        reserve.unwrap_or(0)
    }

    /// The burst that pacing allows, where it says one.
    pub fn burst(&self) -> Option<u64> {
        let burst = self.pacing.as_ref()?.burst?;
        u64::try_from(burst).ok()
    }
}
