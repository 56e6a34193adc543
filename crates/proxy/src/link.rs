//! The proxy's link to the limiter: a pair of channels within one process; across machines, a gRPC session at the
//! other end of the same pair.
//!
//! Every connection has a channel of its own towards the limiter, so that no message of a lost connection is taken
//! for the first one of the next.

use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::sync::mpsc;

/// Messages that may be under way in one direction before the sender waits.
const CAPACITY: usize = 1024;

/// The proxy's end.
pub struct Link {
    pub(crate) events: mpsc::Receiver<LinkEvent>,
}

/// The limiter's end, or that of the client of its session.
#[derive(Clone)]
pub struct LinkPeer {
    events: mpsc::Sender<LinkEvent>,
}

pub(crate) enum LinkEvent {
    Connected(mpsc::Sender<ToLimiter>),
    Disconnected,
    Message(ToProxy),
}

/// The proxy is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy has stopped; end the session")]
pub struct ProxyGone;

impl Link {
    /// The two ends of a link that is not connected yet.
    pub fn pair() -> (Link, LinkPeer) {
        let (sender, events) = mpsc::channel(CAPACITY);
        (Link { events }, LinkPeer { events: sender })
    }
}

impl LinkPeer {
    /// There is a connection. Returns the proxy's messages on it, its hello first. An earlier connection is over.
    /// Dropping the receiver loses the connection.
    ///
    /// # Errors
    /// [`ProxyGone`].
    pub async fn connect(&self) -> Result<mpsc::Receiver<ToLimiter>, ProxyGone> {
        let (sender, says) = mpsc::channel(CAPACITY);
        self.send(LinkEvent::Connected(sender)).await?;
        Ok(says)
    }

    /// The connection is lost: calls wait.
    ///
    /// # Errors
    /// [`ProxyGone`].
    pub async fn disconnect(&self) -> Result<(), ProxyGone> {
        self.send(LinkEvent::Disconnected).await
    }

    /// Hands over a message of the limiter.
    ///
    /// # Errors
    /// [`ProxyGone`].
    pub async fn say(&self, message: ToProxy) -> Result<(), ProxyGone> {
        self.send(LinkEvent::Message(message)).await
    }

    async fn send(&self, event: LinkEvent) -> Result<(), ProxyGone> {
        self.events.send(event).await.map_err(|_| ProxyGone)
    }
}
