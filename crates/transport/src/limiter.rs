//! The limiter, as the server sees it.

use std::future::Future;

use quotakeeper_wire::limiter::{PodIdentity, SessionEnd};
use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::sync::{mpsc, oneshot};

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
    pub ended: oneshot::Receiver<SessionEnd>,
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
