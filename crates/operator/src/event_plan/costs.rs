//! Events of workloads whose calls cost nobody knows how much: their models have no price, or they leave the most that
//! they may cost to the model. That answers do not tell what they have cost is a notice of the proxies.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quotakeeper_engine::ModelUsage;
use quotakeeper_wire::status::AccountReport;

use super::consumers::{Round, on, tell};
use super::{PlannedEvent, seconds};
use crate::event_reason::EventReason;
use crate::status::words;

/// More such calls of a workload and model have another Event after so many seconds.
const AGAIN_SECONDS: i64 = 3600;
/// The kinds of [`ModelUsage`] that have Events.
const KINDS: [Kind; 2] = [Kind::Unpriced, Kind::Unbounded];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The profile knows no price of the model.
    Unpriced,
    /// The calls set no maximum of output.
    Unbounded,
}

/// A workload, a model and a kind.
type Key = (String, String, Kind);

/// What the workloads of a quota have been told: how many calls, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct CostEvents {
    told: BTreeMap<Key, (u64, Timestamp)>,
}

impl CostEvents {
    /// All that a report says has been told.
    pub(super) fn told(report: &AccountReport, now: Timestamp) -> CostEvents {
        CostEvents { told: found(report).map(|(key, calls)| (key, (calls, now))).collect() }
    }

    /// The Events that are due now.
    pub(super) fn next(&mut self, round: Round<'_>) -> Vec<PlannedEvent> {
        let Round { quota, report, now } = round;
        let mut new = Vec::new();
        for (key, calls) in found(report) {
            let (told, at) = self.told.get(&key).copied().unzip();
            // A limiter that has restarted counts from 0.
            let told = told.filter(|told| *told <= calls).unwrap_or(0);
            if calls > told && at.is_none_or(|at| seconds(at, now) >= AGAIN_SECONDS) {
                let (consumer, model, kind) = &key;
                let note = note(quota, report.provider(), *kind, model, calls - told);
                let event = on(consumer, EventReason::CostUnknown, note);
                new.push((key, (calls, now), event));
            }
        }
        let events = tell(new, &mut self.told);
        self.told.retain(|_, (_, at)| seconds(*at, now) < 2 * AGAIN_SECONDS);
        events
    }
}

/// How many calls of each workload and model cost nobody knows how much. Those that name no model have Events of that.
fn found(report: &AccountReport) -> impl Iterator<Item = (Key, u64)> {
    let models = report.status.workloads.iter().flat_map(|of_one| {
        let consumer = of_one.consumer.to_string();
        of_one.models.iter().filter_map(move |usage| Some((consumer.clone(), usage.model.clone()?, usage)))
    });
    let kinds = models.flat_map(|(consumer, model, usage)| {
        KINDS.map(move |kind| ((consumer.clone(), model.clone(), kind), kind.calls(usage)))
    });
    kinds.filter(|(_, calls)| *calls > 0)
}

impl Kind {
    fn calls(self, usage: &ModelUsage) -> u64 {
        match self {
            Kind::Unpriced => usage.unpriced,
            Kind::Unbounded => usage.unbounded,
        }
    }
}

fn note(quota: &str, provider: &str, kind: Kind, model: &str, calls: u64) -> String {
    let calls = i64::try_from(calls).unwrap_or(i64::MAX);
    let counted = words::counted(calls, "call");
    match kind {
        Kind::Unpriced => format!(
            "{quota}: {counted} named the model {model}, of which the profile knows no price; they count as the dearest \
             model, so that budgets of dollars are used up early; name it in `models` of an ApiProvider that extends \
             {provider}"
        ),
        Kind::Unbounded => format!(
            "{quota}: {counted} of the model {model} set no maximum of output; as much as it can produce is held for \
             each until it ends, so that fewer run at the same time; set max_tokens"
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use quotakeeper_engine::WorkloadUsage;

    use super::super::EventState;
    use super::super::tests::{Scene, next, report};
    use super::*;

    fn used(unpriced: u64, unbounded: u64) -> AccountReport {
        let mut report = report();
        report.key = "openai/a".into();
        let model = |name: Option<&str>, unpriced, unbounded| ModelUsage {
            model: name.map(str::to_owned),
            unpriced,
            unbounded,
            ..ModelUsage::default()
        };
        report.status.workloads = vec![WorkloadUsage {
            consumer: "gtm/Job/enrich".into(),
            calls: 40,
            models: vec![model(Some("foo-9"), unpriced, unbounded), model(None, 7, 0)],
        }];
        report
    }

    #[test]
    fn calls_without_a_price_or_a_maximum_are_told_with_their_model_and_number() {
        let mut state = EventState::default();
        assert_eq!(
            next(&mut state, &used(14, 1), 0),
            [
                "Consumer(\"gtm/Job/enrich\") CostUnknown: gtm/crm: 14 calls named the model foo-9, of which the profile knows no price; they count as the dearest model, so that budgets of dollars are used up early; name it in `models` of an ApiProvider that extends openai",
                "Consumer(\"gtm/Job/enrich\") CostUnknown: gtm/crm: 1 call of the model foo-9 set no maximum of output; as much as it can produce is held for each until it ends, so that fewer run at the same time; set max_tokens",
            ]
        );
        assert!(next(&mut state, &used(20, 1), 1).is_empty(), "more of them an hour later");
        assert!(next(&mut state, &used(20, 1), 3599).is_empty());
        let later = next(&mut state, &used(20, 1), 3600);
        assert!(later.len() == 1 && later[0].contains("6 calls named"), "{later:?}");
    }

    #[test]
    fn a_later_leader_and_a_restarted_limiter_repeat_nothing_within_the_hour() {
        let told = used(14, 0);
        let subject = Scene::of_tier("pro");
        let mut state = EventState::published_before("gtm/crm", &subject.subject(Some(&told), 0));
        assert!(next(&mut state, &told, 1).is_empty());
        assert!(next(&mut state, &used(2, 0), 60).is_empty(), "a limiter that has restarted");
        let later = next(&mut state, &used(3, 0), 3600);
        assert!(later.len() == 1 && later[0].contains("3 calls named"), "{later:?}");
        assert!(next(&mut EventState::default(), &used(0, 0), 0).is_empty());
    }
}
