//! A limit, as all of its counters know it, and one of those counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::ledger::SnapshotLimit;
use super::longest_calls::LongestCalls;
use crate::config::{AccountConfig, LimitConfig, Reserving, TokenLimit, Unit};
use crate::cost::{Amount, Costs};
use crate::event::CallClass;
use crate::mutant::{self, Mutant};
use crate::name::AllocationName;
use crate::sharing::{AllocationLimit, AllocationLimitKind};
use crate::time::{Time, nanos};
use crate::window_counter::{LONG, guarded};

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
    /// No call that it covers lasts longer.
    pub(super) longest_call: Duration,
    /// The least that any model may use of it.
    smallest: Amount,
    /// The most that any model may use of it.
    largest: Amount,
    /// What a call of the usual costs draws of it.
    pub(super) usual: Amount,
    /// It is one of the account's, and calls are measured by what they draw of it in a window.
    pub(super) measures_windows: bool,
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
    pub(in crate::account) fn all_of(config: &AccountConfig) -> Vec<Arc<Limit>> {
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
        let longest = LongestCalls::of(config);
        let limit = |(place, (holds_for, limit)): (usize, (HoldsFor, LimitConfig))| {
            Arc::new(Limit {
                place,
                measures_windows: holds_for == HoldsFor::Account && limit.unit != Unit::ConcurrentRequests,
                assumed: config.assumed && !matches!(holds_for, HoldsFor::Allocation(_)),
                holds_for,
                counted_after_echo: guarded(config.validity + limit.delivery),
                counted_after_write: guarded(limit.delivery),
                longest_call: longest.of_models(&limit.models),
                smallest: Amount(
                    limit.model_amounts.values().map(|own| own.amount).fold(limit.amount, u64::min),
                ),
                usual: if limit.tokens.is_some() { Amount::ZERO } else { Costs::default().of(limit.unit) },
                largest: Amount(limit.largest_amount()),
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
    pub(super) fn shown_name(&self) -> &str {
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
    pub(in crate::account) fn cost(&self, costs: &Costs) -> Amount {
        let LimitConfig { tokens, unit, .. } = &self.config;
        match (tokens, &costs.tokens) {
            (None, _) => costs.of(*unit),
            (Some(limit), Some(costs)) => limit.reserved(*unit, costs, self.smallest),
            (Some(_), None) => Amount::ZERO,
        }
    }

    /// What a call of these costs will have drawn of it when it is over, for forecasts.
    pub(super) fn expected(&self, costs: &Costs) -> Amount {
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
    pub(super) fn takes_chances(&self) -> bool {
        self.assumed && self.config.tokens.is_some()
            || self.settling().is_some_and(|limit| limit.reserving == Reserving::Learned)
    }

    /// Whether a call may draw more than was charged for it at its grant.
    pub(super) fn may_be_exceeded(&self) -> bool {
        let learns = |limit: &TokenLimit| limit.settles_at_end() && limit.reserving == Reserving::Learned;
        self.config.tokens.as_ref().is_some_and(|limit| limit.is_guessed() || learns(limit))
    }

    /// Whether the most that a call can draw is held until the provider can count no more of it.
    pub(in crate::account) fn holds_the_bound(&self) -> bool {
        self.settling().is_some_and(|limit| limit.reserving == Reserving::Bound)
    }

    /// When at the latest the provider has counted any call that is granted now, on the strength of an echo that was
    /// stamped at `echoed` or before.
    pub(in crate::account) fn settles(&self, now: Time, echoed: Time) -> Time {
        self.settles_call(now, echoed, self.longest_call)
    }

    /// The same of a call that lasts so long at most.
    pub(super) fn settles_call(&self, now: Time, echoed: Time, longest: Duration) -> Time {
        match self.settling() {
            Some(_) => now + guarded(longest) + self.counted_after_echo,
            None => echoed + self.counted_after_echo,
        }
    }

    /// Whether it counts calls of this class. Where the model is not known it may be any of them.
    pub(super) fn covers(&self, class: &CallClass) -> bool {
        let of_other = |own| class.allocation.as_ref() != Some(own);
        if self.holds_for.allocation().is_some_and(of_other) || self.is_ignored() {
            return false;
        }
        self.config.covers(class)
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

    /// What the ledger knows it by.
    pub(in crate::account) fn in_ledger(&self) -> SnapshotLimit {
        SnapshotLimit { identity: self.identity(), window: self.config.window, is_maximum: self.is_maximum() }
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
        let (window, largest) = (nanos(self.config.window), self.largest.0.max(1));
        match cost.0.checked_mul(window) {
            Some(refilled) => u128::from(refilled / largest),
            None => u128::from(cost.0) * u128::from(window) / u128::from(largest),
        }
    }

    /// How long a call counts at most: from its arrival, or where slots are counted from its grant.
    pub(in crate::account) fn counts_for(&self) -> Duration {
        if self.counts_a_window() { guarded(self.config.window) } else { self.longest_call }
    }

    /// Whether it counts what is drawn in a window, not what is under way.
    pub(in crate::account) fn counts_a_window(&self) -> bool {
        self.config.unit != Unit::ConcurrentRequests
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
