//! Doors: sockets that are listened on, connections that are served and, at the end, closed in good order.
//!
//! | room | holds |
//! |---|---|
//! | `request_head` | the head of a request: made readable, or turned away with an answer |
//! | `requests` | where the heads of a connection's requests begin and end |
//! | `checked` | a connection whose heads are checked before the HTTP library reads them |
//! | `fuzzing` | connections whose bytes a fuzzer makes up |
//! | `half_close` | whether a client that has ended its side still waits for its answer |

mod checked;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod half_close;
mod request_head;
mod requests;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use nix::sys::resource::{Resource, getrlimit};
use quotakeeper_listen::Activity;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handshake::{Handshakes, Secured};
use crate::local_response::{LocalResponse, ResponseBody};
use checked::Checked;
use half_close::Peer;

/// How long a TLS handshake with a client may take. On a busy machine hundreds that begin at the same moment take long,
/// and a client whose connection is closed has lost its call.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How long a client may take for its first request, …
const FIRST_REQUEST: Duration = Duration::from_secs(120);
/// … and how long it may keep a connection on which it asks nothing more. Clients end theirs sooner.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// How long such a connection has to end in good order.
const GRACE: Duration = Duration::from_secs(5);
/// Connections that may wait to be accepted: a job's hundred workers begin at the same moment, and past a full
/// queue the system resets connections.
const BACKLOG: u32 = 4096;
/// After an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a client may send ahead of the proxy, in bytes, on one HTTP/2 stream and connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// The most of an answer that is buffered for a slow client, in bytes.
const WRITE_AHEAD: usize = 64 * 1024;

/// A request, or the answer to one that can't be read.
pub(crate) type Received = Result<Request<Incoming>, LocalResponse>;

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address} for {purpose} ({source}); free the address or choose another")]
pub struct ListenError {
    pub address: SocketAddr,
    /// What for.
    pub purpose: &'static str,
    pub source: io::Error,
}

/// Binds an address; returns the address with its real port.
pub(crate) fn bind(
    address: SocketAddr,
    purpose: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bound().map_err(|source| ListenError { address, purpose, source })
}

/// Where a listener can be reached: one that takes connections from everywhere, at least on loopback.
pub(crate) fn connectable(bound: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match bound {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    if bound.ip().is_unspecified() { SocketAddr::new(loopback, bound.port()) } else { bound }
}

/// How many clients may be connected at once. A quarter of the file descriptors is left for connections to providers:
/// otherwise so many clients could come that none of them would ever be served.
pub(crate) fn seats() -> Arc<Semaphore> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, u64::MAX));
    let seats = usize::try_from(soft / 4 * 3).unwrap_or(usize::MAX);
    Arc::new(Semaphore::new(seats.clamp(1, Semaphore::MAX_PERMITS)))
}

/// Ends doors and connections.
#[derive(Clone, Default)]
pub(crate) struct Closing {
    /// No new connections; those that are idle close.
    gentle: CancellationToken,
    /// Everything ends.
    hard: CancellationToken,
    tasks: TaskTracker,
}

impl Closing {
    /// Waits until the doors close.
    pub(crate) async fn begun(&self) {
        self.gentle.cancelled().await;
    }

    /// Closes the doors, lets calls end for `grace`, then cuts them off; whether all ended by themselves.
    pub(crate) async fn close(&self, grace: Duration) -> bool {
        self.gentle.cancel();
        self.tasks.close();
        let ended = timeout(grace, self.tasks.wait()).await.is_ok();
        self.hard.cancel();
        self.tasks.wait().await;
        ended
    }

    /// Runs a task until closing begins.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let gentle = self.gentle.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = gentle.cancelled() => {}
            }
        });
    }

    pub(crate) fn cut(&self) {
        self.gentle.cancel();
        self.hard.cancel();
    }
}

