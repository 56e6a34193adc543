//! What is not known yet of the time before a restart: grants that were made after the last commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cost::Amount;
use crate::event::SessionId;
use crate::time::Time;

/// Stands for all sessions of a predecessor of which nobody knows which they were. Proxies draw theirs at random.
const PREDECESSOR: SessionId = SessionId(u64::MAX);

/// What the time before has left open. The default is an engine that was not made of a ledger.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// What was granted before this time is in the ledger.
    commit: Option<Time>,
    /// Sessions that have not reported their grants yet.
    unreconciled_sessions: BTreeSet<SessionId>,
    /// How many slots they may have been granted from the reserve, by the name of the limit. Windows have what may
    /// have been granted of them in every snapshot, slots in none.
    unreconciled_slots: BTreeMap<String, Amount>,
    /// The same as of the newest snapshot, whose reserve is for these too.
    unreconciled_in_snapshot: BTreeMap<String, Amount>,
    /// A session died before it reported its grants; nobody else can.
    lost: bool,
}

impl Recovery {
    /// After a restart from a commit, whose sessions may have been granted so much since.
    pub(super) fn from_commit(
        commit: Time,
        sessions: &[SessionId],
        unreconciled_slots: BTreeMap<String, Amount>,
    ) -> Recovery {
        Recovery {
            commit: Some(commit),
            unreconciled_sessions: sessions.iter().copied().collect(),
            unreconciled_slots,
            ..Recovery::default()
        }
    }

    /// After a limiter that has left no ledger, which may have given all slots away.
    pub(super) fn from_predecessor(slots: BTreeMap<String, Amount>) -> Recovery {
        let unreconciled_sessions = [PREDECESSOR].into();
        Recovery { unreconciled_sessions, unreconciled_slots: slots, ..Recovery::default() }
    }

    /// All of its proxies have named their calls. Returns whether that was waited for.
    pub(super) fn predecessor_named(&mut self) -> bool {
        let awaited = self.unreconciled_sessions.remove(&PREDECESSOR);
        if awaited {
            self.unreconciled_slots.clear();
        }
        awaited
    }

    /// Whether the engine was made of a ledger.
    pub(super) fn is_from_ledger(&self) -> bool {
        self.commit.is_some()
    }

    /// Whether a grant that was decided then is one of those that only the reserve covers.
    pub(super) fn is_after_commit(&self, granted: Option<Time>) -> bool {
        granted.zip(self.commit).is_some_and(|(granted, commit)| granted >= commit)
    }

    /// Whether the session has not reported its grants yet.
    pub(super) fn awaits(&self, session: SessionId) -> bool {
        self.unreconciled_sessions.contains(&session)
    }

    /// Sessions that have not reported their grants yet.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.unreconciled_sessions.iter().copied()
    }

    /// How many slots sessions of the time before may have been granted that they have not named, by limit.
    pub(super) fn unreconciled_slots(&self) -> &BTreeMap<String, Amount> {
        &self.unreconciled_slots
    }

    /// The same of a limit as of the newest snapshot.
    pub(super) fn unreconciled_in_snapshot(&self, limit: &str) -> Amount {
        self.unreconciled_in_snapshot.get(limit).copied().unwrap_or_default()
    }

    pub(super) fn snapshot_taken(&mut self) {
        self.unreconciled_in_snapshot.clone_from(&self.unreconciled_slots);
    }

    /// The session has reported its grants. Returns whether all have: the rest of the reserve was never granted.
    pub(super) fn session_reconciled(&mut self, session: SessionId) -> bool {
        let was_last = self.unreconciled_sessions.remove(&session) && self.unreconciled_sessions.is_empty();
        let complete = was_last && !self.lost;
        if complete {
            self.unreconciled_slots.clear();
        }
        complete
    }

    /// The session's pod is dead. Returns whether it was awaited.
    pub(super) fn session_died(&mut self, session: SessionId) -> bool {
        let awaited = self.unreconciled_sessions.remove(&session);
        self.lost |= awaited;
        awaited
    }

    /// Whether it has been so long since the commit that perhaps nothing of the reserve counts any more.
    pub(super) fn may_be_over(&self, now: Time, longest_window: Duration) -> bool {
        let open = !self.unreconciled_sessions.is_empty() || !self.unreconciled_slots.is_empty();
        open && self.commit.is_none_or(|commit| now > commit + longest_window)
    }

    /// Nothing of the reserve counts any more: what the sessions might say does not matter.
    pub(super) fn end(&mut self) {
        self.unreconciled_sessions.clear();
        self.unreconciled_slots.clear();
    }
}
