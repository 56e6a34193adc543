//! The interface between the client and the proxy.

use std::future::Future;

use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::sync::mpsc;

/// The proxy is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy has stopped")]
pub struct ProxyGone;

/// A proxy that is connected to a limiter by a client.
pub trait Link: Send + Sync + 'static {
    /// A connection is established. Returns the proxy's messages on it, its hello first. Dropping the
    /// receiver closes the connection.
    ///
    /// # Errors
    /// [`ProxyGone`].
    fn connect(&self) -> impl Future<Output = Result<mpsc::Receiver<ToLimiter>, ProxyGone>> + Send;

    /// There is no connection: calls wait. Called after every failed attempt, also if there was no connection
    /// before.
    ///
    /// # Errors
    /// [`ProxyGone`].
    fn disconnect(&self) -> impl Future<Output = Result<(), ProxyGone>> + Send;

    /// Delivers a message of the limiter. Nothing more is read until this returns.
    ///
    /// # Errors
    /// [`ProxyGone`].
    fn deliver(&self, message: ToProxy) -> impl Future<Output = Result<(), ProxyGone>> + Send;
}
