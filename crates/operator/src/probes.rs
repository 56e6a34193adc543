//! `/metrics`, `/healthz` (the process lives) and `/readyz` (it can do its part), over plain HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::metrics::Metrics;

/// The most connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// How long a peer may take to ask.
const PATIENCE: Duration = Duration::from_secs(30);
/// After an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why it is not ready; empty when it is.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Serves until dropped.
pub async fn serve(listener: TcpListener, metrics: Metrics, readiness: Readiness) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "a connection to the probes can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (metrics, readiness) = (metrics.clone(), Arc::clone(&readiness));
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &metrics, &readiness);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%error, "a connection to the probes ended");
            }
            drop(slot);
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, readiness: &Readiness) -> Response<Full<Bytes>> {
    let plain = "text/plain; charset=utf-8";
    let (status, kind, text) = match request.uri().path() {
        "/metrics" => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, kind, metrics.text())
        }
        "/healthz" => (StatusCode::OK, plain, "ok\n".to_owned()),
        "/readyz" => match readiness() {
            missing if missing.is_empty() => (StatusCode::OK, plain, "ok\n".to_owned()),
            missing => {
                (StatusCode::SERVICE_UNAVAILABLE, plain, format!("not ready: {}\n", missing.join("; ")))
            }
        },
        _ => (StatusCode::NOT_FOUND, plain, "serves /metrics, /healthz and /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
