//! HTTPS for the API server: `POST /inject` takes an AdmissionReview of a pod and answers it, `POST /uninstall` one of
//! the chart's pre-delete hook.
//!
//! Everything is bounded: connections, how long they are idle, streams of each, reviews at a time, in all and of an
//! address, a review's size, its values and its time. A certificate that is replaced holds for the next connection.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kube::Client;
use kube::core::DynamicObject;
use kube::core::admission::AdmissionReview;
use quotakeeper_listen::{Activity, Bounds, ClosedConnections, Listener, Place, Reason};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::decide::Decision;
use crate::review;
use crate::settings::Settings;
use crate::turns::{Most, Turns};
use crate::uninstall::{self, Uninstall};
use crate::view::View;

/// Where reviews are sent.
pub const PATH: &str = "/inject";
/// How long watches may lag behind the API server.
const LAG: Duration = Duration::from_secs(1);
/// How long all else may take. With that, an answer takes a second less than the API server waits, which so gets a
/// sentence.
const WORK: Duration = Duration::from_secs(3);
/// How long a client may take to agree on TLS.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may be idle: longer than an API server keeps one, so that none closes as it is used.
const IDLE: Duration = Duration::from_secs(120);
/// The largest review in bytes: the API server takes requests of 3 MiB, and etcd stores half of that.
const LARGEST: u64 = 4 * 1024 * 1024;
/// Up to so many bytes a review is small. Nearly all are.
const SMALL: u64 = 64 * 1024;
/// How long a review may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(2);
/// The most connections; API servers keep few, and use each for many reviews. Every pod of the cluster can reach the
/// webhook, so a connection is pending until a review has come on it.
const BOUNDS: Bounds = Bounds { connections: 1024, pending: 256 };
/// How long a connection may last without a first request.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a connection that is idle may take to end in good order.
const CLOSING: Duration = Duration::from_secs(1);
/// HTTP/2: a ping after this long without traffic, …
const PING: Duration = Duration::from_secs(20);
/// … and the connection is closed without an answer for this long.
const PONG: Duration = Duration::from_secs(10);
/// The most requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 64;
/// The most bytes of a connection's bodies that are taken before they are read: of one that waits for its turn, too.
const WINDOW: u32 = 64 * 1024;
/// The most bytes of a request's headers.
const HEADERS: u32 = 16 * 1024;
/// Small reviews at a time. One takes up to a megabyte while it is answered.
const REVIEWS: Most = Most { all: 64, of_peer: 48, waiting_of_peer: 512 };
/// Others, of which one takes up to thirty.
const LARGE_REVIEWS: Most = Most { all: 4, of_peer: 2, waiting_of_peer: 256 };
/// Reviews of the chart's hook, for each of which the operator asks the API server.
const UNINSTALLS: Most = Most { all: 4, of_peer: 1, waiting_of_peer: 4 };

/// What reviews are answered by.
#[derive(Clone)]
pub struct Webhook {
    view: Arc<dyn View>,
    client: Client,
    settings: watch::Receiver<Option<Arc<Settings>>>,
    reviews: Turns,
    large_reviews: Turns,
    uninstalls: Turns,
    counts: Arc<Counters>,
    uninstall: Option<Arc<dyn Uninstall>>,
    lag: Duration,
}

/// How many reviews have been answered, by what was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The pod got a proxy, or what its proxy needs.
    pub injected: u64,
    /// It stayed as it was.
    pub unchanged: u64,
    /// It asks and can't have a proxy.
    pub skipped: u64,
    /// It was refused.
    pub denied: u64,
    /// It was refused because the webhook was not ready, or too slow.
    pub unavailable: u64,
}

impl Counts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.injected + self.unchanged + self.skipped + self.denied + self.unavailable
    }
}

#[derive(Debug, Default)]
struct Counters {
    injected: AtomicU64,
    unchanged: AtomicU64,
    skipped: AtomicU64,
    denied: AtomicU64,
    unavailable: AtomicU64,
}

impl Webhook {
    /// A webhook that decides by `view` and the newest settings; without settings it isn't ready. It asks
    /// `client` for the controllers of Jobs.
    pub fn new(
        view: Arc<dyn View>,
        client: Client,
        settings: watch::Receiver<Option<Arc<Settings>>>,
    ) -> Self {
        Self {
            view,
            client,
            settings,
            reviews: Turns::new(REVIEWS),
            large_reviews: Turns::new(LARGE_REVIEWS),
            uninstalls: Turns::new(UNINSTALLS),
            counts: Arc::default(),
            uninstall: None,
            lag: LAG,
        }
    }

