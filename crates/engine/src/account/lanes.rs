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
//! | `configure` | another configuration, taken on |
//! | `counters` | counters by their numbers |
//! | `entry` | a counter of a limit |
//! | `limit` | a limit as its counters know it |
//! | `longest_calls` | how long calls last at most |
//! | `partitions` | models that are counted apart, and calls whose model is not known |
//! | `scopes` | which scopes cover a lane |
//! | `shared` | models that share a limit, as rejections have named them |
//! | `too_large` | calls that need more of a limit than there is |
//! | `turns` | how many turns a call takes |
//! | `waiting` | calls that come to a lane and leave it, and how long they wait |

mod backlog;
mod begin;
mod budgets;
mod checkpoints;
mod configure;
mod counters;
mod entry;
mod limit;
mod longest_calls;
mod partitions;
mod scopes;
mod shared;
mod too_large;
mod turns;
mod waiting;

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

use backlog::{Backlog, LaneBacklog};
use counters::Counters;
use longest_calls::LongestCalls;
use shared::SharedLimits;
use turns::{Refilled, turn_of};
use waiting::Expected;

use super::counter::Counter;
use super::status::LimitStatus;
use crate::config::AccountConfig;
use crate::cost::{Amount, Costs, NumberedCosts};
use crate::event::{CallClass, PeriodBegun};
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
    /// No call of it lasts longer.
    longest_call: Duration,
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
    longest_calls: LongestCalls,
    /// How many nanoseconds of refill a turn is long.
    turn: u128,
    lanes: Vec<Lane>,
    by_class: BTreeMap<CallClass, LaneId>,
    counters: Counters,
    by_limit: BTreeMap<(usize, Option<String>), CounterId>,
    waiting: usize,
    expected: Expected,
    refilled: Refilled,
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
            longest_calls: LongestCalls::of(config),
            lanes: Vec::new(),
            by_class: BTreeMap::new(),
            counters: Counters::default(),
            by_limit: BTreeMap::new(),
            waiting: 0,
            expected: Expected::default(),
            refilled: Refilled::default(),
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

    /// How long a call of the lane lasts at most.
    pub(super) fn longest_call(&self, lane: LaneId) -> Duration {
        self.lane(lane).longest_call
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
        self.expected.forget();
        self.refilled.forget();
        if let Some(model) = &class.model {
            self.shared.join_snapshot(model);
        }
        let limits = self.covering(&class);
        let counters = self.cover(&class, &limits, now);
        let any_model = self.may_be_any_model(&class);
        let group = class.allocation.as_ref().and_then(|name| self.groups.get(name)).copied();
        let group = group.unwrap_or_default();
        let longest_call = self.longest_calls.of_model(class.model.as_deref());
        let waiting = LaneBacklog::default();
        Lane { class, group, limits, counters, waiting, any_model, longest_call }
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
        let mut entry = Entry::new(limit.clone(), model, Counter::Window(counter));
        entry.observed = observed;
        self.add(entry)
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

    pub(super) fn entries(&self) -> impl Iterator<Item = (CounterId, &Entry)> {
        self.counters.iter()
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.counters.values_mut()
    }

    pub(super) fn counters(&mut self) -> impl Iterator<Item = &mut Counter> {
        self.counters.values_mut().map(Entry::counter_mut)
    }

    /// Lets everything happen whose time has come.
    pub(super) fn advance(&mut self, now: Time) {
        self.counters.values_mut().for_each(|entry| entry.advance(now));
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

    /// What of a limit is free, of the model of which most is: all of it, where none was drawn on.
    pub(super) fn room_of(&self, place: usize) -> Amount {
        let all = self.limits.get(place).map_or(0, |limit| limit.config.largest_amount());
        let of_limit = self.counters.iter().filter(|(_, entry)| entry.limit.place == place);
        let rooms = of_limit.filter_map(|(_, entry)| Some(entry.counter().window()?.room()));
        let room = rooms.max().unwrap_or(Amount(all));
        // A model that comes next may use all of its own.
        if self.limits.get(place).is_some_and(|limit| limit.config.per_model) { Amount(all) } else { room }
    }

    fn entries_of(&self, lane: LaneId) -> impl Iterator<Item = &Entry> {
        self.counters_of(lane).iter().filter_map(|counter| self.counters.get(*counter))
    }

    /// When the lane's limits let a call of these costs through at the earliest; `None`: now.
    pub(super) fn blocked_until(&mut self, lane: LaneId, costs: &NumberedCosts, now: Time) -> Option<Time> {
        let mut until = None;
        self.each_entry(lane, |entry| until = until.max(entry.blocked_until(now, costs)));
        until
    }

    pub(super) fn each_entry(&mut self, lane: LaneId, mut of: impl FnMut(&mut Entry)) {
        for id in &self.lanes[lane.0 as usize].counters {
            if let Some(entry) = self.counters.get_mut(*id) {
                of(entry);
            }
        }
    }

    /// How many lanes there are.
    pub(super) fn classes(&self) -> usize {
        self.lanes.len()
    }

    /// The account's own limits.
    pub(super) fn status(&mut self, now: Time) -> Vec<LimitStatus> {
        let entries = self.counters.values_mut().filter(|entry| entry.limit.is_of_account());
        entries.map(|entry| entry.status(now)).collect()
    }

    /// The limits that a call of the lane draws on.
    pub(super) fn status_of_lane(&mut self, lane: LaneId, now: Time) -> Vec<LimitStatus> {
        let mut limits = Vec::new();
        self.each_entry(lane, |entry| limits.push(entry.status(now)));
        limits
    }

    /// The limits of an allocation.
    pub(super) fn status_of(&mut self, allocation: &AllocationName, now: Time) -> Vec<LimitStatus> {
        let own = |entry: &&mut Entry| entry.limit.holds_for.allocation() == Some(allocation);
        self.counters.values_mut().filter(own).map(|entry| entry.status(now)).collect()
    }
}
