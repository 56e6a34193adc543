//! Accepts connections, one session each.
//!
//! Each step of a peer is bounded: the handshake, the silence before a session, the size of its
//! messages, the messages that it leaves unread. A peer that exceeds a bound loses its connection.

mod claims;
mod pods;
mod session;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quotakeeper_listen::{Bounds, ClosedConnections, Listener, Place, Reason};
use quotakeeper_wire::codec::{METHOD, MOST_BYTES};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tonic::server::Grpc;
use tracing::{debug, warn};

use self::claims::Claims;
use self::pods::Pods;
use self::session::Sessions;
use crate::authenticate::Authenticate;
use crate::codec::SessionCodec;
use crate::limiter::Accept;

/// The most connections at a time. One is pending until its token was checked; the limiter may be reached by every pod
/// of the cluster, and what a pending one costs is bounded with their number.
const BOUNDS: Bounds = Bounds { connections: 20_000, pending: 1024 };
/// Timeout of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The most requests on a connection; a session, or a stream of reports, is one.
const REQUESTS: usize = 16;
/// How long a connection may exist without a session.
const IDLE: Duration = Duration::from_secs(30);
/// HTTP/2 keep-alive: a ping after this long without traffic, …
const PING: Duration = Duration::from_secs(10);
/// … and the connection is closed without an answer for this long.
const PONG: Duration = Duration::from_secs(10);
/// How long a session may take to send its first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// How long a connection stays open so that the peer can read why its session ended.
const GRACE: Duration = Duration::from_secs(2);
/// What a proxy may send ahead of the limiter, in bytes, …
const WINDOW: u32 = 256 * 1024;
/// … and what is buffered for a proxy that does not read, beyond the limiter's own channel.
const SEND_BUFFER: usize = 64 * 1024;
/// The most bytes of a request's headers; a token has about one thousand.
const HEADERS: u32 = 16 * 1024;

/// What else is served on the port of the sessions.
pub trait Answer: Send + Sync + 'static {
    /// Answers a request at another path than the sessions'; `None`: there is nothing. An answer
    /// without an end has to end by itself when the server stops; it is cut a moment later.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Option<Response<Body>>> + Send;
}

/// In a request's extensions: its sender has shown that it is a limiter too.
#[derive(Clone, Copy, Debug)]
pub struct OtherLimiter;

/// Nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionsAlone;

impl Answer for SessionsAlone {
    async fn answer(&self, _request: Request<Incoming>) -> Option<Response<Body>> {
        None
    }
}

