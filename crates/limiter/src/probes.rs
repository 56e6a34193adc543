//! Metrics and probes, on a port of their own and without TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::metrics;
use crate::task::Limiter;

/// The most connections at a time; probes and scrapes need a few.
const CONNECTIONS: usize = 64;
/// Timeout of a request.
const REQUEST: Duration = Duration::from_secs(10);
/// Timeout of the engines; beyond it, the liveness probe fails.
const ANSWER: Duration = Duration::from_secs(5);

/// The state that the readiness probe reports.
#[derive(Clone, Debug, Default)]
pub enum Readiness {
    /// It is starting.
    #[default]
    Starting,
    /// It waits for this, as a sentence.
    WaitsFor(&'static str),
    /// Sessions are served.
    Ready,
    /// It is stopping.
    Stopping,
}

/// The state that probes and metrics are served from.
#[derive(Clone)]
pub struct Probes {
    /// Its readiness.
    pub readiness: watch::Sender<Readiness>,
    /// The limiter, once it runs.
    pub limiter: Arc<OnceLock<Limiter>>,
}

impl Default for Probes {
    fn default() -> Probes {
        Probes { readiness: watch::Sender::new(Readiness::Starting), limiter: Arc::default() }
    }
}

/// Serves `/metrics`, `/healthz` (the engines answer) and `/readyz` (sessions are served) until it is dropped.
pub async fn serve(listener: TcpListener, probes: Probes) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "a probe's connection can't be accepted");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let probes = probes.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let probes = probes.clone();
                async move { Ok::<_, Infallible>(answer(&probes, &request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%error, "a probe's connection ended");
            }
            drop(permit);
        });
    }
}

/// Listens at the address of the probes.
///
/// # Errors
/// With the address, as a sentence.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| anyhow::anyhow!("can't listen at {address}: {error}; give another --metrics"))
}

async fn answer(probes: &Probes, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let ok = || text(StatusCode::OK, "ok\n".to_owned());
    match request.uri().path() {
        "/healthz" => match probes.limiter.get() {
            None => ok(),
            // A restart of the process would only take longer.
            Some(limiter) if limiter.is_recovering() => ok(),
            Some(limiter) => match timeout(ANSWER, limiter.health()).await {
                Ok(Ok(_)) => ok(),
                _ => text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the limiter does not answer within 5 s\n".to_owned(),
                ),
            },
        },
        "/readyz" => {
            let why = match &*probes.readiness.borrow() {
                Readiness::Ready if probes.limiter.get().is_some_and(Limiter::is_recovering) => {
                    "recovering from a panic"
                }
                Readiness::Ready => return ok(),
                Readiness::Starting => "starting",
                Readiness::WaitsFor(what) => what,
                Readiness::Stopping => "stopping",
            };
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
        }
        "/metrics" => {
            let health = match probes.limiter.get() {
                Some(limiter) => timeout(ANSWER, limiter.health()).await.ok().and_then(Result::ok),
                None => None,
            };
            let Some(health) = health else {
                return text(StatusCode::SERVICE_UNAVAILABLE, "the limiter does not run yet\n".to_owned());
            };
            let mut response = text(StatusCode::OK, metrics::text(health));
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "serves /metrics, /healthz and /readyz\n".to_owned()),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
