//! Clients that hang up while their calls wait: how many of each workload, after how long, and how long the wait was.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Engine, Wanted};
use crate::name::Consumer;
use crate::time::Time;

/// A workload without another hang-up for this long is forgotten.
const KEPT: Duration = Duration::from_secs(3600);
/// The times of hang-ups that are further apart than this are not of one kind.
const EPISODE: Duration = Duration::from_secs(600);
/// The most workloads of an account that are kept; more are not counted.
const MOST: usize = 1000;

/// Calls of one workload whose clients hung up while they waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerHangUps {
    /// The workload.
    pub consumer: Consumer,
    /// How many, since its first one; forgotten after an hour without one.
    pub calls: u64,
    /// The shortest of the recent ones had waited this long: of clients that are alike, their timeout.
    #[serde(rename = "shortestMillis", with = "crate::millis")]
    pub shortest: Duration,
    /// The longest of the recent ones had waited this long.
    #[serde(rename = "longestMillis", with = "crate::millis")]
    pub longest: Duration,
    /// About how long the last of them would have waited when the recent ones hung up: the longest such wait, because
    /// each that leaves the queue makes it shorter.
    #[serde(rename = "waitMillis", with = "crate::millis")]
    pub wait: Duration,
}

/// Those of all workloads.
#[derive(Debug, Default)]
pub(super) struct HangUps {
    by_consumer: BTreeMap<Consumer, HangUp>,
}

#[derive(Debug)]
struct HangUp {
    calls: u64,
    shortest: Duration,
    longest: Duration,
    wait: Duration,
    last: Time,
}

impl HangUps {
    fn add(&mut self, now: Time, consumer: &Consumer, waited: Duration, wait: Duration) {
        self.by_consumer.retain(|_, of_one| now.since(of_one.last) < KEPT);
        if self.by_consumer.len() >= MOST && !self.by_consumer.contains_key(consumer) {
            return;
        }
        let first = || HangUp { calls: 0, shortest: waited, longest: waited, wait, last: now };
        let of_one = self.by_consumer.entry(consumer.clone()).or_insert_with(first);
        if now.since(of_one.last) >= EPISODE {
            (of_one.shortest, of_one.longest, of_one.wait) = (waited, waited, wait);
        }
        of_one.calls += 1;
        of_one.shortest = of_one.shortest.min(waited);
        of_one.longest = of_one.longest.max(waited);
        of_one.wait = of_one.wait.max(wait);
        of_one.last = now;
    }

    /// For people, by workload.
    pub(super) fn status(&self, now: Time) -> Vec<ConsumerHangUps> {
        let recent = self.by_consumer.iter().filter(|(_, of_one)| now.since(of_one.last) < KEPT);
        recent
            .map(|(consumer, &HangUp { calls, shortest, longest, wait, .. })| ConsumerHangUps {
                consumer: consumer.clone(),
                calls,
                shortest,
                longest,
                wait,
            })
            .collect()
    }
}

impl Engine {
    /// Counts a call that waited until its client hung up, and has left the queue.
    pub(super) fn count_hang_up(&mut self, now: Time, wanted: &Wanted) {
        let Wanted { lane, costs, asked, .. } = *wanted;
        let waited = now.since(asked);
        let rest = self.wait_behind(now, (lane, wanted.caller()), &costs, 0);
        let wait = self.forecast(now, lane, &costs, wanted.caller()).max(waited + rest);
        self.hang_ups.add(now, &wanted.consumer, waited, wait);
    }
}