    /// Prepares an uninstall so; without it, every uninstall is admitted.
    #[must_use]
    pub fn with_uninstall(mut self, uninstall: Arc<dyn Uninstall>) -> Self {
        self.uninstall = Some(uninstall);
        self
    }

    /// Waits so long for watches that lag behind the API server.
    #[must_use]
    pub fn with_lag(mut self, lag: Duration) -> Self {
        self.lag = lag;
        self
    }

    /// How long an answer takes at most.
    fn deadline(&self) -> Duration {
        self.lag + WORK
    }

    /// What has been answered since the start.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { injected, unchanged, skipped, denied, unavailable } = &*self.counts;
        Counts {
            injected: of(injected),
            unchanged: of(unchanged),
            skipped: of(skipped),
            denied: of(denied),
            unavailable: of(unavailable),
        }
    }

    fn count(&self, decision: Option<&Decision>) {
        let counter = match decision {
            Some(Decision::Patch { .. }) => &self.counts.injected,
            Some(Decision::Unchanged) => &self.counts.unchanged,
            Some(Decision::Skipped { .. }) => &self.counts.skipped,
            Some(Decision::Denied { .. }) => &self.counts.denied,
            None => &self.counts.unavailable,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether reviews are decided, and not refused because too little is known yet.
    pub fn is_ready(&self) -> bool {
        self.settings.borrow().is_some() && self.view.is_synced()
    }

    /// The answer to a request on a connection from this address, which has this place.
    async fn respond(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        place: &Place,
    ) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, PATH) => self.review(request, peer, place).await,
            (&Method::POST, uninstall::PATH) => self.review_uninstall(request, peer).await,
            (&Method::GET, "/healthz") => text(StatusCode::OK, "ok\n"),
            (&Method::GET, "/readyz") if self.is_ready() => text(StatusCode::OK, "ok\n"),
            (&Method::GET, "/readyz") => {
                text(StatusCode::SERVICE_UNAVAILABLE, "settings or watches are not there yet\n")
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "serves POST /inject, POST /uninstall, GET /healthz and GET /readyz\n",
            ),
        }
    }

    async fn review(&self, request: Request<Incoming>, peer: IpAddr, place: &Place) -> Response<Full<Bytes>> {
        let deadline = Instant::now() + self.deadline();
        // Without a length it may be as large as any.
        let small = request.body().size_hint().upper().is_some_and(|length| length <= SMALL);
        let turns = if small { &self.reviews } else { &self.large_reviews };
        let Ok(Some(_turn)) = timeout_at(deadline, turns.take(peer)).await else {
            return too_many();
        };
        let body = match body(request, LARGEST, deadline).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let request = match review::Request::read(&body) {
            Ok(request) => request,
            Err(error) => return text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
        };
        place.trust();
        let settings = self.settings.borrow().clone().filter(|_| self.view.is_synced());
        let answer = match settings {
            None => {
                self.count(None);
                request.unavailable("quotakeeper is not ready yet; try again in a few seconds")
            }
            Some(settings) => {
                match timeout_at(deadline, request.decide(&*self.view, &self.client, &settings, self.lag))
                    .await
                {
                    Ok(decision) => {
                        self.count(Some(&decision));
                        request.respond(decision)
                    }
                    Err(_) => {
                        self.count(None);
                        request.unavailable("quotakeeper did not decide in time; try again")
                    }
                }
            }
        };
        json(&answer)
    }

    /// Answers when all proxies know, or the announced time is over.
    async fn review_uninstall(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
        let deadline = Instant::now() + self.deadline();
        let Ok(Some(_turn)) = timeout_at(deadline, self.uninstalls.take(peer)).await else {
            return too_many();
        };
        let body = match body(request, SMALL, deadline).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let Some(uninstall) = &self.uninstall else {
            return text(StatusCode::NOT_FOUND, "nothing is done before an uninstall\n");
        };
        match uninstall::answer(&body, &**uninstall).await {
            Ok(answer) => json(&answer),
            Err(error) => text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
        }
    }
}

fn too_many() -> Response<Full<Bytes>> {
    text(StatusCode::SERVICE_UNAVAILABLE, "too many reviews at a time; try again\n")
}

