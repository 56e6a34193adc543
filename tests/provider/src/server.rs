//! The provider's doors: cleartext and TLS, HTTP/1.1 and HTTP/2, and the way of one request through them.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Report};
use crate::body;
use crate::book::{Call, Decision};
use crate::dialect::{self, Asked, Operation, Refusal, Reply, Route};
use crate::log::{Protocol, Verdict};
use crate::production::{self, Schedule};
use crate::shared::Shared;

/// The largest body that is read, in bytes.
const LARGEST_BODY: usize = 64 << 20;
/// Streams that one HTTP/2 connection may have open.
const STREAMS: u32 = 2_000;

/// Accepts connections and gives each to `serve` in its own task until `stop`.
pub(crate) async fn accept<F>(listener: TcpListener, stop: CancellationToken, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                let (connection, stop) = (serve(stream), stop.clone());
                tokio::spawn(async move {
                    tokio::select! { () = stop.cancelled() => (), () = connection => () }
                });
            }
            // Out of descriptors, or the client went away already: either passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Serves a TLS connection.
pub(crate) async fn serve_tls(shared: Arc<Shared>, acceptor: TlsAcceptor, stream: TcpStream) {
    if let Ok(stream) = acceptor.accept(stream).await {
        serve(shared, stream).await;
    }
}

