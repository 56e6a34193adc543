//! The usage of a stream that its client has not asked for: the request asks for it, and the event that holds it alone
//! does not reach the client.

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use memchr::memchr2;
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::profile::{Usage, UsageRequest};

use crate::replay::ReplayBody;

/// An event that is longer holds more than figures; it is passed on as it comes.
const LONGEST: usize = 64 * 1024;

/// Fields that stand for a digest or a signature of the body.
const COVERING: [HeaderName; 7] = [
    HeaderName::from_static("signature"),
    HeaderName::from_static("signature-input"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("x-amz-content-sha256"),
];

/// Leaves out of an event stream what its client has not asked for. An event is passed on when it has ended: its client
/// can do nothing with it before.
pub(super) struct UsageFilter {
    usage: Usage,
    empty: String,
    /// What has come of the current event.
    held: BytesMut,
    /// Its current line has begun.
    in_line: bool,
    /// The last event was left out.
    dropped: bool,
    /// The event is too long to be looked at.
    passes: bool,
    /// The last byte was a carriage return, whose line feed may follow.
    after_return: bool,
}

/// What of an answer's events is left out.
#[derive(Clone)]
pub(super) struct Unwanted {
    pub(super) usage: Usage,
    pub(super) asked: UsageRequest,
}

impl Unwanted {
    /// Asks for the usage in a request, unless a digest, a signature or an encoding covers its body.
    pub(super) fn ask(
        profile: &Profile,
        head: &mut Parts,
        body: &mut ReplayBody,
        asked: UsageRequest,
    ) -> Option<Self> {
        let usage = profile.tokens.as_ref()?.usage.clone()?;
        let covered = COVERING.iter().any(|name| head.headers.contains_key(name));
        if covered || head.headers.contains_key(header::CONTENT_ENCODING) {
            return None;
        }
        let length = body.insert_member(&format!("\"{}\":{},", asked.member, asked.value))?;
        if head.headers.contains_key(header::CONTENT_LENGTH) {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // An event can be left out of what is not compressed.
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Some(Self { usage, asked })
    }
}

impl UsageFilter {
    pub(super) fn new(unwanted: Unwanted) -> Self {
        let Unwanted { usage, asked: UsageRequest { empty, .. } } = unwanted;
        Self {
            usage,
            empty,
            held: BytesMut::new(),
            in_line: false,
            dropped: false,
            passes: false,
            after_return: false,
        }
    }

    /// Takes the next part; returns what of it and of what was held goes on.
    pub(super) fn push(&mut self, data: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(data.len() + self.held.len());
        let mut rest = data;
        while !rest.is_empty() {
            let end = memchr2(b'\r', b'\n', rest).map(|at| at + 1);
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            self.take(part, &mut out);
        }
        if self.passes || self.held.len() > LONGEST {
            (self.passes, self.dropped) = (true, false);
            out.extend_from_slice(&self.held.split());
        }
        out.freeze()
    }

    /// What is held when the stream ends.
    pub(super) fn rest(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    /// Whether something is held.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// A part of a line, or its end with the line break.
    fn take(&mut self, part: &[u8], out: &mut BytesMut) {
        let completes_a_break = self.after_return && !self.in_line && part == b"\n";
        self.after_return = part.ends_with(b"\r");
        if completes_a_break {
            // It goes where the rest of its line went.
            match self.held.is_empty() {
                true if self.dropped => {}
                true => out.extend_from_slice(part),
                false => self.held.extend_from_slice(part),
            }
            return;
        }
        self.held.extend_from_slice(part);
        let ends_line = self.after_return || part.ends_with(b"\n");
        let is_blank = ends_line && !self.in_line && part.len() == 1;
        self.in_line = !ends_line;
        if is_blank {
            self.end_event(out);
        }
    }

    fn end_event(&mut self, out: &mut BytesMut) {
        let event = self.held.split();
        self.dropped =
            !std::mem::take(&mut self.passes) && self.usage.stands_alone(&data(&event), &self.empty);
        if !self.dropped {
            out.extend_from_slice(&event);
        }
    }
}

/// The data of an event.
fn data(event: &[u8]) -> Vec<u8> {
    let lines = event.split(|byte| matches!(byte, b'\r' | b'\n'));
    lines.filter_map(|line| line.strip_prefix(b"data:")).collect::<Vec<_>>().join(&b'\n')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use quotakeeper_dialects::catalogue;

    use super::*;

    const CHUNK: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\n";
    /// Azure's first event.
    const FILTERS: &str = "data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n";
    const USAGE: &str =
        "data: {\"choices\": [], \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";
    const OTHER: &str = ": comment\n\nevent: x\nid: 7\ndata: {\n\n";

    fn filter() -> UsageFilter {
        let usage = catalogue::find("openai").unwrap().tokens.unwrap().usage.unwrap();
        let asked = usage.asked_by.clone().unwrap();
        UsageFilter::new(Unwanted { usage, asked })
    }

    proptest! {
        #[test]
        fn all_but_the_usage_passes_byte_for_byte(
            events in prop::collection::vec(prop::sample::select(vec![CHUNK, FILTERS, USAGE, DONE, OTHER]), 0..12),
            line_break in prop::sample::select(vec!["\n", "\r\n", "\r"]),
            cut in 0_usize..30,
            pieces in prop::collection::vec(1_usize..150, 1..20),
        ) {
            let written = |events: &[&str]| events.concat().replace('\n', line_break);
            let kept: Vec<&str> = events.iter().copied().filter(|event| *event != USAGE).collect();
            // The last event may be cut.
            let all = format!("{}{}", written(&events), &CHUNK[..cut]);
            let wanted = format!("{}{}", written(&kept), &CHUNK[..cut]);
            let (mut filter, mut rest, mut pieces) = (filter(), all.as_bytes(), pieces.iter().cycle());
            let mut passed = Vec::new();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
                passed.extend_from_slice(&filter.push(piece));
                rest = after;
            }
            passed.extend_from_slice(&filter.rest());
            prop_assert_eq!(String::from_utf8(passed).unwrap(), wanted);
        }
    }

    #[test]
    fn a_long_event_passes_as_it_comes_and_an_ended_one_is_not_held() {
        let mut filter = filter();
        assert_eq!(filter.push(CHUNK.as_bytes()), CHUNK);
        assert!(!filter.holds());
        let long = format!("data: \"{}", "x".repeat(LONGEST));
        assert_eq!(filter.push(long.as_bytes()), long);
        assert_eq!(filter.push(b"more"), "more");
        assert_eq!(filter.push(b"\"\n\ndata: {"), "\"\n\n");
        assert!(filter.holds());
        let rest = &USAGE["data: {".len()..];
        assert_eq!(filter.push(rest.as_bytes()), "");
        assert!(!filter.holds());
    }
}
