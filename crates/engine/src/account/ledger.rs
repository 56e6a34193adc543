//! What the ledger keeps, and how far ahead of it grants may run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lanes::Counter;
use super::{CallState, Charge, Engine, Precharge, Session};
use crate::config::{AccountConfig, Unit};
use crate::event::{CallClass, CallId, Reserve, Scope, SessionId};
use crate::time::{Time, nanos};
use crate::window_counter::WindowSnapshot;

/// What the ledger keeps of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// When it was taken, on the limiter's clock.
    pub as_of: Time,
    /// The windows of the limits at that time, by name.
    pub windows: BTreeMap<String, Duration>,
    /// What is charged.
    pub counters: Vec<WindowSnapshot>,
    /// Calls that hold a grant.
    pub calls: Vec<CallSnapshot>,
    /// Sessions that may be granted something once this is in the ledger.
    pub sessions: Vec<SessionId>,
    /// Pauses in force.
    pub pauses: Vec<PauseSnapshot>,
}

/// A granted call as of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallSnapshot {
    /// The proxy.
    pub session: SessionId,
    /// Its call.
    pub call: CallId,
    /// Which of its grants.
    pub attempt: u32,
    /// The workload that draws.
    pub consumer: String,
    /// What decides which limits cover it.
    pub class: CallClass,
    /// When it was granted.
    pub granted: Time,
    /// Until when it may wait, should it be sent back.
    pub deadline: Time,
    /// Its answer has begun.
    pub answered: bool,
    /// Its units: the places of a counter in [`Snapshot::counters`] and of a unit in that.
    pub units: Vec<(u32, u32)>,
}

/// A pause as of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseSnapshot {
    /// Which calls.
    pub scope: Scope,
    /// Until when.
    pub until: Time,
    /// The provider's word, or who paused.
    pub reason: String,
}

impl Engine {
    /// What the ledger has to make durable. Tell [`crate::event::Event::Committed`] when it has.
    pub fn snapshot(&mut self, now: Time) -> Snapshot {
        self.granted_since_snapshot = 0;
        self.learned_since_snapshot = false;
        self.over_since_snapshot = false;
        self.forget_unheard(now);
        self.unheard_in_snapshot = self.unheard;
        // One that is not connected is granted nothing before it says hello, and then it is new: a restart need
        // not wait for it, which may never come back.
        self.sessions.retain(|_, session| session.pulse.is_some() || session.calls > 0);
        for session in self.sessions.values_mut() {
            session.in_snapshot = true;
        }
        let mut counters = Vec::new();
        let mut places = BTreeMap::new();
        for (id, entry) in self.lanes.entries() {
            let Counter::Window(counter) = &entry.counter else {
                continue;
            };
            let Some(limit) = self.lanes.limit_name(&self.config, id) else {
                continue;
            };
            let (units, keys) = counter.snapshot();
            for (place, key) in keys.into_iter().enumerate() {
                places.insert((id, key), (counters.len() as u32, place as u32));
            }
            let (ramps, arriving) = counter.bulk_snapshot();
            counters.push(WindowSnapshot {
                limit: limit.to_owned(),
                model: entry.model.clone(),
                observed: entry.observed,
                units,
                ramps,
                arriving,
            });
        }
        let calls = self.calls.iter().filter_map(|((session, call), entry)| {
            let CallState::Granted(grant) = &entry.state else {
                return None;
            };
            let place = |charge: &Charge| places.get(&(charge.counter, charge.unit)).copied();
            Some(CallSnapshot {
                session: *session,
                call: *call,
                attempt: entry.wanted.attempts,
                consumer: entry.wanted.consumer.to_string(),
                class: self.lanes.class_of(entry.wanted.lane).clone(),
                granted: grant.at,
                deadline: entry.wanted.deadline,
                answered: grant.answered,
                units: grant.units.iter().filter_map(place).collect(),
            })
        });
        Snapshot {
            as_of: now,
            windows: windows(&self.config),
            calls: calls.collect(),
            counters,
            sessions: self.sessions.keys().chain(&self.awaited).copied().collect(),
            pauses: self
                .pauses
                .iter()
                .map(|(scope, pause)| PauseSnapshot {
                    scope: scope.clone(),
                    until: pause.until,
                    reason: pause.reason.clone(),
                })
                .collect(),
        }
    }

