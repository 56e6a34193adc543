//! The fair queue: start-time fair queueing over consumers, earliest deadline first within one.
//!
//! A lane holds the calls that draw on the same limits; lanes do not hold each other up. Turns
//! are counted for a consumer over all lanes: a workload of a hundred replicas is one consumer
//! and gets no more than a workload of one. A consumer that was idle, or whose lane was closed,
//! takes its turn next but saves nothing up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::event::{CallId, SessionId};
use crate::time::Time;

/// One turn of a consumer of weight 1.
const TURN: u64 = 1 << 20;

/// A lane, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId(pub(crate) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ConsumerId(usize);

/// Which call.
pub(crate) type CallKey = (SessionId, CallId);

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
pub(crate) struct Place {
    pub(crate) lane: LaneId,
    consumer: ConsumerId,
    pub(crate) order: Order,
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
    pub(crate) fn push(
        &mut self,
        lane: LaneId,
        (consumer, weight): (&str, u32),
        deadline: Time,
        again: bool,
        call: CallKey,
    ) -> Place {
        let id = self.consumer(consumer, weight);
        self.arrivals += 1;
        let order = Order { first_time: !again, deadline, arrival: self.arrivals };
        let place = Place { lane, consumer: id, order };
        self.put(place, call);
        place
    }

    /// Puts a call back where it stood.
    pub(crate) fn put(&mut self, place: Place, call: CallKey) {
        let now = self.virtual_time;
        let consumer = &mut self.consumers[place.consumer.0];
        if consumer.waiting == 0 {
            consumer.tag = consumer.tag.max(now);
        }
        consumer.waiting += 1;
        match consumer.flows.iter_mut().find(|(lane, _)| *lane == place.lane) {
            Some((_, flow)) => return flow.insert(place.order, call),
            None => {
                if consumer.flows.capacity() == 0 {
                    consumer.flows.reserve_exact(1);
                }
                consumer.flows.push((place.lane, Flow::One(place.order, call)));
            }
        }
        self.lanes.entry(place.lane).or_default().insert((consumer.tag, place.consumer));
    }

    /// Takes a call out without a turn.
    pub(crate) fn remove(&mut self, place: Place) -> Option<CallKey> {
        let consumer = &mut self.consumers[place.consumer.0];
        let at = consumer.flows.iter().position(|(lane, _)| *lane == place.lane)?;
        let (call, last) = match consumer.flows[at].1.remove(place.order) {
            Removed::Nothing => return None,
            Removed::One(call) => (call, false),
            Removed::Last(call) => (call, true),
        };
        consumer.waiting -= 1;
        if last {
            consumer.flows.swap_remove(at);
            let tag = consumer.tag;
            if let Some(lane) = self.lanes.get_mut(&place.lane) {
                lane.remove(&(tag, place.consumer));
                if lane.is_empty() {
                    self.lanes.remove(&place.lane);
                }
            }
        }
        Some(call)
    }

    /// Takes a call out for its turn.
    pub(crate) fn take(&mut self, place: Place) -> Option<CallKey> {
        let call = self.remove(place)?;
        let consumer = &mut self.consumers[place.consumer.0];
        let start = consumer.tag.max(self.virtual_time);
        let next = start + TURN / consumer.weight;
        for (lane, _) in &consumer.flows {
            if let Some(order) = self.lanes.get_mut(lane) {
                order.remove(&(consumer.tag, place.consumer));
                order.insert((next, place.consumer));
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

    /// Whose turn is next in a lane, and when it started: the lane with the lowest goes first.
    pub(crate) fn head(&self, lane: LaneId) -> Option<(u64, Place, CallKey)> {
        let &(tag, id) = self.lanes.get(&lane)?.first()?;
        let (order, call) = self.consumers[id.0].flow(lane)?.first()?;
        Some((tag, Place { lane, consumer: id, order }, call))
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
        (SessionId(1), CallId(call))
    }

    fn serve(queue: &mut Queue, turns: usize) -> Vec<u64> {
        (0..turns)
            .filter_map(|_| {
                let (_, place, _) = queue.head(LANE)?;
                queue.take(place).map(|(_, call)| call.0)
            })
            .collect()
    }

    #[test]
    fn a_large_consumer_and_a_small_one_alternate() {
        let mut queue = Queue::default();
        for call in 0..20 {
            queue.push(LANE, ("large", 1), Time::NEVER, false, key(call));
        }
        for call in 100..103 {
            queue.push(LANE, ("small", 1), Time::NEVER, false, key(call));
        }
        let served = serve(&mut queue, 6);
        assert_eq!(served.iter().filter(|call| **call >= 100).count(), 3, "{served:?}");
    }

    #[test]
    fn weights_are_shares() {
        let mut queue = Queue::default();
        for call in 0..100 {
            queue.push(LANE, ("three", 3), Time::NEVER, false, key(call));
            queue.push(LANE, ("one", 1), Time::NEVER, false, key(1000 + call));
        }
        let served = serve(&mut queue, 80);
        assert_eq!(served.iter().filter(|call| **call < 1000).count(), 60);
    }

    #[test]
    fn a_call_that_was_sent_back_comes_first_then_the_earliest_deadline() {
        let mut queue = Queue::default();
        queue.push(LANE, ("a", 1), Time(30), false, key(1));
        queue.push(LANE, ("a", 1), Time(20), false, key(2));
        queue.push(LANE, ("a", 1), Time(90), true, key(3));
        assert_eq!(serve(&mut queue, 3), [3, 2, 1]);
    }

    #[test]
    fn a_consumer_that_was_idle_saves_nothing_up() {
        let mut queue = Queue::default();
        queue.push(LANE, ("late", 1), Time::NEVER, false, key(500));
        assert_eq!(serve(&mut queue, 1), [500]);
        for call in 0..10 {
            queue.push(LANE, ("steady", 1), Time::NEVER, false, key(call));
        }
        serve(&mut queue, 8);
        for call in 501..511 {
            queue.push(LANE, ("late", 1), Time::NEVER, false, key(call));
        }
        let served = serve(&mut queue, 4);
        assert!(served.iter().filter(|call| **call >= 500).count() <= 3, "{served:?}");
    }

    #[test]
    fn a_consumer_behind_a_closed_lane_saves_nothing_up() {
        let closed = LaneId(1);
        let mut queue = Queue::default();
        for call in 0..10 {
            queue.push(closed, ("search", 1), Time::NEVER, false, key(500 + call));
        }
        for call in 0..40 {
            queue.push(LANE, ("steady", 1), Time::NEVER, false, key(call));
        }
        serve(&mut queue, 20);
        for call in 0..10 {
            queue.push(LANE, ("search", 1), Time::NEVER, false, key(600 + call));
        }
        let served = serve(&mut queue, 10);
        assert!(served.iter().filter(|call| **call >= 600).count() <= 6, "{served:?}");
    }

    #[test]
    fn calls_ahead_are_counted_as_turns_not_as_calls() {
        let mut queue = Queue::default();
        for call in 0..50 {
            queue.push(LANE, ("large", 1), Time::NEVER, false, key(call));
        }
        assert!(queue.ahead_of("small", 1) <= 1);
        assert_eq!(queue.ahead_of("large", 1), 50);
    }
}
