//! Allocations: parts of a quota for sets of pods.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Limit, rules};

/// A part of the quota for a set of pods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::allocation::pods_needed())]
#[x_kube(validation = rules::allocation::guarantee_fits())]
pub struct Allocation {
    /// Name of the allocation, unique in the quota. Example: `realtime`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::name())]
    pub name: String,

    /// Labels of the namespaces whose pods draw on the allocation; this or `pods` is required.
    /// Default: all namespaces that may draw on the quota. Example: `{matchLabels: {team: sales}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::bounded::label_selector")]
    pub namespaces: Option<LabelSelector>,

    /// Labels of the pods that draw on the allocation, as they are when a pod's proxy connects to the limiter. Whoever
    /// may label pods in these namespaces may choose; where that matters, select namespaces.
    /// Default: all pods of these namespaces. Example: `{matchLabels: {app: speed-to-lead}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::bounded::label_selector")]
    pub pods: Option<LabelSelector>,

    /// Its part of what no allocation is guaranteed, beside the weights of the others; calls of no allocation together
    /// have weight 1. Default: 1. Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<i32>,

    /// What it gets at least of the calls that are sent while its calls wait, in percent of every limit. What it does not
    /// use is lent to the others, and what is lent of a day's or a month's limit is gone for that day or month.
    /// Default: 0. Example: `50`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub guaranteed_percent: Option<i32>,

    /// What it gets at most, in percent of every limit, also while the others are idle. Default: 100. Example: `80`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_percent: Option<i32>,

    /// Which calls go first: `Interactive` before `Normal` before `Batch`. Each lower one keeps a tenth of the turns
    /// while its calls wait, so that it never starves. Default: `Normal`. Example: `Batch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,

    /// Limits of its own, beside those of the quota, such as a team's budget: a call is sent when both have room. Share
    /// and reserve of the account are not taken off them. Default: none.
    /// Example: `[{name: sales-budget, unit: Dollars, amount: "200", period: Month}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub limits: Vec<Limit>,
}

/// Which calls go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Priority {
    /// Somebody waits for the answer.
    Interactive,
    /// Neither.
    Normal,
    /// Work that can wait.
    Batch,
}
