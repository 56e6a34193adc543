//! The status of all accounts, as the limiter streams it to the operator: one JSON document per line.

use jiff::Timestamp;
use quotakeeper_engine::config::Mode;
use quotakeeper_engine::{AccountStatus, Totals};
use serde::{Deserialize, Serialize};

use crate::message::NoticeKind;
use crate::name::{AccountKey, Consumer, QuotaName};
use crate::tier::LearnedTier;

/// The path of the limiter's stream of [`Report`]s: the first at once, then one per change, and at least one every
/// [`EVERY_SECONDS`] seconds.
pub const PATH: &str = "/status/v1";
/// The longest silence of the stream, in seconds.
pub const EVERY_SECONDS: u64 = 2;

/// The status of all accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The incarnation of the limiter.
    pub epoch: u64,
    /// Which limiter reports; none: one of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveLimiter>,
    /// The gate is open for all accounts: every call passes.
    pub gate_open: bool,
    /// When it closes by itself, while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_open_until: Option<Timestamp>,
    /// All proxies, and how many have received the newest state of the gate.
    pub proxies: ProxyCounts,
    pub accounts: Vec<AccountReport>,
}

/// The limiter that is active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveLimiter {
    /// The name of its pod.
    pub name: String,
    /// Since when it is, by the API server's clock.
    pub since: Timestamp,
    /// How it has begun: `First`, `Restart`, `Handover` or `Takeover`.
    pub began: String,
}

/// Proxies with an open session, and how many of them have the newest configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyCounts {
    /// Those that have received it.
    pub current: u32,
    /// All of them.
    pub connected: u32,
}

/// What a limiter knew of an account's use when it put the account in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PastUse {
    /// Nothing, not even whether the account is new. What a window can hold counts as used.
    #[default]
    Unknown,
    /// The account is new: it is assumed to be unused.
    New,
    /// What its ledger has.
    Recorded,
    /// A limiter before it may have granted, and what it granted is lost: what it can have granted counts as used.
    Lost,
}

/// The checkpoint of an account's long windows, which is stored where the loss of the ledger does not reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointReport {
    /// Counts the checkpoints of the account; 0: none is stored.
    pub number: u64,
    /// It can't be read or stored, for some seconds now. What it covers is granted; then calls that draw on a long window wait until it can.
    #[serde(default)]
    pub failing: bool,
    /// Why that is so, as a sentence without its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The newest that is known to have been stored was missing, or an earlier one was in its place, and the limiter
    /// needed it: what was used of long windows is not known.
    #[serde(default)]
    pub lost: bool,
    /// The limiter has begun from it, because it had no ledger of the account.
    #[serde(default)]
    pub began: bool,
}

/// The status of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountReport {
    /// The account's key; empty while nothing is in force.
    pub key: AccountKey,
    /// The quota.
    pub quota: QuotaName,
    /// The tier in force; empty: the provider has none.
    pub tier: String,
    /// What is known of the limits, where the quota declares no tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedTier>,
    /// The generation of the quota that is in force; none: nothing is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why the newest configuration could not be applied, as a sentence; the one before stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What was known of the account's use when this limiter put it in force.
    #[serde(default)]
    pub past: PastUse,
    /// What is stored of its long windows beside the ledger; none: nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointReport>,
    /// Whether calls are held.
    pub mode: Mode,
    /// The proxies that draw on it.
    pub proxies: ProxyCounts,
    /// Limits, pauses and waiting calls; of more than a thousand workloads those that have waited longest.
    #[serde(flatten)]
    pub status: AccountStatus,
    /// What has been counted since this limiter started.
    #[serde(flatten)]
    pub totals: Totals,
    /// What the authors of its workloads should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<ConsumerNotice>,
}

/// What the author of a workload should know, as its proxies have seen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerNotice {
    /// The workload.
    pub consumer: Consumer,
    pub kind: NoticeKind,
    /// What one of its proxies saw first.
    pub detail: String,
    /// The proxies that have seen it.
    pub proxies: u32,
}

impl AccountReport {
    /// The provider's name.
    pub fn provider(&self) -> &str {
        self.key.split('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use quotakeeper_engine::PauseStatus;

    /// While an installation is upgraded, operator and limiter are of two versions.
    #[test]
    fn a_pause_of_another_version_is_read() {
        let read = |json: &str| serde_json::from_str::<PauseStatus>(json).unwrap();
        let earlier = r#"{"scope":"account","remainingMillis":9,"reason":"429","stopped":false}"#;
        assert!(!read(earlier).overloaded);
        let later = r#"{"scope":{"limit":"daily"},"remainingMillis":9,"reason":"529","stopped":false,"overloaded":true,"x":1}"#;
        assert!(read(later).overloaded);
    }
}
