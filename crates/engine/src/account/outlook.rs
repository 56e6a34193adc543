//! How one more call of a workload would fare, and those of it that wait: what a program asks before it calls, and a
//! person when a program waits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::holds::OnlyCredential;
use super::status::{LimitStatus, PauseStatus};
use super::{Call, CallState, Engine};
use crate::callers::Caller;
use crate::config::Mode;
use crate::cost::{Demand, NumberedCosts};
use crate::event::{CallClass, Fingerprint};
use crate::name::Consumer;
use crate::queue::LaneId;
use crate::time::Time;

/// The classes of waiting calls that are told apart.
const MOST_CLASSES: usize = 20;

/// How one more call of a workload would fare, and those of it that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// The limits that the call would draw on.
    pub limits: Vec<LimitStatus>,
    /// What holds it, beside limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<PauseStatus>,
    /// Its turn, if it asked now.
    pub next: Turn,
    /// Why it would be refused at once, as the provider's word or with figures; none: it would wait, or pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Calls of the workload that wait.
    pub waiting_calls: u64,
    /// Those of them that stand in the queue, by class; of many classes the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingClass>,
    /// Calls of all workloads that wait.
    pub all_waiting_calls: u64,
}

/// When a call would be granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// Waiting calls, of all workloads, whose turns come before.
    pub ahead: u64,
    /// About how long until it is granted, as far as that depends on limits and pauses.
    #[serde(rename = "waitMillis", with = "crate::millis")]
    pub wait: Duration,
    /// What it waits for the longest; none: for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<HeldBy>,
}

/// What a call waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeldBy {
    /// A limit of the quota.
    Limit {
        /// Its name.
        name: String,
        /// The model, where models are counted apart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// A pause.
    Pause {
        /// The provider's reason, or who paused.
        reason: String,
    },
    /// The provider takes no more calls at the same time, as its rejections have shown.
    LearnedConcurrency,
    /// The workload has as many calls under way as the quota lets one have.
    WorkloadConcurrency,
    /// What a later version knows.
    #[serde(other)]
    Unknown,
}

/// The waiting calls of a workload that draw on the same limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingClass {
    /// Their endpoint, where limits or pauses tell endpoints apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Their model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How many they are.
    pub calls: u64,
    /// How long the one that is next has waited.
    #[serde(rename = "waitedMillis", with = "crate::millis")]
    pub waited: Duration,
    /// The turn of that one.
    #[serde(flatten)]
    pub turn: Turn,
}

impl Engine {
    /// How one more call like this of a workload would fare now, and those of it that wait. It changes nothing that was
    /// charged.
    pub fn outlook(
        &mut self,
        now: Time,
        consumer: &Consumer,
        demand: &Demand,
        credential: Fingerprint,
    ) -> Outlook {
        let lane = self.lane_of(&demand.class, now);
        let (costs, _) = self.costs_of(consumer, demand);
        let costs = self.costs_numbers.number(costs);
        let credential = match (credential, self.only_credential) {
            (Fingerprint(0), OnlyCredential::One(only)) => only,
            _ => credential,
        };
        let caller = Caller { consumer, credential };
        let ahead = self.ahead_of(lane, caller);
        let refused = self.refusal_by_anyone(now, lane, &costs, caller);
        Outlook {
            limits: self.lanes.status_of_lane(lane, now),
            pauses: self.pauses_of(now, lane, caller),
            next: self.turn(now, (lane, caller), &costs, ahead),
            refused,
            waiting_calls: self.queue.waiting_of(consumer),
            waiting: self.waiting_classes(now, consumer),
            all_waiting_calls: self.lanes.waiting() as u64,
        }
    }

    /// Why a call would be refused whoever asks how patiently.
    fn refusal_by_anyone(
        &mut self,
        now: Time,
        lane: LaneId,
        costs: &NumberedCosts,
        caller: Caller<'_>,
    ) -> Option<String> {
        if !self.enforces() {
            return None;
        }
        let stopped = self.stopped(now, lane, caller);
        if let Some(stopped) = stopped {
            return Some(stopped.words.unwrap_or_default());
        }
        self.never_fits(lane, costs, now).map(|too_large| too_large.to_string())
    }

    /// The pauses that hold a call of the lane.
    fn pauses_of(&self, now: Time, lane: LaneId, caller: Caller<'_>) -> Vec<PauseStatus> {
        let told = self.told_pauses(now).filter(|(key, _)| {
            key.callers.cover(caller)
                && self.lanes.covers(lane, &key.scope)
                && self.config.mode != Mode::Disabled
        });
        told.map(|(_, status)| status).collect()
    }

    fn turn(
        &mut self,
        now: Time,
        (lane, caller): (LaneId, Caller<'_>),
        costs: &NumberedCosts,
        ahead: u64,
    ) -> Turn {
        if !self.enforces() {
            return Turn::default();
        }
        let wait = self.wait_behind(now, (lane, caller), costs, ahead);
        let limit = self.lanes.longest_hold(lane, costs, now, ahead);
        let until = self.paused_until(now, lane).max(self.held_until(now, lane, caller));
        let paused = until.map_or(Duration::ZERO, |until| until.since(now));
        let held_by = if self.queue.is_at_its_most(self.lanes.group(lane), caller.consumer) {
            Some(HeldBy::WorkloadConcurrency)
        } else if wait.is_zero() {
            None
        } else if paused == wait {
            let longest = self.pauses_of(now, lane, caller).into_iter().max_by_key(|pause| pause.remaining);
            Some(HeldBy::Pause { reason: longest.map(|pause| pause.reason).unwrap_or_default() })
        } else {
            match limit {
                Some((name, model, longest)) if longest == wait => Some(HeldBy::Limit { name, model }),
                _ => Some(HeldBy::LearnedConcurrency),
            }
        };
        Turn { ahead, wait, held_by }
    }

    /// The waiting calls of a workload that stand in the queue, by what they draw on.
    fn waiting_classes(&mut self, now: Time, consumer: &Consumer) -> Vec<WaitingClass> {
        let mut classes = Vec::new();
        for flow in self.queue.flows_of(consumer).into_iter().take(MOST_CLASSES) {
            let Some(Call { wanted, state: CallState::Waiting { .. }, .. }) = self.calls.get(&flow.first)
            else {
                continue;
            };
            let (lane, credential, costs) = (wanted.lane, wanted.credential, wanted.costs);
            let waited = now.since(wanted.asked);
            let ahead = self.queue.ahead_of_first(self.lanes.group(lane), consumer);
            let caller = Caller { consumer, credential };
            let turn = self.turn(now, (lane, caller), &costs, ahead);
            let CallClass { endpoint, model, .. } = self.lanes.class_of(lane).clone();
            classes.push(WaitingClass { endpoint, model, calls: flow.calls, waited, turn });
        }
        classes
    }
}
