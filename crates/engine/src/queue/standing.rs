//! Where a consumer's calls stand.

use super::{CallKey, ConsumerQueue, GroupId, Queue, length};

/// The calls of a consumer that wait in one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowStanding {
    /// The one that is next.
    pub(crate) first: CallKey,
    pub(crate) calls: u64,
}

impl Queue {
    /// How many calls get a turn before a new one of this consumer does, if all lanes are open.
    pub(crate) fn ahead_of(&self, group: GroupId, consumer: &str, weight: u32) -> u64 {
        let of_group = &self.groups[group];
        let now = of_group.virtual_time;
        let own = of_group.by_name.get(consumer).map(|id| &self.consumers[id.index()].turns);
        let (calls, turns, tag) = match own {
            Some(own) if own.calls > 0 => (own.calls, own.waiting, own.tag),
            Some(own) => (0, 0, own.tag.max(now)),
            None => (0, 0, now),
        };
        let start = tag.saturating_add(length(turns, u64::from(weight.max(1))));
        self.ahead_of_turn(group, consumer, calls, start)
    }

    /// How many calls get a turn before the first waiting one of this consumer does, if all lanes are open.
    pub(crate) fn ahead_of_first(&self, group: GroupId, consumer: &str) -> u64 {
        let own = self.groups[group].by_name.get(consumer).map(|id| self.consumers[id.index()].turns.tag);
        self.ahead_of_turn(group, consumer, 0, own.unwrap_or(self.groups[group].virtual_time))
    }

    /// How many calls get a turn before one of this consumer that starts then and has so many of its own before it.
    fn ahead_of_turn(&self, group: GroupId, consumer: &str, own_calls: u64, start: u64) -> u64 {
        let before = |other: &ConsumerQueue| {
            let calls = start.saturating_sub(other.turns.tag).div_ceil(other.mean_length());
            calls.min(other.turns.calls)
        };
        let waits = |other: &&ConsumerQueue| {
            other.turns.calls > 0 && other.group == group && *other.name != *consumer
        };
        let ahead = own_calls + self.consumers.iter().filter(waits).map(before).sum::<u64>();
        ahead + self.groups.ahead_of(group, ahead)
    }

    /// How many calls of a consumer wait, those that stand aside included.
    pub(crate) fn waiting_of(&self, consumer: &str) -> u64 {
        self.named(consumer).map(|known| known.waiting as u64).sum()
    }

    /// A consumer's calls, by the lanes in which they wait.
    pub(crate) fn flows_of(&self, consumer: &str) -> Vec<FlowStanding> {
        let flows = self.named(consumer).flat_map(|known| &known.flows);
        let standing = |(_, flow): &(_, super::Flow)| {
            let (_, first) = flow.first()?;
            Some(FlowStanding { first, calls: flow.len() })
        };
        flows.filter_map(standing).collect()
    }

    /// Whether a consumer has as many calls under way as it may.
    pub(crate) fn is_at_its_most(&self, group: GroupId, consumer: &str) -> bool {
        let known = self.groups[group].by_name.get(consumer).map(|id| &self.consumers[id.index()]);
        self.most_under_way.zip(known).is_some_and(|(most, known)| known.under_way >= most)
    }

    fn named<'a>(&'a self, consumer: &'a str) -> impl Iterator<Item = &'a ConsumerQueue> {
        self.consumers.iter().filter(move |known| *known.name == *consumer)
    }
}
