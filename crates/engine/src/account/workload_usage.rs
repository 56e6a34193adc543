//! What each workload has used, by model: who uses up the quota, and what it costs.
//!
//! These are figures for people. Limits are held by counters, which know more: a lost call counts there with what the
//! provider may go on to produce.

use std::time::Duration;

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use crate::config::ModelPrices;
use crate::name::Consumer;
use crate::time::Time;
use crate::tokens::{CallEnd, TokenUsage};

/// A workload without another call for this long is forgotten.
const KEPT: Duration = Duration::from_secs(3600);
/// The most workloads of an account that are kept.
const MOST: usize = 1000;
/// So many are forgotten at once where there are more: those that have called longest ago.
const TOO_MANY: usize = 100;
/// The most models of a workload that are kept apart: clients choose the names.
const MOST_MODELS: usize = 16;
/// What the other models of a workload are counted as.
const OTHER: &str = "other";

/// What one workload has used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadUsage {
    /// The workload.
    pub consumer: Consumer,
    /// How many of its calls the provider has counted, or may have, since its first one; rejected ones too.
    pub calls: u64,
    /// What it has used of each model; of more than sixteen the others as `other`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelUsage>,
}

/// What a workload has used of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelUsage {
    /// The model; `None`: the calls name none.
    pub model: Option<String>,
    /// Calls that the provider has counted, or may have; rejected ones too.
    pub calls: u64,
    /// Calls that were refused before they were sent.
    pub refused: u64,
    /// Calls whose end nobody saw: the provider may have gone on with them.
    pub lost: u64,
    /// Calls, lost ones among them, whose tokens are estimated, because no answer told them.
    pub estimated: u64,
    /// Calls whose model has no price of its own: they cost as much as the dearest.
    pub unpriced: u64,
    /// Calls that set no maximum of output, so that a limit held as much for each as its model can produce.
    pub unbounded: u64,
    /// All input tokens.
    pub input: u64,
    /// Of them, read from a cache.
    pub cached: u64,
    /// Of them, written to a cache.
    pub cache_write: u64,
    /// Output tokens.
    pub output: u64,
    /// What the tokens cost, in nanodollars; 0 where no price is known.
    pub nanodollars: u64,
}

/// A call that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) end: CallEnd,
    /// `None`: nothing is known of its tokens.
    pub(super) usage: Option<TokenUsage>,
    /// What its tokens cost; `None`: that is not known.
    pub(super) prices: Option<ModelPrices>,
    /// The prices are those of the dearest model.
    pub(super) unpriced: bool,
    /// A limit held as much output as the model can produce.
    pub(super) unbounded: bool,
}

impl ModelUsage {
    fn add(&mut self, spent: Spent) {
        let Spent { end, usage, prices, unpriced, unbounded } = spent;
        self.lost += u64::from(end == CallEnd::Lost);
        self.unbounded += u64::from(unbounded);
        self.estimated += u64::from(usage.is_none_or(|usage| !usage.exact));
        let Some(usage) = usage else { return };
        let adds = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        adds(&mut self.input, usage.input);
        adds(&mut self.cached, usage.cached);
        adds(&mut self.cache_write, usage.cache_write);
        adds(&mut self.output, usage.output);
        if let Some(prices) = prices {
            self.unpriced += u64::from(unpriced && usage.input.max(usage.output) > 0);
            adds(&mut self.nanodollars, prices.nanodollars(&usage));
        }
    }
}

/// Those of all workloads.
#[derive(Debug, Default)]
pub(super) struct UsageByWorkload {
    by_consumer: HashMap<Consumer, OneWorkload>,
}

#[derive(Debug)]
struct OneWorkload {
    calls: u64,
    models: Vec<ModelUsage>,
    last: Time,
}

impl OneWorkload {
    fn model(&mut self, model: Option<&str>) -> &mut ModelUsage {
        let place = |models: &[ModelUsage], name: Option<&str>| {
            models.iter().position(|known| known.model.as_deref() == name)
        };
        let name = match place(&self.models, model) {
            None if self.models.len() >= MOST_MODELS => Some(OTHER),
            _ => model,
        };
        let place = place(&self.models, name).unwrap_or_else(|| {
            self.models.push(ModelUsage { model: name.map(str::to_owned), ..ModelUsage::default() });
            self.models.len() - 1
        });
        &mut self.models[place]
    }
}

impl UsageByWorkload {
    /// The provider has counted a call, or may have.
    pub(super) fn counted(&mut self, now: Time, consumer: &Consumer, model: Option<&str>) {
        self.add(now, consumer, |of_one| {
            of_one.calls += 1;
            of_one.model(model).calls += 1;
        });
    }

    /// A call was refused.
    pub(super) fn refused(&mut self, now: Time, consumer: &Consumer, model: Option<&str>) {
        self.add(now, consumer, |of_one| of_one.model(model).refused += 1);
    }

    /// A call is over whose tokens are counted.
    pub(super) fn spent(&mut self, now: Time, consumer: &Consumer, model: Option<&str>, spent: Spent) {
        self.add(now, consumer, |of_one| of_one.model(model).add(spent));
    }

    fn add(&mut self, now: Time, consumer: &Consumer, add: impl FnOnce(&mut OneWorkload)) {
        if let Some(of_one) = self.by_consumer.get_mut(consumer) {
            of_one.last = now;
            return add(of_one);
        }
        self.by_consumer.retain(|_, of_one| now.since(of_one.last) < KEPT);
        if self.by_consumer.len() >= MOST {
            self.forget_some();
        }
        let mut of_one = OneWorkload { calls: 0, models: Vec::new(), last: now };
        add(&mut of_one);
        self.by_consumer.insert(consumer.clone(), of_one);
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
    pub(super) fn status(&self, now: Time) -> Vec<WorkloadUsage> {
        let recent = self.by_consumer.iter().filter(|(_, of_one)| now.since(of_one.last) < KEPT);
        let recent = recent.map(|(consumer, OneWorkload { calls, models, .. })| WorkloadUsage {
            consumer: consumer.clone(),
            calls: *calls,
            models: models.clone(),
        });
        let mut usage: Vec<WorkloadUsage> = recent.collect();
        usage.sort_unstable_by(|one, other| one.consumer.cmp(&other.consumer));
        usage
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
        let mut all = UsageByWorkload::default();
        let name = |number: u64| Consumer::from(format!("gtm/Job/{number}"));
        for number in 0..5000 {
            all.counted(at(number), &name(number), None);
            all.counted(at(number), &name(0), None);
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
        let mut all = UsageByWorkload::default();
        for number in 0..3000 {
            all.counted(at(1), &Consumer::from(format!("gtm/Job/{number}")), None);
            assert!(all.by_consumer.len() <= MOST);
        }
    }

    #[test]
    fn models_beyond_the_bound_are_counted_together() {
        let mut all = UsageByWorkload::default();
        let job = Consumer::from("gtm/Job/a");
        for number in 0..1000 {
            all.counted(at(1), &job, Some(&format!("model-{number}")));
        }
        let status = all.status(at(1));
        let models = &status[0].models;
        assert_eq!(models.len(), MOST_MODELS + 1);
        assert_eq!(models.iter().map(|it| it.calls).sum::<u64>(), 1000);
        let other = models.iter().find(|it| it.model.as_deref() == Some(OTHER));
        assert_eq!(other.map(|it| it.calls), Some(1000 - MOST_MODELS as u64));
    }
}
