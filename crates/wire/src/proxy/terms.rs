//! The types that the session's caller passes in and gets back.

use std::time::Duration;

use quotakeeper_engine::event::{CallId, RefusalReason, SessionId};
use thiserror::Error;

use crate::message::{AccountIndex, AccountUpdate};
use crate::name::{Consumer, QuotaName};

/// The proxy's identity and its bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A number that no other proxy has drawn.
    pub session: SessionId,
    /// The workload that the pod belongs to.
    pub consumer: Consumer,
    /// The quotas that it draws on. A call refers to its quota by index.
    pub quotas: Vec<QuotaName>,
    /// The most calls that are not over at the same time.
    pub max_calls: usize,
}

/// Why a call could not begin to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// The proxy holds as many calls as it may.
    #[error("the proxy holds {max} calls already; wait until some finish, or raise its bound")]
    TooManyCalls { max: usize },
    /// The account is not one of the session's.
    #[error("account {0} is not one of the session's accounts; use an index into Identity::quotas")]
    UnknownAccount(u32),
}

/// The effect of a message on the proxy's calls and accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The call may be written, if [`super::Session::may_write`] still allows it just before.
    Granted { call: CallId },
    /// The call will not be granted and is forgotten.
    Refused {
        call: CallId,
        reason: RefusalReason,
        /// When another try makes sense.
        retry_after: Option<Duration>,
        /// The provider's word, where it is the reason.
        words: Option<String>,
    },
    /// An account has changed.
    Account {
        /// An index into [`Identity::quotas`].
        account: AccountIndex,
        /// What has changed.
        update: AccountUpdate,
    },
    /// The answer to a look.
    Outlook {
        /// Its number, from [`super::Session::look`].
        look: u64,
        /// An [`Outlook`](quotakeeper_engine::Outlook) as JSON.
        document: String,
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
