//! The limiter, as the server sees it.

use std::future::Future;

use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::sync::{mpsc, oneshot};

use crate::authenticate::PodIdentity;

/// A limiter that takes connections.
pub trait Accept: Send + Sync + 'static {
    /// Where what a proxy says goes.
    type Speak: Speak;

    /// Takes a connection of an authenticated pod.
    ///
    /// # Errors
    /// [`Stopped`]: the proxy tries again, at whoever has the address then.
    fn accept(&self, pod: PodIdentity)
    -> impl Future<Output = Result<Accepted<Self::Speak>, Stopped>> + Send;
}

/// A connection that the limiter has taken.
#[derive(Debug)]
pub struct Accepted<S> {
    /// Where what the proxy says goes.
    pub speak: S,
    /// What the limiter says. Its capacity bounds what a proxy that does not read may cost; the
    /// limiter, when it is full, ends the connection.
    pub says: mpsc::Receiver<ToProxy>,
    /// Why the limiter has ended the connection.
    pub ended: oneshot::Receiver<End>,
}

/// Where what one proxy says goes.
pub trait Speak: Send + 'static {
    /// Hands a message over. The limiter reads its clock after that; waiting here holds up this
    /// proxy alone.
    ///
    /// # Errors
    /// [`Stopped`].
    fn say(&mut self, message: ToLimiter) -> impl Future<Output = Result<(), Stopped>> + Send;

    /// The connection is lost, or has been ended.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// The limiter has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limiter has stopped; try again at its address")]
pub struct Stopped;

/// Why a limiter ends a connection; the proxy's log shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The proxy broke a rule of the session.
    #[error("{0}")]
    Violation(String),
    /// The proxy takes no messages.
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
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
