//! The interface to the check of tokens, which precedes each session.

use std::future::Future;

use quotakeeper_wire::limiter::PodIdentity;

/// Why a token opens no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// There is no token.
    #[error("a session needs `authorization: Bearer TOKEN`; mount a ServiceAccount token for the limiter")]
    Missing,
    /// It is not a pod's, not for this limiter, or not valid now. The sentence is sent to the proxy.
    #[error("{0}")]
    Refused(String),
    /// It can't be checked at the moment; the proxy tries again.
    #[error("the token can't be checked now ({0}); the proxy tries again")]
    Unavailable(String),
}

/// Checks tokens.
pub trait Authenticate: Send + Sync + 'static {
    /// Returns the pod that a token belongs to.
    ///
    /// # Errors
    /// [`Unauthenticated`]. It is logged and sent, so it must not contain the token.
    fn authenticate(&self, token: &str) -> impl Future<Output = Result<PodIdentity, Unauthenticated>> + Send;
}
