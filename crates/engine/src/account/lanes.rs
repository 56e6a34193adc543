//! Which limits and pauses cover a call, and the counters of those limits.
//!
//! Calls of one class share a lane. A limit that counts models apart has a counter for each model
//! that was seen, made when it is first drawn on.
//!
//! | room | holds |
//! |---|---|
//! | `begin` | what a counter begins with |
//! | `counters` | counters by their numbers |
//! | `partitions` | models that are counted apart, and calls whose model is not known |

mod begin;
mod counters;
mod partitions;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) use begin::{InitialState, hold_reserve};

use counters::Counters;

use super::status::LimitStatus;
use crate::concurrency_counter::ConcurrencyCounter;
use crate::config::{AccountConfig, LimitConfig};
use crate::event::{Attempt, CallClass, Scope};
use crate::queue::LaneId;
use crate::time::Time;
use crate::units::Origin;
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

#[derive(Debug)]
pub(super) struct Entry {
    /// The limit's place in the configuration.
    limit: usize,
    pub(super) model: Option<String>,
    pub(super) counter: Counter,
    /// The provider's own figure, where headers have named one: of this model, not of the others.
    pub(super) observed: Option<u64>,
    waiting: u64,
    /// Units that are kept for calls whose turn comes before, within one round of grants.
    kept: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Counter {
    Window(WindowCounter),
    ConcurrencyCounter(ConcurrencyCounter),
}

/// The lanes and counters of an account.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    by_shape: BTreeMap<CallClass, LaneId>,
    counters: Counters,
    by_limit: BTreeMap<(usize, Option<String>), CounterId>,
    waiting: usize,
    start: InitialState,
    /// Limits that came later than the engine, and begin otherwise.
    starts: BTreeMap<String, InitialState>,
    /// Models that are told apart.
    models: BTreeSet<String>,
    /// Counters that began as copies of others.
    copied_counters: Vec<(CounterId, CounterId)>,
    /// Counters at which units are kept.
    kept: Vec<CounterId>,
}

impl Lanes {
    pub(super) fn new(config: &AccountConfig, start: InitialState, now: Time) -> Lanes {
        let mut lanes = Lanes {
            lanes: Vec::new(),
            by_shape: BTreeMap::new(),
            counters: Counters::default(),
            by_limit: BTreeMap::new(),
            waiting: 0,
            start,
            starts: BTreeMap::new(),
            models: BTreeSet::new(),
            copied_counters: Vec::new(),
            kept: Vec::new(),
        };
        for (index, limit) in config.limits.iter().enumerate() {
            if !limit.per_model {
                lanes.counter(config, index, None, now);
            }
        }
        lanes
    }

    /// The lane of calls of this class.
    pub(super) fn lane_of(&mut self, config: &AccountConfig, class: &CallClass, now: Time) -> LaneId {
        if let Some(lane) = self.by_shape.get(class) {
            return *lane;
        }
        let counted = self.counted_class(config, class);
        if counted != *class {
            return self.lane_of(config, &counted, now);
        }
        let counters = self.cover(config, class, now);
        let lane = LaneId(self.lanes.len());
        let any_model = partitions::any_model_at(config, class);
        self.lanes.push(Lane { class: class.clone(), counters, waiting: 0, any_model });
        self.by_shape.insert(class.clone(), lane);
        lane
    }

    pub(super) fn add(
        &mut self,
        (limit, model): (usize, Option<String>),
        counter: Counter,
        observed: Option<u64>,
    ) -> CounterId {
        self.models.extend(model.clone());
        let key = (limit, model.clone());
        let id = self.counters.add(Entry { limit, model, counter, observed, waiting: 0, kept: 0 });
        self.by_limit.insert(key, id);
        id
    }

    /// Takes in the provider's own figure of the limit.
    pub(super) fn observe_hard(&mut self, config: &AccountConfig, counter: CounterId, hard: u64, now: Time) {
        let Some(entry) = self.counters.get_mut(counter) else { return };
        if entry.observed.replace(hard) != Some(hard) {
            entry.reconfigure(config, now);
        }
    }

