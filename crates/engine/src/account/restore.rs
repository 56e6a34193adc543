//! What follows a limiter that is gone: the engine that is made of its ledger, the engine that
//! takes over without one, and proxies that come back with calls of the time before.
//!
//! A crash costs capacity, never correctness: whatever may have been granted since the last
//! commit is held as if it had been, until every proxy has said what it got.

use super::lanes::{Counter, CounterId, InitialState, Lanes, effective, hold_reserve};
use super::ledger::{CallSnapshot, PauseSnapshot, Snapshot};
use super::{Call, CallState, Charge, Engine, Grant, Named, Precharge, Wanted};
use crate::config::{AccountConfig, Unit};
use crate::event::{Action, Attempt, CallClass, GrantProgress, Reserve, SessionId};
use crate::pause::Pause;
use crate::queue::CallKey;
use crate::time::Time;
use crate::units::Origin;
use crate::window_counter::{WindowCounter, WindowSnapshot, guarded};

impl Engine {
    /// The engine after a restart on the same node, whose clock went on: what was charged as of
    /// the last commit, and the reserve of that commit held as if it had all been granted. It
    /// grants nothing before the first [`crate::event::Event::Committed`].
    pub fn restart(config: AccountConfig, snapshot: Snapshot, reserve: Reserve, now: Time) -> Engine {
        let awaited = !snapshot.sessions.is_empty();
        let reserve =
            Reserve { as_of: snapshot.as_of, calls: if awaited { reserve.calls } else { 0 }, ..reserve };
        let lanes = Lanes::new(
            &AccountConfig { limits: Vec::new(), ..config.clone() },
            InitialState::Ledger { reserve },
            now,
        );
        let mut engine = Engine::with_lanes(config, lanes);
        engine.ahead = Some(Precharge { left: 0, renew: now, horizon: now });
        engine.restored = Some(snapshot.as_of);
        // Windows have it in every snapshot from now on, slots in none.
        let slots = engine.config.limits.iter().any(|limit| limit.unit == Unit::ConcurrentRequests);
        engine.unheard = if slots { reserve.calls } else { 0 };
        engine.awaited = snapshot.sessions.iter().copied().collect();
        for limit in &engine.config.limits {
            // A limit that the ledger does not know, or not for so long, has an unknown past.
            if snapshot.windows.get(&limit.name).is_none_or(|window| *window < limit.window) {
                engine.lanes.start_limit(&limit.name, InitialState::UnknownPast { since: now });
            }
        }
        let keys: Vec<_> =
            snapshot.counters.iter().map(|counter| engine.restore_counter(counter, reserve, now)).collect();
        for call in snapshot.calls {
            engine.restore_call(call, &keys, now);
        }
        for PauseSnapshot { scope, until, reason } in snapshot.pauses {
            let mut pause = Pause::by_hand(now, until.since(now));
            pause.reason = reason;
            engine.pauses.insert(scope, pause);
        }
        for index in 0..engine.config.limits.len() {
            if !engine.config.limits[index].per_model {
                engine.lanes.ensure(&engine.config, index, now);
            }
        }
        engine
    }

    fn restore_counter(
        &mut self,
        snapshot: &WindowSnapshot,
        reserve: Reserve,
        now: Time,
    ) -> Option<(CounterId, Vec<crate::units::UnitKey>)> {
        let index = self.config.limits.iter().position(|limit| limit.name == snapshot.limit)?;
        let limit = &self.config.limits[index];
        if limit.unit != Unit::Requests
            || limit.per_model != snapshot.model.is_some() && snapshot.model.is_some()
        {
            return None;
        }
        let amount = effective(limit, snapshot.observed);
        let (mut counter, keys) = WindowCounter::restored(limit, amount, Some(snapshot), reserve.as_of);
        hold_reserve(&mut counter, &self.config, limit, reserve);
        if self.lanes.begins_unknown(&limit.name) {
            counter.fill_with_past(now, amount);
        }
        counter.advance(now);
        Some((
            self.lanes.add((index, snapshot.model.clone()), Counter::Window(counter), snapshot.observed),
            keys,
        ))
    }

    fn restore_call(
        &mut self,
        call: CallSnapshot,
        keys: &[Option<(CounterId, Vec<crate::units::UnitKey>)>],
        now: Time,
    ) {
        let lane = self.lane_of(&call.class, now);
        let attempt = Attempt { session: call.session, call: call.call, number: call.attempt };
        for counter in self.lanes.meters_of(lane).to_vec() {
            self.lanes.hold_slot(counter, attempt, call.granted);
        }
        let units = call.units.iter().filter_map(|(counter, unit)| {
            let (counter, units) = keys.get(*counter as usize)?.as_ref()?;
            Some(Charge {
                counter: *counter,
                unit: *units.get(*unit as usize)?,
                logged: u64::MAX / 2,
                charged: 0,
            })
        });
        let wanted = Wanted {
            consumer: call.consumer.into(),
            lane,
            asked: call.granted,
            deadline: call.deadline,
            attempts: call.attempt,
        };
        let grant = Grant { at: call.granted, units: units.collect(), answered: call.answered };
        let alarm = call.granted + self.config.pause.max_call;
        self.insert((call.session, call.call), Call { wanted, alarm, state: CallState::Granted(grant) });
    }

    /// The engine of a limiter that takes over without its predecessor's ledger. Create it no
    /// sooner than the predecessor's lease has ended; `now` is that time or later.
    pub fn takeover(config: AccountConfig, now: Time) -> Engine {
        let start = InitialState::Predecessor { since: now };
        let lanes = Lanes::new(&config, start, now);
        Engine::with_lanes(config, lanes)
    }

