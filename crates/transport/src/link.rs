//! The proxy, as the client sees it.

use std::future::Future;

use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::sync::mpsc;

/// The proxy is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy has stopped")]
pub struct ProxyGone;

/// A proxy that is connected to a limiter by a client.
pub trait Link: Send + Sync + 'static {
    /// There is a connection. Returns the proxy's messages on it, its hello first. Dropping the receiver
    /// loses the connection.
    ///
    /// # Errors
    /// [`ProxyGone`].
    fn connect(&self) -> impl Future<Output = Result<mpsc::Receiver<ToLimiter>, ProxyGone>> + Send;

    /// There is no connection: calls wait. Called after every failure, also if there was none before.
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
