//! What people are shown of estimates.

use serde::{Deserialize, Serialize};

use super::bins::TOKENS;
use super::learned::{ENOUGH, Learned};
use super::{Class, Estimates, OneConsumer};
use crate::name::Consumer;

/// The most consumers that are shown: those whose calls came last.
const MOST_SHOWN: usize = 32;

/// What is learned of the calls of one consumer, or of everybody's, to a model and endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EstimateStatus {
    /// Whose calls; `None`: those of all consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Consumer>,
    /// The model; `None`: the calls name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The profile's endpoint; `None`: any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Calls that have ended and told what they used; at 2,048 half of them are forgotten.
    pub samples: u64,
    /// Calls whose end nobody saw: they are longer than what was seen of them.
    pub lost: u64,
    /// Calls that run.
    pub running: u64,
    /// Enough calls of the model and endpoint have ended; until then the most that a call can use is expected.
    pub known: bool,
    /// Nine of ten calls have at most so many tokens of output.
    pub output_quantile: u64,
    /// Their mean.
    pub output_mean: u64,
    /// Of calls whose text is all of their input: nine of ten have at most so many thousandths of a token for each of
    /// its bytes. 0: there is none.
    pub input_per_thousand_bytes: u64,
}

impl Estimates {
    /// What is learned, for people: of everybody first, then of those consumers whose calls came last.
    pub(crate) fn status(&self) -> Vec<EstimateStatus> {
        let mut classes: Vec<&Class> = self.classes.iter().map(|(_, class)| class).collect();
        classes.retain(|class| !class.everybody.is_empty());
        classes.sort_unstable_by_key(|class| std::cmp::Reverse(class.last_use));
        classes.truncate(MOST_SHOWN);
        let mut shown = Vec::new();
        for class in classes {
            shown.push(of_one(class, None, &class.everybody));
            let consumers = class.by_consumer.values().filter_map(|id| self.consumers.get(*id));
            let mut consumers: Vec<&OneConsumer> = consumers.filter(|one| !one.learned.is_empty()).collect();
            consumers.sort_unstable_by_key(|one| std::cmp::Reverse(one.last_use));
            let room = MOST_SHOWN.saturating_sub(shown.len());
            shown.extend(
                consumers.iter().take(room).map(|one| of_one(class, Some(&one.consumer), &one.learned)),
            );
        }
        shown
    }
}

fn of_one(class: &Class, consumer: Option<&Consumer>, learned: &Learned) -> EstimateStatus {
    let everybody = &class.everybody;
    let output = learned.outputs.expect(&everybody.outputs, TOKENS, 0, u64::MAX);
    EstimateStatus {
        consumer: consumer.cloned(),
        model: class.class.model.clone(),
        endpoint: class.class.endpoint.clone(),
        samples: learned.outputs.ended_calls().into(),
        lost: learned.outputs.lost_calls().into(),
        running: learned.outputs.running_calls().into(),
        known: everybody.outputs.ended_calls() >= ENOUGH,
        output_quantile: output.quantile,
        output_mean: output.mean,
        input_per_thousand_bytes: learned.tokens_per_thousand_bytes(everybody),
    }
}
