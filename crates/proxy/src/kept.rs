//! A request's body, kept while the call waits, so that it can be sent again after a rejection.

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

/// What is read of a body for the model's name when no more can be kept, in bytes.
const BEGINNING: usize = 16 * 1024;

/// How much of bodies is kept.
pub(crate) struct Keep {
    each: usize,
    all: usize,
    held: Arc<AtomicUsize>,
}

/// A body that came from the client.
pub(crate) struct Kept {
    form: Form,
    _held: Held,
}

enum Form {
    /// All of it; can be sent any number of times.
    Whole { data: Bytes, trailers: Option<HeaderMap> },
    /// Only its beginning; the rest streams, so there is one attempt. Empty once that was made.
    Streaming { start: Bytes, rest: Option<RequestBody> },
}

/// Bytes that count among those of all bodies.
struct Held(usize, Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0, Ordering::Relaxed);
    }
}

impl Keep {
    /// Keeps bodies of up to `each` bytes, and about `all` bytes of all together.
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self { each, all, held: Arc::default() }
    }

    /// Takes a body as far as it is kept.
    ///
    /// # Errors
    /// When the client's connection fails.
    pub(crate) async fn take<B>(&self, body: B) -> Result<Kept, BoxError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let room = self.all.saturating_sub(self.held.load(Ordering::Relaxed));
        let bound = if room < self.each { BEGINNING.min(self.each) } else { self.each };
        let form = Form::take(body, bound).await?;
        let length = form.start().len();
        self.held.fetch_add(length, Ordering::Relaxed);
        let held = Held(length, Arc::clone(&self.held));
        Ok(Kept { form, _held: held })
    }
}

impl Kept {
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
    async fn take<B>(body: B, bound: usize) -> Result<Self, BoxError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = body.map_err(Into::into);
        let hint = body.size_hint();
        let known = hint.exact();
        let mut data = Chunks::default();
        // Too large to be kept, but its beginning names the model: unnamed it would be counted apart.
        let too_large = known.unwrap_or_default() > bound as u64;
        let bound = if too_large { BEGINNING.min(bound) } else { bound };
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body_util::channel::Channel;

    use super::*;

    async fn read(kept: &mut Kept, sent: &Arc<AtomicU64>) -> Option<Bytes> {
        Some(kept.attempt(sent)?.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn a_small_body_can_be_sent_again_and_a_large_one_once() {
        let (keep, sent) = (Keep::new(5, 100), Arc::new(AtomicU64::new(0)));
        let mut small = keep.take(Full::new(Bytes::from_static(b"12345"))).await.unwrap();
        assert!(small.is_whole());
        for _ in 0..2 {
            assert_eq!(read(&mut small, &sent).await.unwrap(), "12345");
        }
        assert_eq!(sent.load(Ordering::Relaxed), 10);
        let mut large = keep.take(Full::new(Bytes::from_static(b"123456"))).await.unwrap();
        assert!(!large.is_whole());
        assert_eq!(read(&mut large, &sent).await.unwrap(), "123456");
        assert_eq!(sent.load(Ordering::Relaxed), 16);
        assert_eq!(read(&mut large, &sent).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_pauses_is_a_stream_with_its_beginning_at_hand() {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
        sender.send_data(Bytes::from_static(b"{\"model\":\"m\"")).await.unwrap();
        let mut kept = Keep::new(1000, 1000).take(body).await.unwrap();
        assert!(!kept.is_whole());
        assert_eq!(kept.start(), b"{\"model\":\"m\"");
        sender.send_data(Bytes::from_static(b"}")).await.unwrap();
        drop(sender);
        let sent = Arc::new(AtomicU64::new(0));
        assert_eq!(read(&mut kept, &sent).await.unwrap(), "{\"model\":\"m\"}");
    }

    #[tokio::test]
    async fn trailers_are_kept_with_the_body() {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
        sender.send_data(Bytes::from_static(b"x")).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        sender.send_trailers(trailers.clone()).await.unwrap();
        let mut kept = Keep::new(1000, 1000).take(body).await.unwrap();
        assert!(kept.is_whole());
        let sent = Arc::new(AtomicU64::new(0));
        let collected = kept.attempt(&sent).unwrap().collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
    }

    #[tokio::test]
    async fn the_beginning_of_a_body_that_is_too_large_is_read_all_the_same() {
        let body = Full::new(Bytes::from(vec![b'x'; 64 * 1024]));
        let kept = Keep::new(32 * 1024, 1024 * 1024).take(body).await.unwrap();
        assert!(!kept.is_whole());
        assert!(kept.start().len() >= BEGINNING, "the model stands there");
    }

    #[tokio::test]
    async fn past_the_bound_of_all_bodies_only_beginnings_are_kept() {
        let keep = Keep::new(100_000, 150_000);
        let body = || Full::new(Bytes::from(vec![b'x'; 90_000]));
        let first = keep.take(body()).await.unwrap();
        let second = keep.take(body()).await.unwrap();
        assert!(first.is_whole() && !second.is_whole());
        drop(first);
        drop(second);
        assert!(keep.take(body()).await.unwrap().is_whole());
        assert_eq!(keep.held.load(Ordering::Relaxed), 0);
    }
}
