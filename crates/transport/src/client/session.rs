//! One session on the proxy's side, from the token to the last message.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use http::header::AUTHORIZATION;
use http::uri::{PathAndQuery, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quotakeeper_wire::codec::{METHOD, MOST_TO_PROXY};
use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status, Streaming};

use super::race::Limiters;
use super::{Connector, Dial, race};
use crate::codec::SessionCodec;
use crate::limiter::ACTIVE_LIMITER;
use crate::link::{Link, ProxyGone};

/// Timeout of a TCP connection.
const DIAL: Duration = Duration::from_secs(3);
/// Timeout of everything until the limiter has accepted the session.
const BEGIN: Duration = Duration::from_secs(10);
/// HTTP/2 keep-alive: a ping after this long without traffic, …
const PING: Duration = Duration::from_secs(1);
/// … and the connection is lost without an answer for this long: a dead node closes nothing.
const PONG: Duration = Duration::from_secs(4);
/// The HTTP/2 receive window, in bytes.
const WINDOW: u32 = 256 * 1024;
/// How long a stopping proxy waits until the limiter has read its last messages.
const FAREWELL: Duration = Duration::from_secs(1);

/// A session that has ended, or never began.
pub(super) struct Lost {
    pub(super) why: Why,
    /// The limiter has sent a message on it.
    pub(super) greeted: bool,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Why {
    #[error("the token can't be read ({0}); mount a ServiceAccount token for the limiter")]
    Token(io::Error),
    #[error("the token is not one line of ASCII; mount a ServiceAccount token for the limiter")]
    NotAToken,
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("no HTTP/2: {0}")]
    Http2(#[from] hyper::Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("{}", StatusSentence(.0))]
    Ended(Status),
    #[error("the limiter closed the session")]
    Closed,
}

impl Why {
    /// Whether the cause is on this side, so that a retry at once would fail again.
    pub(super) fn is_ours(&self) -> bool {
        let Why::Ended(status) = self else { return false };
        matches!(
            status.code(),
            Code::InvalidArgument | Code::OutOfRange | Code::PermissionDenied | Code::Unauthenticated
        )
    }

    /// Where the active limiter is, if this is the answer of one on standby: it may not know that.
    pub(super) fn standby(&self) -> Option<Option<SocketAddr>> {
        let Why::Ended(status) = self else { return None };
        let active = status.metadata().get(ACTIVE_LIMITER)?;
        Some(active.to_str().ok().and_then(|active| active.parse().ok()))
    }
}

/// A status as a sentence.
struct StatusSentence<'a>(&'a Status);

impl fmt::Display for StatusSentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.code(), self.0.message())
    }
}

/// One session, from the token to the last message, with one of the limiters.
///
/// # Errors
/// [`ProxyGone`]; its last messages have been sent.
pub(super) async fn session<D: Dial>(
    connector: &Connector<D>,
    link: &impl Link,
    limiters: &mut Limiters,
) -> Result<Lost, ProxyGone> {
    let mut greeted = false;
    let why = match race::open(connector, limiters, BEGIN).await {
        Ok(opened) => exchange(opened, link, &mut greeted).await?,
        Err(why) => why,
    };
    Ok(Lost { why, greeted })
}

/// A session that the limiter has accepted; no message has been sent yet.
pub(super) struct Opened {
    incoming: Streaming<Option<ToProxy>>,
    /// Receives the channel of the messages to send.
    outgoing: oneshot::Sender<mpsc::Receiver<ToLimiter>>,
    _connection: AbortOnDropHandle<()>,
}

/// Opens a session with the limiter at this address.
pub(super) async fn open<D: Dial>(connector: &Connector<D>, limiter: SocketAddr) -> Result<Opened, Why> {
    let token = token(connector).await?;
    let dialled =
        timeout(DIAL, connector.dial.dial(&limiter.to_string())).await.map_err(|_| Why::Late(DIAL))?;
    let stream = dialled.map_err(Why::Connect)?;
    stream.set_nodelay(true).map_err(Why::Connect)?;
    let tls = TlsConnector::from(connector.tls.clone());
    let stream = tls.connect(connector.name.clone(), stream).await.map_err(Why::Connect)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the limiter ended");
        }
    }));

    let (outgoing, promised) = oneshot::channel();
    let mut request = Request::new(Outgoing::Promised(promised));
    request.metadata_mut().insert(AUTHORIZATION.as_str(), token);
    let origin = Uri::builder().scheme("https").authority(connector.address.as_str()).path_and_query("/");
    let origin = origin.build().unwrap_or_default();
    let incoming = Grpc::with_origin(Channel(sender), origin)
        .max_decoding_message_size(MOST_TO_PROXY)
        .streaming(request, PathAndQuery::from_static(METHOD), SessionCodec::<ToLimiter, ToProxy>::default())
        .await
        .map_err(Why::Ended)?
        .into_inner();
    Ok(Opened { incoming, outgoing, _connection: connection })
}

async fn token<D>(connector: &Connector<D>) -> Result<MetadataValue<Ascii>, Why> {
    let token = tokio::fs::read_to_string(&connector.token_file).await.map_err(Why::Token)?;
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {}", token.trim()).parse().map_err(|_| Why::NotAToken)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Exchanges messages until the limiter, the network or the proxy ends it.
async fn exchange(opened: Opened, link: &impl Link, greeted: &mut bool) -> Result<Why, ProxyGone> {
    let Opened { mut incoming, outgoing, _connection } = opened;
    if outgoing.send(link.connect().await?).is_err() {
        return Ok(Why::Closed);
    }
    loop {
        match incoming.message().await {
            Ok(Some(Some(message))) => {
                *greeted = true;
                if link.deliver(message).await.is_err() {
                    // The limiter ends the session once it has read the proxy's last messages.
                    let read = async { while let Ok(Some(_)) = incoming.message().await {} };
                    // Messages that were not read in time are lost.
                    let _ = timeout(FAREWELL, read).await;
                    return Err(ProxyGone);
                }
            }
            Ok(Some(None)) => {}
            Ok(None) => return Ok(Why::Closed),
            Err(status) => return Ok(Why::Ended(status)),
        }
    }
}

/// The proxy's messages; they begin once the limiter has accepted the session.
enum Outgoing {
    Promised(oneshot::Receiver<mpsc::Receiver<ToLimiter>>),
    Ready(mpsc::Receiver<ToLimiter>),
}

impl Stream for Outgoing {
    type Item = ToLimiter;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ToLimiter>> {
        loop {
            match &mut *self {
                Outgoing::Ready(messages) => return messages.poll_recv(cx),
                Outgoing::Promised(promised) => match ready!(Pin::new(promised).poll(cx)) {
                    Ok(messages) => *self = Outgoing::Ready(messages),
                    Err(_) => return Poll::Ready(None),
                },
            }
        }
    }
}

/// The connection, as tonic calls it.
struct Channel(SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
