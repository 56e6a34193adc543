//! The fair queue: start-time fair queueing over allocations and their consumers, earliest deadline first within one.
//!
//! A lane holds the calls that draw on the same limits; lanes do not hold each other up. Turns
//! are counted for a consumer over all lanes: a workload of a hundred replicas is one consumer
//! and gets no more than a workload of one. A consumer that was idle, or whose lane was closed,
//! takes its turn next but saves nothing up.
//!
//! | room | holds |
//! |---|---|
//! | `flow` | the calls of a consumer in a lane |
//! | `groups` | allocations and priorities |
//! | `lane_orders` | whose turn is next in each lane |
//! | `standing` | where a consumer's calls stand |
//! | `turns` | what a consumer, or an allocation, waits for and has had |

mod flow;
mod groups;
mod lane_orders;
mod standing;
mod turns;

use std::collections::BTreeMap;

pub(crate) use flow::Order;
pub(crate) use groups::{GroupId, GroupPlace};

use crate::event::{Attempt, CallId, SessionId};
use crate::mutant::{self, Mutant};
use crate::name::{AllocationName, Consumer};
use crate::sharing::Sharing;
use crate::time::Time;
use flow::{Flow, Removed};
use groups::{Groups, idle_consumers};
use lane_orders::LaneOrders;
use turns::{Correction, Turns};

/// One turn of a consumer of weight 1, for a call of cost 1.
const TURN: u64 = 1 << 20;

/// A lane, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId(pub(crate) u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ConsumerId(u32);

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallKey {
    pub(crate) session: SessionId,
    pub(crate) call: CallId,
}

impl CallKey {
    /// One of the call's attempts.
    pub(crate) fn attempt(self, number: u32) -> Attempt {
        Attempt { session: self.session, call: self.call, number }
    }
}

impl Attempt {
    /// Whose attempt it is.
    pub(crate) fn key(self) -> CallKey {
        CallKey { session: self.session, call: self.call }
    }
}

/// Where a waiting call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueuePosition {
    pub(crate) lane: LaneId,
    consumer: ConsumerId,
    /// How many turns the call takes.
    turns: u32,
    order: Order,
}

impl QueuePosition {
    /// How many turns the call takes.
    pub(crate) fn turns(&self) -> u32 {
        self.turns
    }
}

/// A call that comes to the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) lane: LaneId,
    /// The consumer's allocation.
    pub(crate) group: GroupId,
    pub(crate) consumer: &'a str,
    pub(crate) weight: u32,
    /// How many turns of a call of cost 1 it takes.
    pub(crate) turns: u32,
    pub(crate) deadline: Time,
    /// The provider has sent it back: it goes before those that come for the first time.
    pub(crate) again: bool,
}

/// The call of a lane whose turn is next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Where the turn of its allocation stands.
    pub(crate) place: GroupPlace,
    /// The virtual time at which its turn starts: of an allocation's lanes the one with the lowest goes first.
    pub(crate) tag: u64,
    pub(crate) order: Order,
    pub(crate) call: CallKey,
}

#[derive(Clone, Debug)]
struct ConsumerQueue {
    name: Consumer,
    group: GroupId,
    weight: u64,
    turns: Turns,
    /// Its waiting calls, with those that stand aside.
    waiting: usize,
    /// Its calls that are under way, where that is bounded.
    under_way: u32,
    /// Its flow in each lane where it has one: few.
    flows: Vec<(LaneId, Flow)>,
}

/// The virtual time that so many turns take.
fn length(turns: u64, weight: u64) -> u64 {
    (TURN / weight).saturating_mul(turns)
}

impl ConsumerId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

impl ConsumerQueue {
    /// The virtual time that one of its waiting calls takes in the mean.
    fn mean_length(&self) -> u64 {
        let Turns { calls, waiting, .. } = self.turns;
        let one = TURN / self.weight;
        if waiting == calls { one } else { length(waiting, self.weight) / calls.max(1) }.max(1)
    }

    fn flow(&self, lane: LaneId) -> Option<&Flow> {
        self.flows.iter().find(|(other, _)| *other == lane).map(|(_, flow)| flow)
    }

    /// Whether nothing would be remembered of it.
    fn is_idle(&self, now: u64) -> bool {
        self.under_way == 0 && self.waiting == 0 && self.turns.is_idle(now)
    }
}

/// The waiting calls of an account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    groups: Groups,
    consumers: Vec<ConsumerQueue>,
    free: Vec<ConsumerId>,
    lanes: LaneOrders,
    arrivals: u64,
    /// Consumers with waiting calls.
    with_waiting: usize,
    /// The most calls of a consumer that may be under way at the same time.
    most_under_way: Option<u32>,
}

impl Queue {
    /// Takes on how the account is shared; where calls are not held, no workload is bounded. How many calls are under
    /// way is to be [said anew](Queue::call_begins).
    pub(crate) fn configure(&mut self, sharing: &Sharing, holds_calls: bool) {
        self.groups.configure(sharing);
        self.most_under_way = sharing.max_concurrent_per_workload.filter(|_| holds_calls);
        for id in self.ids() {
            self.consumers[id.index()].under_way = 0;
            self.list(id);
        }
    }