    /// Takes on another configuration. A limit keeps its counters by its name and what it counts;
    /// one that is new begins with an unknown past.
    pub(super) fn configure(&mut self, old: &AccountConfig, new: &AccountConfig, now: Time) {
        for limit in &new.limits {
            if !old.limits.iter().any(|known| known.name == limit.name && known.unit == limit.unit) {
                self.starts.insert(limit.name.clone(), InitialState::UnknownPast { since: now });
            }
        }
        let place = |index: usize| {
            let known = &old.limits[index];
            new.limits.iter().position(|limit| limit.name == known.name && limit.unit == known.unit)
        };
        self.by_limit.clear();
        let by_limit = &mut self.by_limit;
        self.counters.retain(|id, entry| {
            // A model's counter of a limit that no longer tells models apart has no place.
            let at = place(entry.limit).filter(|at| new.limits[*at].per_model || entry.model.is_none());
            let Some(limit) = at else {
                return false;
            };
            entry.limit = limit;
            by_limit.insert((limit, entry.model.clone()), id);
            true
        });
        for entry in self.counters.values_mut() {
            entry.reconfigure(new, now);
        }
        for index in 0..self.lanes.len() {
            let class = self.lanes[index].class.clone();
            let counters = self.cover(new, &class, now);
            self.lanes[index].counters = counters;
            self.lanes[index].waiting = 0;
            self.lanes[index].any_model = partitions::any_model_at(new, &class);
        }
        for entry in self.counters.values_mut() {
            entry.waiting = 0;
        }
        self.waiting = 0;
    }

    pub(super) fn meters_of(&self, lane: LaneId) -> &[CounterId] {
        &self.lanes[lane.0].counters
    }

