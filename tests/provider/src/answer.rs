//! An answer's body: chunks with a pause between them, and a report of how it ended.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::book::Ticket;
use crate::shared::Shared;

/// Reports how a request ended, at the latest when it is dropped: then the client has gone.
#[derive(Debug)]
pub(crate) struct Report {
    shared: Arc<Shared>,
    ticket: Ticket,
    bytes_out: u64,
    done: bool,
    hung_up: Option<CancellationToken>,
}

impl Report {
    pub(crate) fn new(shared: Arc<Shared>, ticket: Ticket) -> Self {
        Self { shared, ticket, bytes_out: 0, done: false, hung_up: None }
    }

    /// The same, which cancels this when the client leaves first.
    pub(crate) fn or_cancel(mut self, hung_up: CancellationToken) -> Self {
        self.hung_up = Some(hung_up);
        self
    }

    pub(crate) fn status(&self, status: u16) {
        self.shared.book().answered(&self.ticket, status);
    }

    fn finish(&mut self, finished: bool) {
        if !self.done {
            self.done = true;
            if let Some(hung_up) = self.hung_up.as_ref().filter(|_| !finished) {
                hung_up.cancel();
            }
            self.shared.book().ended(&self.ticket, self.bytes_out, finished, self.shared.now());
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.finish(false);
    }
}

/// The body.
#[derive(Debug)]
pub(crate) struct Answer {
    chunks: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    gap: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    streamed: bool,
    report: Report,
}

impl Answer {
    /// A body in one piece or, streamed, with `gap` between its chunks.
    pub(crate) fn new(chunks: Vec<Bytes>, streamed: bool, gap: Duration, mut report: Report) -> Self {
        let chunks: VecDeque<Bytes> = chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
        // Nobody asks for the frames of an empty body.
        if chunks.is_empty() {
            report.finish(true);
        }
        Self { chunks, trailers: None, gap, sleep: None, streamed, report }
    }

    /// The same, with trailers after it.
    pub(crate) fn with_trailers(self, trailers: HeaderMap) -> Self {
        Self { trailers: Some(trailers).filter(|trailers| !trailers.is_empty()), ..self }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if let Some(sleep) = &mut this.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
            this.sleep = None;
        }
        let Some(chunk) = this.chunks.pop_front() else {
            return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        };
        this.report.bytes_out += chunk.len() as u64;
        if this.chunks.is_empty() {
            this.report.finish(true);
        } else if !this.gap.is_zero() {
            this.sleep = Some(Box::pin(tokio::time::sleep(this.gap)));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.streamed || self.trailers.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.chunks.iter().map(|chunk| chunk.len() as u64).sum())
    }
}
