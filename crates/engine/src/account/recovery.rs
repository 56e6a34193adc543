//! What is not known yet of the time before a restart: grants that were made after the last commit.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::event::SessionId;
use crate::time::Time;

/// What the time before has left open. The default is an engine that was not made of a ledger.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// What was granted before this time is in the ledger.
    commit: Option<Time>,
    /// Sessions that have not said yet what they hold.
    unreconciled_sessions: BTreeSet<SessionId>,
    /// How many calls they may have been granted from the reserve; zero where no limit has slots.
    unreconciled_grants: u64,
    /// The same as of the newest snapshot, whose reserve is for these too.
    unreconciled_in_snapshot: u64,
    /// A session has died before it said what it held: nobody else can say it.
    lost: bool,
}

impl Recovery {
    /// After a restart from a commit, whose sessions may have been granted so much since.
    pub(super) fn from_commit(commit: Time, sessions: &[SessionId], unreconciled_grants: u64) -> Recovery {
        Recovery {
            commit: Some(commit),
            unreconciled_sessions: sessions.iter().copied().collect(),
            unreconciled_grants,
            ..Recovery::default()
        }
    }

    /// Whether the engine was made of a ledger.
    pub(super) fn is_from_ledger(&self) -> bool {
        self.commit.is_some()
    }

    /// Whether a grant that was decided then is one of those that only the reserve covers.
    pub(super) fn is_after_commit(&self, granted: Option<Time>) -> bool {
        granted.zip(self.commit).is_some_and(|(granted, commit)| granted >= commit)
    }

    /// Whether the session has not said yet what it holds.
    pub(super) fn awaits(&self, session: SessionId) -> bool {
        self.unreconciled_sessions.contains(&session)
    }

    /// Sessions that have not said yet what they hold.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.unreconciled_sessions.iter().copied()
    }

    /// How many calls sessions of the time before may have been granted that they have not named.
    pub(super) fn unreconciled_grants(&self) -> u64 {
        self.unreconciled_grants
    }

    /// The same as of the newest snapshot.
    pub(super) fn unreconciled_in_snapshot(&self) -> u64 {
        self.unreconciled_in_snapshot
    }

    pub(super) fn snapshot_taken(&mut self) {
        self.unreconciled_in_snapshot = self.unreconciled_grants;
    }

    /// The session has said what it holds. Returns whether all have: the rest of the reserve was never granted.
    pub(super) fn session_reconciled(&mut self, session: SessionId) -> bool {
        let was_last = self.unreconciled_sessions.remove(&session) && self.unreconciled_sessions.is_empty();
        let complete = was_last && !self.lost;
        if complete {
            self.unreconciled_grants = 0;
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
        let open = !self.unreconciled_sessions.is_empty() || self.unreconciled_grants > 0;
        open && self.commit.is_none_or(|commit| now > commit + longest_window)
    }

    /// Nothing of the reserve counts any more: what the sessions might say does not matter.
    pub(super) fn end(&mut self) {
        self.unreconciled_sessions.clear();
        self.unreconciled_grants = 0;
    }
}