    fn ids(&self) -> impl Iterator<Item = ConsumerId> + use<> {
        (0..u32::try_from(self.consumers.len()).unwrap_or(u32::MAX)).map(ConsumerId)
    }

    /// The numbers of the allocations.
    pub(crate) fn groups(&self) -> BTreeMap<AllocationName, GroupId> {
        self.groups.by_name()
    }

    /// The name of the consumer of a call, kept once for all of its calls.
    pub(crate) fn name_of(&self, position: QueuePosition) -> Consumer {
        self.consumers[position.consumer.index()].name.clone()
    }

    /// Puts a call in its consumer's flow.
    pub(crate) fn push(&mut self, arrival: Arrival<'_>, call: CallKey) -> QueuePosition {
        let Arrival { lane, group, consumer, weight, turns, deadline, again } = arrival;
        let consumer = self.consumer(group, consumer, weight);
        self.arrivals += 1;
        let order = Order { first_time: !again, deadline, arrival: self.arrivals };
        let waiting = &mut self.consumers[consumer.index()].waiting;
        self.with_waiting += usize::from(*waiting == 0);
        *waiting += 1;
        let position = QueuePosition { lane, consumer, turns, order };
        self.put(position, call);
        position
    }

    /// A call waits no longer, wherever it stood.
    pub(crate) fn waits_no_longer(&mut self, position: QueuePosition) {
        let waiting = &mut self.consumers[position.consumer.index()].waiting;
        *waiting = waiting.saturating_sub(1);
        self.with_waiting -= usize::from(*waiting == 0);
    }

    /// Whether a consumer has its share of so many places of waiting calls, if each that waits has the same.
    pub(crate) fn has_its_share(&self, group: GroupId, consumer: &str, places: usize) -> bool {
        let own = self.groups[group].by_name.get(consumer).map_or(0, |id| self.consumers[id.index()].waiting);
        let sharing = self.with_waiting + usize::from(own == 0);
        own >= (places / sharing.max(1)).max(1) || mutant::active(Mutant::QueueUnshared)
    }

    /// Puts a call back where it stood.
    pub(crate) fn put(&mut self, position: QueuePosition, call: CallKey) {
        let consumer = &mut self.consumers[position.consumer.index()];
        self.groups.arrive(consumer.group, position.turns);
        consumer.turns.arrive(position.turns, self.groups[consumer.group].virtual_time);
        match consumer.flows.iter_mut().find(|(lane, _)| *lane == position.lane) {
            Some((_, flow)) => return flow.insert(position.order, call),
            None => {
                if consumer.flows.capacity() == 0 {
                    consumer.flows.reserve_exact(1);
                }
                consumer.flows.push((position.lane, Flow::One(position.order, call)));
            }
        }
        if self.most_under_way.is_none_or(|most| consumer.under_way < most) {
            let tag = consumer.turns.tag;
            self.lanes.insert(position.lane, (tag, position.consumer));
        }
    }

    /// Takes a call out without a turn.
    pub(crate) fn remove(&mut self, position: QueuePosition) -> Option<CallKey> {
        let consumer = &mut self.consumers[position.consumer.index()];
        let at = consumer.flows.iter().position(|(lane, _)| *lane == position.lane)?;
        let (call, last) = match consumer.flows[at].1.remove(position.order) {
            Removed::Nothing => return None,
            Removed::One(call) => (call, false),
            Removed::Last(call) => (call, true),
        };
        consumer.turns.leave(position.turns);
        self.groups[consumer.group].turns.leave(position.turns);
        if last {
            consumer.flows.swap_remove(at);
            let tag = consumer.turns.tag;
            self.lanes.remove(position.lane, (tag, position.consumer));
        }
        Some(call)
    }

    /// Takes a call out for its turn, which is as long as so many turns of a call of cost 1.
    pub(crate) fn take(&mut self, position: QueuePosition, turns: u32) -> Option<CallKey> {
        let call = self.remove(position)?;
        let consumer = &mut self.consumers[position.consumer.index()];
        let turns = u64::from(turns);
        let length = length(turns, consumer.weight);
        self.groups.take(consumer.group, turns);
        let group = &mut self.groups[consumer.group];
        let taken = consumer.turns.take(length, group.virtual_time);
        group.virtual_time = taken.start;
        self.retag(position.consumer, taken.next);
        Some(call)
    }

    /// A call that had its turn will say how many turns it really took.
    pub(crate) fn expect_use(&mut self, position: QueuePosition) {
        let consumer = &mut self.consumers[position.consumer.index()];
        consumer.turns.unsettled += 1;
        self.groups[consumer.group].turns.unsettled += 1;
    }

