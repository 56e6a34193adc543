//! The interface between the server and the limiter.

use std::future::Future;

use quotakeeper_wire::limiter::{PodIdentity, SessionEnd};
use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::sync::{mpsc, oneshot};

/// A limiter that accepts connections.
pub trait Accept: Send + Sync + 'static {
    /// Receives the messages of one proxy.
    type Inbox: Inbox;

    /// Accepts a connection of an authenticated pod.
    ///
    /// # Errors
    /// [`Stopped`]: the proxy tries again, and may reach the next limiter at the same address.
    fn accept(&self, pod: PodIdentity)
    -> impl Future<Output = Result<Accepted<Self::Inbox>, Stopped>> + Send;
}

/// A connection that the limiter has accepted.
#[derive(Debug)]
pub struct Accepted<I> {
    /// Receives the messages of the proxy.
    pub inbox: I,
    /// Messages to the proxy. The channel's capacity bounds the memory that a proxy costs that does not
    /// read; when it is full, the limiter ends the connection.
    pub outgoing: mpsc::Receiver<ToProxy>,
    /// Why the limiter has ended the connection.
    pub ended: oneshot::Receiver<SessionEnd>,
}

/// Receives the messages of one proxy.
pub trait Inbox: Send + 'static {
    /// Delivers a message. The limiter reads its clock after that. Waiting here delays this proxy only.
    ///
    /// # Errors
    /// [`Stopped`].
    fn deliver(&mut self, message: ToLimiter) -> impl Future<Output = Result<(), Stopped>> + Send;

    /// The connection is lost or was ended.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// The limiter has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limiter has stopped; try again at its address")]
pub struct Stopped;
