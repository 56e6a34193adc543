//! What follows a limiter that is gone: the engine that is made of its ledger, and the engine that
//! takes over without one.
//!
//! A crash costs capacity, never correctness: whatever may have been granted since the last
//! commit is held as if it had been, until every proxy has reported its grants.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::durability::Durability;
use super::lanes::{CounterId, InitialState, Lanes, Limit, Predecessor, hold_reserve};
use super::ledger::{CallSnapshot, PauseSnapshot, Snapshot, UnitPlace};
use super::recovery::Recovery;
use super::renamed::rename_limits;
use super::token_costs::Estimated;
use super::{Call, CallState, Charge, Engine, Grant, Wanted};
use crate::callers::PauseKey;
use crate::concurrency_cap::ConcurrencyCap;
use crate::config::AccountConfig;
use crate::cost::Amount;
use crate::estimate::Estimates;
use crate::event::Reserve;
use crate::pause::Pause;
use crate::queue::CallKey;
use crate::time::Time;
use crate::units::UnitKey;
use crate::window_counter::{WindowCounter, WindowSnapshot};

/// A counter of a snapshot, and its units in their order, each with its S.
struct RestoredCounter {
    counter: CounterId,
    units: Vec<(UnitKey, Time)>,
}

impl RestoredCounter {
    /// The charge that a call has here.
    fn charge(&self, unit: u32) -> Option<Charge> {
        let (unit, settles) = *self.units.get(unit as usize)?;
        Some(Charge { counter: self.counter, unit, settles, at_grant: None })
    }
}

impl Engine {
    /// The engine after a restart on the same node, whose clock went on: what was charged as of
    /// the last commit, and the reserve of that commit held as if it had all been granted. It
    /// grants nothing before the first [`crate::event::Event::Committed`].
    pub fn restart(config: AccountConfig, mut snapshot: Snapshot, reserve: Reserve, now: Time) -> Engine {
        // What was granted after the commit was granted to a session that it has.
        let mut amounts = if snapshot.sessions.is_empty() { BTreeMap::new() } else { reserve.amounts };
        rename_limits(&Limit::all_of(&config), &mut snapshot, &mut amounts);
        let reserve = Arc::new(Reserve { as_of: snapshot.as_of, amounts, horizon: reserve.horizon });
        let lanes = Lanes::new(&config, InitialState::Ledger { reserve: reserve.clone() });
        let mut engine = Engine::with_lanes(config, lanes);
        engine.durability = Durability::without_budget(engine.lanes.limits().len(), now);
        let slots = engine.lanes.limits().iter().filter(|limit| !limit.counts_a_window());
        let slots = slots.map(|limit| &limit.config.name);
        let unreconciled = slots.map(|name| (name.clone(), reserve.of(name))).collect();
        engine.recovery = Recovery::from_commit(snapshot.as_of, &snapshot.sessions, unreconciled);
        engine.lanes.restore_shared(snapshot.shared_models);
        for limit in engine.lanes.limits().to_vec() {
            let known_for = snapshot.limits.get(&limit.config.name).map(|known| known.window);
            if known_for.is_none_or(|window| window < limit.config.window) {
                engine.lanes.start_unknown(&limit, known_for, now);
            }
        }
        let counters: Vec<_> =
            snapshot.counters.iter().map(|counter| engine.restore_counter(counter, &reserve, now)).collect();
        engine.estimates = Estimates::restored(snapshot.estimates);
        for call in snapshot.calls {
            engine.restore_call(call, &counters, now);
        }
        for PauseSnapshot { scope, callers, until, reason, stopped } in snapshot.pauses {
            let mut pause = Pause::by_hand(now, until.since(now));
            pause.reason = reason;
            if stopped {
                pause.share_probe(until);
            }
            engine.pauses.insert(PauseKey { scope, callers }, pause);
        }
        for learned in snapshot.concurrency {
            let (under_way, longest) = (engine.under_way(&learned.scope), engine.config.longest_call());
            let cap = ConcurrencyCap::restored(under_way, longest, &learned, now);
            engine.caps.insert(learned.scope, cap);
        }
        engine.lanes.make_counters(now);
        engine
    }

