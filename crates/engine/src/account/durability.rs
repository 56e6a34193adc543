//! How far grants may run ahead of the ledger, and what the ledger does not have yet.

use crate::event::Reserve;
use crate::time::Time;

/// What of an account is durable. The default is an account without a ledger: its grants need none.
#[derive(Debug, Default)]
pub(super) struct Durability {
    budget: Option<Budget>,
    granted_since_snapshot: u64,
    /// A call or a session that the newest snapshot has is over.
    ended_since_snapshot: bool,
    /// An answer has told something of the past that no snapshot has yet.
    learned_since_snapshot: bool,
}

/// What the ledger has charged ahead.
#[derive(Clone, Copy, Debug)]
struct Budget {
    left: u64,
    /// Half of the way to the horizon: time for the next commit.
    renew: Time,
    horizon: Time,
}

impl Durability {
    /// An account with a ledger that has charged nothing ahead yet.
    pub(super) fn without_budget(now: Time) -> Durability {
        Durability { budget: Some(Budget { left: 0, renew: now, horizon: now }), ..Durability::default() }
    }

    /// Whether the account has a ledger, which has to know a session before anything is granted to it.
    pub(super) fn has_ledger(&self) -> bool {
        self.budget.is_some()
    }

    /// Whether a call may be granted as far as the ledger is concerned.
    pub(super) fn allows_grant(&self, now: Time) -> bool {
        self.budget.is_none_or(|budget| budget.left > 0 && now <= budget.horizon)
    }

    pub(super) fn call_granted(&mut self) {
        if let Some(budget) = &mut self.budget {
            budget.left -= 1;
        }
        self.granted_since_snapshot += 1;
    }

    /// Something that a snapshot may have is over.
    pub(super) fn ended(&mut self) {
        self.ended_since_snapshot = true;
    }

    /// More is known of the past than any snapshot says.
    pub(super) fn past_learned(&mut self) {
        self.learned_since_snapshot = true;
    }

    pub(super) fn snapshot_taken(&mut self) {
        self.granted_since_snapshot = 0;
        self.ended_since_snapshot = false;
        self.learned_since_snapshot = false;
    }

    /// The ledger has the newest snapshot and this reserve, of which `unreconciled` is for grants of the time before.
    pub(super) fn committed(&mut self, reserve: Reserve, unreconciled: u64) {
        // What was granted while the commit was under way is in no snapshot but this reserve.
        let spoken_for = self.granted_since_snapshot.saturating_add(unreconciled);
        let left = reserve.calls.saturating_sub(spoken_for);
        let renew = reserve.as_of + reserve.horizon.since(reserve.as_of) / 2;
        self.budget = Some(Budget { left, renew, horizon: reserve.horizon });
    }

    /// When the ledger is to be written next; `None`: nothing has changed that is worth a write.
    pub(super) fn commit_due(&self, now: Time, waiting: Waiting) -> Option<Time> {
        let budget = self.budget?;
        if self.learned_since_snapshot {
            // A restart from what was taken for used before would wait for the whole window.
            return Some(now);
        }
        match waiting {
            Waiting::Nothing => {
                let changed = self.granted_since_snapshot > 0 || self.ended_since_snapshot;
                changed.then_some(budget.horizon)
            }
            Waiting::ForTheLedger => Some(now),
            Waiting::ForTheirTurn if budget.left == 0 => Some(now),
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
