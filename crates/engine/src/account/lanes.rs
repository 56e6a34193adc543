//! Which limits and pauses cover a call, and the counters of those limits.
//!
//! Calls of one class share a lane. A limit that counts models apart has a counter for each model
//! that was seen, made when it is first drawn on.
//!
//! | room | holds |
//! |---|---|
//! | `backlog` | calls that wait, and what they draw of limits |
//! | `begin` | what a counter begins with |
//! | `budgets` | budgets that are used up |
//! | `checkpoints` | what checkpoints have of the counters |
//! | `counters` | counters by their numbers |
//! | `entry` | a counter of a limit |
//! | `limit` | a limit as its counters know it |
//! | `partitions` | models that are counted apart, and calls whose model is not known |
//! | `shared` | models that share a limit, as rejections have named them |
//! | `too_large` | calls that need more of a limit than there is |
//! | `turns` | how many turns a call takes |

mod backlog;
mod begin;
mod budgets;
mod checkpoints;
mod counters;
mod entry;
mod limit;
mod partitions;
mod shared;
mod too_large;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use begin::Predecessor;
pub(super) use begin::{InitialState, hold_reserve};
pub(super) use budgets::SpentBudget;
pub(super) use entry::{Charged, Entry};
pub(super) use limit::{HoldsFor, Limit, continued_name};
pub(super) use too_large::TooLarge;
pub(super) use turns::Taken;

use backlog::{Backlog, Expected, LaneBacklog};
use counters::Counters;
use shared::SharedLimits;
use turns::turn_of;

use super::counter::Counter;
use super::status::LimitStatus;
use crate::config::AccountConfig;
use crate::cost::{Amount, Costs};
use crate::event::{Attempt, CallClass, PeriodBegun, Scope, Selector};
use crate::name::AllocationName;
use crate::queue::{GroupId, LaneId};
use crate::time::Time;
use crate::window_counter::WindowCounter;

/// Names a counter; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CounterId(usize);

#[derive(Debug)]
struct Lane {
    class: CallClass,
    /// The allocation of its calls.
    group: GroupId,
    /// The limits that cover it, by their places.
    limits: Vec<usize>,
    counters: Vec<CounterId>,
    waiting: LaneBacklog,
    /// A limit that counts models apart covers it, and its model is not known.
    any_model: bool,
}

/// What a call draws of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Draw {
    /// The limit's place.
    pub(super) limit: usize,
    pub(super) cost: Amount,
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
    /// How many nanoseconds of refill a turn is long.
    turn: u128,
    lanes: Vec<Lane>,
    by_class: BTreeMap<CallClass, LaneId>,
    counters: Counters,
    by_limit: BTreeMap<(usize, Option<String>), CounterId>,
    waiting: usize,
    /// Of the call that comes or goes: its memory is used again.
    expected: Expected,
    start: InitialState,
    /// Limits that came later than the engine, and begin otherwise.
    starts: BTreeMap<String, InitialState>,
    /// Models that are counted apart.
    models: BTreeSet<String>,
    /// Endpoints of lanes.
    endpoints: BTreeSet<String>,
    shared: SharedLimits,
    /// The numbers of allocations in the queue.
    groups: BTreeMap<AllocationName, GroupId>,
    copied_counters: Vec<CopiedCounter>,
    /// Counters at which units are kept.
    kept: Vec<CounterId>,
    /// The periods that are open, by the names of limits.
    periods: BTreeMap<String, PeriodBegun>,
    /// Long windows grant what checkpoints cover, and no more.
    checkpoints: bool,
}

impl Lanes {
    /// An account whose counters are still to be [made](Lanes::make_counters) or restored.
    pub(super) fn new(config: &AccountConfig, start: InitialState) -> Lanes {
        let limits = Limit::all_of(config);
        Lanes {
            turn: turn_of(&limits),
            limits,
            lanes: Vec::new(),
            by_class: BTreeMap::new(),
            counters: Counters::default(),
            by_limit: BTreeMap::new(),
            waiting: 0,
            expected: Expected::default(),
            start,
            starts: BTreeMap::new(),
            models: BTreeSet::new(),
            endpoints: BTreeSet::new(),
            shared: SharedLimits::default(),
            groups: BTreeMap::new(),
            copied_counters: Vec::new(),
            kept: Vec::new(),
            periods: BTreeMap::new(),
            checkpoints: false,
        }
    }