/// Serves sessions until `stop` is cancelled, then ends all sessions, and waits a moment until proxies have read why.
/// Dropped, it cuts all connections. `others` answers at other paths; connections that are closed before their peers are
/// done with them are counted.
///
/// New connections use the newest of `tls`. A session ends with a gRPC status:
///
/// | status | why | what the proxy's client does |
/// |---|---|---|
/// | `UNAUTHENTICATED` | no token, or one that is refused | tries again with the token of then |
/// | `PERMISSION_DENIED` | the pod may not draw any more | tries again |
/// | `INVALID_ARGUMENT` | it broke a rule of the session | tries again, later and later |
/// | `OUT_OF_RANGE` | a message is too long | tries again |
/// | `RESOURCE_EXHAUSTED` | it does not read | tries again |
/// | `ABORTED` | it has another connection, or its accounts have changed | tries again |
/// | `UNAVAILABLE` | the limiter stops, or can't check tokens now | tries again |
/// | `UNAVAILABLE` with [`ACTIVE_LIMITER`](crate::ACTIVE_LIMITER) | it is on standby | tries the active one, and asks again a moment later |
pub async fn serve<A: Authenticate, L: Accept, O: Answer>(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    authenticate: A,
    limiter: L,
    (others, closed): (O, ClosedConnections),
    stop: CancellationToken,
) {
    let cut = CancellationToken::new();
    // Whoever drops this future cuts every connection.
    let _cut = cut.clone().drop_guard();
    let server = Arc::new(Server {
        authenticate,
        limiter,
        others,
        claims: Arc::default(),
        pods: Arc::default(),
        stop: stop.clone(),
        cut,
    });
    let listener = Listener::new(listener, BOUNDS, "sessions of proxies", closed.clone());
    let tasks = TaskTracker::new();
    let accept = async {
        loop {
            let (stream, place) = listener.accept().await;
            let (server, tls, closed) = (Arc::clone(&server), Arc::clone(&tls.borrow()), closed.clone());
            tasks.spawn(async move {
                let place = Arc::new(place);
                match place.hold(connection(&server, stream, tls, &place)).await {
                    Some(Some(reason)) => closed.count(reason),
                    Some(None) => {}
                    None => debug!("a connection gave way to others"),
                }
            });
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept => {}
    }
    drop(listener);
    tasks.close();
    if timeout(2 * GRACE, tasks.wait()).await.is_err() {
        warn!(connections = tasks.len(), "connections outlast the server");
    }
}

struct Server<A, L, O> {
    authenticate: A,
    limiter: L,
    others: O,
    claims: Arc<Claims>,
    pods: Arc<Pods>,
    /// Sessions are to end in good order …
    stop: CancellationToken,
    /// … or at once.
    cut: CancellationToken,
}

/// One connection, until either end is done with it. Why it was closed before its peer was.
async fn connection<A: Authenticate, L: Accept, O: Answer>(
    server: &Arc<Server<A, L, O>>,
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    place: &Arc<Place>,
) -> Option<Reason> {
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)) => accepted,
        () = server.stop.cancelled() => return None,
        () = server.cut.cancelled() => return None,
    };
    let Ok(Ok(stream)) = accepted else {
        debug!("a connection fails before a request");
        return Some(Reason::Handshake);
    };
    let is_limiter = stream.get_ref().1.peer_certificates().is_some_and(|shown| !shown.is_empty());
    let state = Arc::new(State {
        requests: AtomicUsize::new(0),
        busy: AtomicBool::new(false),
        place: Arc::clone(place),
        cut: server.cut.child_token(),
    });
    let service = service_fn(|mut request: Request<Incoming>| {
        let (server, state) = (Arc::clone(server), Arc::clone(&state));
        if is_limiter {
            request.extensions_mut().insert(OtherLimiter);
        }
        async move { Ok::<_, Infallible>(answer(server, state, request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .max_concurrent_streams(1)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut asked_to_end = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                let error = ended.err()?;
                debug!(%error, "a connection breaks off");
                return error.is_timeout().then(|| state.silent());
            }
            () = state.cut.cancelled() => return state.asked_too_much().then_some(Reason::TooManyRequests),
            () = server.stop.cancelled(), if !asked_to_end => {
                asked_to_end = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep(IDLE), if !state.busy.load(Ordering::Relaxed) => {
                if !state.busy.load(Ordering::Relaxed) {
                    debug!("a connection is closed on which no session began");
                    return Some(state.silent());
                }
            }
        }
    }
}

/// What a connection and its session know of each other.
struct State {
    /// How many there were.
    requests: AtomicUsize,
    /// A session is under way.
    busy: AtomicBool,
    /// Its place among the connections.
    place: Arc<Place>,
    /// The connection is to be cut.
    cut: CancellationToken,
}

impl State {
    /// The peer has shown who it is, and its session begins.
    fn begin(&self) {
        self.busy.store(true, Ordering::Relaxed);
        self.place.trust();
    }

    /// Why it is closed when nothing comes any more.
    fn silent(&self) -> Reason {
        if self.requests.load(Ordering::Relaxed) > 0 { Reason::Idle } else { Reason::Late }
    }

    fn asked_too_much(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > REQUESTS
    }
}

async fn answer<A: Authenticate, L: Accept, O: Answer>(
    server: Arc<Server<A, L, O>>,
    state: Arc<State>,
    request: Request<Incoming>,
) -> Response<Body> {
    if state.requests.fetch_add(1, Ordering::Relaxed) >= REQUESTS {
        state.cut.cancel();
    }
    if request.uri().path() != METHOD {
        if let Some(response) = server.others.answer(request).await {
            // A refusal leaves the connection to its idle end.
            if response.status().is_success() {
                state.begin();
            }
            return response;
        }
        let wrong = format!("there is nothing at this path; sessions are at {METHOD}");
        return Status::unimplemented(wrong).into_http();
    }
    Grpc::new(SessionCodec::default())
        .max_decoding_message_size(MOST_BYTES)
        .streaming(Sessions { server, state }, request)
        .await
}
