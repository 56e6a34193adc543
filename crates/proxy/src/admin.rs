//! Metrics and probes.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::forward::ProxyContext;
use crate::local_response::ResponseBody;

/// Answers `GET /metrics`, `/healthz` (it runs) and `/readyz` (the limiter is connected, so calls can be granted).
/// `more`: metrics of others.
pub(crate) fn serve(
    context: &Arc<ProxyContext>,
    more: Option<&watch::Receiver<String>>,
    request: &Request<Incoming>,
) -> Response<ResponseBody> {
    match request.uri().path() {
        "/metrics" => {
            let own = context.telemetry.metrics.text();
            let all = more.map_or_else(|| own.clone(), |more| joined(&own, &more.borrow()));
            let mut response = text(StatusCode::OK, all);
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if context.admission.is_connected() => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "the limiter is not connected\n".to_owned()),
        _ => text(StatusCode::NOT_FOUND, "serves /metrics, /healthz and /readyz\n".to_owned()),
    }
}

/// Two texts of metrics as one, with one end.
fn joined(one: &str, other: &str) -> String {
    if other.is_empty() {
        return one.to_owned();
    }
    format!("{}{other}", one.strip_suffix("# EOF\n").unwrap_or(one))
}

fn text(status: StatusCode, text: String) -> Response<ResponseBody> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