/// The body of a review, or the answer to one that can't be read, or has more than `largest` bytes.
async fn body(
    request: Request<Incoming>,
    largest: u64,
    deadline: Instant,
) -> Result<Bytes, Response<Full<Bytes>>> {
    let deadline = deadline.min(Instant::now() + ARRIVAL);
    let most = usize::try_from(largest).unwrap_or(usize::MAX);
    match timeout_at(deadline, Limited::new(request.into_body(), most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(text(StatusCode::PAYLOAD_TOO_LARGE, &format!("this review has more than {largest} bytes\n")))
        }
        Ok(Err(error)) => Err(text(StatusCode::BAD_REQUEST, &format!("the review breaks off: {error}\n"))),
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "the review did not arrive in time\n")),
    }
}

fn json(answer: &AdmissionReview<DynamicObject>) -> Response<Full<Bytes>> {
    match serde_json::to_vec(answer) {
        Ok(json) => {
            let mut response = Response::new(Full::new(Bytes::from(json)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

/// Answers reviews on `listener` until `shutdown`; then reviews that are under way are answered, for at most as long
/// as one may take. Each connection is made with the newest configuration of `tls`; while there is none, it ends. What
/// it closes otherwise is counted in `closed`.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    webhook: Webhook,
    closed: ClosedConnections,
    shutdown: impl Future<Output = ()>,
) {
    let listener = Listener::new(listener, BOUNDS, "admission reviews", closed.clone());
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let deadline = webhook.deadline();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, place) = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let Ok(peer) = stream.peer_addr() else {
            // It has gone.
            continue;
        };
        let Some(config) = tls.borrow().clone() else {
            tracing::warn!("a connection ends, there is no certificate yet");
            continue;
        };
        let (webhook, stop, closed) = (webhook.clone(), stop.clone(), closed.clone());
        tasks.spawn(async move {
            let place = Arc::new(place);
            let connection = connection((stream, peer.ip()), config, &webhook, &place, &stop);
            match place.hold(connection).await {
                Some(Some(reason)) => closed.count(reason),
                Some(None) => {}
                None => tracing::debug!("a connection gave way to others"),
            }
        });
    }
    drop(listener);
    stop.cancel();
    tasks.close();
    if timeout(deadline, tasks.wait()).await.is_err() {
        tracing::warn!("connections are cut that did not end in time");
    }
}

/// One connection, until either end is done with it, or nothing has come on it for too long. Why it was closed then.
async fn connection(
    (stream, peer): (TcpStream, IpAddr),
    config: Arc<ServerConfig>,
    webhook: &Webhook,
    place: &Arc<Place>,
    stop: &CancellationToken,
) -> Option<Reason> {
    let accepted = tokio::select! {
        accepted = timeout(PATIENCE, TlsAcceptor::from(config).accept(stream)) => accepted,
        () = stop.cancelled() => return None,
    };
    let Ok(Ok(stream)) = accepted else {
        // Probes of ports and clients that trust another CA: the API server says what it finds.
        tracing::debug!("a connection fails before a request");
        return Some(Reason::Handshake);
    };
    let (activity, deadline) = (Activity::begins(), webhook.deadline());
    let (webhook, place, asked) = (webhook.clone(), Arc::clone(place), activity.clone());
    let service = service_fn(move |request| {
        let (webhook, place, busy) = (webhook.clone(), Arc::clone(&place), asked.request());
        async move {
            let response = webhook.respond(request, peer, &place).await;
            drop(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PONG);
    builder.http2().max_concurrent_streams(STREAMS).max_header_list_size(HEADERS);
    builder.http2().initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let silent = || if activity.has_asked() { Reason::Idle } else { Reason::Late };
    let mut closed = None;
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        grace = async {
            tokio::select! {
                () = activity.idle(SILENCE, IDLE) => {
                    closed = Some(silent());
                    CLOSING
                }
                () = stop.cancelled() => deadline,
            }
        } => {
            connection.as_mut().graceful_shutdown();
            timeout(grace, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let timed_out = error.downcast_ref().is_some_and(hyper::Error::is_timeout);
            closed = closed.or(timed_out.then(silent));
            tracing::debug!(%error, "a connection breaks off");
        }
        Err(_) => tracing::debug!("a connection is cut that did not end in time"),
    }
    closed
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
