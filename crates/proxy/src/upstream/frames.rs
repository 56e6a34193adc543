//! Detects when a request's HEADERS frame has left an HTTP/2 connection.
//!
//! Requests of one connection share its writes, so the socket alone does not know whose bytes it accepts. This
//! watch sits between HTTP/2 and TLS, where frames are readable (RFC 9113 §4.1), and counts a frame as out
//! once a flush that came after it has ended. Streams are opened in ascending order (§5.1.1): whoever is
//! below the highest opened stream is out too.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::write_permit::WritePermit;
use crate::frame_reader::{FrameReader, HEADERS, PREFACE};

/// What is known of a connection's frames; shared with the senders of requests.
#[derive(Default)]
pub(super) struct Frames(Mutex<State>);

struct State {
    reader: FrameReader,
    /// The highest stream whose HEADERS were handed to the socket …
    handed: u32,
    /// … and were flushed.
    flushed: u32,
    waiting: Vec<(u32, Arc<dyn WritePermit>)>,
}

impl Default for State {
    fn default() -> Self {
        Self { reader: FrameReader::behind(PREFACE), handed: 0, flushed: 0, waiting: Vec::new() }
    }
}

impl Frames {
    /// Notifies `turn` once the HEADERS of `stream` are out, at once if they already are.
    pub(super) fn watch(&self, stream: u32, turn: Arc<dyn WritePermit>) {
        let mut state = self.state();
        if state.flushed >= stream {
            drop(state);
            turn.wrote();
        } else {
            state.waiting.push((stream, turn));
        }
    }

    /// Forgets a stream; whether its HEADERS may have reached the wire.
    pub(super) fn forget(&self, stream: u32) -> bool {
        let mut state = self.state();
        state.waiting.retain(|(waiting, _)| *waiting != stream);
        state.handed >= stream
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handed<'a>(&self, bytes: impl Iterator<Item = &'a [u8]>, mut written: usize) {
        let State { reader, handed, .. } = &mut *self.state();
        for part in bytes {
            let part = &part[..part.len().min(written)];
            written -= part.len();
            reader.read(part, |frame| {
                if frame.kind == HEADERS {
                    *handed = frame.stream.max(*handed);
                }
            });
        }
    }

    fn flushed(&self) {
        let mut state = self.state();
        if state.flushed == state.handed {
            return;
        }
        let flushed = state.handed;
        state.flushed = flushed;
        for (_, turn) in state.waiting.extract_if(.., |(stream, _)| *stream <= flushed) {
            turn.wrote();
        }
    }
}

/// The stream that is watched.
pub(super) struct Framed<S> {
    inner: S,
    frames: Arc<Frames>,
}

impl<S> Framed<S> {
    pub(super) fn new(inner: S, frames: Arc<Frames>) -> Self {
        Self { inner, frames }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, frames } = self.get_mut();
        let written = ready!(Pin::new(inner).poll_write(cx, buf))?;
        frames.handed([buf].into_iter(), written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { inner, frames } = self.get_mut();
        let written = ready!(Pin::new(inner).poll_write_vectored(cx, bufs))?;
        frames.handed(bufs.iter().map(|buf| &**buf), written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, frames } = self.get_mut();
        ready!(Pin::new(inner).poll_flush(cx))?;
        frames.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::frame_reader::FRAME_HEADER;

    fn frame(kind: u8, stream: u32, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0];
        frame.extend(stream.to_be_bytes());
        frame.resize(FRAME_HEADER + usize::from(length), 1);
        frame
    }

    #[derive(Default)]
    struct Told(AtomicU32);
    impl WritePermit for Told {
        fn may_write(&self) -> bool {
            true
        }
        fn wrote(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_call_is_recognised_by_the_flush_after_its_headers() {
        let sent: Vec<u8> = [
            vec![b'P'; PREFACE],
            frame(4, 0, 18),
            frame(HEADERS, 1, 40),
            frame(0, 1, 200),
            frame(HEADERS, 3, 1),
        ]
        .concat();
        for cut in 1..sent.len() {
            let (frames, one, two) =
                (Frames::default(), Arc::new(Told::default()), Arc::new(Told::default()));
            frames.watch(1, one.clone());
            frames.flushed();
            assert_eq!(one.0.load(Ordering::Relaxed), 0);
            for part in sent.chunks(cut) {
                frames.handed([part].into_iter(), part.len());
            }
            assert!(frames.forget(3) && !frames.forget(5));
            frames.watch(3, two.clone());
            assert_eq!(two.0.load(Ordering::Relaxed), 0, "not before a flush");
            frames.flushed();
            frames.flushed();
            assert_eq!((one.0.load(Ordering::Relaxed), two.0.load(Ordering::Relaxed)), (1, 1));
        }
    }

    #[test]
    fn bytes_that_the_socket_did_not_accept_are_not_counted() {
        let frames = Frames::default();
        let headers = frame(HEADERS, 1, 40);
        let preface = [b'P'; PREFACE];
        frames.handed([&preface[..], &headers[..]].into_iter(), PREFACE + 8);
        assert!(!frames.forget(1));
        frames.handed([&headers[8..]].into_iter(), 1);
        assert!(frames.forget(1));
    }
}