    /// Makes the counters of limits that do not count models apart, where there are none yet.
    pub(super) fn make_counters(&mut self, now: Time) {
        for place in 0..self.limits.len() {
            if !self.limits[place].config.per_model {
                self.counter(place, None, now);
            }
        }
    }

    /// A period of a limit has begun.
    pub(super) fn period_begun(&mut self, period: PeriodBegun, now: Time) {
        let of_limit = |entry: &&mut Entry| entry.limit.config.name == period.limit;
        for entry in self.counters.values_mut().filter(of_limit) {
            entry.period_begun(&period, now);
        }
        self.periods.insert(period.limit.clone(), period);
    }

    /// The account's limits, by their places.
    pub(super) fn limits(&self) -> &[Arc<Limit>] {
        &self.limits
    }

    /// Whether what calls draw of some limit may be known only when they have ended.
    pub(super) fn charges_afterwards(&self) -> bool {
        self.limits.iter().any(|limit| limit.config.tokens.is_some())
    }

    /// Whether some limit counts tokens, or what they cost.
    pub(super) fn counts_tokens(&self) -> bool {
        self.limits.iter().any(|limit| limit.config.unit.counts_tokens())
    }

    /// Takes in the numbers of allocations; lanes that are opened from now on have them.
    pub(super) fn set_groups(&mut self, groups: BTreeMap<AllocationName, GroupId>) {
        self.groups = groups;
    }

    /// The allocation of the lane's calls.
    pub(super) fn group(&self, lane: LaneId) -> GroupId {
        self.lane(lane).group
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
        let lane = LaneId(u32::try_from(self.lanes.len()).unwrap_or(u32::MAX));
        let opened = self.open(class.clone(), now);
        self.endpoints.extend(class.endpoint.clone());
        self.lanes.push(opened);
        self.by_class.insert(class.clone(), lane);
        lane
    }

    fn open(&mut self, class: CallClass, now: Time) -> Lane {
        if let Some(model) = &class.model {
            self.shared.join_snapshot(model);
        }
        let limits = self.covering(&class);
        let counters = self.cover(&class, &limits, now);
        let any_model = self.may_be_any_model(&class);
        let group = class.allocation.as_ref().and_then(|name| self.groups.get(name)).copied();
        let group = group.unwrap_or_default();
        Lane { class, group, limits, counters, waiting: LaneBacklog::default(), any_model }
    }

