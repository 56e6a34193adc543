//! Which limits and pauses cover a call, and the meters of those limits.
//!
//! Calls of one shape share a lane. A limit that counts models apart has a meter for each model
//! that was seen, made when it is first drawn on.
//!
//! | room | holds |
//! |---|---|
//! | `begin` | what a meter begins with |
//! | `meters` | meters by their numbers |
//! | `partitions` | models that are counted apart, and calls whose model is not known |

mod begin;
mod meters;
mod partitions;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) use begin::{Start, hold_reserve};

use meters::Meters;

use super::status::LimitStatus;
use crate::config::{AccountConfig, LimitConfig};
use crate::event::{Attempt, Scope, Shape};
use crate::meter::Meter;
use crate::queue::LaneId;
use crate::slots::Slots;
use crate::time::Time;
use crate::units::Origin;

/// Names a meter; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MeterId(usize);

#[derive(Debug)]
struct Lane {
    shape: Shape,
    meters: Vec<MeterId>,
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
    Window(Meter),
    Slots(Slots),
}

/// The lanes and meters of an account.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    by_shape: BTreeMap<Shape, LaneId>,
    meters: Meters,
    by_limit: BTreeMap<(usize, Option<String>), MeterId>,
    waiting: usize,
    start: Start,
    /// Limits that came later than the engine, and begin otherwise.
    starts: BTreeMap<String, Start>,
    /// Models that are told apart.
    models: BTreeSet<String>,
    /// Meters that began as copies of others.
    heirs: Vec<(MeterId, MeterId)>,
    /// Meters at which units are kept.
    kept: Vec<MeterId>,
}

impl Lanes {
    pub(super) fn new(config: &AccountConfig, start: Start, now: Time) -> Lanes {
        let mut lanes = Lanes {
            lanes: Vec::new(),
            by_shape: BTreeMap::new(),
            meters: Meters::default(),
            by_limit: BTreeMap::new(),
            waiting: 0,
            start,
            starts: BTreeMap::new(),
            models: BTreeSet::new(),
            heirs: Vec::new(),
            kept: Vec::new(),
        };
        for (index, limit) in config.limits.iter().enumerate() {
            if !limit.per_model {
                lanes.meter(config, index, None, now);
            }
        }
        lanes
    }

    /// The lane of calls of this shape.
    pub(super) fn lane_of(&mut self, config: &AccountConfig, shape: &Shape, now: Time) -> LaneId {
        if let Some(lane) = self.by_shape.get(shape) {
            return *lane;
        }
        let counted = self.counted_shape(config, shape);
        if counted != *shape {
            return self.lane_of(config, &counted, now);
        }
        let meters = self.cover(config, shape, now);
        let lane = LaneId(self.lanes.len());
        let any_model = partitions::any_model_at(config, shape);
        self.lanes.push(Lane { shape: shape.clone(), meters, waiting: 0, any_model });
        self.by_shape.insert(shape.clone(), lane);
        lane
    }

    pub(super) fn add(
        &mut self,
        (limit, model): (usize, Option<String>),
        counter: Counter,
        observed: Option<u64>,
    ) -> MeterId {
        self.models.extend(model.clone());
        let key = (limit, model.clone());
        let id = self.meters.add(Entry { limit, model, counter, observed, waiting: 0, kept: 0 });
        self.by_limit.insert(key, id);
        id
    }

    /// Takes in the provider's own figure of the limit.
    pub(super) fn observe_hard(&mut self, config: &AccountConfig, meter: MeterId, hard: u64, now: Time) {
        let Some(entry) = self.meters.get_mut(meter) else { return };
        if entry.observed.replace(hard) != Some(hard) {
            entry.reshape(config, now);
        }
    }

