//! Another configuration, taken on while calls wait and are under way.

use super::longest_calls::LongestCalls;
use super::turns::turn_of;
use super::{Backlog, Lanes, Limit};
use crate::config::AccountConfig;
use crate::time::Time;

impl Lanes {
    /// Takes on another configuration. A limit keeps its counters, also under another name; one that is new begins
    /// with an unknown past. Returns for each limit the place that it had.
    pub(in crate::account) fn configure(&mut self, config: &AccountConfig, now: Time) -> Vec<Option<usize>> {
        let old = std::mem::replace(&mut self.limits, Limit::all_of(config));
        self.turn = turn_of(&self.limits);
        self.longest_calls = LongestCalls::of(config);
        let places = Limit::continued(&old, &self.limits);
        for (limit, place) in self.limits.iter().zip(&places) {
            let name = &limit.config.name;
            let start = match place.and_then(|place| old.get(place)) {
                None => Some(limit.new_beginning(now)),
                Some(known) if known.config.name != *name => self.starts.remove(&known.config.name),
                Some(_) => None,
            };
            if let Some(start) = start {
                self.starts.insert(name.clone(), start);
            }
        }
        self.by_limit.clear();
        let (by_limit, limits) = (&mut self.by_limit, &self.limits);
        self.counters.retain(|id, entry| {
            let place = places.iter().position(|place| *place == Some(entry.limit.place));
            let limit = place.and_then(|place| limits.get(place));
            // A model's counter of a limit that no longer counts models apart has no place.
            let Some(limit) = limit.filter(|limit| limit.config.per_model || entry.model.is_none()) else {
                return false;
            };
            entry.limit = limit.clone();
            by_limit.insert((limit.place, entry.model.clone()), id);
            true
        });
        for entry in self.counters.values_mut() {
            entry.reconfigure(now);
        }
        self.require_covers(now);
        for index in 0..self.lanes.len() {
            self.lanes[index] = self.open(self.lanes[index].class.clone(), now);
        }
        for entry in self.counters.values_mut() {
            entry.waiting = Backlog::EMPTY;
        }
        self.waiting = 0;
        places
    }
}
