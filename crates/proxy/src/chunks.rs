//! Parts of bodies: joined, or put back before the rest.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

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

/// A body of which the beginning has been read already, maybe with its trailers.
pub(crate) struct Prefixed<B> {
    pub(crate) start: VecDeque<Bytes>,
    pub(crate) trailers: Option<HeaderMap>,
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
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.start.iter().all(Bytes::is_empty) && self.trailers.is_none() && self.rest.is_end_stream()
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
