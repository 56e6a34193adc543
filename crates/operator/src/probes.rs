//! `/metrics`, `/healthz` (the process lives) and `/readyz` (it can do its part), over plain HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use quotakeeper_listen::small_http;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// Why it is not ready; empty when it is.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Serves until dropped.
pub async fn serve(listener: TcpListener, metrics: Metrics, readiness: Readiness) {
    let closed = metrics.closed_at_metrics.clone();
    let answer = move |request: Request<Incoming>| std::future::ready(answer(&request, &metrics, &readiness));
    small_http::serve(listener, "metrics and probes of the operator", closed, answer).await;
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
