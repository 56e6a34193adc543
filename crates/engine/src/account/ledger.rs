//! What the ledger keeps of an account, and the reserve that it charges ahead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::durability::Waiting;
use super::lanes::{CounterId, Entry, Limit};
use super::{Call, Charge, Engine, Grant};
use crate::checkpoint::LimitIdentity;
use crate::concurrency_cap::LearnedConcurrency;
use crate::config::{LimitConfig, Unit};
use crate::cost::{Amount, Costs};
use crate::estimate::EstimatesSnapshot;
use crate::event::{CallClass, CallId, Callers, Fingerprint, Reserve, Scope, SessionId};
use crate::mutant::{self, Mutant};
use crate::name::Consumer;
use crate::queue::CallKey;
use crate::time::{Time, nanos};
use crate::units::UnitKey;
use crate::window_counter::WindowSnapshot;

/// The consumers whose estimates the ledger keeps; what it does not keep is learned from all others together.
const CONSUMERS_KEPT: usize = 16;

/// What the ledger keeps of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// When it was taken, on the limiter's clock.
    pub as_of: Time,
    /// The limits at that time, by name.
    pub limits: BTreeMap<String, SnapshotLimit>,
    /// What is charged.
    pub counters: Vec<WindowSnapshot>,
    /// Calls that hold a grant.
    pub calls: Vec<CallSnapshot>,
    /// Sessions that may be granted something once this is in the ledger.
    pub sessions: Vec<SessionId>,
    /// Pauses in force.
    pub pauses: Vec<PauseSnapshot>,
    /// How many calls the provider takes at the same time.
    pub concurrency: Vec<LearnedConcurrency>,
    /// Models that share limits, as rejections have named them: each with the name under which all that share are
    /// known.
    pub shared_models: BTreeMap<String, String>,
    /// What calls use of tokens. The ledger's encoding has no names: no field may be left out where it is empty.
    pub estimates: EstimatesSnapshot,
}

/// What makes a limit the same as another, whatever its name and its amount are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotLimit {
    /// What it counts.
    pub identity: LimitIdentity,
    /// Its window.
    pub window: Duration,
    /// It is the most that an allocation may use of another limit.
    pub is_maximum: bool,
}

impl SnapshotLimit {
    /// Whether it is the same count; the allocation may have another name too.
    pub(super) fn is_continued_by(&self, new: &SnapshotLimit) -> bool {
        let of_any = |limit: &SnapshotLimit| {
            let mut identity = limit.identity.clone();
            let of_an_allocation = identity.allocation.take().is_some();
            (identity, of_an_allocation, limit.window, limit.is_maximum)
        };
        of_any(self) == of_any(new)
    }
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
    pub consumer: Consumer,
    /// Whose credential it carries.
    pub credential: Fingerprint,
    /// What decides which limits cover it.
    pub class: CallClass,
    /// What it draws of them.
    pub costs: Costs,
    /// When it was granted.
    pub granted: Time,
    /// Until when it may wait, should it be sent back.
    pub deadline: Time,
    /// Its answer has begun.
    pub answered: bool,
    /// Tokens of output that are charged already, apart from what is held.
    #[serde(default)]
    pub told: u64,
    /// Its units.
    pub units: Vec<UnitPlace>,
}

/// Where a snapshot has a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitPlace {
    /// The place of its counter in [`Snapshot::counters`].
    pub counter: u32,
    /// Its place in [`WindowSnapshot::units`].
    pub unit: u32,
}

/// Where the units of a snapshot are found.
type UnitPlaces = BTreeMap<(CounterId, UnitKey), UnitPlace>;

/// A pause as of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseSnapshot {
    /// Which calls.
    pub scope: Scope,
    /// Whose.
    pub callers: Callers,
    /// Until when.
    pub until: Time,
    /// The provider's word, or who paused.
    pub reason: String,
    /// The provider refuses until a person acts.
    pub stopped: bool,
}

