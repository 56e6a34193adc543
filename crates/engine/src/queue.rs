//! The fair queue: start-time fair queueing over consumers, earliest deadline first within one.
//!
//! A lane holds the calls that draw on the same limits; lanes do not hold each other up. Turns
//! are counted for a consumer over all lanes: a workload of a hundred replicas is one consumer
//! and gets no more than a workload of one. A consumer that was idle, or whose lane was closed,
//! takes its turn next but saves nothing up.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::event::{Attempt, CallId, SessionId};
use crate::name::Consumer;
use crate::time::Time;

/// One turn of a consumer of weight 1, for a call of cost 1.
const TURN: u64 = 1 << 20;

/// A lane, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId(pub(crate) u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ConsumerId(u32);

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// A call's place in its flow: calls that the provider sent back come first, then the earliest
/// deadline, then the earliest arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    first_time: bool,
    deadline: Time,
    arrival: u64,
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
    /// The virtual time at which its turn starts: the lane with the lowest goes first.
    pub(crate) tag: u64,
    pub(crate) order: Order,
    pub(crate) call: CallKey,
}

#[derive(Clone, Debug)]
struct ConsumerQueue {
    name: Consumer,
    weight: u64,
    /// The virtual time at which its next turn starts.
    tag: u64,
    /// Calls that stand in a lane.
    waiting: u64,
    /// How many turns they take.
    turns: u64,
    /// Calls that have had their turn and whose use is not known yet.
    unsettled: u64,
    /// Virtual time that it has paid for calls which used less, and that was too early to give back: it pays for its
    /// next turns.
    credit: u64,
    /// Its flow in each lane where it has one: few.
    flows: Vec<(LaneId, Flow)>,
}

/// The calls of a consumer in a lane: most wait alone.
#[derive(Clone, Debug)]
enum Flow {
    One(Order, CallKey),
    Many(BTreeMap<Order, CallKey>),
}

impl Flow {
    fn insert(&mut self, order: Order, call: CallKey) {
        match self {
            Flow::One(first, other) => *self = Flow::Many(BTreeMap::from([(*first, *other), (order, call)])),
            Flow::Many(calls) => {
                calls.insert(order, call);
            }
        }
    }

    fn first(&self) -> Option<(Order, CallKey)> {
        match self {
            Flow::One(order, call) => Some((*order, *call)),
            Flow::Many(calls) => calls.first_key_value().map(|(order, call)| (*order, *call)),
        }
    }

    /// Takes a call out, unless it is the only one: then the flow ends with it.
    fn remove(&mut self, order: Order) -> Removed {
        match self {
            Flow::One(only, call) if *only == order => Removed::Last(*call),
            Flow::One(..) => Removed::Nothing,
            Flow::Many(calls) => match calls.remove(&order) {
                None => Removed::Nothing,
                Some(call) if calls.is_empty() => Removed::Last(call),
                Some(call) => Removed::One(call),
            },
        }
    }
}

/// What was taken out of a flow.
enum Removed {
    Nothing,
    One(CallKey),
    Last(CallKey),
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
        let one = TURN / self.weight;
        if self.turns == self.waiting { one } else { length(self.turns, self.weight) / self.waiting.max(1) }
            .max(1)
    }

    fn flow(&self, lane: LaneId) -> Option<&Flow> {
        self.flows.iter().find(|(other, _)| *other == lane).map(|(_, flow)| flow)
    }
}

/// The waiting calls of an account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    consumers: Vec<ConsumerQueue>,
    by_name: HashMap<Consumer, ConsumerId>,
    free: Vec<ConsumerId>,
    lanes: BTreeMap<LaneId, BTreeSet<(u64, ConsumerId)>>,
    virtual_time: u64,
    arrivals: u64,
}

impl Queue {
    /// The name of a consumer, kept once for all of its calls.
    pub(crate) fn name(&mut self, consumer: &str, weight: u32) -> Consumer {
        let id = self.consumer(consumer, weight);
        self.consumers[id.index()].name.clone()
    }

    /// Puts a call in its consumer's flow.
    pub(crate) fn push(&mut self, arrival: Arrival<'_>, call: CallKey) -> QueuePosition {
        let Arrival { lane, consumer, weight, turns, deadline, again } = arrival;
        let consumer = self.consumer(consumer, weight);
        self.arrivals += 1;
        let order = Order { first_time: !again, deadline, arrival: self.arrivals };
        let position = QueuePosition { lane, consumer, turns, order };
        self.put(position, call);
        position
    }

    /// Puts a call back where it stood.
    pub(crate) fn put(&mut self, position: QueuePosition, call: CallKey) {
        let now = self.virtual_time;
        let consumer = &mut self.consumers[position.consumer.index()];
        if consumer.waiting == 0 {
            consumer.tag = consumer.tag.max(now);
            if consumer.unsettled == 0 {
                consumer.credit = 0;
            }
        }
        consumer.waiting += 1;
        consumer.turns += u64::from(position.turns);
        match consumer.flows.iter_mut().find(|(lane, _)| *lane == position.lane) {
            Some((_, flow)) => return flow.insert(position.order, call),
            None => {
                if consumer.flows.capacity() == 0 {
                    consumer.flows.reserve_exact(1);
                }
                consumer.flows.push((position.lane, Flow::One(position.order, call)));
            }
        }
        self.lanes.entry(position.lane).or_default().insert((consumer.tag, position.consumer));
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
        consumer.waiting -= 1;
        consumer.turns -= u64::from(position.turns);
        if last {
            consumer.flows.swap_remove(at);
            let tag = consumer.tag;
            if let Some(lane) = self.lanes.get_mut(&position.lane) {
                lane.remove(&(tag, position.consumer));
                if lane.is_empty() {
                    self.lanes.remove(&position.lane);
                }
            }
        }
        Some(call)
    }