    fn restore_counter(
        &mut self,
        snapshot: &WindowSnapshot,
        reserve: &Reserve,
        now: Time,
    ) -> Option<RestoredCounter> {
        let mut limits = self.lanes.limits().iter();
        let limit = limits.find(|limit| limit.config.name == snapshot.limit)?.clone();
        // A model's counter of a limit that no longer counts models apart has no place.
        if !limit.counts_a_window() || !limit.config.per_model && snapshot.model.is_some() {
            return None;
        }
        let amount = limit.effective(snapshot.model.as_deref(), snapshot.observed);
        let (mut counter, units) =
            WindowCounter::restored(&limit.config, amount, Some(snapshot), reserve.as_of);
        hold_reserve(&mut counter, &limit, reserve);
        if self.lanes.begins_unknown(&limit.config.name) {
            counter.fill_with_past(now);
        }
        counter.advance(now);
        let counter = self.lanes.add_restored(&limit, snapshot.model.clone(), counter, snapshot.observed);
        let settles = snapshot.units.iter().map(|unit| unit.settles);
        Some(RestoredCounter { counter, units: units.into_iter().zip(settles).collect() })
    }

    fn restore_call(&mut self, call: CallSnapshot, counters: &[Option<RestoredCounter>], now: Time) {
        let lane = self.lane_of(&call.class, now);
        let key = CallKey { session: call.session, call: call.call };
        self.lanes.hold_slots(lane, key.attempt(call.attempt), &call.costs, call.granted);
        let charge = |place: UnitPlace| counters.get(place.counter as usize)?.as_ref()?.charge(place.unit);
        let charges = call.units.into_iter().filter_map(charge).collect();
        let estimate = call.costs.tokens.map(|_| self.estimates.key(&call.consumer, &call.class));
        let estimate = estimate.map(|key| Estimated::now(key, &self.estimates));
        let running = estimate.map(|estimate| {
            let mut running = self.estimates.began(estimate.key, call.granted);
            self.estimates.produced(&mut running, call.told);
            running
        });
        let wanted = Wanted {
            consumer: call.consumer,
            lane,
            credential: call.credential,
            costs: self.costs_numbers.number(call.costs),
            estimate,
            asked: call.granted,
            deadline: call.deadline,
            attempts: call.attempt,
        };
        let state = CallState::Granted(Grant {
            at: call.granted,
            charges,
            answered: call.answered,
            told: call.told,
            running,
            turns: None,
        });
        let alarm = call.granted + self.lanes.longest_call(lane);
        self.insert(key, Call { wanted, alarm, state });
    }

    /// The engine of a limiter that took over without its predecessor's ledger. Of limits whose windows have passed
    /// since then nothing is left: they begin like those of [`Engine::newly_in_force`], or where it is not known for
    /// how long the account was in force like those of [`Engine::after_unknown_past`]. Slots that no proxy names are held
    /// for as long as a call may last, or until [`crate::event::Event::PredecessorNamed`].
    pub fn takeover(config: AccountConfig, predecessor: Predecessor, now: Time) -> Engine {
        let Predecessor { until, in_force } = predecessor;
        let mut lanes = Lanes::new(&config, InitialState::Predecessor(predecessor));
        let over: Vec<String> = lanes
            .limits()
            .iter()
            .filter(|limit| now > until + limit.counted_after_echo + limit.counts_for())
            .map(|limit| limit.config.name.clone())
            .collect();
        for limit in over {
            let start = match in_force {
                Some(_) => InitialState::NewlyInForce,
                None => InitialState::UnknownPast { since: now },
            };
            lanes.start_limit(&limit, start);
        }
        let mut engine = Engine::with_lanes(config, lanes);
        let slots = engine.lanes.limits().iter().filter(|limit| !limit.counts_a_window());
        let slots = slots.map(|limit| (limit.config.name.clone(), Amount(limit.config.amount)));
        engine.recovery = Recovery::from_predecessor(slots.collect());
        engine.lanes.make_counters(now);
        engine
    }
}
