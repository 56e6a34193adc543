//! What people are shown of an account. The limiter's reports carry these types as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CallState, ConsumerHangUps, Engine, EstimateRatios, WaitTimes, WorkloadUsage};
use crate::callers::PauseKey;
use crate::concurrency_cap::LearnedConcurrency;
use crate::config::Unit;
use crate::estimate::EstimateStatus;
use crate::event::{Callers, Scope};
use crate::name::{AllocationName, Consumer};
use crate::time::Time;

/// An account at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountStatus {
    /// The limits that calls have drawn on, by name and model.
    pub limits: Vec<LimitStatus>,
    /// The pauses in force.
    pub pauses: Vec<PauseStatus>,
    /// Workloads whose calls wait, by name.
    pub waiting: Vec<ConsumerWait>,
    /// Calls that hold a grant and are not over.
    pub under_way: u64,
    /// How many calls the provider takes at the same time, where its rejections have shown it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub concurrency: Vec<LearnedConcurrency>,
    /// Workloads whose clients hang up while their calls wait, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hang_ups: Vec<ConsumerHangUps>,
    /// Workloads that have called within the last hour, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadUsage>,
    /// The allocations, in the order of the quota.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<AllocationStatus>,
    /// What is learned of the tokens of calls, of the kinds that were used last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub estimates: Vec<EstimateStatus>,
    /// How good that was.
    #[serde(default, skip_serializing_if = "EstimateRatios::is_empty")]
    pub estimate_ratios: EstimateRatios,
    /// How long calls have waited for their grants.
    #[serde(default, skip_serializing_if = "WaitTimes::is_empty")]
    pub wait_times: WaitTimes,
}

/// A part of the quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationStatus {
    /// Its name.
    pub name: AllocationName,
    /// Its calls that wait.
    pub waiting: u64,
    /// Its calls that hold a grant and are not over.
    pub under_way: u64,
    /// What it uses of the account's limits, by their names, with the most that it may use as the amount; and of its own.
    pub limits: Vec<LimitStatus>,
}

/// The calls of one workload that wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerWait {
    /// The workload.
    pub consumer: Consumer,
    /// How many of its calls wait.
    pub calls: u64,
    /// How long the one that has waited longest has waited.
    #[serde(rename = "longestMillis", with = "crate::millis")]
    pub longest: Duration,
}

/// One limit, in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitStatus {
    /// Its name.
    pub name: String,
    /// The model, where models are counted apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What it counts.
    #[serde(default = "requests")]
    pub unit: Unit,
    /// How long its window is, a period's at most; zero: it counts calls under way, or a version before did not say.
    #[serde(default, rename = "windowMillis", with = "crate::millis")]
    pub window: Duration,
    /// Units that may be used in a window.
    pub amount: u64,
    /// Units in use, by all clients.
    pub used: u64,
    /// Units of `used` that are held for calls under way.
    #[serde(default)]
    pub reserved: u64,
    /// Units of `used` by clients that this limiter does not see.
    pub used_by_others: u64,
    /// Units of `used` that are assumed, because nothing is known of the time before the start.
    pub assumed: u64,
    /// Waiting calls that draw on it.
    pub waiting: u64,
    /// When all of it is free again, if nothing more is drawn.
    #[serde(rename = "resetsInMillis", with = "crate::millis")]
    pub resets_in: Duration,
    /// About how long until it has let all waiting calls through; none waits: until it lets the next one through.
    #[serde(default, rename = "waitMillis", with = "crate::millis")]
    pub wait: Duration,
    /// A call was refused or kept waiting, because what is used for good leaves no room for it, and there is none yet.
    /// Only of budgets.
    #[serde(default)]
    pub spent: bool,
}

/// The unit of a report by a version that counted nothing else in windows.
fn requests() -> Unit {
    Unit::Requests
}

/// A pause in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseStatus {
    /// The calls that are held.
    pub scope: Scope,
    /// Whose calls; all, too, where nobody else is known.
    #[serde(default, skip_serializing_if = "Callers::is_all")]
    pub callers: Callers,
    /// How much longer at least; zero while it is probed.
    #[serde(rename = "remainingMillis", with = "crate::millis")]
    pub remaining: Duration,
    /// The provider's reason, or who paused.
    pub reason: String,
    /// The provider refuses until a person acts; one call asks again when `remaining` has passed.
    pub stopped: bool,
    /// The provider is overloaded; the quota is not used up. Not known of a pause from the ledger.
    #[serde(default)]
    pub overloaded: bool,
    /// A person has paused, not the provider.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
}

impl AccountStatus {
    /// How many calls wait.
    pub fn waiting_calls(&self) -> u64 {
        self.waiting.iter().map(|entry| entry.calls).sum()
    }

    /// How long the call that has waited longest has waited; none waits: `None`.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.waiting.iter().map(|entry| entry.longest).max()
    }
}

impl Engine {
    /// How many calls the provider takes at the same time, as far as its rejections show.
    pub(super) fn learned_concurrency(&self) -> Vec<LearnedConcurrency> {
        self.caps.iter().map(|(scope, cap)| cap.learned(scope)).collect()
    }

    fn allocations_status(&mut self, now: Time) -> Vec<AllocationStatus> {
        let names = self.config.sharing.allocations.iter().map(|allocation| allocation.name.clone());
        let mut limits = |name: &AllocationName| self.lanes.status_of(name, now);
        let mut allocations: Vec<AllocationStatus> = names
            .map(|name| AllocationStatus { limits: limits(&name), name, waiting: 0, under_way: 0 })
            .collect();
        if allocations.is_empty() {
            return allocations;
        }
        for call in self.calls.values() {
            let own = self.lanes.class_of(call.wanted.lane).allocation.as_ref();
            let Some(status) = allocations.iter_mut().find(|it| own == Some(&it.name)) else { continue };
            match call.state {
                CallState::Waiting { .. } => status.waiting += 1,
                CallState::Granted(_) => status.under_way += 1,
            }
        }
        allocations
    }

    /// The pauses in force that people are told of.
    pub(super) fn told_pauses(&self, now: Time) -> impl Iterator<Item = (&PauseKey, PauseStatus)> {
        let closed = self.pauses.iter().filter(|(_, pause)| pause.is_closed() && !pause.only_asks());
        let told = closed.map(|(key, pause)| (key, pause, self.told_callers(&key.callers)));
        // Those of a workload or credential that is gone are never probed.
        let told = told.filter(move |(_, pause, callers)| callers.is_all() || pause.until > now);
        told.map(move |(key, pause, callers)| {
            let status = PauseStatus {
                scope: key.scope.clone(),
                callers,
                remaining: pause.until.since(now),
                reason: pause.reason.clone(),
                stopped: pause.stopped(),
                overloaded: pause.overloaded,
                by_hand: pause.is_by_hand(),
            };
            (key, status)
        })
    }

    /// The account as of `now`.
    pub fn status(&mut self, now: Time) -> AccountStatus {
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
        let calls: u64 = waiting.iter().map(|entry| entry.calls).sum();
        AccountStatus {
            pauses: self.told_pauses(now).map(|(_, pause)| pause).collect(),
            under_way: (self.calls.len() as u64).saturating_sub(calls),
            waiting,
            limits: self.lanes.status(now),
            allocations: self.allocations_status(now),
            concurrency: self.learned_concurrency(),
            hang_ups: self.hang_ups.status(now),
            workloads: self.usage_by_workload.status(now),
            estimates: self.estimates.status(),
            estimate_ratios: self.estimate_ratios.clone(),
            wait_times: self.wait_times.clone(),
        }
    }
}
