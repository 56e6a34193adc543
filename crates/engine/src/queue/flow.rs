//! The calls of a consumer in a lane, in their order.

use std::collections::BTreeMap;

use super::CallKey;
use crate::time::Time;

/// A call's place in its flow: calls that the provider sent back come first, then the earliest
/// deadline, then the earliest arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(super) first_time: bool,
    pub(super) deadline: Time,
    pub(super) arrival: u64,
}

/// The calls of a consumer in a lane: most wait alone.
#[derive(Clone, Debug)]
pub(super) enum Flow {
    One(Order, CallKey),
    Many(BTreeMap<Order, CallKey>),
}

impl Flow {
    pub(super) fn insert(&mut self, order: Order, call: CallKey) {
        match self {
            Flow::One(first, other) => *self = Flow::Many(BTreeMap::from([(*first, *other), (order, call)])),
            Flow::Many(calls) => {
                calls.insert(order, call);
            }
        }
    }

    pub(super) fn first(&self) -> Option<(Order, CallKey)> {
        match self {
            Flow::One(order, call) => Some((*order, *call)),
            Flow::Many(calls) => calls.first_key_value().map(|(order, call)| (*order, *call)),
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Flow::One(..) => 1,
            Flow::Many(calls) => calls.len() as u64,
        }
    }

    /// Takes a call out, unless it is the only one: then the flow ends with it.
    pub(super) fn remove(&mut self, order: Order) -> Removed {
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
pub(super) enum Removed {
    Nothing,
    One(CallKey),
    Last(CallKey),
}