    /// Takes on another configuration. A limit keeps its meters by its name and what it counts;
    /// one that is new begins with an unknown past.
    pub(super) fn configure(&mut self, old: &AccountConfig, new: &AccountConfig, now: Time) {
        for limit in &new.limits {
            if !old.limits.iter().any(|known| known.name == limit.name && known.unit == limit.unit) {
                self.starts.insert(limit.name.clone(), Start::UnknownPast { since: now });
            }
        }
        let place = |index: usize| {
            let known = &old.limits[index];
            new.limits.iter().position(|limit| limit.name == known.name && limit.unit == known.unit)
        };
        self.by_limit.clear();
        let by_limit = &mut self.by_limit;
        self.meters.retain(|id, entry| {
            // A model's meter of a limit that no longer tells models apart has no place.
            let at = place(entry.limit).filter(|at| new.limits[*at].per_model || entry.model.is_none());
            let Some(limit) = at else {
                return false;
            };
            entry.limit = limit;
            by_limit.insert((limit, entry.model.clone()), id);
            true
        });
        for entry in self.meters.values_mut() {
            entry.reshape(new, now);
        }
        for index in 0..self.lanes.len() {
            let shape = self.lanes[index].shape.clone();
            let meters = self.cover(new, &shape, now);
            self.lanes[index].meters = meters;
            self.lanes[index].waiting = 0;
            self.lanes[index].any_model = partitions::any_model_at(new, &shape);
        }
        for entry in self.meters.values_mut() {
            entry.waiting = 0;
        }
        self.waiting = 0;
    }

    pub(super) fn meters_of(&self, lane: LaneId) -> &[MeterId] {
        &self.lanes[lane.0].meters
    }

    pub(super) fn window(&mut self, meter: MeterId) -> Option<&mut Meter> {
        match &mut self.meters.get_mut(meter)?.counter {
            Counter::Window(meter) => Some(meter),
            Counter::Slots(_) => None,
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (MeterId, &Entry)> {
        self.meters.iter()
    }

    pub(super) fn counters(&mut self) -> impl Iterator<Item = &mut Counter> {
        self.meters.values_mut().map(|entry| &mut entry.counter)
    }

    pub(super) fn set_start(&mut self, start: Start) {
        self.start = start;
    }

    pub(super) fn start_limit(&mut self, limit: &str, start: Start) {
        self.starts.insert(limit.to_owned(), start);
    }

    pub(super) fn begins_unknown(&self, limit: &str) -> bool {
        matches!(self.starts.get(limit), Some(Start::UnknownPast { .. }))
    }

    /// Makes the meter of a limit that does not tell models apart, if there is none yet.
    pub(super) fn ensure(&mut self, config: &AccountConfig, limit: usize, now: Time) {
        self.meter(config, limit, None, now);
    }

    pub(super) fn shape_of(&self, lane: LaneId) -> &Shape {
        &self.lanes[lane.0].shape
    }

    pub(super) fn delivery(&self, config: &AccountConfig, meter: MeterId) -> Duration {
        let limit = self.meters.get(meter).and_then(|entry| config.limits.get(entry.limit));
        limit.map_or(Duration::ZERO, |limit| limit.delivery)
    }

    pub(super) fn limit_name<'a>(&self, config: &'a AccountConfig, meter: MeterId) -> Option<&'a str> {
        let entry = self.meters.get(meter)?;
        config.limits.get(entry.limit).map(|limit| limit.name.as_str())
    }

    pub(super) fn declared(&self, config: &AccountConfig, meter: MeterId) -> Option<u64> {
        let limit = config.limits.get(self.meters.get(meter)?.limit)?;
        Some(limit.declared.unwrap_or(limit.amount))
    }

    /// Whether a pause of this scope holds the lane's calls.
    pub(super) fn covers(&self, config: &AccountConfig, lane: LaneId, scope: &Scope) -> bool {
        let Lane { shape, meters, .. } = &self.lanes[lane.0];
        match scope {
            Scope::Account => true,
            Scope::Endpoint(name) => shape.endpoint.as_ref() == Some(name),
            Scope::Model(name) => shape.model.as_ref() == Some(name),
            Scope::Limit(name) => meters.iter().any(|meter| self.limit_name(config, *meter) == Some(name)),
        }
    }

    pub(super) fn never_fits(&self, lane: LaneId) -> bool {
        self.counters_of(lane).any(|entry| match &entry.counter {
            Counter::Window(meter) => meter.amount() == 0,
            Counter::Slots(slots) => slots.amount() == 0,
        })
    }

