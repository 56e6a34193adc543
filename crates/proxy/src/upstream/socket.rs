//! A socket that checks the grant before the first byte of a request and reports when that byte was written.
//!
//! It sits below TLS and HTTP/1.1, where one request at a time owns the connection: question and write are
//! neighbours in one poll, and a request that was refused has not touched the wire.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::write_permit::{GrantExpired, WritePermit};

const IDLE: u8 = 0;
const ARMED: u8 = 1;
const WRITTEN: u8 = 2;
const EXPIRED: u8 = 3;

/// The state that a socket shares with the sender of requests.
#[derive(Default)]
pub(super) struct Line {
    state: AtomicU8,
    turn: Mutex<Option<Arc<dyn WritePermit>>>,
}

/// How far an armed request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// No byte of it was written, and none will be.
    Unwritten,
    /// Its grant ran out before the first byte.
    Expired,
    /// At least a part of it was written.
    Written,
}

impl Line {
    /// Until [`Line::progress`] is taken, the next byte belongs to `turn`.
    pub(super) fn arm(&self, turn: Arc<dyn WritePermit>) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
        self.state.store(ARMED, Ordering::Release);
    }

    /// How far the request came; an unwritten one is disarmed, so that it never will be.
    pub(super) fn progress(&self) -> Progress {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match self.state.load(Ordering::Acquire) {
            WRITTEN => Progress::Written,
            EXPIRED => Progress::Expired,
            _ => {
                *turn = None;
                self.state.store(EXPIRED, Ordering::Release);
                Progress::Unwritten
            }
        }
    }

    fn write(&self, write: impl FnOnce() -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match self.state.load(Ordering::Acquire) {
            IDLE | WRITTEN => return write(),
            EXPIRED => return Poll::Ready(Err(GrantExpired.into())),
            _ => {}
        }
        let mut slot = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(turn) = slot.as_ref() else {
            return Poll::Ready(Err(GrantExpired.into()));
        };
        if !turn.may_write() {
            *slot = None;
            self.state.store(EXPIRED, Ordering::Release);
            return Poll::Ready(Err(GrantExpired.into()));
        }
        let written = ready!(write())?;
        if written > 0 {
            turn.wrote();
            *slot = None;
            self.state.store(WRITTEN, Ordering::Release);
        }
        Poll::Ready(Ok(written))
    }
}

/// The socket itself.
pub(super) struct Watched<S> {
    socket: S,
    line: Arc<Line>,
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S, line: Arc<Line>) -> Self {
        Self { socket, line }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { socket, line } = self.get_mut();
        line.write(|| Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { socket, line } = self.get_mut();
        line.write(|| Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