    fn lane(&self, lane: LaneId) -> &Lane {
        &self.lanes[lane.0 as usize]
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

    /// Takes in the provider's own figure of the limit. Returns whether it is news.
    pub(super) fn observe_hard(&mut self, counter: CounterId, hard: u64, now: Time) -> bool {
        let Some(entry) = self.counters.get_mut(counter) else { return false };
        let news = entry.observed.replace(hard) != Some(hard);
        if news {
            entry.reconfigure(now);
        }
        news
    }

    /// Takes on another configuration. A limit keeps its counters, also under another name; one that is new begins
    /// with an unknown past. Returns for each limit the place that it had.
    pub(super) fn configure(&mut self, config: &AccountConfig, now: Time) -> Vec<Option<usize>> {
        let old = std::mem::replace(&mut self.limits, Limit::all_of(config));
        self.turn = turn_of(&self.limits);
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

    /// The counters of the limits that cover the lane.
    pub(super) fn counters_of(&self, lane: LaneId) -> &[CounterId] {
        &self.lane(lane).counters
    }

    /// What a call of these costs draws of each limit that covers the lane.
    pub(super) fn draws(&self, lane: LaneId, costs: &Costs) -> impl Iterator<Item = Draw> + Clone {
        self.lane(lane).limits.iter().map(move |limit| {
            let cost = self.limits.get(*limit).map_or(Amount::ZERO, |limit| limit.cost(costs));
            Draw { limit: *limit, cost }
        })
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

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.counters.values_mut()
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

    /// Has a limit of which the ledger knows nothing, or not for a whole window, begin as far as that is safe.
    pub(super) fn start_unknown(&mut self, limit: &Limit, known_for: Option<Duration>, now: Time) {
        let start = match known_for {
            Some(_) if limit.is_maximum() => return,
            Some(_) => InitialState::UnknownPast { since: now },
            None => limit.new_beginning(now),
        };
        self.start_limit(&limit.config.name, start);
    }

    /// Whether what was drawn of a limit before this engine is known: from the ledger, or because there was nothing.
    pub(super) fn past_is_known(&self, limit: &str) -> bool {
        let start = self.starts.get(limit).unwrap_or(&self.start);
        matches!(start, InitialState::Ledger { .. } | InitialState::Fresh)
    }

    pub(super) fn class_of(&self, lane: LaneId) -> &CallClass {
        &self.lane(lane).class
    }

    /// Whether a pause of this scope holds the lane's calls.
    pub(super) fn covers(&self, lane: LaneId, scope: &Scope) -> bool {
        let limit = scope.limit.as_ref().and_then(|name| self.limit_named(name));
        let class = self.class_of(lane);
        scope.endpoint.covers(class.endpoint.as_deref())
            && self.covers_model(&scope.model, class)
            && limit.is_none_or(|limit| self.lane(lane).limits.contains(&limit.place))
    }

    fn limit_named(&self, name: &str) -> Option<&Arc<Limit>> {
        self.limits.iter().find(|limit| limit.config.name == name)
    }

    /// The scope of a rejection of the lane's calls, which may name less than what the provider counts together:
    /// a limit that counts models apart rejects calls of one model alone.
    pub(super) fn counted_scope(&self, lane: LaneId, scope: Scope) -> Scope {
        let class = self.class_of(lane);
        let limit = scope.limit.as_ref().and_then(|name| self.limit_named(name));
        let of_one_model = limit.is_some_and(|limit| limit.config.per_model);
        let endpoint = match scope.endpoint {
            Selector::Named(name) => Selector::Named(self.counted_endpoint(&name).to_owned()),
            other => other,
        };
        let scope = Scope { endpoint, ..scope };
        match scope.model {
            Selector::Any if !of_one_model => scope,
            // As it is counted: beyond many models the others are one, and so are those that share a limit.
            Selector::Any | Selector::Named(_) => Scope { model: self.model_counted(class), ..scope },
            Selector::Unnamed => scope,
        }
    }

    /// What of a limit is free, of the model of which most is: all of it, where none was drawn on.
    pub(super) fn room_of(&self, place: usize) -> Amount {
        let all = self.limits.get(place).map_or(0, |limit| limit.config.largest_amount());
        let of_limit = self.counters.iter().filter(|(_, entry)| entry.limit.place == place);
        let rooms = of_limit.filter_map(|(_, entry)| Some(entry.counter.window()?.room()));
        let room = rooms.max().unwrap_or(Amount(all));
        // A model that comes next may use all of its own.
        if self.limits.get(place).is_some_and(|limit| limit.config.per_model) { Amount(all) } else { room }
    }

    fn entries_of(&self, lane: LaneId) -> impl Iterator<Item = &Entry> {
        self.counters_of(lane).iter().filter_map(|counter| self.counters.get(*counter))
    }

    /// When the lane's limits let a call of these costs through at the earliest; `None`: now.
    pub(super) fn blocked_until(&mut self, lane: LaneId, costs: &Costs, now: Time) -> Option<Time> {
        let mut until = None;
        self.each_entry(lane, |entry| until = until.max(entry.blocked_until(now, costs)));
        until
    }

    /// How long until the lane's limits have let `ahead` calls and one of these costs through, as far as
    /// those draw on the same limits.
    pub(super) fn wait_for(&mut self, lane: LaneId, costs: &Costs, now: Time, ahead: u64) -> Duration {
        let mut wait = Duration::ZERO;
        self.each_entry(lane, |entry| wait = wait.max(entry.wait_for(now, costs, ahead)));
        wait
    }

    /// How long until the lane's windows let one call of these costs through, if it came first.
    pub(super) fn wait_for_windows(&mut self, lane: LaneId, costs: &Costs, now: Time) -> Duration {
        let mut wait = Duration::ZERO;
        self.each_entry(lane, |entry| {
            if entry.counter.window().is_some() {
                wait = wait.max(entry.wait_for(now, costs, 0));
            }
        });
        wait
    }

    fn each_entry(&mut self, lane: LaneId, mut of: impl FnMut(&mut Entry)) {
        for id in &self.lanes[lane.0 as usize].counters {
            if let Some(entry) = self.counters.get_mut(*id) {
                of(entry);
            }
        }
    }

    /// Gives a call of the lane its slots.
    pub(super) fn hold_slots(&mut self, lane: LaneId, attempt: Attempt, costs: &Costs, now: Time) {
        self.each_entry(lane, |Entry { limit, counter, .. }| {
            counter.hold_slots(attempt, limit.cost(costs), now);
        });
    }

    /// Gives a call of the lane slots that an earlier incarnation may have given away.
    pub(super) fn claim_slots(&mut self, lane: LaneId, attempt: Attempt, costs: &Costs, now: Time) {
        self.each_entry(lane, |Entry { limit, counter, .. }| {
            counter.claim_slots(attempt, limit.cost(costs), now);
        });
    }

    pub(super) fn free_slots(&mut self, lane: LaneId, attempt: Attempt, now: Time) {
        self.each_entry(lane, |entry| entry.counter.free_slots(attempt, now));
    }

    /// The costs of each call that waits in the lane, where they need not be looked up call by call.
    pub(super) fn costs_of_each(&self, lane: LaneId) -> Option<Costs> {
        self.lane(lane).waiting.costs_of_each()
    }

    pub(super) fn call_waits(&mut self, lane: LaneId, costs: &Costs) {
        self.waiting += 1;
        let mut expected = std::mem::take(&mut self.expected);
        let Lane { waiting, limits, .. } = &mut self.lanes[lane.0 as usize];
        expected.set(&self.limits, limits, costs);
        waiting.add(&expected);
        self.each_entry(lane, |Entry { waiting, limit, .. }| waiting.add(expected.of(limit.place)));
        self.expected = expected;
    }

    pub(super) fn call_leaves(&mut self, lane: LaneId, costs: &Costs) {
        self.waiting = self.waiting.saturating_sub(1);
        let mut expected = std::mem::take(&mut self.expected);
        let Lane { waiting, limits, .. } = &mut self.lanes[lane.0 as usize];
        expected.set(&self.limits, limits, costs);
        waiting.remove(&expected);
        self.each_entry(lane, |Entry { waiting, limit, .. }| waiting.remove(expected.of(limit.place)));
        self.expected = expected;
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many lanes there are.
    pub(super) fn classes(&self) -> usize {
        self.lanes.len()
    }

    /// The lanes in which calls wait.
    pub(super) fn with_waiting(&self) -> Vec<LaneId> {
        let all = (0..).map(LaneId).zip(&self.lanes);
        all.filter(|(_, lane)| lane.waiting.calls > 0).map(|(id, _)| id).collect()
    }

    /// The account's own limits.
    pub(super) fn status(&mut self, now: Time) -> Vec<LimitStatus> {
        let entries = self.counters.values_mut().filter(|entry| entry.limit.is_of_account());
        entries.map(|entry| entry.status(now)).collect()
    }

    /// The limits of an allocation.
    pub(super) fn status_of(&mut self, allocation: &AllocationName, now: Time) -> Vec<LimitStatus> {
        let own = |entry: &&mut Entry| entry.limit.holds_for.allocation() == Some(allocation);
        self.counters.values_mut().filter(own).map(|entry| entry.status(now)).collect()
    }
}