    /// Sessions of the time before a restart that were never heard again: once nothing of the reserve counts
    /// any more they have nothing to say that matters, and the next restart need not wait for them.
    fn forget_unheard(&mut self, now: Time) {
        let longest = self.config.limits.iter().map(|limit| limit.window).max().unwrap_or_default();
        let nobody = self.awaited.is_empty() && self.unheard == 0;
        if nobody || self.restored.is_some_and(|commit| now <= commit + longest) {
            return;
        }
        let counts = self.lanes.counters().any(|counter| match counter {
            Counter::Window(counter) => {
                counter.advance(now);
                counter.holds_reserve()
            }
            Counter::ConcurrencyCounter(slots) => {
                slots.advance(now);
                slots.holds_unknown()
            }
        });
        if !counts {
            self.awaited.clear();
            self.unheard = 0;
        }
    }

    /// How many calls the time before a restart may have been granted of which nobody has told yet. A reserve
    /// holds these too, or a second restart would know nothing of them; one without grants of its own holds
    /// just these.
    pub fn unheard(&self) -> u64 {
        self.unheard
    }

    /// How many calls the account's limits can let through within `horizon`, and those that are
    /// [unheard of](Engine::unheard): the reserve to charge ahead.
    pub fn reserve_for(&self, horizon: Duration) -> u64 {
        let of = |limit: &crate::config::LimitConfig| {
            let drained = u128::from(limit.amount) * horizon.as_nanos();
            let drained =
                u64::try_from(drained.div_ceil(u128::from(nanos(limit.window).max(1)))).unwrap_or(u64::MAX);
            drained.saturating_add(limit.effective_burst()).min(limit.amount)
        };
        let requests = self.config.limits.iter().filter(|limit| limit.unit == Unit::Requests);
        requests.map(of).max().unwrap_or(u64::MAX).saturating_add(self.unheard)
    }

    /// When the ledger is to be written next: while calls wait, before the reserve is over, and
    /// at once where only the ledger holds them up; afterwards once more, so that what was granted
    /// is known rather than reserved, and what is over is not held for a proxy that may be gone by the next
    /// restart; and at once when an answer has told of the past. `None`: nothing has changed that
    /// is worth a write.
    pub fn commit_due(&self, now: Time) -> Option<Time> {
        let ahead = self.ahead?;
        if self.learned_since_snapshot {
            // A restart from what was taken for used before would wait for the whole window.
            return Some(now);
        }
        if self.lanes.waiting() == 0 {
            let changed = self.granted_since_snapshot > 0 || self.over_since_snapshot;
            return changed.then_some(ahead.horizon);
        }
        let unknown = |session: &Session| !session.durable && session.calls > 0;
        if ahead.left == 0 || self.sessions.values().any(unknown) {
            return Some(now);
        }
        Some(ahead.renew)
    }

    pub(super) fn committed(&mut self, reserve: Reserve) {
        // What was granted while the commit was under way is in no snapshot but this reserve.
        // Nor are calls of the time before grants of this engine.
        let known = self.granted_since_snapshot.saturating_add(self.unheard_in_snapshot);
        let left = reserve.calls.saturating_sub(known);
        let renew = reserve.as_of + reserve.horizon.since(reserve.as_of) / 2;
        self.ahead = Some(Precharge { left, renew, horizon: reserve.horizon });
        let mut new = Vec::new();
        for (id, session) in &mut self.sessions {
            if session.in_snapshot && !std::mem::replace(&mut session.durable, true) {
                new.push(*id);
            }
        }
        for session in new {
            self.unpark(session);
        }
    }
}

fn windows(config: &AccountConfig) -> BTreeMap<String, Duration> {
    config.limits.iter().map(|limit| (limit.name.clone(), limit.window)).collect()
}
