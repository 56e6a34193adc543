//! A request's body, buffered while the call waits, so that it can be sent again after a rejection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::timeout;

use crate::upstream::{BoxError, RequestBody};

/// A body of unknown length that pauses this long is a stream: its client may wait for an answer before it
/// goes on (gRPC's bidirectional calls do).
const STREAM_PAUSE: Duration = Duration::from_millis(250);

/// How much of a body is read for the model's name when no more can be buffered, in bytes.
const BEGINNING: usize = 16 * 1024;

/// The buffer of request bodies, and its bounds.
pub(crate) struct ReplayBuffer {
    each: usize,
    room: Arc<Room>,
}

/// The memory that all bodies share.
struct Room {
    all: usize,
    taken: AtomicUsize,
}

/// A body that came from the client.
pub(crate) struct ReplayBody {
    form: Form,
    _held: ReservedRoom,
}

enum Form {
    /// All of it; can be sent any number of times.
    Whole { data: Bytes, trailers: Option<HeaderMap> },
    /// Only its beginning; the rest streams, so there is one attempt. Empty once that was made.
    Streaming { start: Bytes, rest: Option<RequestBody> },
}

/// Bytes that count among those of all bodies, from before they are read until they are dropped.
struct ReservedRoom {
    bytes: usize,
    room: Arc<Room>,
}

impl ReservedRoom {
    fn nothing(room: &Arc<Room>) -> Self {
        Self { bytes: 0, room: Arc::clone(room) }
    }

    /// Holds `bytes` in all, if there is room for them.
    fn reserve(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let grown = |taken: usize| taken.checked_add(more).filter(|sum| *sum <= self.room.all);
        let there = self.room.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        if there {
            self.bytes += more;
        }
        there
    }

    /// Holds just `bytes`, whether or not there is room: they are here already.
    fn settle(&mut self, bytes: usize) {
        self.room.taken.fetch_add(bytes, Ordering::Relaxed);
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for ReservedRoom {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl ReplayBuffer {
    /// Buffers bodies of up to `each` bytes, and `all` bytes in total. Beginnings are read even where there is
    /// no room left, since a call that is not understood would be counted wrongly: 16 KiB and a frame each.
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self { each, room: Arc::new(Room { all, taken: AtomicUsize::new(0) }) }
    }

    /// Reads a body as far as it may be buffered.
    ///
    /// # Errors
    /// When the client's connection fails.
    pub(crate) async fn buffer<B>(&self, body: B) -> Result<ReplayBody, BoxError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let mut held = ReservedRoom::nothing(&self.room);
        let form = Form::read(body, self.each, &mut held).await?;
        held.settle(form.start().len());
        Ok(ReplayBody { form, _held: held })
    }
}

impl ReplayBody {
    /// As much of the body as is here.
    pub(crate) fn start(&self) -> &[u8] {
        self.form.start()
    }

    /// Whether the body can be sent once more.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.form, Form::Whole { .. })
    }

    /// The body for one attempt, whose bytes are counted in `sent`; none where a stream was used up.
    pub(crate) fn attempt(&mut self, sent: &Arc<AtomicU64>) -> Option<RequestBody> {
        self.form.attempt(sent)
    }
}

impl Form {
    async fn read<B>(body: B, each: usize, held: &mut ReservedRoom) -> Result<Self, BoxError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = body.map_err(Into::into);
        let hint = body.size_hint();
        let known = hint.exact();
        let mut data = Chunks::default();
        // A body that can't be buffered is still read for the model's name: without it, it would be counted apart.
        let beginning = BEGINNING.min(each);
        let whole = known.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        // All of it is set aside before any of it is read, so that bodies that arrive together share the room.
        let fits = whole.is_none_or(|length| length <= each && held.reserve(length));
        let mut bound = if fits { each } else { beginning };
        loop {
            let next = match known {
                Some(_) => body.frame().await,
                None => match timeout(STREAM_PAUSE, body.frame()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            let frame = match next.transpose()? {
                None => return Ok(Self::Whole { data: data.join(), trailers: None }),
                Some(frame) => frame,
            };
            match frame.into_data() {
                Ok(part) => data.push(part),
                Err(frame) => {
                    let trailers = frame.into_trailers().ok();
                    return Ok(Self::Whole { data: data.join(), trailers });
                }
            }
            if data.length > held.bytes && !held.reserve(data.length) {
                held.settle(data.length);
                bound = beginning;
            }
            if data.length > bound {
                break;
            }
        }
        Ok(Self::Streaming { start: data.join(), rest: Some(body.boxed_unsync()) })
    }

    fn start(&self) -> &[u8] {
        match self {
            Self::Whole { data, .. } | Self::Streaming { start: data, .. } => data,
        }
    }

    fn attempt(&mut self, sent: &Arc<AtomicU64>) -> Option<RequestBody> {
        let sent = Arc::clone(sent);
        Some(match self {
            Self::Whole { data, trailers: None } => {
                sent.fetch_add(data.len() as u64, Ordering::Relaxed);
                Full::new(data.clone()).map_err(never).boxed_unsync()
            }
            Self::Whole { data, trailers: Some(trailers) } => {
                sent.fetch_add(data.len() as u64, Ordering::Relaxed);
                let frames = [Frame::data(data.clone()), Frame::trailers(trailers.clone())];
                let frames = frames.map(Ok::<_, BoxError>);
                StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
            }
            Self::Streaming { start, rest } => {
                let start = std::mem::take(start);
                let body = Prefixed { start: VecDeque::from([start]), rest: rest.take()? };
                let count = move |frame: Frame<Bytes>| {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    sent.fetch_add(length as u64, Ordering::Relaxed);
                    frame
                };
                body.map_frame(count).boxed_unsync()
            }
        })
    }
}

fn never(never: Infallible) -> BoxError {
    match never {}
}

/// Parts of a body; one part stays as it is.
#[derive(Default)]
pub(crate) struct Chunks {
    parts: Vec<Bytes>,
    pub(crate) length: usize,
}

impl Chunks {
    pub(crate) fn push(&mut self, part: Bytes) {
        self.length += part.len();
        self.parts.push(part);
    }

    pub(crate) fn join(mut self) -> Bytes {
        if self.parts.len() == 1 {
            return self.parts.remove(0);
        }
        let mut joined = BytesMut::with_capacity(self.length);
        self.parts.iter().for_each(|part| joined.extend_from_slice(part));
        joined.freeze()
    }
}

/// A body of which the beginning has been read already.
pub(crate) struct Prefixed<B> {
    pub(crate) start: VecDeque<Bytes>,
    pub(crate) rest: B,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Prefixed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        while let Some(part) = self.start.pop_front() {
            if !part.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.start.iter().all(Bytes::is_empty) && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let start: usize = self.start.iter().map(Bytes::len).sum();
        let (start, rest) = (start as u64, self.rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(start.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(start)) {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests;
