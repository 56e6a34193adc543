//! Metrics and probes, on a port of their own and without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use quotakeeper_listen::{ClosedConnections, Doors, small_http};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::door::Door;
use crate::metrics;
use crate::task::Limiter;

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
    /// The limiter, while it is active.
    pub door: Door,
    /// What was closed of sessions.
    pub sessions: ClosedConnections,
}

impl Default for Probes {
    fn default() -> Probes {
        Probes {
            readiness: watch::Sender::new(Readiness::Starting),
            door: Door::default(),
            sessions: ClosedConnections::default(),
        }
    }
}

/// Serves `/metrics`, `/healthz` (the engines answer) and `/readyz` (sessions are served) until it is dropped.
pub async fn serve(listener: TcpListener, probes: Probes) {
    let closed = ClosedConnections::default();
    let doors = Doors(vec![("sessions", probes.sessions.clone()), ("metrics", closed.clone())]);
    let answer = move |request: Request<Incoming>| {
        let (probes, doors) = (probes.clone(), doors.clone());
        async move { answer(&probes, &doors, &request).await }
    };
    small_http::serve(listener, "metrics and probes of the limiter", closed, answer).await;
}

/// Listens at the address of the probes.
///
/// # Errors
/// With the address, as a sentence.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| anyhow::anyhow!("can't listen at {address}: {error}; give another --metrics"))
}

async fn answer(probes: &Probes, doors: &Doors, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let ok = || text(StatusCode::OK, "ok\n".to_owned());
    match request.uri().path() {
        "/healthz" => match probes.door.limiter() {
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
                Readiness::Ready if probes.door.limiter().as_ref().is_some_and(Limiter::is_recovering) => {
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
            let health = match probes.door.limiter() {
                Some(limiter) => timeout(ANSWER, limiter.health()).await.ok().and_then(Result::ok),
                None => None,
            };
            let on_standby = probes.door.is_on_standby();
            if health.is_none() && !on_standby {
                return text(StatusCode::SERVICE_UNAVAILABLE, "the limiter does not run yet\n".to_owned());
            }
            let mut response =
                text(StatusCode::OK, metrics::text(health, probes.door.began().as_ref(), doors));
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