    pub(super) fn window(&mut self, counter: CounterId) -> Option<&mut WindowCounter> {
        match &mut self.counters.get_mut(counter)?.counter {
            Counter::Window(counter) => Some(counter),
            Counter::ConcurrencyCounter(_) => None,
        }
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

    /// Makes the counter of a limit that does not tell models apart, if there is none yet.
    pub(super) fn ensure(&mut self, config: &AccountConfig, limit: usize, now: Time) {
        self.counter(config, limit, None, now);
    }

    pub(super) fn class_of(&self, lane: LaneId) -> &CallClass {
        &self.lanes[lane.0].class
    }

    pub(super) fn delivery(&self, config: &AccountConfig, counter: CounterId) -> Duration {
        let limit = self.counters.get(counter).and_then(|entry| config.limits.get(entry.limit));
        limit.map_or(Duration::ZERO, |limit| limit.delivery)
    }

    pub(super) fn limit_name<'a>(&self, config: &'a AccountConfig, counter: CounterId) -> Option<&'a str> {
        let entry = self.counters.get(counter)?;
        config.limits.get(entry.limit).map(|limit| limit.name.as_str())
    }

    pub(super) fn declared(&self, config: &AccountConfig, counter: CounterId) -> Option<u64> {
        let limit = config.limits.get(self.counters.get(counter)?.limit)?;
        Some(limit.declared.unwrap_or(limit.amount))
    }

    /// Whether a pause of this scope holds the lane's calls.
    pub(super) fn covers(&self, config: &AccountConfig, lane: LaneId, scope: &Scope) -> bool {
        let Lane { class, counters, .. } = &self.lanes[lane.0];
        match scope {
            Scope::Account => true,
            Scope::Endpoint(name) => class.endpoint.as_ref() == Some(name),
            Scope::Model(name) => class.model.as_ref() == Some(name),
            Scope::Limit(name) => {
                counters.iter().any(|counter| self.limit_name(config, *counter) == Some(name))
            }
        }
    }

    pub(super) fn never_fits(&self, lane: LaneId) -> bool {
        self.counters_of(lane).any(|entry| match &entry.counter {
            Counter::Window(counter) => counter.amount() == 0,
            Counter::ConcurrencyCounter(slots) => slots.amount() == 0,
        })
    }

    fn counters_of(&self, lane: LaneId) -> impl Iterator<Item = &Entry> {
        self.lanes[lane.0].counters.iter().filter_map(|counter| self.counters.get(*counter))
    }

    pub(super) fn blocked_until(&mut self, lane: LaneId, now: Time) -> Option<Time> {
        let mut until = None;
        for id in &self.lanes[lane.0].counters {
            let Some(entry) = self.counters.get_mut(*id) else {
                continue;
            };
            until = until.max(match &mut entry.counter {
                Counter::Window(counter) => {
                    counter.advance(now);
                    counter.blocked_until(now, entry.kept)
                }
                Counter::ConcurrencyCounter(slots) => {
                    slots.advance(now);
                    slots.blocked_until(entry.kept)
                }
            });
        }
        until
    }

    /// How long until the lane's limits have let `ahead` calls and one more through, as far as
    /// those draw on the same limits.
    pub(super) fn wait_for(&mut self, lane: LaneId, now: Time, ahead: u64) -> Duration {
        let mut wait = Duration::ZERO;
        for id in &self.lanes[lane.0].counters {
            let Some(entry) = self.counters.get_mut(*id) else {
                continue;
            };
            let calls = ahead.min(entry.waiting) + 1;
            wait = wait.max(match &mut entry.counter {
                Counter::Window(counter) => {
                    counter.advance(now);
                    counter.wait_for(now, calls)
                }
                Counter::ConcurrencyCounter(slots) => slots.wait_for(calls),
            });
        }
        wait
    }

    pub(super) fn hold_slot(&mut self, counter: CounterId, attempt: Attempt, now: Time) {
        if let Some(Entry { counter: Counter::ConcurrencyCounter(slots), .. }) =
            self.counters.get_mut(counter)
        {
            slots.hold(attempt, now);
        }
    }

    pub(super) fn claim_slot(&mut self, counter: CounterId, attempt: Attempt, now: Time) {
        if let Some(Entry { counter: Counter::ConcurrencyCounter(slots), .. }) =
            self.counters.get_mut(counter)
        {
            slots.claim(attempt, now);
        }
    }

    pub(super) fn free_slots(&mut self, lane: LaneId, attempt: Attempt, now: Time) {
        for id in &self.lanes[lane.0].counters {
            if let Some(Entry { counter: Counter::ConcurrencyCounter(slots), .. }) =
                self.counters.get_mut(*id)
            {
                slots.free(attempt, now);
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

    pub(super) fn status(&mut self, config: &AccountConfig, now: Time) -> Vec<LimitStatus> {
        self.counters
            .values_mut()
            .filter_map(|entry| {
                let limit = config.limits.get(entry.limit)?;
                let (amount, used, [used_by_others, assumed], in_flight, resets_in) = match &mut entry.counter
                {
                    Counter::Window(counter) => {
                        counter.advance(now);
                        let resets_in = counter.free_at(now).since(now);
                        let apart = [counter.count(Origin::Others), counter.count(Origin::Past)];
                        (counter.amount(), counter.used(), apart, counter.in_flight(), resets_in)
                    }
                    Counter::ConcurrencyCounter(slots) => {
                        slots.advance(now);
                        (slots.amount(), slots.used(), [0, 0], 0, Duration::ZERO)
                    }
                };
                Some(LimitStatus {
                    name: limit.name.clone(),
                    model: entry.model.clone(),
                    unit: limit.unit,
                    amount,
                    used,
                    used_by_others,
                    assumed,
                    in_flight,
                    waiting: entry.waiting,
                    resets_in,
                })
            })
            .collect()
    }
}

impl Entry {
    /// Takes on the limit as it is configured and observed now.
    fn reconfigure(&mut self, config: &AccountConfig, now: Time) {
        let limit = &config.limits[self.limit];
        let amount = effective(limit, self.observed);
        match &mut self.counter {
            Counter::Window(counter) => counter.reconfigure(limit, amount, now),
            Counter::ConcurrencyCounter(slots) => slots.resize(amount),
        }
    }
}

/// The limit's amount, lowered in proportion where the provider has less than was declared.
pub(super) fn effective(limit: &LimitConfig, observed: Option<u64>) -> u64 {
    let declared = limit.declared.unwrap_or(limit.amount);
    match observed {
        Some(hard) if hard < declared => {
            let part = u128::from(limit.amount) * u128::from(hard) / u128::from(declared);
            (part as u64).clamp(u64::from(limit.amount > 0), limit.amount)
        }
        _ => limit.amount,
    }
}

/// Whether a limit counts calls of this class. Where the model is not known it may be any of them.
fn covers(limit: &LimitConfig, class: &CallClass) -> bool {
    let endpoint = limit.endpoint.as_ref().is_none_or(|name| class.endpoint.as_ref() == Some(name));
    let model = class.model.as_ref().is_none_or(|model| limit.models.contains(model));
    endpoint && (limit.models.is_empty() || model)
}
