//! What a counter begins with: whatever may have been drawn before it was made.

use std::sync::Arc;
use std::time::Duration;

use super::checkpoints::count_of;
use super::{Counter, HoldsFor, Lanes, Limit};
use crate::checkpoint::CheckpointedLimit;
use crate::concurrency_counter::ConcurrencyCounter;
use crate::cost::Amount;
use crate::event::Reserve;
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::units::Origin;
use crate::window_counter::{Taken, WindowCounter};

/// A limiter whose ledger is lost, as far as an account is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// When its right to grant had ended.
    pub until: Time,
    /// For how long the account had been in force then; `None`: not known, perhaps for ever.
    pub in_force: Option<Duration>,
}

/// What a counter that is made begins with.
#[derive(Clone, Debug)]
pub(in crate::account) enum InitialState {
    /// Nothing was drawn.
    Fresh,
    /// All of a window may have been drawn by `since`.
    UnknownPast { since: Time },
    /// Nobody has granted anything of it before, and no more than that is known: one call asks first.
    NewlyInForce,
    /// A predecessor may have granted all that the limit allows.
    Predecessor(Predecessor),
    /// What a checkpoint has; nothing of a model that it does not name.
    Checkpoint { limit: Arc<CheckpointedLimit>, taken: Taken },
    /// Nothing in the ledger as of a commit, and a reserve.
    Ledger { reserve: Arc<Reserve> },
}

impl Lanes {
    /// A new counter of a model, or of all calls, with whatever may have been drawn before it was made.
    pub(super) fn begin(&self, limit: &Limit, model: Option<&str>, now: Time) -> Counter {
        let start = limit.beginning(self.starts.get(&limit.config.name).unwrap_or(&self.start));
        if limit.counts_a_window() {
            let mut counter = begin_window(limit, limit.effective(model, None), start, now);
            if let InitialState::Checkpoint { limit: found, taken } = start {
                counter.begin_with(now, &count_of(found, model), *taken);
                limit.ask_first(&mut counter);
            }
            if self.requires_cover(limit) {
                counter.require_cover(limit.identity(), now);
            }
            Counter::Window(counter)
        } else {
            Counter::Concurrency(begin_slots(limit, start))
        }
    }
}

impl Limit {
    /// What the limit begins with where the account begins with `start`. Nobody else draws on an allocation's limits.
    /// What was used of its maximum is not asked after: that is no promise to the provider, but its own limits are
    /// promises to a person.
    fn beginning<'s>(&self, start: &'s InitialState) -> &'s InitialState {
        match (start, &self.holds_for) {
            (InitialState::Ledger { .. }, _) | (_, HoldsFor::Account) => start,
            (InitialState::NewlyInForce, _) | (_, HoldsFor::MaximumOf { .. }) => &InitialState::Fresh,
            (_, HoldsFor::Allocation(_)) => start,
        }
    }

    /// What it begins with when it is declared while the account is in force: an allocation's counts from then on.
    pub(super) fn new_beginning(&self, now: Time) -> InitialState {
        match self.holds_for {
            HoldsFor::Account => InitialState::UnknownPast { since: now },
            HoldsFor::MaximumOf { .. } | HoldsFor::Allocation(_) => InitialState::Fresh,
        }
    }
}

fn begin_slots(limit: &Limit, start: &InitialState) -> ConcurrencyCounter {
    let amount = Amount(limit.config.amount);
    let mut slots = ConcurrencyCounter::new(amount);
    match start {
        InitialState::Fresh
        | InitialState::NewlyInForce
        | InitialState::UnknownPast { .. }
        | InitialState::Checkpoint { .. } => {}
        InitialState::Predecessor(Predecessor { until, .. }) => {
            slots.hold_unknown(amount, *until + limit.counted_after_echo + limit.longest_call);
        }
        InitialState::Ledger { reserve } => {
            // As long as a call may last whose proxy has not come back: others would be beside it.
            let last_sent = reserve.horizon + limit.counted_after_echo;
            slots.hold_unknown(reserve.of(&limit.config.name).min(amount), last_sent + limit.longest_call);
        }
    }
    slots
}

fn begin_window(limit: &Limit, amount: Amount, start: &InitialState, now: Time) -> WindowCounter {
    let mut counter = match start {
        InitialState::Ledger { reserve } => {
            WindowCounter::restored(&limit.config, amount, None, reserve.as_of).0
        }
        _ => WindowCounter::new(&limit.config, amount, now),
    };
    match start {
        InitialState::Fresh | InitialState::Checkpoint { .. } => {}
        InitialState::NewlyInForce => counter.ask_first(),
        // What was sent until then may be counted J later.
        InitialState::UnknownPast { since } => {
            counter.fill_with_past(*since + limit.counted_after_write);
        }
        InitialState::Predecessor(Predecessor { until, in_force })
            if !mutant::active(Mutant::EmptyTakeover) =>
        {
            let arrived = match limit.holds_the_bound() && limit.is_a_rate() {
                true => limit.settles(*until, *until),
                false => *until + limit.counted_after_echo,
            };
            counter.fill_with_predecessor(*until, arrived, *in_force);
        }
        InitialState::Predecessor(_) => {}
        InitialState::Ledger { reserve } => hold_reserve(&mut counter, limit, reserve),
    }
    counter.advance(now);
    counter
}

/// Holds what an earlier incarnation may have granted after the commit.
pub(in crate::account) fn hold_reserve(counter: &mut WindowCounter, limit: &Limit, reserve: &Reserve) {
    let most = Amount(limit.config.largest_amount());
    let amount = reserve.of(&limit.config.name).min(most);
    if amount.is_zero() || mutant::active(Mutant::NoReserve) {
        return;
    }
    let settles = limit.settles(reserve.horizon, reserve.horizon);
    counter.charge(reserve.as_of, settles, amount, Origin::Reserve);
}
