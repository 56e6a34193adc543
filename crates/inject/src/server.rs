//! HTTPS for the API server: `POST /inject` takes an AdmissionReview of a pod and answers it, `POST /uninstall` one of
//! the chart's pre-delete hook.
//!
//! Everything is bounded: connections, reviews at a time, a review's size and its time. A certificate that is
//! replaced holds for the next connection.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use kube::Client;
use kube::core::DynamicObject;
use kube::core::admission::AdmissionReview;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::decide::Decision;
use crate::review;
use crate::settings::Settings;
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
/// The largest review in bytes: the API server takes requests of 3 MiB, which may be shorter there than as JSON.
const LARGEST: usize = 8 * 1024 * 1024;
/// The most connections; API servers keep few, and use each for many reviews.
const CONNECTIONS: usize = 1024;
/// The most reviews at a time.
const REVIEWS: usize = 64;
/// How long a failing `accept` is left alone: it fails for want of file descriptors, at once and again.
const PAUSE: Duration = Duration::from_millis(50);

/// What reviews are answered by.
#[derive(Clone)]
pub struct Webhook {
    view: Arc<dyn View>,
    client: Client,
    settings: watch::Receiver<Option<Arc<Settings>>>,
    reviews: Arc<Semaphore>,
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
        let reviews = Arc::new(Semaphore::new(REVIEWS));
        Self { view, client, settings, reviews, counts: Arc::default(), uninstall: None, lag: LAG }
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

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, PATH) => self.review(request).await,
            (&Method::POST, uninstall::PATH) => self.review_uninstall(request).await,
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

    async fn review(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let deadline = Instant::now() + self.deadline();
        let slow = || text(StatusCode::SERVICE_UNAVAILABLE, "too many reviews at a time; try again\n");
        let Ok(Ok(_turn)) = timeout_at(deadline, self.reviews.acquire()).await else {
            return slow();
        };
        let body = match body(request, deadline).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let request = match review::Request::read(&body) {
            Ok(request) => request,
            Err(error) => return text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
        };
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
    async fn review_uninstall(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = match body(request, Instant::now() + self.deadline()).await {
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

/// The body of a review, or the answer to one that can't be read.
async fn body(request: Request<Incoming>, deadline: Instant) -> Result<Bytes, Response<Full<Bytes>>> {
    match timeout_at(deadline, Limited::new(request.into_body(), LARGEST).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(text(StatusCode::PAYLOAD_TOO_LARGE, "a review has at most 8 MiB\n"))
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
/// as one may take. Each connection is made with the newest configuration of `tls`; while there is none, it ends.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    webhook: Webhook,
    shutdown: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let deadline = webhook.deadline();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(config) = tls.borrow().clone() else {
            tracing::warn!("a connection ends, there is no certificate yet");
            continue;
        };
        let (webhook, watcher) = (webhook.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            let Ok(Ok(stream)) = timeout(PATIENCE, TlsAcceptor::from(config).accept(stream)).await else {
                // Probes of ports and clients that trust another CA: the API server says what it finds.
                return tracing::debug!("a connection fails before a request");
            };
            let service = service_fn(move |request| {
                let webhook = webhook.clone();
                async move { Ok::<_, Infallible>(webhook.respond(request).await) }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "a connection breaks off");
            }
        });
    }
    drop(listener);
    if timeout(deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections are cut that did not end in time");
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