    /// Takes a call out for its turn, which is as long as so many turns of a call of cost 1.
    pub(crate) fn take(&mut self, position: QueuePosition, turns: u32) -> Option<CallKey> {
        let call = self.remove(position)?;
        let consumer = &mut self.consumers[position.consumer.index()];
        let start = consumer.tag.max(self.virtual_time);
        let length = length(u64::from(turns), consumer.weight);
        let paid = consumer.credit.min(length);
        consumer.credit -= paid;
        self.retag(position.consumer, start.saturating_add(length - paid));
        self.virtual_time = start;
        Some(call)
    }

    /// A call that had its turn will say how many turns it really took.
    pub(crate) fn expect_use(&mut self, position: QueuePosition) {
        self.consumers[position.consumer.index()].unsettled += 1;
    }

    /// A call of this consumer, from which that was expected, has really taken so many turns instead of those that it
    /// had. More delay its next turn; fewer bring it forward, or are credit as far as it would be in the past.
    pub(crate) fn turns_taken(&mut self, consumer: &str, had: u32, taken: u32) {
        let Some(&id) = self.by_name.get(consumer) else { return };
        let now = self.virtual_time;
        let consumer = &mut self.consumers[id.index()];
        consumer.unsettled = consumer.unsettled.saturating_sub(1);
        let of = |turns: u32| length(u64::from(turns), consumer.weight);
        let (more, less) = (of(taken.saturating_sub(had)), of(had.saturating_sub(taken)));
        let paid = consumer.credit.min(more);
        let given_back = less.min(consumer.tag.saturating_sub(now));
        consumer.credit = (consumer.credit - paid).saturating_add(less - given_back);
        let tag = consumer.tag.saturating_add(more - paid) - given_back;
        self.retag(id, tag);
    }

    /// Has a consumer's next turn start then.
    fn retag(&mut self, id: ConsumerId, tag: u64) {
        let consumer = &mut self.consumers[id.index()];
        let before = std::mem::replace(&mut consumer.tag, tag);
        for (lane, _) in consumer.flows.iter().filter(|_| before != tag) {
            if let Some(order) = self.lanes.get_mut(lane) {
                order.remove(&(before, id));
                order.insert((tag, id));
            }
        }
    }

    /// Lanes in which a call waits.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneId> {
        self.lanes.keys().copied()
    }

    /// Whose turn is next in a lane.
    pub(crate) fn head(&self, lane: LaneId) -> Option<Head> {
        let &(tag, consumer) = self.lanes.get(&lane)?.first()?;
        let (order, call) = self.consumers[consumer.index()].flow(lane)?.first()?;
        Some(Head { tag, order, call })
    }

    /// Whether no consumer but this one has called.
    pub(crate) fn knows_only(&self, consumer: &str) -> bool {
        self.by_name.keys().all(|known| *known == *consumer)
    }

    /// How many calls get a turn before a new one of this consumer does, if all lanes are open.
    pub(crate) fn ahead_of(&self, consumer: &str, weight: u32) -> u64 {
        let own = self.by_name.get(consumer).map(|id| &self.consumers[id.index()]);
        let (waiting, turns, tag) = match own {
            Some(own) if own.waiting > 0 => (own.waiting, own.turns, own.tag),
            Some(own) => (0, 0, own.tag.max(self.virtual_time)),
            None => (0, 0, self.virtual_time),
        };
        let start = tag.saturating_add(length(turns, u64::from(weight.max(1))));
        let before = |other: &ConsumerQueue| {
            let calls = start.saturating_sub(other.tag).div_ceil(other.mean_length());
            calls.min(other.waiting)
        };
        let others = self.consumers.iter().filter(|other| other.waiting > 0 && *other.name != *consumer);
        waiting + others.map(before).sum::<u64>()
    }

    fn consumer(&mut self, name: &str, weight: u32) -> ConsumerId {
        let weight = u64::from(weight.clamp(1, 1 << 16));
        if let Some(&id) = self.by_name.get(name) {
            self.consumers[id.index()].weight = weight;
            return id;
        }
        let name = Consumer::from(name);
        let consumer = ConsumerQueue {
            name: name.clone(),
            weight,
            tag: 0,
            waiting: 0,
            turns: 0,
            unsettled: 0,
            credit: 0,
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
        self.by_name.insert(name, id);
        id
    }

    /// Forgets consumers of whom nothing would be remembered, when there are many: one whose next
    /// turn could start now is like a new one.
    fn forget_idle(&mut self) {
        if self.by_name.len() < 1024 || !self.by_name.len().is_power_of_two() {
            return;
        }
        let (consumers, now) = (&self.consumers, self.virtual_time);
        let mut idle = Vec::new();
        self.by_name.retain(|_, id| {
            let consumer = &consumers[id.index()];
            let keep = consumer.waiting > 0 || consumer.unsettled > 0 || consumer.tag > now;
            if !keep {
                idle.push(*id);
            }
            keep
        });
        // In an order that does not depend on the map's.
        idle.sort_unstable();
        self.free.append(&mut idle);
    }
}

#[cfg(test)]
mod tests;
