//! How far grants may run ahead of the ledger, and what the ledger does not have yet.

use std::collections::BTreeSet;
use std::time::Duration;

use super::lanes::{Draw, Limit};
use crate::cost::Amount;
use crate::event::{Reserve, SessionId};
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// What of an account is durable. Without a ledger grants need nothing of the kind.
#[derive(Debug)]
pub(super) struct Durability {
    budget: Option<Budget>,
    /// By the places of limits: what was granted since the newest snapshot.
    granted: Vec<Amount>,
    granted_since_snapshot: bool,
    /// A call or a session that the newest snapshot has is over.
    ended_since_snapshot: bool,
    /// An answer has revealed past use that no snapshot has yet.
    learned_since_snapshot: bool,
    /// Sessions with calls that the ledger did not know yet when they came. Few at any time, so that each event
    /// need not look at all sessions.
    new_sessions: BTreeSet<SessionId>,
}

/// What the ledger has charged ahead.
#[derive(Debug)]
struct Budget {
    /// By the places of limits.
    left: Vec<Amount>,
    /// What of it is kept, by the places of limits, for calls whose turn has come and for which there was not enough.
    kept: Vec<Amount>,
    /// The most that such calls needed in one round of grants: the next reserve has as much, however large they are.
    missing: Vec<Amount>,
    /// Half of the way to the horizon: time for the next commit.
    renew: Time,
    horizon: Time,
}

impl Durability {
    /// An account of so many limits without a ledger.
    pub(super) fn without_ledger(limits: usize) -> Durability {
        Durability {
            budget: None,
            granted: vec![Amount::ZERO; limits],
            granted_since_snapshot: false,
            ended_since_snapshot: false,
            learned_since_snapshot: false,
            new_sessions: BTreeSet::new(),
        }
    }

    /// The same with a ledger that has charged nothing ahead yet.
    pub(super) fn without_budget(limits: usize, now: Time) -> Durability {
        let nothing = vec![Amount::ZERO; limits];
        let (left, kept, missing) = (nothing.clone(), nothing.clone(), nothing);
        let budget = Budget { left, kept, missing, renew: now, horizon: now };
        Durability { budget: Some(budget), ..Durability::without_ledger(limits) }
    }

    /// Takes on another configuration: for each of its limits the place that it had. Of a limit that is new the
    /// ledger has charged nothing ahead.
    pub(super) fn reconfigure(&mut self, places: &[Option<usize>]) {
        let moved = |amounts: &[Amount]| {
            let amount = |place: &Option<usize>| place.and_then(|place| amounts.get(place).copied());
            places.iter().map(|place| amount(place).unwrap_or_default()).collect()
        };
        self.granted = moved(&self.granted);
        if let Some(budget) = &mut self.budget {
            budget.left = moved(&budget.left);
            budget.kept = moved(&budget.kept);
            budget.missing = moved(&budget.missing);
        }
    }

    /// Whether the account has a ledger, which has to know a session before anything is granted to it.
    pub(super) fn has_ledger(&self) -> bool {
        self.budget.is_some()
    }

    /// Whether anything may be granted as far as the ledger is concerned.
    pub(super) fn allows_grants(&self, now: Time) -> bool {
        self.budget.as_ref().is_none_or(|budget| now <= budget.horizon)
    }

    /// Whether the ledger has charged ahead what a call draws, beside what is kept. Where it has not, as much is kept
    /// for a call that `keeps` until [`Durability::release_kept`], so that smaller calls of others don't take what is
    /// left again and again, and the next reserve will have it.
    pub(super) fn covers(&mut self, draws: impl Iterator<Item = Draw> + Clone, keeps: bool) -> bool {
        let Some(budget) = &mut self.budget else { return true };
        let is_left = |draw: Draw| {
            draw.cost.is_zero() || draw.cost <= budget.left[draw.limit] - budget.kept[draw.limit]
        };
        let covered = draws.clone().all(is_left);
        if !covered && keeps {
            for Draw { limit, cost } in draws {
                budget.kept[limit] += cost;
                budget.missing[limit] = budget.missing[limit].max(budget.kept[limit]);
            }
        }
        covered
    }

    /// A round of grants is over: what was kept in it is kept no longer.
    pub(super) fn release_kept(&mut self) {
        if let Some(budget) = &mut self.budget {
            budget.kept.fill(Amount::ZERO);
        }
    }

