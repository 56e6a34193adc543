//! The fair queue: start-time fair queueing over consumers, earliest deadline first within one.
//!
//! A lane holds the calls that draw on the same limits; lanes do not hold each other up. Turns
//! are counted for a consumer over all lanes: a workload of a hundred replicas is one consumer
//! and gets no more than a workload of one. A consumer that was idle, or whose lane was closed,
//! takes its turn next but saves nothing up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::event::{Attempt, CallId, SessionId};
use crate::time::Time;

/// One turn of a consumer of weight 1.
const TURN: u64 = 1 << 20;

/// A lane, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId(pub(crate) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ConsumerId(usize);

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
    pub(crate) order: Order,
}

/// A call that comes to the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) lane: LaneId,
    pub(crate) consumer: &'a str,
    pub(crate) weight: u32,
    pub(crate) deadline: Time,
    /// The provider has sent it back: it goes before those that come for the first time.
    pub(crate) again: bool,
}

/// The call of a lane whose turn is next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The virtual time at which its turn starts: the lane with the lowest goes first.
    pub(crate) tag: u64,
    pub(crate) position: QueuePosition,
    pub(crate) call: CallKey,
}

#[derive(Clone, Debug)]
struct Consumer {
    name: Arc<str>,
    weight: u64,
    /// The virtual time at which its next turn starts.
    tag: u64,
    /// Calls that stand in a lane.
    waiting: usize,
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

impl Consumer {
    fn flow(&self, lane: LaneId) -> Option<&Flow> {
        self.flows.iter().find(|(other, _)| *other == lane).map(|(_, flow)| flow)
    }
}

/// The waiting calls of an account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    consumers: Vec<Consumer>,
    by_name: HashMap<Arc<str>, ConsumerId>,
    free: Vec<ConsumerId>,
    lanes: BTreeMap<LaneId, BTreeSet<(u64, ConsumerId)>>,
    virtual_time: u64,
    arrivals: u64,
}

impl Queue {
    /// The name of a consumer, kept once for all of its calls.
    pub(crate) fn name(&mut self, consumer: &str, weight: u32) -> Arc<str> {
        let id = self.consumer(consumer, weight);
        self.consumers[id.0].name.clone()
    }

    /// Puts a call in its consumer's flow.
    pub(crate) fn push(&mut self, arrival: Arrival<'_>, call: CallKey) -> QueuePosition {
        let Arrival { lane, consumer, weight, deadline, again } = arrival;
        let consumer = self.consumer(consumer, weight);
        self.arrivals += 1;
        let order = Order { first_time: !again, deadline, arrival: self.arrivals };
        let position = QueuePosition { lane, consumer, order };
        self.put(position, call);
        position
    }

    /// Puts a call back where it stood.
    pub(crate) fn put(&mut self, position: QueuePosition, call: CallKey) {
        let now = self.virtual_time;
        let consumer = &mut self.consumers[position.consumer.0];
        if consumer.waiting == 0 {
            consumer.tag = consumer.tag.max(now);
        }
        consumer.waiting += 1;
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
        let consumer = &mut self.consumers[position.consumer.0];
        let at = consumer.flows.iter().position(|(lane, _)| *lane == position.lane)?;
        let (call, last) = match consumer.flows[at].1.remove(position.order) {
            Removed::Nothing => return None,
            Removed::One(call) => (call, false),
            Removed::Last(call) => (call, true),
        };
        consumer.waiting -= 1;
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

    /// Takes a call out for its turn.
    pub(crate) fn take(&mut self, position: QueuePosition) -> Option<CallKey> {
        let call = self.remove(position)?;
        let consumer = &mut self.consumers[position.consumer.0];
        let start = consumer.tag.max(self.virtual_time);
        let next = start + TURN / consumer.weight;
        for (lane, _) in &consumer.flows {
            if let Some(order) = self.lanes.get_mut(lane) {
                order.remove(&(consumer.tag, position.consumer));
                order.insert((next, position.consumer));
            }
        }
        consumer.tag = next;
        self.virtual_time = start;
        Some(call)
    }

    /// Lanes in which a call waits.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneId> {
        self.lanes.keys().copied()
    }

    /// Whose turn is next in a lane.
    pub(crate) fn head(&self, lane: LaneId) -> Option<Head> {
        let &(tag, consumer) = self.lanes.get(&lane)?.first()?;
        let (order, call) = self.consumers[consumer.0].flow(lane)?.first()?;
        Some(Head { tag, position: QueuePosition { lane, consumer, order }, call })
    }