    fn counters_of(&self, lane: LaneId) -> impl Iterator<Item = &Entry> {
        self.lanes[lane.0].meters.iter().filter_map(|meter| self.meters.get(*meter))
    }

    pub(super) fn blocked_until(&mut self, lane: LaneId, now: Time) -> Option<Time> {
        let mut until = None;
        for id in &self.lanes[lane.0].meters {
            let Some(entry) = self.meters.get_mut(*id) else {
                continue;
            };
            until = until.max(match &mut entry.counter {
                Counter::Window(meter) => {
                    meter.advance(now);
                    meter.blocked_until(now, entry.kept)
                }
                Counter::Slots(slots) => {
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
        for id in &self.lanes[lane.0].meters {
            let Some(entry) = self.meters.get_mut(*id) else {
                continue;
            };
            let calls = ahead.min(entry.waiting) + 1;
            wait = wait.max(match &mut entry.counter {
                Counter::Window(meter) => {
                    meter.advance(now);
                    meter.wait_for(now, calls)
                }
                Counter::Slots(slots) => slots.wait_for(calls),
            });
        }
        wait
    }

    pub(super) fn hold_slot(&mut self, meter: MeterId, attempt: Attempt, now: Time) {
        if let Some(Entry { counter: Counter::Slots(slots), .. }) = self.meters.get_mut(meter) {
            slots.hold(attempt, now);
        }
    }

    pub(super) fn claim_slot(&mut self, meter: MeterId, attempt: Attempt, now: Time) {
        if let Some(Entry { counter: Counter::Slots(slots), .. }) = self.meters.get_mut(meter) {
            slots.claim(attempt, now);
        }
    }

    pub(super) fn free_slots(&mut self, lane: LaneId, attempt: Attempt, now: Time) {
        for id in &self.lanes[lane.0].meters {
            if let Some(Entry { counter: Counter::Slots(slots), .. }) = self.meters.get_mut(*id) {
                slots.free(attempt, now);
            }
        }
    }

    pub(super) fn call_waits(&mut self, lane: LaneId) {
        self.waiting += 1;
        self.lanes[lane.0].waiting += 1;
        for id in &self.lanes[lane.0].meters {
            if let Some(entry) = self.meters.get_mut(*id) {
                entry.waiting += 1;
            }
        }
    }

    pub(super) fn call_leaves(&mut self, lane: LaneId) {
        self.waiting = self.waiting.saturating_sub(1);
        let Lane { meters, waiting, .. } = &mut self.lanes[lane.0];
        *waiting = waiting.saturating_sub(1);
        for id in meters {
            if let Some(entry) = self.meters.get_mut(*id) {
                entry.waiting = entry.waiting.saturating_sub(1);
            }
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn status(&mut self, config: &AccountConfig, now: Time) -> Vec<LimitStatus> {
        self.meters
            .values_mut()
            .filter_map(|entry| {
                let limit = config.limits.get(entry.limit)?;
                let (amount, used, [used_by_others, assumed], in_flight, resets_in) = match &mut entry.counter
                {
                    Counter::Window(meter) => {
                        meter.advance(now);
                        let resets_in = meter.free_at(now).since(now);
                        let apart = [meter.count(Origin::Others), meter.count(Origin::Past)];
                        (meter.amount(), meter.used(), apart, meter.in_flight(), resets_in)
                    }
                    Counter::Slots(slots) => {
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
    fn reshape(&mut self, config: &AccountConfig, now: Time) {
        let limit = &config.limits[self.limit];
        let amount = effective(limit, self.observed);
        match &mut self.counter {
            Counter::Window(meter) => meter.reshape(limit, amount, now),
            Counter::Slots(slots) => slots.resize(amount),
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

/// Whether a limit counts calls of this shape. Where the model is not known it may be any of them.
fn covers(limit: &LimitConfig, shape: &Shape) -> bool {
    let endpoint = limit.endpoint.as_ref().is_none_or(|name| shape.endpoint.as_ref() == Some(name));
    let model = shape.model.as_ref().is_none_or(|model| limit.models.contains(model));
    endpoint && (limit.models.is_empty() || model)
}
