//! What a caller of the session gives and gets.

use std::time::Duration;

use quotakeeper_engine::event::{CallId, RefusalReason, SessionId};
use thiserror::Error;

use crate::message::{AccountIndex, AccountUpdate};

/// Who this proxy is, and how much it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A number that no other proxy has drawn.
    pub session: SessionId,
    /// The workload that the pod belongs to.
    pub consumer: String,
    /// The quotas that it draws on. A call names its account by the place here.
    pub accounts: Vec<String>,
    /// The most calls that are not over at the same time.
    pub max_calls: usize,
}

/// Why a call could not begin to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// The proxy holds as many calls as it may.
    #[error("the proxy holds {max} calls already; let some finish or raise its bound")]
    TooManyCalls {
        /// The bound.
        max: usize,
    },
    /// The account is not one of the session's.
    #[error("account {0} is not one of the session's accounts; use a place in Identity::accounts")]
    UnknownAccount(u32),
}

/// What a message means for the proxy's callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The call may be written, if [`super::Session::may_write`] still says so just before.
    Granted {
        /// Which call.
        call: CallId,
    },
    /// The call will not be granted and is forgotten.
    Refused {
        /// Which call.
        call: CallId,
        /// Why.
        reason: RefusalReason,
        /// When another try makes sense.
        retry_after: Option<Duration>,
    },
    /// An account has changed.
    Account {
        /// An index into [`Identity::accounts`].
        account: AccountIndex,
        /// What has changed.
        update: AccountUpdate,
    },
}

/// Figures of a session that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Grants that were accepted.
    pub granted: u64,
    /// Grants that were returned because they were no longer valid when they were to be written.
    pub expired: u64,
    /// Requests whose write returned after the grant's validity had passed.
    pub late_writes: u64,
    /// Messages of an older limiter or an older connection, ignored.
    pub stale: u64,
}
