//! Whose token it is: the question that the server asks before a session begins.

use std::future::Future;

use quotakeeper_wire::limiter::PodIdentity;

/// Why a token opens no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// There is none.
    #[error("a session needs `authorization: Bearer TOKEN`; mount a ServiceAccount token for the limiter")]
    Missing,
    /// It is not a pod's, not for this limiter, or not valid now. The sentence goes to the proxy.
    #[error("{0}")]
    Refused(String),
    /// Nobody can tell at the moment; the proxy tries again.
    #[error("the token can't be checked now ({0})")]
    Unavailable(String),
}

/// Checks tokens.
pub trait Authenticate: Send + Sync + 'static {
    /// Whose token it is.
    ///
    /// # Errors
    /// [`Unauthenticated`]. Never put the token into it: it is logged and sent.
    fn authenticate(&self, token: &str) -> impl Future<Output = Result<PodIdentity, Unauthenticated>> + Send;
}
