//! Rejections in the events of an answer that has begun with a success.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use quotakeeper_dialects::stream::{Event, EventReader};
use quotakeeper_dialects::{Head, Reading, Verdict};
use quotakeeper_engine::event::{CallClass, Rejection};

use crate::account::{Account, engine_rejection};
use crate::coding::{Decoder, PIECE};

/// Watches the events of one answer.
pub(super) struct StreamWatch {
    account: Arc<Account>,
    class: CallClass,
    headers: HeaderMap,
    decoder: Decoder,
    reader: EventReader,
    /// Output has come.
    begun: bool,
    /// The event that ends the answer has come.
    ended: bool,
}

/// A rejection that stands in an event, or in trailers.
pub(super) struct StreamRejection {
    /// The status that it stands for.
    pub(super) status: StatusCode,
    pub(super) reading: Reading,
    /// As the limiter knows it; none for one that concerns this call alone.
    pub(super) for_limiter: Option<Rejection>,
}

/// What a part of a stream says.
pub(super) enum Look {
    /// Nothing yet.
    Preliminary,
    Content,
    /// The first event that says something is a rejection.
    Rejected(StreamRejection),
    /// A rejection came after output.
    RejectedLate(StreamRejection),
}

impl StreamRejection {
    /// A reading that rejects a call of this class, with the status that it stands for.
    pub(super) fn new(
        status: StatusCode,
        reading: Reading,
        account: &Account,
        call: &CallClass,
    ) -> Option<Self> {
        let Verdict::Rejected { class, scope, shared_with, wait, reason } = &reading.verdict else {
            return None;
        };
        let for_limiter = engine_rejection(*class, scope, shared_with.clone(), *wait, reason, account, call);
        Some(Self { status, reading, for_limiter })
    }
}

impl StreamWatch {
    /// A watch for an answer with this head to a request that has `requested` a stream, or not; `None` where its events
    /// are not read.
    pub(super) fn new(
        account: &Arc<Account>,
        class: &CallClass,
        status: StatusCode,
        headers: &HeaderMap,
        requested: bool,
    ) -> Option<Self> {
        let head = Head { status, headers, endpoint: class.endpoint.as_deref() };
        account.profile.event_stream(head, requested)?;
        Some(Self {
            account: Arc::clone(account),
            class: class.clone(),
            headers: headers.clone(),
            decoder: Decoder::new(headers)?,
            reader: EventReader::default(),
            begun: false,
            ended: false,
        })
    }

    /// Reads the next part.
    pub(super) fn look(&mut self, data: &[u8]) -> Look {
        let mut look = Look::Preliminary;
        for piece in data.chunks(PIECE) {
            let events = self.reader.push(self.decoder.push(piece));
            for event in events {
                self.ended |= self.account.profile.stream.as_ref().is_some_and(|it| it.is_last(&event));
                if let Some(rejection) = self.rejection(&event) {
                    return if self.begun {
                        Look::RejectedLate(rejection)
                    } else {
                        Look::Rejected(rejection)
                    };
                }
                if self.begun || !self.is_preliminary(&event) {
                    self.begun = true;
                    look = Look::Content;
                }
            }
        }
        look
    }

    /// Whether the event that ends the answer has been read.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn is_preliminary(&self, event: &Event) -> bool {
        self.account.profile.stream.as_ref().is_some_and(|stream| stream.is_preliminary(event))
    }

    fn rejection(&self, event: &Event) -> Option<StreamRejection> {
        let endpoint = self.class.endpoint.as_deref();
        let head = Head { status: StatusCode::OK, headers: &self.headers, endpoint };
        let (status, reading) = self.account.profile.rejection_in(event, head, Timestamp::now())?;
        StreamRejection::new(status, reading, &self.account, &self.class)
    }
}
