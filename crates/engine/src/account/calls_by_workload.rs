//! How many calls each workload has used: who uses up the quota.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::Consumer;
use crate::time::Time;

/// A workload without another call for this long is forgotten.
const KEPT: Duration = Duration::from_secs(3600);
/// The most workloads of an account that are kept.
const MOST: usize = 1000;
/// So many are forgotten at once where there are more: those that have called longest ago.
const TOO_MANY: usize = 100;

/// The calls of one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerCalls {
    /// The workload.
    pub consumer: Consumer,
    /// How many of its calls the provider has counted, or may have, since its first one; rejected ones too.
    pub calls: u64,
}

/// Those of all workloads.
#[derive(Debug, Default)]
pub(super) struct CallsByWorkload {
    by_consumer: BTreeMap<Consumer, Calls>,
}

#[derive(Debug)]
struct Calls {
    calls: u64,
    last: Time,
}

impl CallsByWorkload {
    pub(super) fn add(&mut self, now: Time, consumer: &Consumer) {
        if let Some(of_one) = self.by_consumer.get_mut(consumer) {
            of_one.calls += 1;
            of_one.last = now;
            return;
        }
        self.by_consumer.retain(|_, of_one| now.since(of_one.last) < KEPT);
        if self.by_consumer.len() >= MOST {
            self.forget_some();
        }
        self.by_consumer.insert(consumer.clone(), Calls { calls: 1, last: now });
    }

    fn forget_some(&mut self) {
        let mut times: Vec<Time> = self.by_consumer.values().map(|of_one| of_one.last).collect();
        let (_, bound, _) = times.select_nth_unstable(TOO_MANY);
        let bound = *bound;
        self.by_consumer.retain(|_, of_one| of_one.last >= bound);
        if self.by_consumer.len() >= MOST {
            // All have called at the same time.
            self.by_consumer.clear();
        }
    }

    /// For people, by workload.
    pub(super) fn status(&self, now: Time) -> Vec<ConsumerCalls> {
        let recent = self.by_consumer.iter().filter(|(_, of_one)| now.since(of_one.last) < KEPT);
        recent
            .map(|(consumer, of_one)| ConsumerCalls { consumer: consumer.clone(), calls: of_one.calls })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn a_thousand_workloads_are_kept_and_of_more_those_that_call() {
        let mut all = CallsByWorkload::default();
        let name = |number: u64| Consumer::from(format!("gtm/Job/{number}"));
        for number in 0..5000 {
            all.add(at(number), &name(number));
            all.add(at(number), &name(0));
            assert!(all.by_consumer.len() <= MOST);
        }
        let status = all.status(at(5000));
        let calls = |number| status.iter().find(|of_one| of_one.consumer == name(number)).map(|it| it.calls);
        assert_eq!(calls(0), Some(5001), "the one that calls all the time");
        assert_eq!([1, 4999].map(calls), [None, Some(1)]);
        assert_eq!(all.status(at(5000 + 3600)), []);
    }

    #[test]
    fn so_many_that_call_at_the_same_time_stay_within_the_bound() {
        let mut all = CallsByWorkload::default();
        for number in 0..3000 {
            all.add(at(1), &Consumer::from(format!("gtm/Job/{number}")));
            assert!(all.by_consumer.len() <= MOST);
        }
    }
}
