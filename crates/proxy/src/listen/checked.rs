//! A client's connection whose request heads are checked before the HTTP library reads them.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http::Response;
use quotakeeper_listen::Busy;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::half_close::{AnswerBody, Answers, HalfClosed, Peer};
use super::requests::{Requests, TurnedAway};
use crate::frame_reader::FrameReader;
use crate::local_response::{LocalResponse, ResponseBody};

/// What is read at once where heads and chunks are looked at, in bytes.
const PIECE: usize = 8 * 1024;
/// The error by which a malformed request of HTTP/2 is reset (RFC 9113 §8.1.1).
const PROTOCOL_ERROR: u32 = 1;

/// A checked connection.
pub(super) struct Checked<S> {
    stream: S,
    requests: Requests,
    /// What the library has not read yet, from `read` on.
    out: Vec<u8>,
    read: usize,
    turned_away: Turnaways,
    /// Whether all that the library has written is on its way to the client.
    flushed: bool,
    half_closed: Option<HalfClosed>,
    /// What the library writes where the connection speaks HTTP/2.
    http2: FrameReader,
}

/// The request of a connection that is turned away, for the one who answers its requests in their order.
#[derive(Clone, Default)]
pub(super) struct Turnaways(Arc<Shared>);

#[derive(Default)]
struct Shared {
    answered: AtomicU64,
    turned_away: Mutex<Option<TurnedAway>>,
    answers: Answers,
    reset: Notify,
}

impl Turnaways {
    /// The next request is to be answered: how, if it is turned away.
    pub(super) fn next(&self) -> Option<LocalResponse> {
        let number = self.0.answered.fetch_add(1, Ordering::Relaxed) + 1;
        let mut turned_away = self.0.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
        turned_away.take_if(|turned_away| turned_away.number == number).map(|turned_away| turned_away.answer)
    }

    /// Waits until the library has reset a request of HTTP/2 because it can't read its head.
    pub(super) async fn reset(&self) {
        self.0.reset.notified().await;
    }

    /// A request has got its answer.
    pub(super) fn answered(&self, answer: Response<ResponseBody>, busy: Busy) -> Response<AnswerBody> {
        answer.map(|body| self.0.answers.begin(body, busy))
    }
}

impl<S> Checked<S> {
    pub(super) fn new(stream: S) -> (Self, Turnaways) {
        let turned_away = Turnaways::default();
        let requests = Requests::default();
        let this = Self {
            stream,
            requests,
            out: Vec::new(),
            read: 0,
            turned_away: turned_away.clone(),
            flushed: true,
            half_closed: None,
            http2: FrameReader::behind(0),
        };
        (this, turned_away)
    }

    fn take(&mut self, buf: &mut ReadBuf<'_>) {
        let length = buf.remaining().min(self.out.len() - self.read);
        buf.put_slice(&self.out[self.read..self.read + length]);
        self.read += length;
        if self.read == self.out.len() {
            (self.out, self.read) = (Vec::new(), 0);
        }
    }

    fn look(&mut self, input: &[u8]) {
        self.requests.read(input, &mut self.out);
        if let Some(turned_away) = self.requests.turned_away.take() {
            let mut slot = self.turned_away.0.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Some(turned_away);
        }
    }
}

impl<S: AsyncWrite + Peer + Unpin> Checked<S> {
    /// The client has ended its side: waits while it may still be there for an answer.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.half_closed.is_none() {
            let answers = self.turned_away.0.answers.clone();
            // Within an answer nothing can be asked, and most clients that leave there have hung up.
            let may_wait = self.requests.may_end() && answers.is_between();
            if !may_wait || self.stream.is_reset() != Some(false) {
                return Poll::Ready(());
            }
            self.half_closed = Some(HalfClosed::new(self.requests.heads(), answers));
        }
        match &mut self.half_closed {
            Some(half_closed) => half_closed.poll_over(&mut self.stream, self.flushed, cx),
            None => Poll::Ready(()),
        }
    }

    /// Looks for requests of HTTP/2 that the library resets.
    fn written<'a>(&mut self, bufs: impl IntoIterator<Item = &'a [u8]>, mut written: usize) {
        if !self.requests.is_http2() {
            return;
        }
        for buf in bufs {
            let part = &buf[..buf.len().min(written)];
            written -= part.len();
            self.http2.read(part, |frame| {
                if frame.error == Some(PROTOCOL_ERROR) {
                    self.turned_away.0.reset.notify_one();
                }
            });
        }
    }

    /// Waits until the library may write.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = false;
        match &mut self.half_closed {
            Some(half_closed) => half_closed.poll_write(&mut self.stream, cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Peer + Unpin> AsyncRead for Checked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.out.is_empty() {
                this.take(buf);
                return Poll::Ready(Ok(()));
            }
            if this.requests.is_broken() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "its framing can't be read",
                )));
            }
            let unread = usize::try_from(this.requests.unread()).unwrap_or(usize::MAX);
            if unread > 0 {
                let room = buf.remaining().min(unread);
                let mut direct = ReadBuf::new(buf.initialize_unfilled_to(room));
                ready!(Pin::new(&mut this.stream).poll_read(cx, &mut direct))?;
                let length = direct.filled().len();
                if length == 0 {
                    ready!(this.poll_end(cx));
                }
                buf.advance(length);
                this.requests.passed(length as u64);
                return Poll::Ready(Ok(()));
            }
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                ready!(this.poll_end(cx));
                return Poll::Ready(Ok(()));
            }
            this.look(read.filled());
        }
    }
}

impl<S: AsyncWrite + Peer + Unpin> AsyncWrite for Checked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_turn(cx))?;
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.written([buf], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_turn(cx))?;
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.written(bufs.iter().map(|buf| &**buf), written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::super::request_head::MOST_HEADERS;
    use super::*;

    /// What a client gets that sends `bytes` and then waits for the end of the connection.
    async fn answers(bytes: Vec<u8>) -> String {
        let (mut client, server) = duplex(64 * 1024);
        let (stream, turnaways) = Checked::new(server);
        let service = service_fn(move |_: http::Request<Incoming>| {
            let own = turnaways.next().map(LocalResponse::into_response);
            let empty = || Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
            let answer = own.unwrap_or_else(|| http::Response::new(empty()));
            async move { Ok::<_, Infallible>(answer) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.max_headers(MOST_HEADERS);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        let serving = tokio::spawn(async move { serving.await.is_ok() });
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        serving.await.unwrap();
        String::from_utf8_lossy(&answers).into_owned()
    }

    /// A request of which some bytes are replaced by any others.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let request = prop_oneof![
            Just(&b"GET /a?b=c HTTP/1.1\r\nhost: proxy\r\naccept: */*\r\n\r\n"[..]),
            Just(&b"POST /a HTTP/1.1\r\nhost: proxy\r\ncontent-length: 3\r\n\r\nabc"[..]),
            Just(&b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"[..]),
        ];
        let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        (request, damage).prop_map(|(request, damage)| {
            let mut bytes = request.to_vec();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
        #[test]
        fn no_bytes_are_answered_by_a_bare_error(bytes in damaged()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let got = runtime.block_on(answers(bytes.clone()));
            for head in got.split("HTTP/1.1 ").filter(|head| head.starts_with('4') || head.starts_with('5')) {
                prop_assert!(head.contains("x-quotakeeper-reason"), "{}: {got}", bytes.escape_ascii());
            }
        }
    }
}
