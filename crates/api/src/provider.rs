//! `ApiProvider`: a provider's profile as a cluster-scoped resource.
//!
//! The profile itself, its rules and its inheritance belong to `quotakeeper-dialects`.

use kube::CustomResource;
use quotakeeper_dialects::profile::Profile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An API and its dialect: hosts, tiers, limit headers, rejections, base-URL variables.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "quotakeeper.dev",
    version = "v1alpha1",
    kind = "ApiProvider",
    plural = "apiproviders",
    singular = "apiprovider",
    category = "quotakeeper",
    derive = "PartialEq",
    doc = "The API of a provider: its hosts, tiers and limits, its limit headers and its rejections.",
    printcolumn = r#"{"name":"Extends","type":"string","jsonPath":".spec.extends"}"#,
    printcolumn = r#"{"name":"Hosts","type":"string","jsonPath":".spec.hosts"}"#,
    printcolumn = r#"{"name":"Tiers","type":"string","jsonPath":".metadata.annotations.quotakeeper\\.dev/tiers"}"#,
    printcolumn = r#"{"name":"Lowest-Tier","type":"string","priority":1,"jsonPath":".spec.tiers[0].name"}"#,
    printcolumn = r#"{"name":"Verified","type":"string","priority":1,"jsonPath":".spec.verified.date"}"#,
    printcolumn = r#"{"name":"Age","type":"date","priority":1,"jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(transparent)]
pub struct ApiProviderSpec {
    /// The provider's profile.
    pub profile: Profile,
}
