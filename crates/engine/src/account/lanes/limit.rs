//! A limit, as all of its counters know it, and one of those counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::account::counter::{Counter, Usage};
use crate::account::status::LimitStatus;
use crate::config::{AccountConfig, LimitConfig, Reserving, TokenLimit, Unit};
use crate::cost::{Amount, Costs};
use crate::event::{Attempt, CallClass, PeriodBegun};
use crate::mutant::{self, Mutant};
use crate::name::AllocationName;
use crate::sharing::{AllocationLimit, AllocationLimitKind};
use crate::time::{Time, nanos};
use crate::units::{Origin, UnitKey};
use crate::window_counter::{AtGrant, LONG, guarded};

/// A limit's configuration, and what follows from it and the account's.
#[derive(Debug)]
pub(in crate::account) struct Limit {
    pub(in crate::account) config: LimitConfig,
    /// Its place: first those of the account's configuration, then those of the allocations.
    pub(in crate::account) place: usize,
    pub(in crate::account) holds_for: HoldsFor,
    /// (D + J)(1 + ρ): a grant's call is counted so long after the stamp that it echoes, or never.
    pub(in crate::account) counted_after_echo: Duration,
    /// J(1 + ρ): a call is counted so long after it was written.
    pub(in crate::account) counted_after_write: Duration,
    /// No call lasts longer.
    pub(super) longest_call: Duration,
    /// The longest call, D and J, each (1 + ρ): so long after its grant nothing more is counted of any call.
    pub(in crate::account) counted_after_end: Duration,
    /// The least that any model may use of it.
    smallest: Amount,
    /// Its amount is only assumed: what does not fit into it may fit into the real one.
    assumed: bool,
}

/// Whose calls a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::account) enum HoldsFor {
    /// Everyone's.
    Account,
    /// Those of an allocation, which may use no more of the account's limit of this name.
    MaximumOf { allocation: AllocationName, limit: String },
    /// Those of an allocation that has declared it.
    Allocation(AllocationName),
}

impl HoldsFor {
    /// The allocation; `None`: the account.
    pub(in crate::account) fn allocation(&self) -> Option<&AllocationName> {
        match self {
            HoldsFor::Account => None,
            HoldsFor::MaximumOf { allocation, .. } | HoldsFor::Allocation(allocation) => Some(allocation),
        }
    }
}

impl Limit {
    /// The limits of an account and of its allocations, by their places.
    pub(super) fn all_of(config: &AccountConfig) -> Vec<Arc<Limit>> {
        let of_account = config.limits.iter().map(|limit| (HoldsFor::Account, limit.clone()));
        let of_allocations = config.sharing.limits(&config.limits).map(|limit| {
            let AllocationLimit { allocation, kind, config: own } = limit;
            let holds_for = match kind {
                AllocationLimitKind::Maximum { of } => {
                    HoldsFor::MaximumOf { allocation, limit: config.limits[of].name.clone() }
                }
                AllocationLimitKind::Own => HoldsFor::Allocation(allocation),
            };
            (holds_for, own)
        });
        let limit = |(place, (holds_for, limit)): (usize, (HoldsFor, LimitConfig))| {
            Arc::new(Limit {
                place,
                assumed: config.assumed && !matches!(holds_for, HoldsFor::Allocation(_)),
                holds_for,
                counted_after_echo: guarded(config.validity + limit.delivery),
                counted_after_write: guarded(limit.delivery),
                longest_call: config.pause.max_call,
                counted_after_end: guarded(config.pause.max_call + config.validity + limit.delivery),
                smallest: Amount(
                    limit.model_amounts.values().map(|own| own.amount).fold(limit.amount, u64::min),
                ),
                config: limit,
            })
        };
        of_account.chain(of_allocations).enumerate().map(limit).collect()
    }

    /// The name under which answers tell of it; `None`: no provider knows of it.
    pub(in crate::account) fn name_in_answers(&self) -> Option<&str> {
        match &self.holds_for {
            HoldsFor::Account => Some(&self.config.name),
            HoldsFor::MaximumOf { limit, .. } => Some(limit),
            HoldsFor::Allocation(_) => None,
        }
    }

    /// Its name among those of the account, or of its allocation.
    fn shown_name(&self) -> &str {
        let name = &self.config.name;
        match self.holds_for.allocation() {
            None => name,
            Some(allocation) => name.get(allocation.len() + 1..).unwrap_or(name),
        }
    }