impl Engine {
    /// What the ledger has to make durable. Tell [`crate::event::Event::Committed`] when it has.
    pub fn snapshot(&mut self, now: Time) -> Snapshot {
        self.lanes.advance(now);
        self.durability.snapshot_taken();
        self.end_recovery(now);
        self.recovery.snapshot_taken();
        // One that is not connected is granted nothing before it says hello, and then it is new: a restart need
        // not wait for it, which may never come back.
        self.sessions.retain(|_, session| session.pulse.is_some() || session.calls > 0);
        self.calls.forget_sessions(|session| self.sessions.contains_key(session));
        for session in self.sessions.values_mut() {
            session.in_snapshot = true;
        }
        let mut counters = Vec::new();
        let mut places = UnitPlaces::new();
        let told = self.checkpoints.stored;
        let is_kept = |limit: &Limit| told || !self.lanes.waits_for_checkpoint(limit);
        for (id, entry) in self.lanes.entries().filter(|(_, entry)| is_kept(&entry.limit)) {
            if let Some((counter, keys)) = counter_snapshot(entry) {
                let place = |unit: usize| UnitPlace { counter: counters.len() as u32, unit: unit as u32 };
                places.extend(keys.into_iter().enumerate().map(|(unit, key)| ((id, key), place(unit))));
                counters.push(counter);
            }
        }
        let calls =
            self.calls.granted().map(|(key, call, grant)| self.call_snapshot(key, call, grant, &places));
        let limits = self.lanes.limits().iter().filter(|limit| is_kept(limit));
        let limits = limits.map(|limit| (limit.config.name.clone(), limit.in_ledger()));
        let told = self.pauses.iter().filter(|(_, pause)| !pause.only_asks());
        let pauses = told.map(|(key, pause)| PauseSnapshot {
            scope: key.scope.clone(),
            callers: key.callers.clone(),
            until: pause.until,
            reason: pause.reason.clone(),
            stopped: pause.stopped(),
        });
        let mut sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.sort_unstable();
        Snapshot {
            as_of: now,
            limits: limits.collect(),
            calls: calls.collect(),
            counters,
            sessions: sessions.into_iter().chain(self.recovery.sessions()).collect(),
            pauses: pauses.collect(),
            concurrency: self.learned_concurrency(),
            shared_models: self.lanes.shared_models().clone(),
            estimates: self.estimates.snapshot(CONSUMERS_KEPT),
        }
    }

    fn call_snapshot(&self, key: CallKey, call: &Call, grant: &Grant, places: &UnitPlaces) -> CallSnapshot {
        let place = |charge: &Charge| places.get(&(charge.counter, charge.unit)).copied();
        CallSnapshot {
            session: key.session,
            call: key.call,
            attempt: call.wanted.attempts,
            consumer: call.wanted.consumer.clone(),
            credential: call.wanted.credential,
            class: self.lanes.class_of(call.wanted.lane).clone(),
            costs: *call.wanted.costs,
            granted: grant.at,
            deadline: call.wanted.deadline,
            answered: grant.answered,
            told: grant.told,
            units: grant.charges.iter().filter_map(place).collect(),
        }
    }

    /// Sessions of the time before a restart that never returned: once nothing of the reserve counts
    /// any more they have nothing to say that matters, and the next restart need not wait for them.
    fn end_recovery(&mut self, now: Time) {
        let longest = self.lanes.limits().iter().map(|limit| limit.config.window).max().unwrap_or_default();
        if self.recovery.may_be_over(now, longest)
            && !self.lanes.counters().any(|counter| counter.holds_reserve(now))
        {
            self.recovery.end();
        }
    }

    /// A reserve to charge ahead of a snapshot that is taken now: what each limit can let through within
    /// `horizon`, and the slots that the time before may have given away and nobody has named, or a
    /// second restart would know nothing of them. A reserve for no time has just these.
    ///
    /// Until it is committed, nothing is granted that this reserve does not cover, although the commit
    /// before it may have charged more ahead: the process may die when the ledger has the new record
    /// already, and then only the new record shows what may have been granted.
    pub fn reserve(&mut self, now: Time, horizon: Duration) -> Reserve {
        // The budget of the commit before may last longer than a horizon that has become shorter.
        let horizon = match horizon.is_zero() || mutant::active(Mutant::ReserveForgetsBudget) {
            true => horizon,
            false => horizon.max(self.durability.remaining(now)),
        };
        self.lanes.advance(now);
        let ahead = self.charge_ahead(horizon);
        let mut amounts = self.recovery.unreconciled_slots().clone();
        for (limit, ahead) in self.lanes.limits().iter().zip(&ahead) {
            if !ahead.is_zero() {
                *amounts.entry(limit.config.name.clone()).or_default() += *ahead;
            }
        }
        let reserve = Reserve { as_of: now, amounts, horizon: now + horizon };
        self.durability.limit_to(&ahead, reserve.horizon);
        reserve
    }

