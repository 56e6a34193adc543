//! What a request calls, by its head and as much of its body as has arrived. A body that names no model is counted and
//! logged, because its call then waits for all models and is charged to each.

use std::io::{self, Read};
use std::sync::Arc;

use http::request;
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::profile::UsageRequest;
use quotakeeper_dialects::request::{BodyFacts, BodyReader, CallShape, Measure, RequestSize};
use quotakeeper_engine::tokens::CallSize;
use tokio::sync::Semaphore;

use crate::replay::{ReplayBody, Stored};
use crate::request_coding::Coding;

/// Bodies of up to so many bytes are read on the spot, longer ones where reading may block.
const ON_THE_SPOT: u64 = 64 * 1024;
/// The most that is read of a decoded body, in bytes.
const MOST_DECODED: u64 = 256 * 1024 * 1024;
/// Bodies that are decoded at the same time: each takes up to a window of zstd, 8 MiB.
const DECODERS: usize = 2;
/// What is decoded at once, in bytes.
const PIECE: usize = 64 * 1024;

/// Why a request's model is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreadable {
    /// Its content coding is none that is read.
    UnknownEncoding,
    /// It can't be decoded.
    DecodingFailed,
    /// It decodes to more than is read.
    DecodedTooLarge,
    /// It is neither JSON nor a form.
    UnknownFormat,
    /// It names no model.
    NoModel,
    /// It is sent before it has ended, because it is too large or its client pauses.
    Streamed,
}

impl Unreadable {
    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownEncoding => "UnknownEncoding",
            Self::DecodingFailed => "DecodingFailed",
            Self::DecodedTooLarge => "DecodedTooLarge",
            Self::UnknownFormat => "UnknownFormat",
            Self::NoModel => "NoModel",
            Self::Streamed => "Streamed",
        }
    }

    /// The same as a part of a sentence that begins with the body.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::UnknownEncoding => "is encoded in another way than gzip or zstd",
            Self::DecodingFailed => "can't be decompressed",
            Self::DecodedTooLarge => "is too large when it is decompressed",
            Self::UnknownFormat => "is neither JSON nor a form",
            Self::NoModel => "names no model",
            Self::Streamed => "is sent on before its end, because it is too large or arrives too slowly",
        }
    }
}

/// Reads what requests call.
pub(crate) struct Describer {
    decoders: Arc<Semaphore>,
}

/// A request's body as far as it has arrived.
pub(crate) struct Body {
    start: Stored,
    /// That is all of it.
    whole: bool,
}

impl Body {
    pub(crate) fn of(body: &ReplayBody) -> Self {
        Self { start: body.start().clone(), whole: body.is_whole() }
    }
}

/// What a request calls, and why that isn't all known.
#[derive(Default)]
pub(crate) struct Description {
    pub(crate) shape: CallShape,
    /// Whether the answer is to be an event stream.
    pub(crate) stream: bool,
    /// The most tokens that the answer may have, if the request says so.
    pub(crate) max_output_tokens: Option<u64>,
    /// What its tokens are estimated from, if that is wanted and known.
    pub(crate) size: Option<CallSize>,
    /// What it costs in the provider's own units, or what is held until its answer tells.
    pub(crate) credits: u64,
    /// What has to be added, so that its stream tells its usage.
    pub(crate) usage_request: Option<UsageRequest>,
    pub(crate) unreadable: Option<Unreadable>,
}

impl Default for Describer {
    fn default() -> Self {
        Self { decoders: Arc::new(Semaphore::new(DECODERS)) }
    }
}

impl Describer {
    /// What a request calls. `path` is the one at the provider; the body may be `whole`, or just its beginning.
    pub(crate) async fn describe(
        &self,
        profile: &Profile,
        head: &request::Parts,
        path: &str,
        body: Body,
        measure: Measure,
    ) -> Description {
        let Body { start: body, whole } = body;
        let empty = body.is_empty();
        // What has no body costs no tokens.
        let nothing = (empty && whole && measure == Measure::Size).then_some(RequestSize::NONE);
        let Some(reader) = profile.body_reader(&head.method, path, &head.headers, measure) else {
            let shape = profile.describe(&head.method, path, &BodyFacts::default());
            let size = nothing.map(call_size);
            let credits = profile.credits(shape.endpoint.as_deref(), path, None);
            return Description { shape, size, credits, ..Description::default() };
        };
        let reads_model = reader.reads_model();
        let read = match Coding::of(&head.headers) {
            None => Err(Unreadable::UnknownEncoding),
            Some(coding) => self.read(reader, coding, body).await,
        };
        let (facts, problem) = match read {
            Ok(facts) => (facts, None),
            Err(problem) => (BodyFacts::default(), Some(problem)),
        };
        let missing = match facts.whole {
            true => Unreadable::NoModel,
            false if !whole => Unreadable::Streamed,
            false if empty => Unreadable::NoModel,
            false => Unreadable::UnknownFormat,
        };
        let shape = profile.describe(&head.method, path, &facts);
        let unreadable = (reads_model && shape.model.is_none()).then(|| problem.unwrap_or(missing));
        let (stream, max_output_tokens) = (facts.stream, facts.max_output_tokens);
        let measured = profile.request_size(path, &facts, shape.model.as_deref()).filter(|_| whole);
        let size = nothing.or(measured).map(call_size);
        let usage_request = profile.usage_request(path, &facts).filter(|_| whole).cloned();
        let times = facts.times.filter(|_| facts.whole && whole);
        let credits = profile.credits(shape.endpoint.as_deref(), path, times);
        Description { shape, stream, max_output_tokens, size, credits, usage_request, unreadable }
    }

    async fn read(&self, reader: BodyReader, coding: Coding, body: Stored) -> Result<BodyFacts, Unreadable> {
        if coding == Coding::Identity && body.in_memory() && body.len() <= ON_THE_SPOT {
            return read(reader, body.reader());
        }
        // The semaphore is never closed.
        let _turn = self.decoders.acquire().await;
        let decoded = move || read(reader, coding.decoded(body.reader()));
        tokio::task::spawn_blocking(decoded).await.unwrap_or(Err(Unreadable::DecodingFailed))
    }
}

fn call_size(size: RequestSize) -> CallSize {
    let RequestSize { text_bytes, media_tokens, max_output, choices, stored_input } = size;
    CallSize { text_bytes, media_tokens, max_output, choices, stored_input }
}

fn read(mut reader: BodyReader, decoded: impl Read) -> Result<BodyFacts, Unreadable> {
    let mut decoded = decoded.take(MOST_DECODED);
    let mut piece = vec![0; PIECE];
    loop {
        match decoded.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => reader.push(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Unreadable::DecodingFailed),
        }
    }
    if decoded.limit() == 0 { Err(Unreadable::DecodedTooLarge) } else { Ok(reader.finish()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderMap;
    use quotakeeper_dialects::catalogue;

    use super::*;

    #[test]
    fn a_body_that_decodes_to_too_much_is_left_unread() {
        let reader = catalogue::find("openai")
            .unwrap()
            .body_reader(&http::Method::POST, "/v1/responses", &HeaderMap::new(), Measure::Size)
            .unwrap();
        let endless = io::Cursor::new(b"{\"model\":\"").chain(io::repeat(b'x'));
        assert_eq!(read(reader, endless), Err(Unreadable::DecodedTooLarge));
    }
}
