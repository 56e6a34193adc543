//! Event streams (server-sent events): a provider may begin one with a success and reject the call in an event.

use http::StatusCode;
use jiff::Timestamp;
use memchr::memmem;
use serde_json::{Value, json};

use crate::json;
use crate::profile::{EventStream, Profile};
use crate::response::{Head, Reading, Verdict};

/// The longest line, and the longest data of an event, in bytes; of a longer one the beginning is stored.
const MAX_DATA: usize = 64 * 1024;

/// An event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Its `event` field; empty without one.
    pub name: String,
    /// Its `data` fields, joined by line breaks; 64 KiB at most.
    pub data: Vec<u8>,
}

/// Reads events in pieces of any size, in bounded memory.
#[derive(Debug, Default)]
pub struct EventReader {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    /// The last byte was a carriage return, whose line feed may follow.
    after_return: bool,
}

impl EventReader {
    /// Reads the next piece; returns the events that it ends.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
            let Some((end @ (b'\r' | b'\n'), text)) = part.split_last() else {
                self.after_return = false;
                append(&mut self.line, part);
                continue;
            };
            let completes_a_break = self.after_return && *end == b'\n' && text.is_empty();
            self.after_return = *end == b'\r';
            if !completes_a_break {
                append(&mut self.line, text);
                events.extend(self.end_line());
            }
        }
        events
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => self.event.name = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                if self.has_data {
                    append(&mut self.event.data, b"\n");
                }
                append(&mut self.event.data, value);
                self.has_data = true;
            }
            _ => {}
        }
        None
    }
}

fn append(text: &mut Vec<u8>, part: &[u8]) {
    let room = MAX_DATA.saturating_sub(text.len());
    text.extend_from_slice(&part[..part.len().min(room)]);
}

impl Profile {
    /// How rejections are read in such an answer's events; `None`: it is no stream of events that are read.
    /// `requested`: the request wants one. Then an answer without a content type is one, or with another than JSON.
    pub fn event_stream(&self, head: Head<'_>, requested: bool) -> Option<&EventStream> {
        let content_type = head.headers.get(http::header::CONTENT_TYPE);
        let content_type =
            content_type.map(|value| value.as_bytes().to_ascii_lowercase()).unwrap_or_default();
        let json = memmem::find(&content_type, b"json").is_some();
        let named = content_type.starts_with(b"text/event-stream");
        let fits = head.status.is_success() && (named || requested && !json);
        self.stream.as_ref().filter(|_| fits)
    }

    /// What an event of an answer with this head says, if it rejects the call; with the status that the rejection
    /// stands for.
    pub fn rejection_in(
        &self,
        event: &Event,
        head: Head<'_>,
        now: Timestamp,
    ) -> Option<(StatusCode, Reading)> {
        let stream = self.stream.as_ref()?;
        // Nearly all events are content: they are not parsed.
        memmem::find(&event.data, b"error")?;
        let data: Value = serde_json::from_slice(&event.data).ok()?;
        let error = stream.errors.iter().find_map(|at| data.pointer(at).filter(|error| error.is_object()));
        let error = error.unwrap_or(&data);
        let status = StatusCode::from_u16(stream.status_of(error)?).ok()?;
        let body = json!({"error": error}).to_string();
        let reading = self.read(Head { status, ..head }, Some(body.as_bytes()), now);
        matches!(reading.verdict, Verdict::Rejected { .. }).then_some((status, reading))
    }
}

impl EventStream {
    /// Whether an event says only that the answer has begun.
    pub fn is_preliminary(&self, event: &Event) -> bool {
        let named = |name: &str| self.preliminary.iter().any(|known| known == name);
        named(&event.name) || json::first(&event.data, "/type").is_some_and(|name| named(&name))
    }

    /// Whether an event ends the answer.
    pub fn is_last(&self, event: &Event) -> bool {
        let data = event.data.trim_ascii();
        self.last.iter().any(|last| *last == event.name || last.as_bytes() == data)
    }

    fn status_of(&self, error: &Value) -> Option<u16> {
        let words: Vec<&str> =
            ["code", "type"].iter().filter_map(|member| error.get(member)?.as_str()).collect();
        let stands =
            self.statuses.iter().find(|known| known.codes.iter().any(|code| words.contains(&code.as_str())));
        stands.map(|known| known.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_the_standard_says() {
        let mut reader = EventReader::default();
        let text = b": comment\nevent: a\ndata: 1\ndata:2\nid: 7\n\ndata\n\nevent: no-data\n\r\nevent:b\rdata:  x\r\r";
        let events = reader.push(text);
        let event = |name: &str, data: &str| Event { name: name.to_owned(), data: data.into() };
        assert_eq!(events, [event("a", "1\n2"), event("", ""), event("b", " x")]);
        assert_eq!(reader.push(b"data: unfinished"), []);
    }

    #[test]
    fn an_answer_ends_with_the_event_that_the_profile_names() {
        let last = vec!["[DONE]".to_owned(), "message_stop".to_owned()];
        let stream = EventStream { last, ..EventStream::default() };
        let event = |name: &str, data: &str| Event { name: name.to_owned(), data: data.into() };
        for (name, data, ends) in [
            ("", "[DONE]", true),
            ("", "[DONE] ", true),
            ("message_stop", r#"{"type":"message_stop"}"#, true),
            ("", r#"{"choices":[{"delta":{"content":"[DONE]"}}]}"#, false),
            ("message_delta", "message", false),
            ("", "", false),
        ] {
            assert_eq!(stream.is_last(&event(name, data)), ends, "{name} {data}");
        }
    }
}
