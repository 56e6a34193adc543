//! The provider's answer on its way to the client: pulled at the client's pace, and the grant's end reported when it
//! is over.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, Version, header, response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use quotakeeper_engine::tokens::CallEnd;
use quotakeeper_wire::message::NoticeKind;

use super::stream_watch::{Look, StreamRejection, StreamWatch};
use super::trailer_watch::TrailerWatch;
use super::usage::UsageTee;
use super::usage_request::{Unwanted, UsageFilter};
use crate::admission::{Ended, Permit};
use crate::chunks::{Chunks, Prefixed};
use crate::clock;
use crate::coding;
use crate::head::remove_hop_by_hop;
use crate::local_response::ResponseBody;
use crate::record::{Outcome, Record};
use crate::upstream::{BoxError, UpstreamBody};

/// How long the beginning of a rejection's body is waited for.
const STALL: Duration = Duration::from_secs(1);
/// How much of an event stream is held back until its first event that says something, in bytes.
const PEEK: usize = 64 * 1024;

/// A provider's answer, of which the beginning may have been read.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) beginning: Bytes,
    /// Trailers, where they were read with the beginning.
    trailers: Option<HeaderMap>,
    body: UpstreamBody,
    permit: Option<Permit>,
    watch: Option<StreamWatch>,
    trailer_watch: Option<TrailerWatch>,
    /// A rejection that stands after output in what was read of a stream.
    late: Option<StreamRejection>,
}

impl Answer {
    pub(super) fn new(response: Response<UpstreamBody>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            head,
            beginning: Bytes::new(),
            trailers: None,
            body,
            permit: None,
            watch: None,
            trailer_watch: None,
            late: None,
        }
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
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        break;
                    }
                },
                _ => break,
            }
        }
        self.beginning = parts.join();
    }

    /// Reads a gRPC answer up to its first message, or to trailers that come before any. Returns the rejection, if
    /// they are one; later trailers are watched for while the answer is relayed.
    pub(super) async fn read_first_message(&mut self, watch: TrailerWatch) -> Option<StreamRejection> {
        if let Some(rejection) = watch.of_head() {
            return Some(rejection);
        }
        let first = tokio::time::timeout(STALL, self.body.frame()).await;
        let mut found = None;
        if let Ok(Some(Ok(frame))) = first {
            match frame.into_data() {
                Ok(data) => self.beginning = data,
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
            found = self.trailers.as_ref().and_then(|trailers| watch.rejection(trailers));
        }
        self.trailer_watch = Some(watch).filter(|_| self.trailers.is_none());
        found
    }

    /// Reads a stream up to its first event that says something. Returns the rejection, if it is one; later ones are
    /// watched for while the answer is relayed.
    pub(super) async fn read_first_event(&mut self, mut watch: StreamWatch) -> Option<StreamRejection> {
        let mut parts = Chunks::default();
        let mut in_time = std::pin::pin!(tokio::time::sleep(STALL));
        let found = loop {
            if parts.length >= PEEK || self.body.is_end_stream() {
                break None;
            }
            let next = tokio::select! {
                next = self.body.frame() => next,
                () = &mut in_time => break None,
            };
            let Some(Ok(frame)) = next else { break None };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    self.trailers = frame.into_trailers().ok();
                    break None;
                }
            };
            let found = watch.look(&data);
            parts.push(data);
            match found {
                Look::Preliminary => {}
                Look::Content => break None,
                Look::Rejected(rejection) => break Some(rejection),
                Look::RejectedLate(rejection) => {
                    self.late = Some(rejection);
                    break None;
                }
            }
        };
        self.beginning = parts.join();
        self.watch = Some(watch).filter(|_| found.is_none() && self.late.is_none());
        found
    }

    /// Gives the answer up, but not its connection.
    pub(super) fn drain(self) {
        if !self.body.is_end_stream() {
            tokio::spawn(drain(self.body));
        }
    }
}

/// A frame of the answer; none at its end.
type Read = Option<Result<Frame<Bytes>, BoxError>>;

/// What else an answer is read for on its way.
pub(super) struct Reading {
    pub(super) tee: Option<UsageTee>,
    /// What the client does not get.
    pub(super) unwanted: Option<Unwanted>,
}

