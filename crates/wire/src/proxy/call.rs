//! One call of a proxy: how far it is, and how long it has waited.

use std::time::Duration;

use quotakeeper_engine::time::Stamp;

use crate::message::{AccountIndex, CallDetails, GrantRef, Progress};

/// A grant that the call holds or has used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) reference: GrantRef,
    /// The echo + D.
    pub(super) expires: Stamp,
}

/// How far a call is.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Waiting {
        since: Stamp,
    },
    Granted(Grant),
    /// The caller may write it.
    Writing(Grant),
    Sent {
        grant: Grant,
        written: Stamp,
    },
    Answered {
        grant: Grant,
        at: Stamp,
    },
}

/// A call that is not over.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) account: AccountIndex,
    pub(super) details: CallDetails,
    /// When its client gives up.
    deadline: Option<Stamp>,
    /// Grants that it has had.
    pub(super) attempts: u32,
    /// The newest attempt whose `Sent` was reported.
    pub(super) sent_reported: u32,
    waited_before: Duration,
    /// Output tokens of the attempt's answer so far …
    pub(super) produced: u64,
    /// … and how many of them the limiter has been told.
    pub(super) produced_told: u64,
    pub(super) state: State,
}

impl Call {
    pub(super) fn new(
        now: Stamp,
        account: AccountIndex,
        details: CallDetails,
        patience: Option<Duration>,
    ) -> Call {
        Call {
            account,
            details,
            deadline: patience.map(|patience| now + patience),
            attempts: 0,
            sent_reported: 0,
            waited_before: Duration::ZERO,
            produced: 0,
            produced_told: 0,
            state: State::Waiting { since: now },
        }
    }

    pub(super) fn begin_attempt(&mut self, now: Stamp, grant: Grant) {
        self.waited_before = self.waited(now);
        self.attempts = grant.reference.attempt;
        (self.produced, self.produced_told) = (0, 0);
        self.state = State::Granted(grant);
    }

    pub(super) fn wait_again(&mut self, now: Stamp) {
        self.state = State::Waiting { since: now };
    }

    pub(super) fn waited(&self, now: Stamp) -> Duration {
        match self.state {
            State::Waiting { since } => self.waited_before + now.since(since),
            _ => self.waited_before,
        }
    }

    pub(super) fn progress(&self, now: Stamp) -> Progress {
        match self.state {
            State::Waiting { .. } => Progress::Waiting {
                attempts: self.attempts,
                waited: self.waited(now),
                patience: self.deadline.map(|deadline| deadline.since(now)),
            },
            State::Granted(grant) | State::Writing(grant) => Progress::Granted(grant.reference),
            State::Sent { grant, written } => Progress::Sent { grant: grant.reference, written },
            State::Answered { grant, at } => Progress::Answered { grant: grant.reference, at },
        }
    }
}
