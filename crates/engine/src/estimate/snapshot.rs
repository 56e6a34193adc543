//! What the ledger keeps of estimates: a few hundred bytes a consumer, model and endpoint.

use serde::{Deserialize, Serialize};

use super::learned::Learned;
use super::speeds::Speeds;
use super::{Class, Estimates, OneConsumer};
use crate::event::CallClass;
use crate::name::Consumer;

/// What was learned of ended calls. Calls that run are the caller's to keep: after `Estimates::restored` they begin
/// again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EstimatesSnapshot {
    /// From the least recently used to the last one.
    classes: Vec<ClassSnapshot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ClassSnapshot {
    class: CallClass,
    everybody: Learned,
    #[serde(default)]
    speeds: Speeds,
    /// From the least recently used to the last one.
    #[serde(default)]
    consumers: Vec<ConsumerSnapshot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ConsumerSnapshot {
    consumer: Consumer,
    learned: Learned,
}

impl EstimatesSnapshot {
    /// Whether nothing has been learned.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// How many classes and consumers it has.
    #[cfg(test)]
    pub(super) fn classes_and_consumers(&self) -> (usize, usize) {
        (self.classes.len(), self.classes.iter().map(|class| class.consumers.len()).sum())
    }
}

impl Estimates {
    /// What the ledger has to keep: everybody's calls of each class, and those of the `most_consumers` that were
    /// used last.
    pub fn snapshot(&self, most_consumers: usize) -> EstimatesSnapshot {
        let mut uses: Vec<u64> = self.consumers.iter().map(|(_, one)| one.last_use).collect();
        uses.sort_unstable();
        let oldest = uses.len().checked_sub(most_consumers).and_then(|oldest| uses.get(oldest).copied());
        let kept = |one: &&OneConsumer| {
            most_consumers > 0 && !one.learned.is_empty() && Some(one.last_use) >= oldest
        };
        let mut classes: Vec<&Class> = self.classes.iter().map(|(_, class)| class).collect();
        classes.retain(|class| !class.everybody.is_empty());
        classes.sort_unstable_by_key(|class| class.last_use);
        let of_class = |class: &&Class| {
            let consumers = class.by_consumer.values().filter_map(|id| self.consumers.get(*id));
            let mut consumers: Vec<&OneConsumer> = consumers.filter(kept).collect();
            consumers.sort_unstable_by_key(|one| one.last_use);
            let one = |one: &&OneConsumer| ConsumerSnapshot {
                consumer: one.consumer.clone(),
                learned: one.learned.clone(),
            };
            ClassSnapshot {
                class: class.class.clone(),
                everybody: class.everybody.clone(),
                speeds: class.speeds.clone(),
                consumers: consumers.iter().map(one).collect(),
            }
        };
        EstimatesSnapshot { classes: classes.iter().map(of_class).collect() }
    }

    /// Estimates as of a snapshot, without running calls.
    pub fn restored(snapshot: EstimatesSnapshot) -> Estimates {
        let mut estimates = Estimates::default();
        for of_class in snapshot.classes {
            for one in of_class.consumers {
                let key = estimates.key(&one.consumer, &of_class.class);
                if let Some(known) = estimates.consumers.get_mut(key.consumer) {
                    known.learned = one.learned;
                }
            }
            estimates.uses += 1;
            let id = match estimates.by_class.get(&of_class.class) {
                Some(id) => *id,
                None => estimates.new_class(&of_class.class),
            };
            if let Some(class) = estimates.classes.get_mut(id) {
                class.everybody = of_class.everybody;
                class.speeds = of_class.speeds;
            }
        }
        estimates
    }
}
