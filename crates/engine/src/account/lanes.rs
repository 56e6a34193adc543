//! Which limits and pauses cover a call, and the counters of those limits.
//!
//! Calls of one class share a lane. A limit that counts models apart has a counter for each model
//! that was seen, made when it is first drawn on.
//!
//! | room | holds |
//! |---|---|
//! | `begin` | what a counter begins with |
//! | `counters` | counters by their numbers |
//! | `limit` | a limit as its counters know it, and one of its counters |
//! | `partitions` | models that are counted apart, and calls whose model is not known |

mod begin;
mod counters;
mod limit;
mod partitions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(super) use begin::{InitialState, hold_reserve};
pub(super) use limit::{Entry, Limit};

use counters::Counters;

use super::counter::{Counter, Usage};
use super::status::LimitStatus;
use crate::config::AccountConfig;
use crate::event::{Attempt, CallClass, Scope};
use crate::queue::LaneId;
use crate::time::Time;
use crate::window_counter::WindowCounter;

/// Names a counter; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CounterId(usize);

#[derive(Debug)]
struct Lane {
    class: CallClass,
    counters: Vec<CounterId>,
    waiting: u64,
    /// A limit that tells models apart covers it, and it tells no model.
    any_model: bool,
}

/// A counter that began as a copy of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopiedCounter {
    pub(super) original: CounterId,
    pub(super) copy: CounterId,
}

/// The lanes and counters of an account.
#[derive(Debug)]
pub(super) struct Lanes {
    limits: Vec<Arc<Limit>>,
    lanes: Vec<Lane>,
    by_class: BTreeMap<CallClass, LaneId>,
    counters: Counters,
    by_limit: BTreeMap<(usize, Option<String>), CounterId>,
    waiting: usize,
    start: InitialState,
    /// Limits that came later than the engine, and begin otherwise.
    starts: BTreeMap<String, InitialState>,
    /// Models that are told apart.
    models: BTreeSet<String>,
    copied_counters: Vec<CopiedCounter>,
    /// Counters at which units are kept.
    kept: Vec<CounterId>,
}

