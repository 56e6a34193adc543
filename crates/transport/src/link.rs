//! The proxy, as the client sees it.

use std::future::Future;

use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::sync::mpsc;

/// The proxy is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy has stopped")]
pub struct ProxyGone;

/// A proxy that speaks to a limiter through a client.
pub trait Link: Send + Sync + 'static {
    /// A connection stands; what the proxy says on it, its hello first. Dropping the receiver
    /// loses the connection.
    ///
    /// # Errors
    /// [`ProxyGone`].
    fn connect(&self) -> impl Future<Output = Result<mpsc::Receiver<ToLimiter>, ProxyGone>> + Send;

    /// No connection stands: calls wait. Said after every failure, also when none stood before.
    ///
    /// # Errors
    /// [`ProxyGone`].
    fn disconnect(&self) -> impl Future<Output = Result<(), ProxyGone>> + Send;

    /// Hands over a message of the limiter. While the proxy does not take it, nothing more is read.
    ///
    /// # Errors
    /// [`ProxyGone`].
    fn say(&self, message: ToProxy) -> impl Future<Output = Result<(), ProxyGone>> + Send;
}
