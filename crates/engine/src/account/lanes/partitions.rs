//! Partitions of limits that count models apart, and the calls that fit none of them.
//!
//! A call whose model is not known may have been any of them, so each model's counter counts it,
//! and it waits until all of them have room. A counter of its own (the *unknown* one, without a
//! model) remembers such calls: the counter of a model that is seen later begins as its copy, since
//! they may have been of that model too.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::shared::SharedLimits;
use super::{CopiedCounter, CounterId, Entry, Lane, Lanes, Limit};
use crate::cost::{Amount, NumberedCosts};
use crate::event::{CallClass, Selector};
use crate::mutant::{self, Mutant};
use crate::queue::LaneId;
use crate::time::Time;

/// Models that are counted apart: clients choose their names, and may choose ever new ones.
const MODELS_AT_MOST: usize = 1024;

/// The partition of all models beyond that bound: counted as one, which is stricter, never laxer.
pub(super) const OTHER_MODELS: &str = "(other models)";

/// Endpoints that limits do not name and whose calls wait apart all the same.
const ENDPOINTS_AT_MOST: usize = 64;

/// The endpoint of all calls beyond that bound; as theirs, no limit names it.
const OTHER_ENDPOINTS: &str = "(other endpoints)";

/// Lanes of calls that limits do not tell apart by name: proxies name models and endpoints, and a lane is kept for ever.
const LANES_AT_MOST: usize = 8192;

impl Lanes {
    /// The class by which a call is counted: its own, unless there are too many models, endpoints or lanes already.
    pub(super) fn counted_class(&mut self, class: &CallClass) -> CallClass {
        let mut class = class.clone();
        if let Some(endpoint) = &mut class.endpoint {
            *endpoint = self.counted_endpoint(endpoint).to_owned();
        }
        let class = self.counted_model(&class);
        let full = self.lanes.len() >= LANES_AT_MOST && !self.by_class.contains_key(&class);
        let CallClass { endpoint, model, allocation } = class;
        CallClass {
            endpoint: endpoint.map(|name| {
                if full && !self.names_endpoint(&name) { OTHER_ENDPOINTS.to_owned() } else { name }
            }),
            model: model
                .map(|name| if full && !self.names_model(&name) { OTHER_MODELS.to_owned() } else { name }),
            allocation,
        }
    }

