//! The status of all accounts, as the limiter streams it to the operator: one JSON document per line.

use jiff::Timestamp;
use quotakeeper_engine::PauseStatus;
use quotakeeper_engine::config::Mode;
use serde::{Deserialize, Serialize};

use crate::name::{AccountKey, Consumer, QuotaName};

/// The path of the limiter's stream of [`Report`]s: the first at once, then one per change, and at least one every
/// [`EVERY_SECONDS`] seconds.
pub const PATH: &str = "/status/v1";
/// The longest silence of the stream, in seconds.
pub const EVERY_SECONDS: u64 = 5;

/// The status of all accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The incarnation of the limiter.
    pub epoch: u64,
    /// The gate is open for all accounts: every call passes.
    pub gate_open: bool,
    /// When it closes by itself, while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_open_until: Option<Timestamp>,
    /// All proxies, and how many have received the newest state of the gate.
    pub proxies: ProxyCounts,
    pub accounts: Vec<AccountReport>,
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

/// The status of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountReport {
    /// The account's key; empty while nothing is in force.
    pub key: AccountKey,
    /// The quota.
    pub quota: QuotaName,
    /// The generation of the quota that is in force; none: nothing is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why the newest configuration could not be applied, as a sentence; the one before stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether calls are held.
    pub mode: Mode,
    /// The limits that calls have drawn on so far.
    pub limits: Vec<LimitReport>,
    /// The pauses in force.
    pub pauses: Vec<PauseStatus>,
    /// Calls that wait, by workload; the most impatient thousand workloads.
    pub waiting: Vec<WaitingReport>,
    /// Calls that hold a grant and are not over.
    pub under_way: u64,
    /// The proxies that draw on it.
    pub proxies: ProxyCounts,
    /// Calls granted since this limiter started.
    pub granted: u64,
    /// Calls refused since this limiter started.
    pub refused: u64,
    /// Calls that the provider has rejected for their quota since this limiter started.
    pub rejected: u64,
    /// Calls whose write was reported later than the rule allows, since this limiter started.
    pub breaches: u64,
}

/// The status of one limit, in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitReport {
    pub name: String,
    /// The model, where models are counted apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Units per window.
    pub amount: u64,
    /// Units in use, by all.
    pub used: u64,
    /// Units of `used` by clients that this limiter does not see.
    pub used_by_others: u64,
    /// Units of `used` that are assumed, because nothing is known of the time before the start.
    pub assumed: u64,
    /// Waiting calls that draw on it.
    pub waiting: u64,
    /// When all of it is free again if nothing more is drawn, in milliseconds.
    pub resets_in_millis: u64,
}

/// The waiting calls of one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingReport {
    /// The workload.
    pub consumer: Consumer,
    /// How many.
    pub calls: u64,
    /// The longest wait among them so far, in milliseconds.
    pub longest_millis: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