    /// Whether it is one of the account's. Only those say how large a turn is: an allocation has the turns that its
    /// share gives it, however little it may use.
    pub(super) fn is_of_account(&self) -> bool {
        self.holds_for == HoldsFor::Account
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

    /// What is charged for a call of these costs at its grant.
    pub(in crate::account) fn cost(&self, costs: Costs) -> Amount {
        let LimitConfig { tokens, unit, .. } = &self.config;
        match (tokens, &costs.tokens) {
            (None, _) => costs.of(*unit),
            (Some(limit), Some(costs)) => limit.reserved(*unit, costs, self.smallest),
            (Some(_), None) => Amount::ZERO,
        }
    }

    /// What a call of these costs will have drawn of it when it is over, for forecasts.
    fn expected(&self, costs: Costs) -> Amount {
        let LimitConfig { tokens, unit, .. } = &self.config;
        match (tokens, &costs.tokens) {
            (Some(limit), Some(costs)) => limit.expected(*unit, costs, self.smallest),
            _ => self.cost(costs),
        }
    }

    /// How it counts tokens, if the provider may still change what it counts for a call after that has arrived.
    pub(in crate::account) fn settling(&self) -> Option<&TokenLimit> {
        self.config.tokens.as_ref().filter(|limit| limit.settles_at_end())
    }

    /// Whether a call that costs more than there is takes its chance: its cost is only likely, or the amount is assumed.
    fn takes_chances(&self) -> bool {
        self.assumed && self.config.tokens.is_some()
            || self.settling().is_some_and(|limit| limit.reserving == Reserving::Learned)
    }

    /// Whether a call may draw more than was charged for it at its grant.
    fn may_be_exceeded(&self) -> bool {
        let learns = |limit: &TokenLimit| limit.settles_at_end() && limit.reserving == Reserving::Learned;
        self.config.tokens.as_ref().is_some_and(|limit| limit.is_guessed() || learns(limit))
    }

    /// Whether the most that a call can draw is held until the provider can count no more of it.
    pub(in crate::account) fn holds_the_bound(&self) -> bool {
        self.settling().is_some_and(|limit| limit.reserving == Reserving::Bound)
    }

    /// When at the latest the provider has counted a call that is granted now, on the strength of an echo that was
    /// stamped at `echoed` or before.
    pub(in crate::account) fn settles(&self, now: Time, echoed: Time) -> Time {
        match self.settling() {
            Some(_) => now + self.counted_after_end,
            None => echoed + self.counted_after_echo,
        }
    }

    /// Whether it counts calls of this class. Where the model is not known it may be any of them.
    pub(super) fn covers(&self, class: &CallClass) -> bool {
        let LimitConfig { endpoint, except_endpoints, models, .. } = &self.config;
        let of_other = |own| class.allocation.as_ref() != Some(own);
        if self.holds_for.allocation().is_some_and(of_other) || self.is_ignored() {
            return false;
        }
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

    fn is_ignored(&self) -> bool {
        !self.is_of_account() && mutant::active(Mutant::AllocationsUnbounded)
    }

    /// Whether it is the most that an allocation may use of another.
    pub(in crate::account) fn is_maximum(&self) -> bool {
        matches!(self.holds_for, HoldsFor::MaximumOf { .. })
    }

    /// Whether it is the most that an allocation may use of this one.
    pub(in crate::account) fn is_maximum_of(&self, other: &Limit) -> bool {
        let name = &other.config.name;
        other.is_of_account() && matches!(&self.holds_for, HoldsFor::MaximumOf { limit, .. } if limit == name)
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
        self.is_maximum() == other.is_maximum()
            && self.is_of_account() == other.is_of_account()
            && shape(self) == shape(other)
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

    /// Whether it is a rate. Longer windows are budgets.
    pub(super) fn is_a_rate(&self) -> bool {
        self.config.window < LONG
    }

    /// Nanoseconds in which so much is refilled: c·W/N.
    pub(super) fn refill(&self, cost: Amount) -> u128 {
        let refilled = u128::from(cost.0) * u128::from(nanos(self.config.window));
        refilled / u128::from(self.config.largest_amount().max(1))
    }

    /// Whether it counts what is drawn in a window, not what is under way.
    pub(in crate::account) fn counts_a_window(&self) -> bool {
        self.config.unit != Unit::ConcurrentRequests
    }
}

/// What a grant was charged at a counter.
#[derive(Clone, Copy, Debug)]
pub(in crate::account) struct Charged {
    pub(in crate::account) unit: UnitKey,
    /// When the provider has counted it at the latest.
    pub(in crate::account) settles: Time,
    pub(in crate::account) at_grant: AtGrant,
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
    /// Until then it has no room for a call that has come: a budget that is used up.
    pub(super) spent_until: Option<Time>,
}

/// Calls that wait for a limit. Nearly all have the costs of a single request, so only the others' costs are summed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    pub(super) calls: u64,
    /// How many of them have other costs than a single request.
    unusual: u64,
    /// What those draw of the limit.
    amount: Amount,
}

impl Backlog {
    pub(super) const EMPTY: Backlog = Backlog { calls: 0, unusual: 0, amount: Amount::ZERO };

    pub(super) fn add(&mut self, limit: &Limit, costs: Costs) {
        self.calls += 1;
        if !costs.are_usual() {
            self.unusual += 1;
            self.amount += limit.expected(costs);
        }
    }

    pub(super) fn remove(&mut self, limit: &Limit, costs: Costs) {
        self.calls = self.calls.saturating_sub(1);
        if !costs.are_usual() {
            self.unusual = self.unusual.saturating_sub(1);
            self.amount -= limit.expected(costs);
        }
    }

    /// The calls of this lane wait for the limit as well.
    pub(super) fn join(&mut self, limit: &Limit, lane: &LaneBacklog) {
        self.calls += lane.calls;
        self.unusual += lane.unusual;
        self.amount += lane.amounts.get(limit.place).copied().unwrap_or_default();
    }

    /// What `ahead` of the calls draw of a limit, at the mean: whose turn comes first is not looked up.
    pub(super) fn cost_of(&self, ahead: u64, limit: &Limit) -> Amount {
        let ahead = ahead.min(self.calls);
        let usual = limit.expected(Costs::default()).0;
        if self.unusual == 0 {
            return Amount(usual.saturating_mul(ahead));
        }
        let usual = usual.saturating_mul(self.calls - self.unusual);
        Amount(mean_of(self.amount + Amount(usual), self.calls, ahead))
    }
}

/// Calls that wait in a lane.
#[derive(Clone, Debug, Default)]
pub(super) struct LaneBacklog {
    pub(super) calls: u64,
    /// How many of them have other costs than a single request.
    unusual: u64,
    /// What those draw of each limit, by its place; of limits beyond its end nothing.
    amounts: Vec<Amount>,
}

impl LaneBacklog {
    pub(super) fn add(&mut self, limits: &[Arc<Limit>], covering: &[usize], costs: Costs) {
        self.calls += 1;
        if !costs.are_usual() {
            self.unusual += 1;
            self.amounts.resize(limits.len(), Amount::ZERO);
            covering.iter().for_each(|place| self.amounts[*place] += limits[*place].expected(costs));
        }
    }

    pub(super) fn remove(&mut self, limits: &[Arc<Limit>], covering: &[usize], costs: Costs) {
        self.calls = self.calls.saturating_sub(1);
        if !costs.are_usual() {
            self.unusual = self.unusual.saturating_sub(1);
            self.amounts.resize(limits.len(), Amount::ZERO);
            covering.iter().for_each(|place| self.amounts[*place] -= limits[*place].expected(costs));
        }
    }

    /// The costs of each of the calls, where all have the usual ones.
    pub(super) fn costs_of_each(&self) -> Option<Costs> {
        (self.unusual == 0).then(Costs::default)
    }
}

impl Entry {
    pub(super) fn new(limit: Arc<Limit>, model: Option<String>, counter: Counter) -> Entry {
        Entry {
            limit,
            model,
            counter,
            observed: None,
            waiting: Backlog::EMPTY,
            kept: Amount::ZERO,
            spent_until: None,
        }
    }

    /// The provider's figure by the quota.
    pub(in crate::account) fn declared(&self) -> u64 {
        self.limit.config.amount_of(self.model.as_deref()).hard()
    }

    /// Takes on the limit as it is configured and observed now.
    pub(super) fn reconfigure(&mut self, now: Time) {
        let amount = self.limit.effective(self.model.as_deref(), self.observed);
        self.counter.reconfigure(&self.limit.config, amount, now);
        self.spent_until = None;
        // What an answer names stops nobody for longer than a window, whatever is granted already.
        if let Some(window) = self.counter.window_mut().filter(|_| self.observed.is_some()) {
            window.drain_within_a_window();
        }
    }

    /// A period has begun, if the limit has any.
    pub(super) fn period_begun(&mut self, period: &PeriodBegun, now: Time) {
        if let Some(window) = self.counter.window_mut().filter(|_| self.limit.config.period.is_some()) {
            window.period_begun(period.begun, period.ends, now);
        }
    }

    /// What is charged here for a call of these costs at its grant.
    pub(in crate::account) fn cost(&self, costs: Costs) -> Amount {
        self.at_most_all(self.limit.cost(costs))
    }

    /// No more than the counter allows, unless a call that costs more can never fit.
    fn at_most_all(&self, cost: Amount) -> Amount {
        // What an answer has named refuses nobody for good.
        let lowered = self.limit.config.tokens.is_some()
            && cost <= Amount(self.limit.config.amount_of(self.model.as_deref()).amount);
        if lowered || self.limit.takes_chances() { cost.min(self.counter.amount()) } else { cost }
    }

    /// When a call of these costs may fit at the earliest; `None`: now.
    pub(super) fn blocked_until(&mut self, now: Time, costs: Costs) -> Option<Time> {
        let cost = self.cost(costs);
        self.counter.advance(now);
        // A call that draws nothing passes a full limit.
        if cost.is_zero() { None } else { self.counter.blocked_until(now, cost, self.kept) }
    }

    /// About how long until `ahead` of the waiting calls, as far as they draw on this limit, and one of these
    /// costs have been granted.
    pub(super) fn wait_for(&mut self, now: Time, costs: Costs, ahead: u64) -> Duration {
        self.counter.advance(now);
        let own = self.at_most_all(self.limit.expected(costs));
        self.counter.wait_for(now, self.waiting.cost_of(ahead, &self.limit) + own)
    }

    /// What people are shown of it.
    pub(super) fn status(&mut self, now: Time) -> LimitStatus {
        let Usage { amount, used, reserved, used_by_others, assumed, resets_in } = self.counter.usage(now);
        let ahead = self.waiting.calls.saturating_sub(1);
        LimitStatus {
            name: self.limit.shown_name().to_owned(),
            model: self.model.clone(),
            unit: self.limit.config.unit,
            amount: amount.0,
            used: used.0,
            reserved: reserved.0,
            // What answers reveal may be ours, where more was used than was estimated.
            used_by_others: if self.limit.may_be_exceeded() { 0 } else { used_by_others.0 },
            assumed: assumed.0,
            waiting: self.waiting.calls,
            resets_in,
            wait: self.wait_for(now, Costs::default(), ahead),
            spent: self.is_spent(now),
        }
    }

    /// Charges a call that is granted on the strength of an echo that was stamped at `echoed` or before.
    /// Returns what was charged, where the limit counts windows and the call draws on it.
    pub(in crate::account) fn charge(
        &mut self,
        attempt: Attempt,
        costs: Costs,
        now: Time,
        echoed: Time,
    ) -> Option<Charged> {
        let cost = self.cost(costs);
        if cost.is_zero() {
            return None;
        }
        let settles = self.limit.settles(now, echoed);
        let Some(window) = self.counter.window_mut() else {
            self.counter.hold_slots(attempt, cost, now);
            return None;
        };
        window.advance(now);
        let unit = window.charge(now, settles, cost, Origin::Call);
        Some(Charged { unit, settles, at_grant: window.at_grant() })
    }
}

/// The limit of an earlier configuration whose count the new one's limit of that name continues.
pub(in crate::account) fn continued_name(
    earlier: &AccountConfig,
    new: &AccountConfig,
    name: &str,
) -> Option<String> {
    let (earlier, new) = (Limit::all_of(earlier), Limit::all_of(new));
    let place = new.iter().position(|limit| limit.config.name == name)?;
    let place = (*Limit::continued(&earlier, &new).get(place)?)?;
    Some(earlier.get(place)?.config.name.clone())
}

/// What `part` of `calls` calls draw that draw `amount` in all.
fn mean_of(amount: Amount, calls: u64, part: u64) -> u64 {
    let all = u128::from(amount.0) * u128::from(part);
    u64::try_from(all.div_ceil(u128::from(calls.max(1)))).unwrap_or(u64::MAX)
}