/// Serves a connection until the client leaves, or the provider goes down.
pub(crate) async fn serve<S>(shared: Arc<Shared>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = shared.next_connection();
    let mut falls = shared.falls();
    // A request that comes while the provider is down cuts its connection from inside.
    let cut = CancellationToken::new();
    let service = service_fn({
        let cut = cut.clone();
        move |request| {
            let arrival = shared.now();
            handle(shared.clone(), request, arrival, connection, cut.clone())
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(STREAMS);
    tokio::select! {
        biased;
        () = cut.cancelled() => (),
        _ = falls.changed() => (),
        _ = builder.serve_connection(TokioIo::new(stream), service) => (),
    }
}

/// What the head says of a call.
fn call(head: &request::Parts, route: &Route, arrival: u64, connection: u64) -> Call {
    Call {
        arrival,
        dialect: route.dialect,
        account: route.dialect.credential(&head.headers),
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        model: None,
        endpoint: route.endpoint(),
        protocol: if head.version == Version::HTTP_2 { Protocol::H2 } else { Protocol::H1 },
        connection,
        invalid: route.operation.is_none(),
        wanted: None,
    }
}

async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    arrival: u64,
    connection: u64,
    cut: CancellationToken,
) -> Result<Response<Answer>, Infallible> {
    let (head, body) = request.into_parts();
    let host = host_of(&head);
    let route = dialect::route(host, &head.method, head.uri.path());
    let call = call(&head, &route, arrival, connection);
    // Where the head says all that counting needs, the body is not waited for.
    let admit = |call: &Call| {
        let decision = shared.book().admit(call.clone(), shared.now());
        let report = Report::new(shared.clone(), decision.ticket.clone());
        (decision, report)
    };
    let (call, (decision, report), body) = if route.model_in_body() || route.plays(&head.headers) {
        let body = read(&head.headers, body).await;
        let call = with_body(call, &route, &head.headers, &body);
        let admitted = admit(&call);
        (call, admitted, body)
    } else {
        let admitted = admit(&call);
        (call, admitted, read(&head.headers, body).await)
    };
    if decision.verdict == Verdict::Down {
        cut.cancel();
        // The connection, and this with it, is dropped before this can be woken.
        std::future::pending::<()>().await;
    }
    let report = producing(&shared, &call, &decision, &body, report);
    let wall = Timestamp::now();
    let asked = Asked {
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query(),
        length: body.bytes,
        body: &body.json,
        sequence: decision.sequence(),
        wall,
        usage: decision.usage,
        wanted: call.wanted.unwrap_or_default(),
        tokens_per_chunk: decision.tokens_per_chunk,
    };
    let reply = reply(&call, &route, &decision, &body, &asked);
    if decision.verdict == Verdict::Ok {
        let elapsed = shared.now() - arrival;
        tokio::time::sleep(Duration::from_nanos(decision.answer_nanos.saturating_sub(elapsed))).await;
    }
    report.status(reply.status.as_u16());
    let gap = Duration::from_nanos(decision.stream_nanos);
    let trailers = decision.forced.as_ref().map(|order| order.trailers()).unwrap_or_default();
    let answer = Answer::new(reply.chunks, reply.streamed, gap, report).with_trailers(trailers);
    let mut response = Response::new(answer);
    *response.status_mut() = reply.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Some(cost) = reply.cost {
        response.headers_mut().insert("x-ratelimit-endpoint-cost", cost.into());
    }
    write_headers(response.headers_mut(), &call, &decision, wall);
    Ok(response)
}

/// The host that a request names.
fn host_of(head: &request::Parts) -> Option<&str> {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.or_else(|| head.uri.authority().map(|authority| authority.as_str()))
}

/// Starts to produce the answer, where the call is answered by one that is produced.
fn producing(
    shared: &Arc<Shared>,
    call: &Call,
    decision: &Decision,
    body: &ReadBody,
    report: Report,
) -> Report {
    let Some(wanted) = call.wanted.filter(|_| decision.produces) else { return report };
    let streamed = body.json["stream"] == Value::Bool(true);
    let schedule = Schedule::new(decision, streamed, wanted.choices);
    let ticket = decision.ticket.clone();
    report.or_cancel(production::start(shared.clone(), ticket, schedule, decision.after_hang_up))
}

/// A request's body as far as it could be read.
struct ReadBody {
    bytes: usize,
    json: Value,
    problem: Option<&'static str>,
}

async fn read(headers: &HeaderMap, body: Incoming) -> ReadBody {
    let unread = |bytes, problem| ReadBody { bytes, json: Value::Null, problem: Some(problem) };
    let Ok(whole) = Limited::new(body, LARGEST_BODY).collect().await else {
        return unread(0, "the body is too large or broke off");
    };
    let bytes = whole.to_bytes();
    let Some(decoded) = body::decoded(headers, &bytes) else {
        return unread(bytes.len(), "the body can't be decoded");
    };
    let read = match body::boundary(headers) {
        Some(boundary) => body::form(&decoded, &boundary),
        None if decoded.is_empty() => Some(Value::Null),
        None => serde_json::from_slice(&decoded).ok(),
    };
    match read {
        Some(json) => ReadBody { bytes: bytes.len(), json, problem: None },
        None => unread(bytes.len(), "the body is neither JSON nor a form"),
    }
}

fn with_body(mut call: Call, route: &Route, headers: &HeaderMap, body: &ReadBody) -> Call {
    let play = headers.get("x-play").and_then(|value| value.to_str().ok());
    call.wanted = route.wanted(&body.json, play);
    call.model = body.json["model"].as_str().map(str::to_owned);
    call.invalid = body.problem.is_some()
        || route.operation.as_ref().is_some_and(|known| route.dialect.complaint(known, &body.json).is_some());
    call
}

fn reply(call: &Call, route: &Route, decision: &Decision, body: &ReadBody, asked: &Asked<'_>) -> Reply {
    let exceeded = decision
        .exceeded
        .as_ref()
        .and_then(|limit| decision.states.iter().find(|(matched, _)| matched.name == limit.name));
    let refuse = |status: u16, message: String| {
        let refusal = Refusal {
            status,
            message,
            account: call.account.as_deref(),
            model: call.model.as_deref(),
            exceeded,
            requested: decision.requested,
            sequence: asked.sequence,
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Reply::json(status, &call.dialect.refusal(&refusal))
    };
    match (decision.verdict, &route.operation) {
        (Verdict::Unauthorized, _) => refuse(401, unauthorized(decision)),
        (Verdict::Over, _) => refuse(429, over(decision)),
        (Verdict::Forced, _) => forced(decision, refuse),
        (_, None) => refuse(404, format!("There is no {} {} here.", call.method, call.path)),
        (_, Some(operation)) => match complaint(call, operation, body) {
            Some(message) => refuse(400, message),
            None => dialect::answer(operation, asked),
        },
    }
}

fn over(decision: &Decision) -> String {
    match decision.crowded {
        true => "Number of concurrent connections has exceeded your rate limit. Please try again later.",
        false => "Too many requests: over a limit.",
    }
    .to_owned()
}

fn unauthorized(decision: &Decision) -> String {
    match decision.belongs_to {
        Some(other) => {
            format!("This credential belongs to an account of {other:?}; use another one here.")
        }
        None => "No credential: send one as a bearer token (Anthropic: x-api-key).".to_owned(),
    }
}

fn complaint(call: &Call, operation: &Operation, body: &ReadBody) -> Option<String> {
    // The demo API takes any body.
    let problem = body.problem.filter(|_| *operation != Operation::Anything).map(str::to_owned);
    problem.or_else(|| call.dialect.complaint(operation, &body.json))
}

fn forced(decision: &Decision, refuse: impl Fn(u16, String) -> Reply) -> Reply {
    let Some(order) = &decision.forced else {
        return refuse(500, "no answer was forced".to_owned());
    };
    let mut reply = refuse(order.status, "This answer was forced by the control port.".to_owned());
    match &order.body {
        Some(Value::String(text)) => reply.chunks = vec![Bytes::from(text.clone())],
        Some(body) => reply.chunks = vec![Bytes::from(body.to_string())],
        None => (),
    }
    if order.headers.get("content-encoding").is_some_and(|coding| coding == "gzip") {
        reply.chunks = vec![body::compressed(&reply.chunks.concat())];
    }
    reply
}

fn write_headers(headers: &mut http::HeaderMap, call: &Call, decision: &Decision, wall: Timestamp) {
    let mut set = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    };
    if let Some(account) = call.account.as_deref().filter(|_| decision.verdict != Verdict::Unauthorized) {
        let own = call.dialect.headers(account, call.endpoint, &decision.states, decision.sequence(), wall);
        own.iter().for_each(|(name, value)| set(name, value));
    }
    let says_when = call.dialect.sends_retry_after() && !decision.crowded;
    if decision.verdict == Verdict::Over && says_when && decision.wait < u64::MAX {
        set("retry-after", &dialect::seconds_up(decision.wait).to_string());
    }
    if let Some(order) = &decision.forced {
        if let Some(value) = &order.retry_after {
            set("retry-after", value);
        }
        order.headers.iter().for_each(|(name, value)| set(name, value));
    }
}
