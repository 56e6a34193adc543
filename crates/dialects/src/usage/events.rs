//! The data of events (server-sent events), handed on as they come: an event may be of any length.

use memchr::memchr2;

use crate::request::json_scanner::JsonScanner;

/// The field whose lines are read.
const DATA: &[u8] = b"data:";

/// Splits a stream into events.
#[derive(Debug, Default)]
pub(super) struct EventSplitter {
    line: Line,
    /// The event has data.
    has_data: bool,
    /// The last byte was a carriage return, whose line feed may follow.
    after_return: bool,
}

/// The line that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes of it, all of which are those of [`DATA`].
    Start(usize),
    Data,
    /// Of another field.
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Start(0)
    }
}

impl EventSplitter {
    /// Whether an event has begun to have data and has not ended.
    pub(super) fn has_data(&self) -> bool {
        self.has_data
    }

    /// Reads of `bytes` up to the end of an event, whose data go to `scanner`; true: one has ended.
    pub(super) fn push(&mut self, bytes: &mut &[u8], scanner: &mut JsonScanner) -> bool {
        while !bytes.is_empty() {
            let end = memchr2(b'\r', b'\n', bytes);
            let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.text(text, scanner);
            let Some((end, rest)) = rest.split_first().filter(|_| end.is_some()) else {
                self.after_return &= text.is_empty();
                *bytes = rest;
                return false;
            };
            *bytes = rest;
            let completes_a_break = self.after_return && *end == b'\n' && text.is_empty();
            self.after_return = *end == b'\r';
            if !completes_a_break && self.end_line(scanner) {
                return true;
            }
        }
        false
    }

    fn text(&mut self, mut text: &[u8], scanner: &mut JsonScanner) {
        while let (Line::Start(seen), Some((byte, rest))) = (self.line, text.split_first()) {
            self.line = match DATA.get(seen) {
                Some(wanted) if wanted == byte && seen + 1 == DATA.len() => Line::Data,
                Some(wanted) if wanted == byte => Line::Start(seen + 1),
                _ => Line::Other,
            };
            text = rest;
        }
        if self.line == Line::Data {
            self.has_data = true;
            scanner.push(text);
        }
    }

    /// Whether the line ends an event that has data.
    fn end_line(&mut self, scanner: &mut JsonScanner) -> bool {
        match std::mem::take(&mut self.line) {
            Line::Start(0) => return std::mem::take(&mut self.has_data),
            Line::Data => scanner.push(b"\n"),
            Line::Start(_) | Line::Other => {}
        }
        false
    }
}
