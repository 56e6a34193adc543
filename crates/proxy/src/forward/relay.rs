//! The provider's answer on its way to the client: pulled at the client's pace, and the grant's end reported when it
//! is over.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, Version, header, response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::admission::Permit;
use crate::chunks::{Chunks, Prefixed};
use crate::coding;
use crate::head::remove_hop_by_hop;
use crate::local_response::ResponseBody;
use crate::record::{Outcome, Record};
use crate::upstream::{BoxError, UpstreamBody};

/// How long the beginning of a rejection's body is waited for.
const STALL: Duration = Duration::from_secs(1);

/// A provider's answer, of which the beginning may have been read.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) beginning: Bytes,
    body: UpstreamBody,
    permit: Option<Permit>,
}

impl Answer {
    pub(super) fn new(response: Response<UpstreamBody>) -> Self {
        let (head, body) = response.into_parts();
        Self { head, beginning: Bytes::new(), body, permit: None }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// Holds the permit until the answer is over.
    pub(super) fn under(self, permit: Permit) -> Self {
        Self { permit: Some(permit), ..self }
    }

    /// Reads as much of the body as a rejection is looked for in. What breaks off is passed on as it is.
    pub(super) async fn read_beginning(&mut self) {
        let mut parts = Chunks::default();
        let mut in_time = std::pin::pin!(tokio::time::sleep(STALL));
        while parts.length < coding::READ && !self.body.is_end_stream() {
            let next = tokio::select! {
                next = self.body.frame() => next,
                // The head alone has to do: others must not be sent meanwhile.
                () = &mut in_time => break,
            };
            match next {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => parts.push(data),
                    // Trailers of an answer that was looked into; such answers are JSON documents.
                    Err(_) => break,
                },
                _ => break,
            }
        }
        self.beginning = parts.join();
    }

    /// Gives the answer up, but not its connection.
    pub(super) fn drain(self) {
        if !self.body.is_end_stream() {
            tokio::spawn(drain(self.body));
        }
    }
}

/// The answer for the client.
pub(super) fn relay(answer: Answer, mut record: Record) -> Response<ResponseBody> {
    let Answer { mut head, beginning, body, permit } = answer;
    remove_hop_by_hop(&mut head.headers);
    head.version = Version::HTTP_11;
    record.call.status = Some(head.status.as_u16());
    let length = head.headers.get(header::CONTENT_LENGTH);
    let expected = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let body = Prefixed { start: VecDeque::from([beginning]), rest: body };
    let mut relay = Relay { body, expected, open: Some((record, permit)) };
    if relay.body.is_end_stream() {
        relay.end(Outcome::Answered);
    }
    Response::from_parts(head, relay.boxed_unsync())
}

struct Relay {
    body: Prefixed<UpstreamBody>,
    /// The body's length, as the head announces it.
    expected: Option<u64>,
    /// While the answer is under way.
    open: Option<(Record, Option<Permit>)>,
}

impl Relay {
    fn end(&mut self, outcome: Outcome) {
        if let Some((mut record, permit)) = self.open.take() {
            drop(permit);
            record.call.outcome = outcome;
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                if let Some((record, _)) = &mut self.open {
                    record.call.answered_bytes += length as u64;
                }
                if self.body.is_end_stream() {
                    self.end(Outcome::Answered);
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                self.end(Outcome::BrokenOff);
            }
            None => self.end(Outcome::Answered),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The server stops reading when it has as much as the head promised, and with HTTP/2 the end may come
        // in a frame of its own.
        let answered = self.open.as_ref().map(|(record, _)| record.call.answered_bytes);
        let whole = answered.is_some() && answered == self.expected;
        self.end(if whole { Outcome::Answered } else { Outcome::ClientGone });
    }
}

/// Reads an answer's body to its end within bounds, so that the connection can be used again.
async fn drain(mut body: UpstreamBody) {
    let mut read = 0;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > coding::READ {
                return;
            }
        }
    };
    let _drained = tokio::time::timeout(Duration::from_secs(1), all).await;
}