    /// What each limit can let through within `horizon`, by the places of limits.
    fn charge_ahead(&self, horizon: Duration) -> Vec<Amount> {
        let limits = self.lanes.limits().iter();
        if horizon.is_zero() {
            return limits.map(|_| Amount::ZERO).collect();
        }
        let windows = limits.clone().filter(|limit| limit.config.unit == Unit::Requests);
        let most = windows.map(|limit| granted_within(&limit.config, horizon)).max();
        let ahead = |limit: &Arc<Limit>| {
            // Slots are given again and again: to as many calls as windows let through.
            let ahead = match limit.config.unit {
                Unit::ConcurrentRequests => most.unwrap_or(Amount(u64::MAX)),
                // Its bucket is all of it. Twice what was granted lately is enough, or grows to it in a few commits;
                // what a crash leaves unclaimed may be held for as long as a call lasts.
                _ if limit.config.tokens.is_some() => {
                    let refilled = refilled_within(&limit.config, horizon);
                    let (room, lately) =
                        (self.lanes.room_of(limit.place), self.durability.granted(limit.place));
                    (room.min(lately + lately) + refilled).min(Amount(limit.config.largest_amount()))
                }
                _ => granted_within(&limit.config, horizon),
            };
            ahead.max(self.durability.missing(limit.place))
        };
        let mut amounts: Vec<Amount> = limits.clone().map(ahead).collect();
        // An allocation would lose turns to others while its maximum alone waits for the ledger.
        for limit in limits {
            let of = self.lanes.limits().iter().find(|of| limit.is_maximum_of(of));
            if let Some(of) = of.and_then(|of| amounts.get(of.place).copied()) {
                let most = Amount(limit.config.largest_amount());
                amounts[limit.place] = amounts[limit.place].max(of.min(most));
            }
        }
        amounts
    }

    /// When the ledger is to be written next: while calls wait, before the reserve is over, and
    /// at once where only the ledger holds them up; afterwards once more, so that what was granted
    /// is known rather than reserved, and what is over is not held for a proxy that may be gone by the next
    /// restart; and at once when an answer has revealed past use. `None`: nothing has changed that
    /// is worth a write.
    pub fn commit_due(&self, now: Time) -> Option<Time> {
        let unknown =
            |id: &SessionId| self.sessions.get(id).is_some_and(|known| !known.durable && known.calls > 0);
        let waiting = if self.lanes.waiting() == 0 {
            Waiting::Nothing
        } else if self.durability.new_sessions().any(unknown) {
            Waiting::ForTheLedger
        } else {
            Waiting::ForTheirTurn
        };
        self.durability.commit_due(now, waiting)
    }

    pub(super) fn committed(&mut self, reserve: &Reserve) {
        let limits = self.lanes.limits().iter().map(|limit| &**limit);
        let unreconciled = |limit: &str| self.recovery.unreconciled_in_snapshot(limit);
        self.durability.committed(limits, reserve, unreconciled);
        let mut new = Vec::new();
        for (id, session) in &mut self.sessions {
            if session.in_snapshot && !std::mem::replace(&mut session.durable, true) {
                new.push(*id);
            }
        }
        new.sort_unstable();
        for session in new {
            self.durability.session_is_known(session);
            self.unpark(session);
        }
    }
}

/// What the ledger keeps of a counter, and the keys of its units in their order; nothing of slots.
fn counter_snapshot(entry: &Entry) -> Option<(WindowSnapshot, Vec<UnitKey>)> {
    let counter = entry.counter().window()?;
    let (units, keys) = counter.snapshot();
    let (slots, (ramps, arriving)) = (counter.slots_snapshot(), counter.bulk_snapshot());
    let (model, observed, level) = (entry.model.clone(), entry.observed, counter.level());
    let limit = entry.limit.config.name.clone();
    Some((WindowSnapshot { limit, model, observed, level, units, slots, ramps, arriving }, keys))
}

/// The most that a limit with a bucket lets through within `horizon`.
fn granted_within(limit: &LimitConfig, horizon: Duration) -> Amount {
    let amount = limit.largest_amount();
    (refilled_within(limit, horizon) + Amount(limit.burst_of(amount))).min(Amount(amount))
}

/// What a limit refills within `horizon`.
fn refilled_within(limit: &LimitConfig, horizon: Duration) -> Amount {
    let refilled = u128::from(limit.largest_amount()) * horizon.as_nanos();
    let refilled = refilled.div_ceil(u128::from(nanos(limit.window).max(1)));
    Amount(u64::try_from(refilled).unwrap_or(u64::MAX))
}
