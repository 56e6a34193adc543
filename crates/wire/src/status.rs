//! How accounts stand, as the limiter tells it to the operator: one JSON document a line.

use jiff::Timestamp;
use quotakeeper_engine::config::Mode;
use quotakeeper_engine::event::Scope;
use serde::{Deserialize, Serialize};

/// The path of the limiter's stream of [`Report`]s, one JSON document a line: at once, then when
/// something has changed, and at least every [`EVERY_SECONDS`] seconds.
pub const PATH: &str = "/status/v1";
/// The longest silence of the stream, in seconds.
pub const EVERY_SECONDS: u64 = 5;

/// How all accounts stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Which limiter incarnation speaks.
    pub epoch: u64,
    /// The gate is open for all accounts: every call passes.
    pub gate_open: bool,
    /// When it closes by itself, while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_open_until: Option<Timestamp>,
    /// Sessions of proxies that have been told the newest state of the gate, of all that are open.
    pub told: Told,
    /// The accounts.
    pub accounts: Vec<AccountReport>,
}

/// How many sessions have been told the newest configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// That have.
    pub current: u32,
    /// That are open.
    pub connected: u32,
}

/// How one account stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountReport {
    /// The account's key: `provider/id`.
    pub key: String,
    /// The quota as people name it: `namespace/name`.
    pub quota: String,
    /// The generation of the quota that is in force; none: nothing is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// What in the configuration could not be taken, as a sentence; the one before stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether calls are held.
    pub mode: Mode,
    /// The limits that calls have drawn on.
    pub limits: Vec<LimitReport>,
    /// The pauses in force.
    pub pauses: Vec<PauseReport>,
    /// Calls that wait, by workload; the most impatient thousand workloads.
    pub waiting: Vec<WaitingReport>,
    /// Calls that hold a grant and are not over.
    pub under_way: u64,
    /// The proxies that draw on it.
    pub proxies: Told,
    /// Calls since this limiter began: granted.
    pub granted: u64,
    /// … refused.
    pub refused: u64,
    /// … rejected by the provider for the quota.
    pub rejected: u64,
    /// … whose write was reported later than the rule allows.
    pub breaches: u64,
}

/// How one limit stands, in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitReport {
    /// Its name.
    pub name: String,
    /// The model, where models are counted apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How much may be used.
    pub amount: u64,
    /// How much is.
    pub used: u64,
    /// How much of it by others.
    pub used_by_others: u64,
    /// How much of it is only taken to be used, because nothing is known of the time before.
    pub assumed: u64,
    /// Calls that wait and draw on it.
    pub waiting: u64,
    /// When all of it is free again if nothing more is drawn, in milliseconds.
    pub resets_in_millis: u64,
}

/// A pause in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseReport {
    /// The calls that are held.
    pub scope: Scope,
    /// How much longer at least, in milliseconds; zero while it is probed.
    pub remaining_millis: u64,
    /// The provider's word, or who paused.
    pub reason: String,
    /// The provider refuses until a person acts.
    pub stopped: bool,
    /// The provider has said that it is overloaded, rather than that the quota is used up.
    #[serde(default)]
    pub overloaded: bool,
}

/// The calls of one workload that wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingReport {
    /// The workload: `namespace/kind/name`.
    pub consumer: String,
    /// How many of its calls wait.
    pub calls: u64,
    /// How long the one that has waited longest has waited, in milliseconds.
    pub longest_millis: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// While an installation is upgraded, operator and limiter are of two versions.
    #[test]
    fn a_pause_of_another_version_is_read() {
        let read = |json: &str| serde_json::from_str::<PauseReport>(json).unwrap();
        let earlier = r#"{"scope":"account","remainingMillis":9,"reason":"429","stopped":false}"#;
        assert!(!read(earlier).overloaded);
        let later = r#"{"scope":{"limit":"daily"},"remainingMillis":9,"reason":"529","stopped":false,"overloaded":true,"x":1}"#;
        assert!(read(later).overloaded);
    }
}
