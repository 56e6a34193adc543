//! Metrics and probes.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::forward::ProxyContext;
use crate::local_response::ResponseBody;

/// Answers `GET /metrics`, `/healthz` (it runs) and `/readyz` (the limiter is connected, so calls can be granted).
pub(crate) fn serve(context: &Arc<ProxyContext>, request: &Request<Incoming>) -> Response<ResponseBody> {
    match request.uri().path() {
        "/metrics" => {
            let mut response = text(StatusCode::OK, context.telemetry.metrics.text());
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

fn text(status: StatusCode, text: String) -> Response<ResponseBody> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