impl Lanes {
    /// An account whose counters are still to be [made](Lanes::make_counters) or restored.
    pub(super) fn new(config: &AccountConfig, start: InitialState) -> Lanes {
        Lanes {
            limits: Limit::all_of(config),
            lanes: Vec::new(),
            by_class: BTreeMap::new(),
            counters: Counters::default(),
            by_limit: BTreeMap::new(),
            waiting: 0,
            start,
            starts: BTreeMap::new(),
            models: BTreeSet::new(),
            copied_counters: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Makes the counters of limits that do not tell models apart, where there are none yet.
    pub(super) fn make_counters(&mut self, now: Time) {
        for place in 0..self.limits.len() {
            if !self.limits[place].config.per_model {
                self.counter(place, None, now);
            }
        }
    }

    /// The account's limits, by their places.
    pub(super) fn limits(&self) -> &[Arc<Limit>] {
        &self.limits
    }

    /// The lane of calls of this class.
    pub(super) fn lane_of(&mut self, class: &CallClass, now: Time) -> LaneId {
        if let Some(lane) = self.by_class.get(class) {
            return *lane;
        }
        let counted = self.counted_class(class);
        if counted != *class {
            return self.lane_of(&counted, now);
        }
        let counters = self.cover(class, now);
        let lane = LaneId(self.lanes.len());
        let any_model = self.may_be_any_model(class);
        self.lanes.push(Lane { class: class.clone(), counters, waiting: 0, any_model });
        self.by_class.insert(class.clone(), lane);
        lane
    }

    fn add(&mut self, entry: Entry) -> CounterId {
        self.models.extend(entry.model.clone());
        let key = (entry.limit.place, entry.model.clone());
        let id = self.counters.add(entry);
        self.by_limit.insert(key, id);
        id
    }

    /// Adds a counter that was restored.
    pub(super) fn add_restored(
        &mut self,
        limit: &Arc<Limit>,
        model: Option<String>,
        counter: WindowCounter,
        observed: Option<u64>,
    ) -> CounterId {
        let entry = Entry::new(limit.clone(), model, Counter::Window(counter));
        self.add(Entry { observed, ..entry })
    }

    /// Takes in the provider's own figure of the limit.
    pub(super) fn observe_hard(&mut self, counter: CounterId, hard: u64, now: Time) {
        let Some(entry) = self.counters.get_mut(counter) else { return };
        if entry.observed.replace(hard) != Some(hard) {
            entry.reconfigure(now);
        }
    }

    /// Takes on another configuration. A limit keeps its counters by its name and what it counts;
    /// one that is new begins with an unknown past.
    pub(super) fn configure(&mut self, config: &AccountConfig, now: Time) {
        let old = std::mem::replace(&mut self.limits, Limit::all_of(config));
        for limit in &self.limits {
            if !old.iter().any(|known| known.is_continued_by(&limit.config)) {
                self.starts.insert(limit.config.name.clone(), InitialState::UnknownPast { since: now });
            }
        }
        self.by_limit.clear();
        let (by_limit, limits) = (&mut self.by_limit, &self.limits);
        self.counters.retain(|id, entry| {
            let limit = limits.iter().find(|limit| entry.limit.is_continued_by(&limit.config));
            // A model's counter of a limit that no longer tells models apart has no place.
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
        for index in 0..self.lanes.len() {
            let class = self.lanes[index].class.clone();
            let counters = self.cover(&class, now);
            let any_model = self.may_be_any_model(&class);
            self.lanes[index] = Lane { class, counters, waiting: 0, any_model };
        }
        for entry in self.counters.values_mut() {
            entry.waiting = 0;
        }
        self.waiting = 0;
    }

    /// The counters of the limits that cover the lane.
    pub(super) fn counters_of(&self, lane: LaneId) -> &[CounterId] {
        &self.lanes[lane.0].counters
    }

    pub(super) fn entry(&self, counter: CounterId) -> Option<&Entry> {
        self.counters.get(counter)
    }

    pub(super) fn entry_mut(&mut self, counter: CounterId) -> Option<&mut Entry> {
        self.counters.get_mut(counter)
    }

    pub(super) fn window(&mut self, counter: CounterId) -> Option<&mut WindowCounter> {
        self.counters.get_mut(counter)?.counter.window_mut()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (CounterId, &Entry)> {
        self.counters.iter()
    }

    pub(super) fn counters(&mut self) -> impl Iterator<Item = &mut Counter> {
        self.counters.values_mut().map(|entry| &mut entry.counter)
    }

    pub(super) fn set_start(&mut self, start: InitialState) {
        self.start = start;
    }

    pub(super) fn start_limit(&mut self, limit: &str, start: InitialState) {
        self.starts.insert(limit.to_owned(), start);
    }

    pub(super) fn begins_unknown(&self, limit: &str) -> bool {
        matches!(self.starts.get(limit), Some(InitialState::UnknownPast { .. }))
    }

    pub(super) fn class_of(&self, lane: LaneId) -> &CallClass {
        &self.lanes[lane.0].class
    }

    /// Whether a pause of this scope holds the lane's calls.
    pub(super) fn covers(&self, lane: LaneId, scope: &Scope) -> bool {
        let class = self.class_of(lane);
        match scope {
            Scope::Account => true,
            Scope::Endpoint(name) => class.endpoint.as_ref() == Some(name),
            Scope::Model(name) => class.model.as_ref() == Some(name),
            Scope::Limit(name) => self.entries_of(lane).any(|entry| entry.limit.config.name == *name),
        }
    }

    pub(super) fn never_fits(&self, lane: LaneId) -> bool {
        self.entries_of(lane).any(|entry| entry.counter.amount() == 0)
    }

    fn entries_of(&self, lane: LaneId) -> impl Iterator<Item = &Entry> {
        self.counters_of(lane).iter().filter_map(|counter| self.counters.get(*counter))
    }

    pub(super) fn blocked_until(&mut self, lane: LaneId, now: Time) -> Option<Time> {
        let mut until = None;
        for id in &self.lanes[lane.0].counters {
            if let Some(Entry { counter, kept, .. }) = self.counters.get_mut(*id) {
                counter.advance(now);
                until = until.max(counter.blocked_until(now, *kept));
            }
        }
        until
    }

    /// How long until the lane's limits have let `ahead` calls and one more through, as far as
    /// those draw on the same limits.
    pub(super) fn wait_for(&mut self, lane: LaneId, now: Time, ahead: u64) -> Duration {
        let mut wait = Duration::ZERO;
        for id in &self.lanes[lane.0].counters {
            if let Some(Entry { counter, waiting, .. }) = self.counters.get_mut(*id) {
                counter.advance(now);
                wait = wait.max(counter.wait_for(now, ahead.min(*waiting) + 1));
            }
        }
        wait
    }

    /// Gives a call of the lane its slots.
    pub(super) fn hold_slots(&mut self, lane: LaneId, attempt: Attempt, now: Time) {
        for id in &self.lanes[lane.0].counters {
            if let Some(entry) = self.counters.get_mut(*id) {
                entry.counter.hold_slot(attempt, now);
            }
        }
    }

    /// Gives a call of the lane slots that an earlier incarnation may have given away.
    pub(super) fn claim_slots(&mut self, lane: LaneId, attempt: Attempt, now: Time) {
        for id in &self.lanes[lane.0].counters {
            if let Some(entry) = self.counters.get_mut(*id) {
                entry.counter.claim_slot(attempt, now);
            }
        }
    }

    pub(super) fn free_slots(&mut self, lane: LaneId, attempt: Attempt, now: Time) {
        for id in &self.lanes[lane.0].counters {
            if let Some(entry) = self.counters.get_mut(*id) {
                entry.counter.free_slot(attempt, now);
            }
        }
    }

    pub(super) fn call_waits(&mut self, lane: LaneId) {
        self.waiting += 1;
        self.lanes[lane.0].waiting += 1;
        for id in &self.lanes[lane.0].counters {
            if let Some(entry) = self.counters.get_mut(*id) {
                entry.waiting += 1;
            }
        }
    }

    pub(super) fn call_leaves(&mut self, lane: LaneId) {
        self.waiting = self.waiting.saturating_sub(1);
        let Lane { counters, waiting, .. } = &mut self.lanes[lane.0];
        *waiting = waiting.saturating_sub(1);
        for id in counters {
            if let Some(entry) = self.counters.get_mut(*id) {
                entry.waiting = entry.waiting.saturating_sub(1);
            }
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn status(&mut self, now: Time) -> Vec<LimitStatus> {
        let status = |entry: &mut Entry| {
            let Usage { amount, used, used_by_others, assumed, in_flight, resets_in } =
                entry.counter.usage(now);
            LimitStatus {
                name: entry.limit.config.name.clone(),
                model: entry.model.clone(),
                unit: entry.limit.config.unit,
                amount,
                used,
                used_by_others,
                assumed,
                in_flight,
                waiting: entry.waiting,
                resets_in,
            }
        };
        self.counters.values_mut().map(status).collect()
    }
}