    /// A call of this consumer, from which that was expected, has really taken so many turns instead of those that it
    /// had. More delay its next turn; fewer bring it forward, or are credit as far as it would be in the past.
    pub(crate) fn turns_taken(&mut self, group: GroupId, consumer: &str, had: u32, taken: u32) {
        let Some(&id) = self.groups[group].by_name.get(consumer) else { return };
        let now = self.groups[group].virtual_time;
        let consumer = &mut self.consumers[id.index()];
        let (more, less) = (u64::from(taken.saturating_sub(had)), u64::from(had.saturating_sub(taken)));
        let correction =
            Correction { more: length(more, consumer.weight), less: length(less, consumer.weight) };
        let tag = consumer.turns.correct(correction, now);
        self.groups.correct(group, more, less);
        self.retag(id, tag);
    }

    /// Has a consumer's next turn start then.
    fn retag(&mut self, id: ConsumerId, tag: u64) {
        let consumer = &mut self.consumers[id.index()];
        let before = std::mem::replace(&mut consumer.turns.tag, tag);
        for (lane, _) in consumer.flows.iter().filter(|_| before != tag) {
            self.lanes.retag(*lane, (before, id), (tag, id));
        }
    }

    /// A call of this consumer is under way.
    pub(crate) fn call_begins(&mut self, group: GroupId, consumer: &str) {
        let Some(most) = self.most_under_way else { return };
        let id = self.consumer(group, consumer, 1);
        let consumer = &mut self.consumers[id.index()];
        consumer.under_way = consumer.under_way.saturating_add(1);
        if consumer.under_way == most {
            let (tag, lanes) = (consumer.turns.tag, consumer.flows.iter().map(|(lane, _)| *lane));
            for lane in lanes {
                self.lanes.remove(lane, (tag, id));
            }
        }
    }

    /// A call of this consumer is no longer under way.
    pub(crate) fn call_ended(&mut self, group: GroupId, consumer: &str) {
        let (Some(most), Some(&id)) = (self.most_under_way, self.groups[group].by_name.get(consumer)) else {
            return;
        };
        let consumer = &mut self.consumers[id.index()];
        consumer.under_way = consumer.under_way.saturating_sub(1);
        if consumer.under_way < most {
            self.list(id);
        }
    }

    /// Has a consumer's calls stand in their lanes.
    fn list(&mut self, id: ConsumerId) {
        let consumer = &self.consumers[id.index()];
        for (lane, _) in &consumer.flows {
            self.lanes.insert(*lane, (consumer.turns.tag, id));
        }
    }

    /// Lanes in which a call waits.
    pub(crate) fn lanes(&self) -> &[LaneId] {
        self.lanes.with_waiting()
    }

    /// Whose turn is next in a lane.
    pub(crate) fn head(&self, lane: LaneId) -> Option<Head> {
        let (tag, consumer) = self.lanes.first(lane)?;
        let consumer = &self.consumers[consumer.index()];
        let (order, call) = consumer.flow(lane)?.first()?;
        Some(Head { place: self.groups.place(consumer.group), tag, order, call })
    }

    /// Whether no consumer but this one has called.
    pub(crate) fn knows_only(&self, consumer: &str) -> bool {
        self.groups.iter().flat_map(|group| group.by_name.keys()).all(|known| *known == *consumer)
    }

    /// Whether a consumer other than this one has calls that wait.
    pub(crate) fn another_waits(&self, consumer: &str) -> bool {
        self.consumers.iter().any(|known| known.waiting > 0 && *known.name != *consumer)
    }

    fn consumer(&mut self, group: GroupId, name: &str, weight: u32) -> ConsumerId {
        let weight = u64::from(weight.clamp(1, 1 << 16));
        if let Some(&id) = self.groups[group].by_name.get(name) {
            self.consumers[id.index()].weight = weight;
            return id;
        }
        let name = Consumer::from(name);
        let consumer = ConsumerQueue {
            name: name.clone(),
            group,
            weight,
            turns: Turns::default(),
            waiting: 0,
            under_way: 0,
            flows: Vec::new(),
        };
        self.forget_idle();
        let id = match self.free.pop() {
            Some(id) => {
                self.consumers[id.index()] = consumer;
                id
            }
            None => {
                let id = ConsumerId(u32::try_from(self.consumers.len()).unwrap_or(u32::MAX));
                self.consumers.push(consumer);
                id
            }
        };
        self.groups[group].by_name.insert(name, id);
        id
    }

    /// Forgets consumers of whom nothing would be remembered, when there are many: one whose next
    /// turn could start now is like a new one.
    fn forget_idle(&mut self) {
        let known = self.consumers.len() - self.free.len();
        if known < 1024 || !known.is_power_of_two() {
            return;
        }
        let consumers = &self.consumers;
        let mut idle: Vec<_> =
            self.groups.iter_mut().flat_map(|group| idle_consumers(group, consumers)).collect();
        // In an order that does not depend on the map's.
        idle.sort_unstable();
        self.free.append(&mut idle);
    }
}

#[cfg(test)]
mod tests;
