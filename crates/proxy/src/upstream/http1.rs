//! HTTP/1.1: one request at a time on a connection of its own.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri, header};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::rt::{Read, Write};

use super::body::UpstreamBody;
use super::pool::Pool;
use super::socket::{Line, Progress};
use super::write_permit::WritePermit;
use super::{BoxError, RequestBody, SendError};

/// The most of an answer that is buffered ahead of its reader, in bytes.
pub(super) const READ_AHEAD: usize = 64 * 1024;

/// The most headers of an answer; hyper alone would take a hundred.
pub(super) const HEADERS: usize = 512;

/// A connection that takes a request now.
pub struct Connection {
    sender: SendRequest<RequestBody>,
    line: Arc<Line>,
    /// Where it goes back to when its answer has been read.
    home: Weak<Pool>,
    /// When it was last used.
    used: Instant,
    /// How long the provider keeps it open without use, if announced.
    kept: Option<Duration>,
}

impl Connection {
    pub(super) async fn start<S>(stream: S, line: Arc<Line>) -> Result<Self, BoxError>
    where
        S: Read + Write + Send + Unpin + 'static,
    {
        let mut builder = Builder::new();
        builder.preserve_header_case(true).max_buf_size(READ_AHEAD).max_headers(HEADERS);
        let (sender, connection) = builder.handshake(stream).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
        Ok(Self { sender, line, home: Weak::new(), used: Instant::now(), kept: None })
    }

    pub(super) fn at_home_in(mut self, pool: &Arc<Pool>) -> Self {
        self.home = Arc::downgrade(pool);
        self
    }

    /// Whether it can take a request, having been idle for `now` minus its last use.
    pub(super) fn is_fresh(&self, now: Instant, longest: Duration) -> bool {
        let longest = self.kept.map_or(longest, |kept| kept.min(longest));
        self.sender.is_ready() && now.duration_since(self.used) < longest
    }

    pub(super) async fn send(
        mut self,
        mut request: Request<RequestBody>,
        turn: Arc<dyn WritePermit>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        self.line.arm(turn);
        match self.sender.try_send_request(request).await {
            Ok(response) => {
                self.kept = keep_alive(response.headers());
                Ok(response.map(|body| UpstreamBody::http1(body, self)))
            }
            Err(error) => {
                let error = error.into_error();
                if error.is_parse_too_large() {
                    return Err(SendError::TooLarge);
                }
                let source = error.into();
                Err(match self.line.progress() {
                    Progress::Expired => SendError::Expired,
                    Progress::Unwritten => SendError::Unwritten(source),
                    Progress::Written => SendError::Written { source, unprocessed: false },
                })
            }
        }
    }

    /// Goes back to the pool once the rest of the answer's framing is read.
    pub(super) fn go_home(mut self) {
        let Some(pool) = self.home.upgrade() else {
            return;
        };
        self.used = Instant::now();
        if self.sender.is_ready() {
            pool.put(self);
        } else if !self.sender.is_closed() {
            tokio::spawn(async move {
                if self.sender.ready().await.is_ok() {
                    pool.put(self);
                }
            });
        }
    }
}

/// `Keep-Alive: timeout=N` (RFC 2068 §19.7.1.1), less a second for the way.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let field = headers.get(header::HeaderName::from_static("keep-alive"))?.to_str().ok()?;
    let seconds = field.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    Some(Duration::from_secs(seconds.trim().parse::<u64>().ok()?.saturating_sub(1)))
}