/// Serves connections of `listener` until closing, as many as there are `seats`; with `tls` after a handshake.
pub(crate) fn open<S, F>(
    listener: TcpListener,
    tls: Option<Arc<Handshakes>>,
    closing: &Closing,
    seats: Arc<Semaphore>,
    serve: S,
) where
    S: Fn(Received) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let ours = closing.clone();
    closing.tasks.spawn(async move {
        loop {
            let seated = async {
                let seat = seat(&seats).await;
                (listener.accept().await, seat)
            };
            let (accepted, seat) = tokio::select! {
                accepted = seated => accepted,
                () = ours.gentle.cancelled() => return,
            };
            match accepted {
                Ok((socket, _)) => {
                    let connection = connection(socket, tls.clone(), ours.clone(), serve.clone());
                    ours.tasks.spawn(async move {
                        let _seat = seat;
                        connection.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}

/// A place for one more client.
async fn seat(seats: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if let Ok(seat) = Arc::clone(seats).try_acquire_owned() {
        return Some(seat);
    }
    tracing::warn!(
        "as many clients are connected as the limit of open files allows; more wait for one to leave"
    );
    // Never closed.
    Arc::clone(seats).acquire_owned().await.ok()
}

async fn connection<S, F>(socket: TcpStream, tls: Option<Arc<Handshakes>>, closing: Closing, serve: S)
where
    S: Fn(Received) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a socket can't be tuned");
    }
    let Some(tls) = tls else {
        return http(socket, closing, serve).await;
    };
    let undecided = Undecided::new(&tls);
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE, tls.accept(socket)) => accepted,
        // No call has begun on it.
        () = closing.gentle.cancelled() => return,
    };
    let Ok(accepted) = accepted else {
        return tracing::warn!("a client's TLS handshake took too long");
    };
    let Some((stream, host)) = accepted.map(Secured::into_parts) else { return };
    let used = Arc::clone(&undecided);
    let serve = move |received: Received| {
        used.decided();
        serve(received)
    };
    let gentle = closing.gentle.clone();
    http(stream, closing, serve).await;
    if !undecided.is_decided() && !gentle.is_cancelled() {
        tls.left_unused(&host);
    }
}

/// A connection that has had no request yet.
struct Undecided {
    tls: Arc<Handshakes>,
    decided: AtomicBool,
}

impl Undecided {
    fn new(tls: &Arc<Handshakes>) -> Arc<Undecided> {
        tls.context.telemetry.counts.connection_began();
        Arc::new(Undecided { tls: Arc::clone(tls), decided: AtomicBool::new(false) })
    }

    fn is_decided(&self) -> bool {
        self.decided.load(Ordering::Relaxed)
    }

    /// A request has come, or nothing more does.
    fn decided(&self) {
        if !self.decided.swap(true, Ordering::Relaxed) {
            self.tls.context.telemetry.counts.connection_decided();
        }
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        self.decided();
    }
}

async fn http<S, F>(
    stream: impl AsyncRead + AsyncWrite + Peer + Send + Unpin + 'static,
    closing: Closing,
    serve: S,
) where
    S: Fn(Received) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let (stream, turnaways) = Checked::new(stream);
    let (answers, serve_one, activity) = (turnaways.clone(), serve.clone(), Activity::begins());
    let asks = activity.clone();
    let service = service_fn(move |request| {
        let answer = serve_one(answers.next().map_or(Ok(request), Err));
        let (turnaways, busy) = (answers.clone(), asks.request());
        async move { Ok::<_, Infallible>(turnaways.answered(answer.await, busy)) }
    });
    // A Date that the provider did not send would be taken for its clock.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().auto_date_header(false).preserve_header_case(true).max_buf_size(WRITE_AHEAD);
    builder.http1().max_headers(request_head::MOST_HEADERS);
    builder
        .http2()
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(WRITE_AHEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut gentle = pin!(closing.gentle.cancelled());
    let mut idle = pin!(activity.idle(FIRST_REQUEST, IDLE));
    let (mut closing_now, mut is_idle) = (false, false);
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = gentle.as_mut(), if !closing_now => {
                closing_now = true;
                connection.as_mut().graceful_shutdown();
            }
            () = idle.as_mut(), if !is_idle => {
                is_idle = true;
                closing_now = true;
                connection.as_mut().graceful_shutdown();
                if !activity.has_asked() {
                    drop(serve(Err(request_head::none_came())).await);
                }
            }
            () = sleep(GRACE), if is_idle && activity.is_idle() => return,
            // Logged and counted; its stream is closed already.
            () = turnaways.reset() => drop(serve(Err(request_head::reset())).await),
            () = closing.hard.cancelled() => return,
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}

#[cfg(test)]
mod tests;
