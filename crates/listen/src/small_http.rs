//! Metrics and probes: one small request a connection, over plain HTTP/1.1.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing::debug;

use crate::closed::{ClosedConnections, Reason};
use crate::listener::Listener;
use crate::places::Bounds;

/// The most connections at a time; probes and scrapes need a few.
pub const BOUNDS: Bounds = Bounds { connections: 64, pending: 64 };
/// A request's head has to arrive within this time …
pub const HEAD: Duration = Duration::from_secs(5);
/// … and its answer has to be read within this one.
pub const WHOLE: Duration = Duration::from_secs(30);
/// The most of a request's head, in bytes.
pub const LARGEST_HEAD: usize = 8 * 1024;

/// Answers one request on each connection of `socket` until it is dropped, all connections with it. `serves` is what it
/// serves, as the log names it; what it closes is counted in `closed`.
pub async fn serve<F, B>(
    socket: TcpListener,
    serves: &'static str,
    closed: ClosedConnections,
    answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let listener = Listener::new(socket, BOUNDS, serves, closed.clone());
    let answer = Arc::new(answer);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, place) = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (answer, closed) = (Arc::clone(&answer), closed.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(request);
                async move { Ok::<_, Infallible>(response.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(LARGEST_HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match place.hold(timeout(WHOLE, connection)).await {
                Some(Ok(Ok(()))) => {}
                None => debug!(serves, "a connection gave way to others"),
                Some(Ok(Err(error))) if !error.is_timeout() => {
                    debug!(serves, %error, "a connection breaks off");
                }
                Some(_) => {
                    closed.count(Reason::Late);
                    debug!(serves, "a request did not come in time, or its answer was not read");
                }
            }
        });
    }
}