    pub(super) fn call_granted(&mut self, draws: impl Iterator<Item = Draw>) {
        self.granted_since_snapshot = true;
        let Some(budget) = &mut self.budget else { return };
        for Draw { limit, cost } in draws {
            budget.left[limit] -= cost;
            self.granted[limit] += cost;
        }
    }

    /// A session has a call and is not in the ledger yet.
    pub(super) fn session_is_new(&mut self, session: SessionId) {
        if self.has_ledger() {
            self.new_sessions.insert(session);
        }
    }

    pub(super) fn new_sessions(&self) -> impl Iterator<Item = &SessionId> {
        self.new_sessions.iter()
    }

    /// The ledger has a session.
    pub(super) fn session_is_known(&mut self, session: SessionId) {
        self.new_sessions.remove(&session);
    }

    /// Something that a snapshot may have is over.
    pub(super) fn ended(&mut self) {
        self.ended_since_snapshot = true;
    }

    /// More is known of past use than any snapshot holds.
    pub(super) fn past_learned(&mut self) {
        self.learned_since_snapshot = true;
    }

    pub(super) fn snapshot_taken(&mut self) {
        self.granted.fill(Amount::ZERO);
        self.granted_since_snapshot = false;
        self.ended_since_snapshot = false;
        self.learned_since_snapshot = false;
    }

    /// For how long what is left may still be granted.
    pub(super) fn remaining(&self, now: Time) -> Duration {
        self.budget.as_ref().map_or(Duration::ZERO, |budget| budget.horizon.since(now))
    }

    /// A commit begins that charges so much ahead, by the places of limits, until `horizon`. What is left of
    /// the one before is granted only as far as both have it.
    pub(super) fn limit_to(&mut self, ahead: &[Amount], horizon: Time) {
        if mutant::active(Mutant::ReserveForgetsBudget) {
            return;
        }
        let Some(budget) = &mut self.budget else { return };
        budget.horizon = budget.horizon.min(horizon);
        for (left, ahead) in budget.left.iter_mut().zip(ahead) {
            *left = (*left).min(*ahead);
        }
    }

    /// What was granted since the newest snapshot, of the limit at this place.
    pub(super) fn granted(&self, limit: usize) -> Amount {
        self.granted.get(limit).copied().unwrap_or_default()
    }

    /// What a call waits for that the ledger has not charged ahead, of the limit at this place.
    pub(super) fn missing(&self, limit: usize) -> Amount {
        self.budget.as_ref().and_then(|budget| budget.missing.get(limit).copied()).unwrap_or_default()
    }

    /// The ledger has the newest snapshot and this reserve, of which `unreconciled` is for grants of the time before.
    pub(super) fn committed<'a>(
        &mut self,
        limits: impl Iterator<Item = &'a Limit>,
        reserve: &Reserve,
        unreconciled: impl Fn(&str) -> Amount,
    ) {
        // What was granted while the commit was under way is in no snapshot but this reserve.
        let left = |(limit, granted): (&'a Limit, &Amount)| {
            let name = &limit.config.name;
            reserve.of(name) - *granted - unreconciled(name)
        };
        let left: Vec<Amount> = limits.zip(&self.granted).map(left).collect();
        let nothing = vec![Amount::ZERO; left.len()];
        let (kept, missing) = (nothing.clone(), nothing);
        let renew = reserve.as_of + reserve.horizon.since(reserve.as_of) / 2;
        self.budget = Some(Budget { left, kept, missing, renew, horizon: reserve.horizon });
    }

    /// When the ledger is to be written next; `None`: nothing has changed that is worth a write.
    pub(super) fn commit_due(&self, now: Time, waiting: Waiting) -> Option<Time> {
        let budget = self.budget.as_ref()?;
        if self.learned_since_snapshot {
            // A restart from what was taken for used before would wait for the whole window.
            return Some(now);
        }
        let exhausted = || budget.missing.iter().any(|missing| !missing.is_zero());
        match waiting {
            Waiting::Nothing => {
                let changed = self.granted_since_snapshot || self.ended_since_snapshot;
                changed.then_some(budget.horizon)
            }
            Waiting::ForTheLedger => Some(now),
            Waiting::ForTheirTurn if exhausted() => Some(now),
            Waiting::ForTheirTurn => Some(budget.renew),
        }
    }
}

/// What calls wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// None waits.
    Nothing,
    /// For their turn, as far as their sessions are in the ledger.
    ForTheirTurn,
    /// A call waits whose session the ledger does not know.
    ForTheLedger,
}
