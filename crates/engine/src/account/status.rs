//! What people are shown of an account.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CallState, Engine};
use crate::config::Unit;
use crate::event::Scope;
use crate::name::Consumer;
use crate::time::Time;

/// An account at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The limits that calls have drawn on, by name and model.
    pub limits: Vec<LimitStatus>,
    /// The pauses in force.
    pub pauses: Vec<PauseStatus>,
    /// Calls that wait.
    pub waiting: usize,
    /// Workloads whose calls wait, by name.
    pub waiting_by_consumer: Vec<ConsumerWait>,
    /// How long the one that has waited longest has waited.
    pub longest_wait: Option<Duration>,
    /// Calls that hold a grant and are not over.
    pub under_way: usize,
}

/// The calls of one workload that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerWait {
    /// The workload.
    pub consumer: Consumer,
    /// How many of its calls wait.
    pub calls: usize,
    /// How long the one that has waited longest has waited.
    pub longest: Duration,
}

/// One limit, in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// Its name.
    pub name: String,
    /// The model, where models are counted apart.
    pub model: Option<String>,
    /// What it counts.
    pub unit: Unit,
    /// How much may be used.
    pub amount: u64,
    /// How much is.
    pub used: u64,
    /// How much of it by others.
    pub used_by_others: u64,
    /// How much of it is only taken to be used, because nothing is known of the time before.
    pub assumed: u64,
    /// How much of it may still be on its way to the provider.
    pub in_flight: u64,
    /// Calls that wait and draw on it.
    pub waiting: u64,
    /// When all of it is free again, if nothing more is drawn.
    pub resets_in: Duration,
}

/// A pause in force. It is a part of the limiter's reports as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseStatus {
    /// The calls that are held.
    pub scope: Scope,
    /// How much longer at least; zero while it is probed.
    #[serde(rename = "remainingMillis", with = "crate::millis")]
    pub remaining: Duration,
    /// The provider's reason, or who paused.
    pub reason: String,
    /// The provider refuses until a person acts.
    pub stopped: bool,
    /// The provider is overloaded; the quota is not used up. Not known of a pause from the ledger.
    #[serde(default)]
    pub overloaded: bool,
}

impl Engine {
    /// The account as of `now`.
    pub fn status(&mut self, now: Time) -> Status {
        let mut waiting: BTreeMap<&Consumer, ConsumerWait> = BTreeMap::new();
        for call in self.calls.values() {
            if !matches!(call.state, CallState::Waiting { .. }) {
                continue;
            }
            let consumer = &call.wanted.consumer;
            let nothing = || ConsumerWait { consumer: consumer.clone(), calls: 0, longest: Duration::ZERO };
            let entry = waiting.entry(consumer).or_insert_with(nothing);
            entry.calls += 1;
            entry.longest = entry.longest.max(now.since(call.wanted.asked));
        }
        let waiting: Vec<ConsumerWait> = waiting.into_values().collect();
        let calls = waiting.iter().map(|entry| entry.calls).sum();
        Status {
            pauses: self
                .pauses
                .iter()
                .filter(|(_, pause)| pause.is_closed())
                .map(|(scope, pause)| PauseStatus {
                    scope: scope.clone(),
                    remaining: pause.until.since(now),
                    reason: pause.reason.clone(),
                    stopped: pause.stopped,
                    overloaded: pause.overloaded,
                })
                .collect(),
            waiting: calls,
            longest_wait: waiting.iter().map(|entry| entry.longest).max(),
            under_way: self.calls.len() - calls,
            waiting_by_consumer: waiting,
            limits: self.lanes.status(now),
        }
    }
}
