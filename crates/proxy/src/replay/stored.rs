//! A body that has arrived: read for what it says, and sent any number of times.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::upstream::{BoxError, RequestBody};

/// What is read from a file at once, in bytes.
const PART: u64 = 256 * 1024;

/// The bytes of a body: those in a file, then those in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(super) file: Option<StoredFile>,
    pub(super) parts: Vec<Bytes>,
}

/// A file without a name, which is gone when nobody reads it any more.
#[derive(Clone, Debug)]
pub(super) struct StoredFile {
    pub(super) file: Arc<File>,
    /// How much was written, in bytes.
    pub(super) length: u64,
}

impl Stored {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        let in_memory: u64 = self.parts.iter().map(|part| part.len() as u64).sum();
        self.file.as_ref().map_or(0, |file| file.length) + in_memory
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all of it is in memory.
    pub(crate) fn in_memory(&self) -> bool {
        self.file.is_none()
    }

    /// Inserts a text behind its first byte that is no white space, if that is `first` and in memory.
    pub(super) fn insert_behind(&mut self, first: u8, text: &str) -> bool {
        if !self.in_memory() {
            return false;
        }
        let begins = |part: &Bytes| part.iter().position(|byte| !byte.is_ascii_whitespace());
        let mut places =
            self.parts.iter().enumerate().filter_map(|(part, bytes)| Some((part, begins(bytes)?)));
        let Some((part, at)) = places.next() else {
            return false;
        };
        if self.parts[part][at] != first {
            return false;
        }
        let mut head = self.parts[part].clone();
        let tail = head.split_off(at + 1);
        self.parts.splice(part..=part, [head, Bytes::copy_from_slice(text.as_bytes()), tail]);
        true
    }

    /// A reader from its beginning; reading blocks where a part is in a file.
    pub(crate) fn reader(&self) -> StoredReader {
        StoredReader { stored: self.clone(), offset: 0, part: 0, in_part: 0 }
    }

    /// The body for one attempt, whose bytes are counted in `sent`.
    pub(super) fn body(&self, trailers: Option<HeaderMap>, sent: &Arc<AtomicU64>) -> StoredBody {
        StoredBody {
            left: self.len(),
            file: self.file.clone(),
            offset: 0,
            reading: None,
            parts: self.parts.iter().cloned().collect(),
            trailers,
            sent: Arc::clone(sent),
        }
    }
}

/// Reads a stored body.
pub(crate) struct StoredReader {
    stored: Stored,
    /// How much of the file was read.
    offset: u64,
    /// The current part, and how much of it was read.
    part: usize,
    in_part: usize,
}

impl Read for StoredReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(StoredFile { file, length }) = &self.stored.file {
            let left = usize::try_from(length - self.offset).unwrap_or(usize::MAX);
            let most = into.len().min(left);
            if most > 0 {
                let read = file.read_at(&mut into[..most], self.offset)?;
                self.offset += read as u64;
                return Ok(read);
            }
        }
        while let Some(part) = self.stored.parts.get(self.part) {
            let left = &part[self.in_part..];
            if left.is_empty() {
                (self.part, self.in_part) = (self.part + 1, 0);
                continue;
            }
            let read = left.len().min(into.len());
            into[..read].copy_from_slice(&left[..read]);
            self.in_part += read;
            return Ok(read);
        }
        Ok(0)
    }
}

/// A stored body on its way to the provider.
pub(super) struct StoredBody {
    left: u64,
    file: Option<StoredFile>,
    offset: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    parts: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    sent: Arc<AtomicU64>,
}

impl StoredBody {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(StoredFile { file, length }) = &self.file
            && self.offset < *length
        {
            let reading = self.reading.get_or_insert_with(|| {
                let (file, at) = (Arc::clone(file), self.offset);
                let most = usize::try_from((length - at).min(PART)).unwrap_or_default();
                tokio::task::spawn_blocking(move || {
                    let mut part = vec![0; most];
                    file.read_exact_at(&mut part, at).map(|()| Bytes::from(part))
                })
            });
            let read =
                ready!(Pin::new(reading).poll(cx)).unwrap_or_else(|error| Err(io::Error::other(error)));
            self.reading = None;
            if let Ok(part) = &read {
                self.offset += part.len() as u64;
            }
            return Poll::Ready(Some(read));
        }
        Poll::Ready(self.parts.pop_front().map(Ok))
    }
}

impl Body for StoredBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match ready!(self.poll_part(cx)) {
            Some(Ok(part)) => {
                let length = part.len() as u64;
                self.left = self.left.saturating_sub(length);
                self.sent.fetch_add(length, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A beginning that was stored, then the rest as it arrives.
pub(super) struct Continued {
    pub(super) start: StoredBody,
    pub(super) rest: RequestBody,
}

impl Body for Continued {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.start.is_end_stream()
            && let Some(frame) = ready!(Pin::new(&mut self.start).poll_frame(cx))
        {
            return Poll::Ready(Some(frame));
        }
        let frame = ready!(Pin::new(&mut self.rest).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.start.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.start.is_end_stream() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (start, rest) = (self.start.left, self.rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(start.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(start)) {
            hint.set_upper(upper);
        }
        hint
    }
}
