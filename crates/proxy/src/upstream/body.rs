//! The answer's body, whatever the protocol; pulled by its reader, so that a slow client slows the provider.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::BoxError;
use super::http1::Connection;
use super::http2::Answer;

/// The body of a provider's answer. Dropped before its end, it ends the request upstream too.
pub struct UpstreamBody(Kind);

enum Kind {
    Http1 { body: Incoming, connection: Option<Connection> },
    Http2(Answer),
}

impl UpstreamBody {
    pub(super) fn http1(body: Incoming, connection: Connection) -> Self {
        let mut this = Self(Kind::Http1 { body, connection: Some(connection) });
        if this.is_end_stream() {
            this.release();
        }
        this
    }

    pub(super) fn http2(answer: Answer) -> Self {
        Self(Kind::Http2(answer))
    }

    fn release(&mut self) {
        if let Kind::Http1 { connection, .. } = &mut self.0
            && let Some(connection) = connection.take()
        {
            connection.go_home();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match &mut self.0 {
            Kind::Http1 { body, .. } => ready!(Pin::new(body).poll_frame(cx)).map(|f| f.map_err(Into::into)),
            Kind::Http2(answer) => ready!(answer.poll_frame(cx)),
        };
        if frame.is_none() || self.is_end_stream() {
            self.release();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Http1 { body, .. } => body.is_end_stream(),
            Kind::Http2(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Http1 { body, .. } => body.size_hint(),
            Kind::Http2(answer) => answer.size_hint(),
        }
    }
}