/// The answer for the client.
pub(super) fn relay(answer: Answer, mut record: Record, reading: Reading) -> Response<ResponseBody> {
    let Reading { tee, unwanted } = reading;
    let Answer { mut head, beginning, trailers, body, permit, watch, trailer_watch, late } = answer;
    record.answers(head.status.as_u16());
    let framed = says_its_end(&head);
    remove_hop_by_hop(&mut head.headers);
    head.version = Version::HTTP_11;
    // Only what is plain can be read and left out.
    let plain = head.status.is_success() && !head.headers.contains_key(header::CONTENT_ENCODING);
    let filter = unwanted.filter(|_| plain).map(UsageFilter::new);
    if filter.is_some() {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let length = head.headers.get(header::CONTENT_LENGTH);
    let expected = length.and_then(|length| length.to_str().ok()?.parse().ok());
    // The watch has seen the beginning.
    let unwatched = beginning.len();
    let body = Prefixed { start: VecDeque::from([beginning]), trailers, rest: body };
    let open = Some((record, permit));
    let mut relay = Relay { body, expected, framed, open, tee, filter, watch, unwatched, trailer_watch };
    if let Some(late) = late {
        relay.rejected_late(late);
    }
    if relay.body.is_end_stream() {
        relay.end(Outcome::Answered);
    }
    Response::from_parts(head, relay.boxed_unsync())
}

/// Whether the framing of an answer with this head says where it ends. One that lasts until its connection is closed
/// may have broken off as well.
fn says_its_end(head: &response::Parts) -> bool {
    let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    head.version == Version::HTTP_2
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || framed.iter().any(|name| head.headers.contains_key(name))
}

struct Relay {
    body: Prefixed<UpstreamBody>,
    /// The body's length, as the head announces it.
    expected: Option<u64>,
    /// Its framing says where it ends.
    framed: bool,
    /// While the answer is under way.
    open: Option<(Record, Option<Permit>)>,
    tee: Option<UsageTee>,
    filter: Option<UsageFilter>,
    watch: Option<StreamWatch>,
    /// Bytes that the watch has seen before.
    unwatched: usize,
    trailer_watch: Option<TrailerWatch>,
}

impl Relay {
    /// Looks for a rejection in a part of a stream that goes to the client: the others pause.
    fn watch(&mut self, data: &[u8]) {
        let seen = data.len().min(self.unwatched);
        self.unwatched -= seen;
        let Some(watch) = &mut self.watch else { return };
        if let Look::Rejected(rejection) | Look::RejectedLate(rejection) = watch.look(&data[seen..]) {
            self.rejected_late(rejection);
            self.watch = None;
        }
    }

    /// Tells the limiter of a rejection after output.
    fn rejected_late(&self, rejection: StreamRejection) {
        if let (Some((_, Some(permit))), Some(rejection)) = (&self.open, rejection.for_limiter) {
            permit.rejected_finally(clock::now(), Vec::new(), rejection);
        }
    }

    /// Reads what the provider has sent.
    fn read(&mut self, frame: &Read) {
        let Some(Ok(frame)) = frame else { return };
        if let Some(data) = frame.data_ref() {
            if self.watch.is_some() {
                self.watch(data);
            }
            self.count(data);
        }
        let trailers = frame.trailers_ref().zip(self.trailer_watch.as_ref());
        if let Some(rejection) = trailers.and_then(|(trailers, watch)| watch.rejection(trailers)) {
            self.rejected_late(rejection);
        }
    }

    /// What goes to the client when the provider has sent this; `None`: nothing.
    fn filtered(&mut self, frame: Read) -> Option<Read> {
        let ended = self.body.is_end_stream();
        let Some(filter) = &mut self.filter else { return Some(frame) };
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let mut passed = BytesMut::from(filter.push(&data));
                    if ended {
                        passed.extend_from_slice(&filter.rest());
                    }
                    (ended || !passed.is_empty()).then(|| Some(Ok(Frame::data(passed.freeze()))))
                }
                Err(frame) if filter.holds() => {
                    // They come after what is held.
                    self.body.trailers = frame.into_trailers().ok();
                    Some(Some(Ok(Frame::data(filter.rest()))))
                }
                Err(frame) => Some(Some(Ok(frame))),
            },
            None if filter.holds() => Some(Some(Ok(Frame::data(filter.rest())))),
            other => Some(other),
        }
    }

    /// A frame goes to the client.
    fn passed(&mut self, frame: &Read) {
        match frame {
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
    }

    /// Reads in a part that goes to the client what it has cost.
    fn count(&mut self, data: &[u8]) {
        let output = self.tee.as_mut().and_then(|tee| tee.pass(data));
        if let (Some(output), Some((_, Some(permit)))) = (output, &self.open) {
            permit.produced(output);
        }
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some((mut record, permit)) = self.open.take() {
            // Nothing follows its last event, whoever hangs up then.
            let ended = self.unwatched == 0 && self.watch.as_ref().is_some_and(StreamWatch::has_ended);
            let outcome = if ended { Outcome::Answered } else { outcome };
            let seen = outcome == Outcome::Answered && (self.framed || ended);
            let end = if seen { CallEnd::Seen } else { CallEnd::Lost };
            let used = self.tee.take().map(|tee| tee.end(end)).unwrap_or_default();
            record.used(&used);
            if let Some(permit) = permit {
                if let Some(missing) = used.missing {
                    permit.notice(NoticeKind::UnknownCost, record.call.unknown_cost(missing.reason));
                }
                permit.end(Ended { end, usage: used.usage });
            }
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
        loop {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            self.read(&frame);
            let frame = if self.filter.is_some() { self.filtered(frame) } else { Some(frame) };
            if let Some(frame) = frame {
                self.passed(&frame);
                return Poll::Ready(frame);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.filter.as_ref().is_some_and(UsageFilter::holds)
    }

    fn size_hint(&self) -> SizeHint {
        match self.filter {
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
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
