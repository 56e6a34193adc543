//! A limit, as all of its counters know it, and one of those counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::account::counter::Counter;
use crate::config::{AccountConfig, LimitConfig, Unit};
use crate::cost::{Amount, Costs};
use crate::event::{Attempt, CallClass};
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::units::{Origin, UnitKey};
use crate::window_counter::{AtGrant, guarded};

/// A limit's configuration, and what follows from it and the account's.
#[derive(Debug)]
pub(in crate::account) struct Limit {
    pub(in crate::account) config: LimitConfig,
    /// Its place in the account's configuration.
    pub(in crate::account) place: usize,
    /// (D + J)(1 + ρ): a grant's call is counted so long after the stamp that it echoes, or never.
    pub(in crate::account) counted_after_echo: Duration,
    /// J(1 + ρ): a call is counted so long after it was written.
    pub(in crate::account) counted_after_write: Duration,
    /// No call lasts longer.
    pub(super) longest_call: Duration,
}

impl Limit {
    /// The limits of an account, by their places.
    pub(super) fn all_of(config: &AccountConfig) -> Vec<Arc<Limit>> {
        let limit = |(place, limit): (usize, &LimitConfig)| {
            Arc::new(Limit {
                config: limit.clone(),
                place,
                counted_after_echo: guarded(config.validity + limit.delivery),
                counted_after_write: guarded(limit.delivery),
                longest_call: config.pause.max_call,
            })
        };
        config.limits.iter().enumerate().map(limit).collect()
    }

    /// The limit's amount for a model, lowered in proportion where the provider has less than was declared.
    pub(in crate::account) fn effective(&self, model: Option<&str>, observed: Option<u64>) -> Amount {
        let of_model = self.config.amount_of(model);
        let (amount, declared) = (of_model.amount, of_model.hard());
        Amount(match observed {
            Some(hard) if hard < declared => {
                let part = u128::from(amount) * u128::from(hard) / u128::from(declared);
                (part as u64).clamp(u64::from(amount > 0), amount)
            }
            _ => amount,
        })
    }

    /// What a call of these costs draws of it.
    pub(in crate::account) fn cost(&self, costs: Costs) -> Amount {
        costs.of(self.config.unit)
    }

    /// Whether it counts calls of this class. Where the model is not known it may be any of them.
    pub(super) fn covers(&self, class: &CallClass) -> bool {
        let LimitConfig { endpoint, except_endpoints, models, .. } = &self.config;
        if class.endpoint.as_ref().is_some_and(|name| except_endpoints.contains(name)) {
            return false;
        }
        let endpoint = endpoint.as_ref().is_none_or(|name| class.endpoint.as_ref() == Some(name));
        let model = class.model.as_ref().is_none_or(|model| models.contains(model));
        endpoint && (models.is_empty() || model)
    }

    /// Whether a call of this class may be of any of the models that it counts apart.
    pub(super) fn may_be_any_model(&self, class: &CallClass) -> bool {
        self.config.per_model
            && class.model.is_none()
            && self.covers(class)
            && !mutant::active(Mutant::UnknownModelApart)
    }

    /// Whether it is still the same count under another configuration that keeps its name.
    fn is_continued_by(&self, other: &Limit) -> bool {
        self.config.name == other.config.name && self.config.unit == other.config.unit
    }

    /// Whether it is the same but for its name and how much it allows.
    fn has_shape_of(&self, other: &Limit) -> bool {
        let shape = |limit: &Limit| LimitConfig {
            name: String::new(),
            amount: 0,
            declared: None,
            model_amounts: BTreeMap::new(),
            burst: None,
            ..limit.config.clone()
        };
        shape(self) == shape(other)
    }

    /// For each limit of a new configuration the place of the one that it continues: the one of its name, else one of
    /// its shape whose name is gone. Another name is no new count.
    pub(super) fn continued(old: &[Arc<Limit>], new: &[Arc<Limit>]) -> Vec<Option<usize>> {
        let by_name = |limit: &Arc<Limit>| old.iter().position(|known| known.is_continued_by(limit));
        let mut places: Vec<Option<usize>> = new.iter().map(by_name).collect();
        for (limit, of) in new.iter().enumerate() {
            let named =
                |limits: &[Arc<Limit>], name: &str| limits.iter().any(|limit| limit.config.name == name);
            let anew = mutant::active(Mutant::RenameStartsAnew);
            if places[limit].is_some() || named(old, &of.config.name) || anew {
                continue;
            }
            let gone = |known: &Limit| !named(new, &known.config.name) && known.has_shape_of(of);
            let taken = |place: usize| places.contains(&Some(place));
            let found = (0..old.len()).find(|place| !taken(*place) && gone(&old[*place]));
            places[limit] = found;
        }
        places
    }

    pub(in crate::account) fn counts_requests(&self) -> bool {
        self.config.unit == Unit::Requests
    }
}