    /// A call that its proxy holds a grant for, from before its connection was lost.
    pub(super) fn held(
        &mut self,
        now: Time,
        (attempt, granted): (Attempt, Option<Time>),
        consumer: &str,
        class: CallClass,
        progress: GrantProgress,
        actions: &mut Vec<Action>,
    ) {
        let key = (attempt.session, attempt.call);
        let session = self.sessions.entry(attempt.session).or_default();
        let came_before = session.returned;
        if !came_before {
            session.named.insert(key, Named::Holds(attempt.number));
            self.end_older(now, attempt);
        }
        if self.grant_of(attempt).is_none() {
            // The reserve stands for what was granted after the commit, and for nothing else: a call that
            // was in the ledger and has ended must not use it up.
            let reserved = granted.is_some_and(|at| self.restored.is_some_and(|commit| at >= commit));
            let awaited = self.awaited.contains(&attempt.session);
            if came_before || self.calls.contains_key(&key) || !awaited || !reserved {
                return self.hold_without_charge(now, (attempt, granted), consumer, &class, came_before);
            }
            self.charge_reserved(now, (attempt, granted), consumer, &class);
        }
        match progress {
            GrantProgress::Granted => {}
            GrantProgress::Sent { latest } => self.sent(now, attempt, latest),
            GrantProgress::Answered { latest } => {
                if self.counted(now, attempt, latest) {
                    self.accepted(now, attempt, actions);
                }
            }
        }
    }

    /// A session that holds a grant of a call is done with those that the call had before, though it may no
    /// longer tell how they ended.
    fn end_older(&mut self, now: Time, attempt: Attempt) {
        let key = (attempt.session, attempt.call);
        let Some(call) = self.calls.get(&key) else { return };
        let number = call.wanted.attempts;
        if matches!(call.state, CallState::Granted(_)) && number < attempt.number {
            self.free_slots(now, Attempt { number, ..attempt });
            self.end(key);
        }
    }

    /// A grant of a predecessor, covered by what was assumed of it: only its slot is held.
    fn hold_without_charge(
        &mut self,
        now: Time,
        (attempt, granted): (Attempt, Option<Time>),
        consumer: &str,
        class: &CallClass,
        known: bool,
    ) {
        if known || self.calls.contains_key(&(attempt.session, attempt.call)) {
            return;
        }
        // After a takeover it has one of the slots that are assumed given away. After a restart those
        // stand for grants after the commit, which this is not.
        let assumed = self.restored.is_none();
        self.insert_held(now, (attempt, granted), consumer, (class, assumed), |_, _, _| None);
    }

    /// A grant that was made after the last commit: it is one of the reserve's.
    fn charge_reserved(
        &mut self,
        now: Time,
        held: (Attempt, Option<Time>),
        consumer: &str,
        class: &CallClass,
    ) {
        self.insert_held(now, held, consumer, (class, true), |lanes, config, id| {
            let settles = now + guarded(config.validity + lanes.delivery(config, id));
            let counter = lanes.window(id)?;
            counter.advance(now);
            let unit = counter.claim_reserved().unwrap_or_else(|| counter.charge(now, settles, Origin::Call));
            Some(Charge { counter: id, unit, logged: u64::MAX / 2, charged: 0 })
        });
    }

    fn insert_held(
        &mut self,
        now: Time,
        (attempt, granted): (Attempt, Option<Time>),
        consumer: &str,
        (class, assumed): (&CallClass, bool),
        charge: impl Fn(&mut Lanes, &AccountConfig, CounterId) -> Option<Charge>,
    ) {
        let lane = self.lane_of(class, now);
        let mut units = Vec::new();
        for counter in self.lanes.meters_of(lane).to_vec() {
            if assumed {
                self.lanes.claim_slot(counter, attempt, now);
            } else {
                self.lanes.hold_slot(counter, attempt, now);
            }
            units.extend(charge(&mut self.lanes, &self.config, counter));
        }
        let wanted = Wanted {
            consumer: consumer.into(),
            lane,
            asked: now,
            deadline: now + self.config.queue.max_wait,
            attempts: attempt.number,
        };
        let alarm = now + self.config.pause.max_call;
        let at = granted.map_or(now, |granted| granted.min(now));
        let state = CallState::Granted(Grant { at, units, answered: false });
        self.insert((attempt.session, attempt.call), Call { wanted, alarm, state });
    }

    /// The session has named all of its calls: those that it did not name are over, and grants that
    /// are not the one it named. When all sessions of the time before have, the rest of the reserve
    /// was never granted.
    pub(super) fn returned(&mut self, now: Time, session: SessionId) {
        let entry = self.sessions.entry(session).or_default();
        entry.returned = true;
        let named = std::mem::take(&mut entry.named);
        let over = |(key, call): &(CallKey, &Call)| match named.get(key) {
            None => true,
            Some(Named::Waits) => false,
            // A later grant was lost, and its call given up: only the earlier one's end is told.
            Some(Named::Holds(number)) => call.wanted.attempts != *number,
        };
        let over: Vec<_> = self.calls_of(session).filter(over).map(|(key, _)| key).collect();
        for key in over {
            if let Some(call) = self.calls.get(&key) {
                self.free_slots(now, Attempt { session, call: key.1, number: call.wanted.attempts });
            }
            self.end(key);
        }
        if self.awaited.remove(&session) && self.awaited.is_empty() && !self.died_unheard {
            for counter in self.lanes.counters() {
                match counter {
                    Counter::Window(counter) => {
                        counter.advance(now);
                        counter.release_reserve();
                    }
                    Counter::ConcurrencyCounter(slots) => slots.release_unknown(),
                }
            }
            self.lanes.set_start(InitialState::Fresh);
            self.unheard = 0;
            // The next one would hold what is released here as if it had been granted.
            self.learned_since_snapshot = true;
        }
    }
}