    /// How many calls get a turn before a new one of this consumer does, if all lanes are open.
    pub(crate) fn ahead_of(&self, consumer: &str, weight: u32) -> u64 {
        let own = self.by_name.get(consumer).map(|id| (id, &self.consumers[id.0]));
        let (waiting, tag) = match own {
            Some((_, own)) if own.waiting > 0 => (own.waiting as u64, own.tag),
            Some((_, own)) => (0, own.tag.max(self.virtual_time)),
            None => (0, self.virtual_time),
        };
        let start = tag + waiting * (TURN / u64::from(weight.max(1)));
        let before = |other: &Consumer| {
            let turns = start.saturating_sub(other.tag).div_ceil(TURN / other.weight);
            turns.min(other.waiting as u64)
        };
        let others = self.consumers.iter().filter(|other| other.waiting > 0 && *other.name != *consumer);
        waiting + others.map(before).sum::<u64>()
    }

    fn consumer(&mut self, name: &str, weight: u32) -> ConsumerId {
        let weight = u64::from(weight.clamp(1, 1 << 16));
        if let Some(&id) = self.by_name.get(name) {
            self.consumers[id.0].weight = weight;
            return id;
        }
        let name: Arc<str> = name.into();
        let consumer = Consumer { name: name.clone(), weight, tag: 0, waiting: 0, flows: Vec::new() };
        self.forget_idle();
        let id = match self.free.pop() {
            Some(id) => {
                self.consumers[id.0] = consumer;
                id
            }
            None => {
                self.consumers.push(consumer);
                ConsumerId(self.consumers.len() - 1)
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
            let consumer = &consumers[id.0];
            let keep = consumer.waiting > 0 || consumer.tag > now;
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
mod tests {
    use super::*;

    const LANE: LaneId = LaneId(0);

    fn key(call: u64) -> CallKey {
        CallKey { session: SessionId(1), call: CallId(call) }
    }

    fn push(queue: &mut Queue, lane: LaneId, consumer: &str, calls: impl IntoIterator<Item = u64>) {
        for call in calls {
            queue.push(Arrival { lane, ..arrival(consumer) }, key(call));
        }
    }

    fn arrival(consumer: &str) -> Arrival<'_> {
        Arrival { lane: LANE, consumer, weight: 1, deadline: Time::NEVER, again: false }
    }

    fn serve(queue: &mut Queue, turns: usize) -> Vec<u64> {
        (0..turns)
            .filter_map(|_| {
                let head = queue.head(LANE)?;
                queue.take(head.position).map(|key| key.call.0)
            })
            .collect()
    }

    #[test]
    fn a_large_consumer_and_a_small_one_alternate() {
        let mut queue = Queue::default();
        push(&mut queue, LANE, "large", 0..20);
        push(&mut queue, LANE, "small", 100..103);
        let served = serve(&mut queue, 6);
        assert_eq!(served.iter().filter(|call| **call >= 100).count(), 3, "{served:?}");
    }

    #[test]
    fn weights_are_shares() {
        let mut queue = Queue::default();
        for call in 0..100 {
            queue.push(Arrival { weight: 3, ..arrival("three") }, key(call));
            queue.push(arrival("one"), key(1000 + call));
        }
        let served = serve(&mut queue, 80);
        assert_eq!(served.iter().filter(|call| **call < 1000).count(), 60);
    }

    #[test]
    fn a_call_that_was_sent_back_comes_first_then_the_earliest_deadline() {
        let mut queue = Queue::default();
        queue.push(Arrival { deadline: Time(30), ..arrival("a") }, key(1));
        queue.push(Arrival { deadline: Time(20), ..arrival("a") }, key(2));
        queue.push(Arrival { deadline: Time(90), again: true, ..arrival("a") }, key(3));
        assert_eq!(serve(&mut queue, 3), [3, 2, 1]);
    }

    #[test]
    fn a_consumer_that_was_idle_saves_nothing_up() {
        let mut queue = Queue::default();
        push(&mut queue, LANE, "late", [500]);
        assert_eq!(serve(&mut queue, 1), [500]);
        push(&mut queue, LANE, "steady", 0..10);
        serve(&mut queue, 8);
        push(&mut queue, LANE, "late", 501..511);
        let served = serve(&mut queue, 4);
        assert!(served.iter().filter(|call| **call >= 500).count() <= 3, "{served:?}");
    }

    #[test]
    fn a_consumer_behind_a_closed_lane_saves_nothing_up() {
        let closed = LaneId(1);
        let mut queue = Queue::default();
        push(&mut queue, closed, "search", 500..510);
        push(&mut queue, LANE, "steady", 0..40);
        serve(&mut queue, 20);
        push(&mut queue, LANE, "search", 600..610);
        let served = serve(&mut queue, 10);
        assert!(served.iter().filter(|call| **call >= 600).count() <= 6, "{served:?}");
    }

    #[test]
    fn calls_ahead_are_counted_as_turns_not_as_calls() {
        let mut queue = Queue::default();
        push(&mut queue, LANE, "large", 0..50);
        assert!(queue.ahead_of("small", 1) <= 1);
        assert_eq!(queue.ahead_of("large", 1), 50);
    }
}
