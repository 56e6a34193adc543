//! Clients that end their side of a connection behind their last request: some have hung up, others (`nc`, programs
//! that call `shutdown(SHUT_WR)`) wait for the answer. TCP says the same of both until something is written to them.
//!
//! So an interim `100 Continue` is written, which every client of HTTP/1.1 skips (RFC 9110 §15.2). The system of one
//! that has hung up resets the connection at that.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use quotakeeper_listen::Busy;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use crate::local_response::ResponseBody;
use crate::upstream::BoxError;

/// What is written. It goes unnoticed by clients that still read.
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// When it is looked whether the connection was reset, from the previous look on. A client may leave later, too.
const LOOKS: [Look; 10] = [
    Look::after_writing(0),
    Look::again(20),
    Look::after_writing(1_000),
    Look::again(20),
    Look::after_writing(4_000),
    Look::again(20),
    Look::after_writing(16_000),
    Look::again(20),
    // Go's client takes no more than five.
    Look::after_writing(64_000),
    Look::again(20),
];

/// A look at a connection.
struct Look {
    after: Duration,
    writes: bool,
}

impl Look {
    const fn after_writing(millis: u64) -> Self {
        Self { after: Duration::from_millis(millis), writes: true }
    }

    const fn again(millis: u64) -> Self {
        Self { after: Duration::from_millis(millis), writes: false }
    }
}

/// A client's connection.
pub(super) trait Peer {
    /// Whether the client has reset the connection; `None` where this can't be seen, and the end of its side is taken for
    /// a hang-up.
    fn is_reset(&self) -> Option<bool>;
}

impl Peer for TcpStream {
    fn is_reset(&self) -> Option<bool> {
        Some(!matches!(self.take_error(), Ok(None)))
    }
}

/// Clients of TLS end their side with an alert when they hang up, and no other way.
impl Peer for TlsStream<TcpStream> {
    fn is_reset(&self) -> Option<bool> {
        None
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Peer for tokio::io::DuplexStream {
    fn is_reset(&self) -> Option<bool> {
        None
    }
}

/// The answers of one HTTP/1.1 connection, which follow each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    begun: AtomicU64,
    ended: AtomicU64,
    reader: AtomicWaker,
}

impl Answers {
    /// An answer begins.
    pub(super) fn begin(&self, body: ResponseBody, busy: Busy) -> AnswerBody {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        AnswerBody { body, _end: End(self.clone()), _busy: busy }
    }

    /// How many have ended.
    fn ended(&self) -> u64 {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// Whether none is on its way to the client.
    pub(super) fn is_between(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed) == self.ended()
    }
}

/// The body of an answer, which notes its end.
pub(super) struct AnswerBody {
    body: ResponseBody,
    _end: End,
    _busy: Busy,
}

struct End(Answers);

impl Drop for End {
    fn drop(&mut self) {
        let shared = &self.0.0;
        shared.ended.fetch_add(1, Ordering::Relaxed);
        shared.reader.wake();
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client that has ended its side of the connection while `requests` of its requests have come.
#[derive(Debug)]
pub(super) struct HalfClosed {
    requests: u64,
    answers: Answers,
    /// The look that comes next.
    look: usize,
    timer: Pin<Box<Sleep>>,
    /// What is still to be written of the interim answer.
    unwritten: &'static [u8],
}

impl HalfClosed {
    pub(super) fn new(requests: u64, answers: Answers) -> Self {
        Self { requests, answers, look: 0, timer: Box::pin(sleep(LOOKS[0].after)), unwritten: &[] }
    }

    /// Waits until all requests have been answered or the client has hung up. `flushed`: nothing of an earlier answer is
    /// left to be written.
    pub(super) fn poll_over<S>(&mut self, stream: &mut S, flushed: bool, cx: &mut Context<'_>) -> Poll<()>
    where
        S: AsyncWrite + Peer + Unpin,
    {
        self.answers.0.reader.register(cx.waker());
        loop {
            if self.answers.ended() >= self.requests || stream.is_reset() != Some(false) {
                return Poll::Ready(());
            }
            let Some(look) = LOOKS.get(self.look) else { return Poll::Pending };
            ready!(self.timer.as_mut().poll(cx));
            // While an answer is written, a client that is gone shows by itself.
            if look.writes && flushed && self.answers.is_between() {
                self.unwritten = INTERIM;
                // A client without room for it reads no answer either.
                let _later = self.poll_write(stream, cx);
            }
            self.look += 1;
            if let Some(next) = LOOKS.get(self.look) {
                self.timer.set(sleep(next.after));
            }
        }
    }

    /// Writes what is left of an interim answer, before anything else is written.
    ///
    /// # Errors
    /// When the client can't be written to.
    pub(super) fn poll_write<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while !self.unwritten.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, self.unwritten))?;
            self.unwritten = &self.unwritten[written..];
        }
        Poll::Ready(Ok(()))
    }
}
