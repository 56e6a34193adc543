//! Why a limiter ends a session.

use super::Violation;

/// Why a limiter ends a session; the proxy's log shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// The proxy broke a rule of the session.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The proxy reads no messages.
    #[error("the proxy does not take what the limiter says; look at its CPU limit and the network")]
    TooSlow,
    /// The same proxy has said hello on another connection.
    #[error("the proxy has opened another connection")]
    Replaced,
    /// Something about the accounts that the session names is other than its beginning said.
    #[error("{0}; say hello again")]
    Changed(String),
    /// The pod may not draw, or is gone.
    #[error("{0}")]
    NotAdmitted(String),
    /// This limiter grants no more: it stops, or another has taken over.
    #[error("the limiter has stopped; try again at its address")]
    Stopped,
}