    /// The endpoint as which calls of this one wait.
    pub(super) fn counted_endpoint<'a>(&self, name: &'a str) -> &'a str {
        let known = self.endpoints.contains(name) || self.names_endpoint(name);
        if known || self.endpoints.len() < ENDPOINTS_AT_MOST { name } else { OTHER_ENDPOINTS }
    }

    /// Whether limits cover calls of this endpoint otherwise than those of others.
    fn names_endpoint(&self, name: &str) -> bool {
        self.limits.iter().any(|limit| {
            let config = &limit.config;
            config.endpoint.as_deref() == Some(name)
                || config.except_endpoints.iter().any(|except| except == name)
        })
    }

    /// Whether limits cover calls of this model otherwise than those of others.
    fn names_model(&self, name: &str) -> bool {
        self.limits.iter().any(|limit| limit.config.models.iter().any(|model| model == name))
    }

    fn counted_model(&mut self, class: &CallClass) -> CallClass {
        let Some(model) = &class.model else {
            return class.clone();
        };
        if !self.models.contains(model) {
            let named = self.names_model(model);
            // A model that was counted among the others once is never counted apart again.
            let full = self.models.len() >= MODELS_AT_MOST || self.models.contains(OTHER_MODELS);
            let name = if full && !named { OTHER_MODELS } else { model };
            self.models.insert(name.to_owned());
            return CallClass { model: Some(name.to_owned()), ..class.clone() };
        }
        class.clone()
    }

    /// The limits that count calls of this class, by their places.
    pub(super) fn covering(&self, class: &CallClass) -> Vec<usize> {
        let shared = class.model.iter().flat_map(|model| self.shared.others(model));
        let others = shared.map(|model| CallClass { model: Some(model.to_owned()), ..class.clone() });
        let classes: Vec<CallClass> = others.chain([class.clone()]).collect();
        let covering = |limit: &&Arc<Limit>| classes.iter().any(|class| limit.covers(class));
        self.limits.iter().filter(covering).map(|limit| limit.place).collect()
    }

    /// The counters of these limits that count calls of this class.
    pub(super) fn cover(&mut self, class: &CallClass, limits: &[usize], now: Time) -> Vec<CounterId> {
        let mut counters = Vec::new();
        let shared = class.model.iter().flat_map(|model| self.shared.others(model)).map(str::to_owned);
        let shared: Vec<String> = shared.collect();
        for place in limits {
            let limit = self.limits[*place].clone();
            let model = if limit.config.per_model { class.model.clone() } else { None };
            counters.push(self.counter(limit.place, model, now));
            for other in shared.iter().filter(|_| limit.config.per_model) {
                counters.push(self.counter(limit.place, Some(other.clone()), now));
            }
            if limit.may_be_any_model(class) {
                counters.extend(self.models_of(limit.place));
            }
        }
        counters
    }

    /// The counters of all models that a limit has seen.
    fn models_of(&self, limit: usize) -> impl Iterator<Item = CounterId> {
        let counters = self.by_limit.range((limit, None)..(limit + 1, None));
        counters.filter(|((_, model), _)| model.is_some()).map(|(_, id)| *id)
    }

    /// The counter of a limit and a model; it is made if there is none yet.
    pub(super) fn counter(&mut self, limit: usize, model: Option<String>, now: Time) -> CounterId {
        let key = (limit, model);
        if let Some(id) = self.by_limit.get(&key) {
            return *id;
        }
        let (limit, model) = (self.limits[limit].clone(), key.1);
        if model.is_none() || mutant::active(Mutant::UnknownModelApart) {
            return self.add_new(limit, model, now);
        }
        let unknown = self.by_limit.get(&(limit.place, None)).copied();
        let copied = unknown.and_then(|id| self.counters.get(id).map(|entry| (id, entry)));
        let id = match copied {
            None => self.add_new(limit.clone(), model, now),
            Some((original, known)) => {
                let (observed, counter) = (known.observed, known.counter().clone());
                let mut entry = Entry::new(limit.clone(), model, counter);
                entry.observed = observed;
                entry.reconfigure(now);
                entry.close_cover(now);
                let copy = self.add(entry);
                self.copied_counters.push(CopiedCounter { original, copy });
                copy
            }
        };
        self.join_unknown(&limit, id);
        id
    }

    fn add_new(&mut self, limit: Arc<Limit>, model: Option<String>, now: Time) -> CounterId {
        let counter = self.begin(&limit, model.as_deref(), now);
        let mut entry = Entry::new(limit, model, counter);
        if let Some(period) = self.periods.get(&entry.limit.config.name) {
            entry.period_begun(period, now);
        }
        self.add(entry)
    }

    /// Calls of unknown models that come from now on, or wait already, draw on this model's counter too.
    fn join_unknown(&mut self, limit: &Limit, id: CounterId) {
        let Some(entry) = self.counters.get_mut(id) else { return };
        for lane in self.lanes.iter_mut().filter(|lane| limit.may_be_any_model(&lane.class)) {
            lane.counters.push(id);
            entry.waiting.join(&entry.limit, &lane.waiting);
        }
    }

    /// The models' counters that were made since the last look, each with the counter that it is a copy
    /// of: calls under way that have a charge there have the same one here.
    pub(in crate::account) fn take_copied_counters(&mut self) -> Vec<CopiedCounter> {
        std::mem::take(&mut self.copied_counters)
    }

    /// What a response says of a limit concerns one model: whether this is the counter of just
    /// that one.
    pub(in crate::account) fn speaks_of(&self, lane: LaneId, entry: &Entry) -> bool {
        let model = self.class_of(lane).model.as_deref();
        !entry.limit.config.per_model
            || model.is_some_and(|model| model != OTHER_MODELS && self.is_counted_with(model, entry))
    }

    fn is_counted_with(&self, model: &str, entry: &Entry) -> bool {
        entry.model.as_deref().is_some_and(|other| self.shared.name(other) == self.shared.name(model))
    }

    /// Models that share limits, each with the name under which all that share are known.
    pub(in crate::account) fn shared_models(&self) -> &BTreeMap<String, String> {
        self.shared.by_model()
    }

    /// Takes in which models shared limits before a restart; to be called before there are counters.
    pub(in crate::account) fn restore_shared(&mut self, by_model: BTreeMap<String, String>) {
        self.shared = SharedLimits::restored(by_model);
    }

    /// The provider says that the lane's model shares this limit, which may be another model's name: the calls of both
    /// draw on the counters of both from now on. Returns whether that is news.
    pub(in crate::account) fn share(&mut self, lane: LaneId, limit: &str, now: Time) -> bool {
        let Some(model) = self.class_of(lane).model.clone() else { return false };
        let too_many = self.models.len() >= MODELS_AT_MOST && !self.models.contains(limit);
        if too_many || model == OTHER_MODELS || !self.shared.join(&model, limit) {
            return false;
        }
        self.models.iter().for_each(|known| self.shared.join_snapshot(known));
        for index in 0..self.lanes.len() {
            let class = self.lanes[index].class.clone();
            if class.model.as_deref().is_none_or(|one| self.shared.name(one) != self.shared.name(&model)) {
                continue;
            }
            let Lane { limits, counters, .. } = self.open(class, now);
            let lane = &mut self.lanes[index];
            for id in counters.iter().filter(|id| !lane.counters.contains(id)) {
                if let Some(entry) = self.counters.get_mut(*id) {
                    entry.waiting.join(&entry.limit, &lane.waiting);
                }
            }
            (lane.limits, lane.counters) = (limits, counters);
        }
        true
    }

    /// The model as which calls of this class are paused: that of all with which it shares a limit.
    pub(super) fn model_counted(&self, class: &CallClass) -> Selector {
        let model = class.model.as_deref();
        Selector::same_as(model.map(|model| self.shared.name(model).to_owned()).as_ref())
    }

    /// The calls of this model, and of those that share a limit with it.
    pub(in crate::account) fn named(&self, model: String) -> Selector {
        Selector::from(self.shared.name(&model).to_owned())
    }

    /// Whether a part of a scope covers the model of this class, or one that shares a limit with it.
    pub(super) fn covers_model(&self, selector: &Selector, class: &CallClass) -> bool {
        let model = class.model.as_deref();
        match selector {
            Selector::Named(name) => {
                model.is_some_and(|model| model == name || self.shared.name(model) == self.shared.name(name))
            }
            Selector::Any | Selector::Unnamed => selector.covers(model),
        }
    }

    /// Whether the lane's calls may be of any of the models that a limit counts apart.
    pub(in crate::account) fn may_be_of_any_model(&self, lane: LaneId) -> bool {
        self.lane(lane).any_model
    }

    /// Keeps room for the lane's next call, of these costs, until [`Lanes::release_kept`]: where it may be of any
    /// model, at each model's counter, because it needs room at all of them at the same time; of tokens, at each
    /// counter at which [`Lanes::blocked_until`] found it blocked, because where each part is taken as soon as it is free there is never enough. Returns
    /// whether anything is kept.
    pub(in crate::account) fn keep_room(
        &mut self,
        lane: LaneId,
        costs: &NumberedCosts,
        everywhere: bool,
    ) -> bool {
        let everywhere = everywhere || mutant::active(Mutant::KeptEverywhere);
        let any_model = self.lane(lane).any_model;
        let kept_before = self.kept.len();
        for id in &self.lanes[lane.0 as usize].counters {
            if let Some(entry) = self.counters.get_mut(*id)
                && (any_model && entry.limit.config.per_model || everywhere || entry.blocks)
            {
                let cost = entry.charge_for(costs);
                entry.kept += cost;
                self.kept.push(*id);
            }
        }
        self.kept.len() > kept_before
    }

    /// Ends what [`Lanes::keep_room`] has begun.
    pub(in crate::account) fn release_kept(&mut self) {
        for id in self.kept.drain(..) {
            if let Some(entry) = self.counters.get_mut(id) {
                entry.kept = Amount::ZERO;
            }
        }
    }

    /// Whether a call of this class may be of any of the models that some limit counts apart.
    pub(super) fn may_be_any_model(&self, class: &CallClass) -> bool {
        self.limits.iter().any(|limit| limit.may_be_any_model(class))
    }
}
