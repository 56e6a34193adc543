//! The interface between the server and the limiter.

use std::future::Future;
use std::net::SocketAddr;

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
    /// [`NotAccepted`]: the proxy tries again, and may reach another limiter.
    fn accept(
        &self,
        pod: PodIdentity,
    ) -> impl Future<Output = Result<Accepted<Self::Inbox>, NotAccepted>> + Send;
}

/// The header that names the address of the active limiter, in an answer of one that is not.
pub const ACTIVE_LIMITER: &str = "quotakeeper-active-limiter";

/// Why a limiter accepts no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// It has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Another is active, or none.
    #[error("this limiter is on standby; try the active one")]
    Standby {
        /// Where the active one is, as far as that is known.
        active: Option<SocketAddr>,
    },
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
