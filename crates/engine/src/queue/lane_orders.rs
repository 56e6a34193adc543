//! Whose turn is next in each lane.

use std::collections::BTreeSet;

use super::{ConsumerId, LaneId};

/// When a consumer's next turn starts.
type Tagged = (u64, ConsumerId);

/// The consumers with calls in each lane, in the order of their turns. Lanes come and go with each call of an account
/// that is not full, so their places are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct LaneOrders {
    /// By the numbers of lanes.
    orders: Vec<BTreeSet<Tagged>>,
    /// Those in which somebody waits, by number.
    with_waiting: Vec<LaneId>,
}

impl LaneOrders {
    pub(super) fn insert(&mut self, lane: LaneId, consumer: Tagged) {
        let place = lane.0 as usize;
        if place >= self.orders.len() {
            self.orders.resize_with(place + 1, BTreeSet::new);
        }
        let order = &mut self.orders[place];
        if order.is_empty()
            && let Err(place) = self.with_waiting.binary_search(&lane)
        {
            self.with_waiting.insert(place, lane);
        }
        order.insert(consumer);
    }

    pub(super) fn remove(&mut self, lane: LaneId, consumer: Tagged) {
        let Some(order) = self.orders.get_mut(lane.0 as usize) else { return };
        if order.remove(&consumer)
            && order.is_empty()
            && let Ok(place) = self.with_waiting.binary_search(&lane)
        {
            self.with_waiting.remove(place);
        }
    }

    /// Has the consumer's next turn start at another time, if it waits in the lane.
    pub(super) fn retag(&mut self, lane: LaneId, before: Tagged, after: Tagged) {
        if let Some(order) = self.orders.get_mut(lane.0 as usize)
            && order.remove(&before)
        {
            order.insert(after);
        }
    }

    /// Whose turn is next.
    pub(super) fn first(&self, lane: LaneId) -> Option<Tagged> {
        self.orders.get(lane.0 as usize)?.first().copied()
    }

    /// Lanes in which somebody waits.
    pub(super) fn with_waiting(&self) -> &[LaneId] {
        &self.with_waiting
    }
}
