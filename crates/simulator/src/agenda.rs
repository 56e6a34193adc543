//! What is going to happen, in order: by time, then by when it was decided.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Moment;

/// The events to come.
#[derive(Clone, Debug)]
pub(crate) struct Agenda<E> {
    order: BinaryHeap<Reverse<(Moment, u64, usize)>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    count: u64,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Agenda<E> {
        Agenda { order: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), count: 0 }
    }

    pub(crate) fn add(&mut self, at: Moment, event: E) {
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.count += 1;
        self.order.push(Reverse((at, self.count, place)));
    }

    pub(crate) fn next(&mut self) -> Option<(Moment, E)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        let event = self.events[place].take()?;
        Some((at, event))
    }
}