/// A counter of a limit: its only one, or a model's.
#[derive(Debug)]
pub(in crate::account) struct Entry {
    pub(in crate::account) limit: Arc<Limit>,
    pub(in crate::account) model: Option<String>,
    pub(in crate::account) counter: Counter,
    /// The provider's own figure, where headers have named one: of this model, not of the others.
    pub(in crate::account) observed: Option<u64>,
    pub(super) waiting: Backlog,
    /// What is kept for calls whose turn comes before, within one round of grants.
    pub(super) kept: Amount,
}

/// Calls that wait. Nearly all have the costs of a single request, so only the others' costs are summed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    pub(super) calls: u64,
    /// How many of them have other costs than a single request.
    unusual: u64,
    unusual_costs: Costs,
}

impl Backlog {
    pub(super) const EMPTY: Backlog = Backlog { calls: 0, unusual: 0, unusual_costs: Costs::ZERO };

    pub(super) fn add(&mut self, costs: Costs) {
        self.calls += 1;
        if !costs.are_usual() {
            self.unusual += 1;
            self.unusual_costs += costs;
        }
    }

    pub(super) fn remove(&mut self, costs: Costs) {
        self.calls = self.calls.saturating_sub(1);
        if !costs.are_usual() {
            self.unusual = self.unusual.saturating_sub(1);
            self.unusual_costs -= costs;
        }
    }

    /// These calls wait as well.
    pub(super) fn join(&mut self, other: &Backlog) {
        self.calls += other.calls;
        self.unusual += other.unusual;
        self.unusual_costs += other.unusual_costs;
    }

    /// What `ahead` of the calls draw of a limit, at the mean: whose turn comes first is not looked up.
    fn cost_of(&self, ahead: u64, limit: &Limit) -> Amount {
        let ahead = ahead.min(self.calls);
        if self.unusual == 0 {
            return Amount(limit.cost(Costs::default()).0 * ahead);
        }
        let usual = limit.cost(Costs::default()).0.saturating_mul(self.calls - self.unusual);
        Amount(mean_of(limit.cost(self.unusual_costs) + Amount(usual), self.calls, ahead))
    }

    /// The costs of each of the calls, where all have the usual ones.
    pub(super) fn costs_of_each(&self) -> Option<Costs> {
        (self.unusual == 0).then(Costs::default)
    }
}

impl Entry {
    pub(super) fn new(limit: Arc<Limit>, model: Option<String>, counter: Counter) -> Entry {
        Entry { limit, model, counter, observed: None, waiting: Backlog::EMPTY, kept: Amount::ZERO }
    }

    /// The provider's figure by the quota.
    pub(in crate::account) fn declared(&self) -> u64 {
        self.limit.config.amount_of(self.model.as_deref()).hard()
    }

    /// Takes on the limit as it is configured and observed now.
    pub(super) fn reconfigure(&mut self, now: Time) {
        let amount = self.limit.effective(self.model.as_deref(), self.observed);
        self.counter.reconfigure(&self.limit.config, amount, now);
        // What an answer names stops nobody for longer than a window, whatever is granted already.
        if let Some(window) = self.counter.window_mut().filter(|_| self.observed.is_some()) {
            window.drain_within_a_window();
        }
    }

    /// When a call of these costs may fit at the earliest; `None`: now.
    pub(super) fn blocked_until(&mut self, now: Time, costs: Costs) -> Option<Time> {
        let cost = self.limit.cost(costs);
        self.counter.advance(now);
        // A call that draws nothing passes a full limit.
        if cost.is_zero() { None } else { self.counter.blocked_until(now, cost, self.kept) }
    }

    /// About how long until `ahead` of the waiting calls, as far as they draw on this limit, and one of these
    /// costs have been granted.
    pub(super) fn wait_for(&mut self, now: Time, costs: Costs, ahead: u64) -> Duration {
        self.counter.advance(now);
        self.counter.wait_for(now, self.waiting.cost_of(ahead, &self.limit) + self.limit.cost(costs))
    }

    /// Charges a call that is granted on the strength of an echo that was stamped at `echoed` or before.
    /// Returns its unit, where the limit counts windows and the call draws on it.
    pub(in crate::account) fn charge(
        &mut self,
        attempt: Attempt,
        costs: Costs,
        now: Time,
        echoed: Time,
    ) -> Option<(UnitKey, AtGrant)> {
        let cost = self.limit.cost(costs);
        if cost.is_zero() {
            return None;
        }
        let settles = echoed + self.limit.counted_after_echo;
        let Some(window) = self.counter.window_mut() else {
            self.counter.hold_slots(attempt, cost, now);
            return None;
        };
        window.advance(now);
        let unit = window.charge(now, settles, cost, Origin::Call);
        Some((unit, window.at_grant()))
    }
}

/// What `part` of `calls` calls draw that draw `amount` in all.
fn mean_of(amount: Amount, calls: u64, part: u64) -> u64 {
    let all = u128::from(amount.0) * u128::from(part);
    u64::try_from(all.div_ceil(u128::from(calls.max(1)))).unwrap_or(u64::MAX)
}
