//! Why a limiter ends a session.

use super::Violation;

/// Why a limiter ends a session; the proxy's log shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// The proxy broke a rule of the session.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The proxy reads no messages.
    #[error("the proxy does not read the limiter's messages; look at its CPU limit and the network")]
    TooSlow,
    /// The same proxy has sent a hello on another connection.
    #[error("the proxy has opened another connection; this one is not needed any more")]
    Replaced,
    /// The accounts of the session have changed so that it needs a new hello.
    #[error("{0}; send a new hello")]
    Changed(String),
    /// The pod is not admitted, or was deleted.
    #[error("{0}")]
    NotAdmitted(String),
    /// This limiter does not grant any more: it stops, or another has taken over.
    #[error("the limiter has stopped; try again at its address")]
    Stopped,
}
