//! Follows the requests of one HTTP/1.1 connection through reads that may end anywhere, and checks the head of each
//! before the HTTP library sees it. HTTP/2 passes unread.

use std::mem;

use super::request_head::{Framing, LONGEST, readable, too_long};
use crate::local_response::LocalResponse;

/// How HTTP/2 begins (RFC 9113 §3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2";
/// What is passed on in place of a head that is turned away: the library then asks for the answer as usual.
const PLACEHOLDER: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
/// How much of a head that is too long is read to its end, in bytes: a client that still writes would lose the answer.
const MOST_DISCARDED: usize = 4 * 1024 * 1024;
/// The longest line before a chunk, and the longest trailers, in bytes.
const LONGEST_LINE: usize = 16 * 1024;

/// A request that is turned away.
#[derive(Debug)]
pub(super) struct TurnedAway {
    /// The how-manieth request of the connection it is, from 1.
    pub(super) number: u64,
    pub(super) answer: LocalResponse,
}

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    state: State,
    /// Heads that were passed on.
    heads: u64,
    /// Whether the last of them is of HTTP/1.1.
    http_11: bool,
    pub(super) turned_away: Option<TurnedAway>,
}

#[derive(Debug)]
enum State {
    /// Before the end of a head: what has come of it.
    Head(Vec<u8>),
    /// A head is too long: how much of it has come, and its last bytes.
    TooLong {
        answer: Option<Box<LocalResponse>>,
        length: usize,
        last: [u8; 3],
    },
    Body(u64),
    /// Before the end of the line that gives a chunk's length.
    ChunkLine(Vec<u8>),
    ChunkData(u64),
    /// Before the end of the line that ends a chunk's data.
    ChunkEnd(Vec<u8>),
    /// Before the end of the empty line after trailers: the current line, and how many bytes the ones before have.
    Trailers {
        line: Vec<u8>,
        before: usize,
    },
    Http2,
    /// Framing that can't be read: no more passes, whatever the library makes of it.
    Broken,
    /// A request was turned away: the connection closes after the answer.
    Over,
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

impl Requests {
    /// Whether the connection speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.state, State::Http2)
    }

    /// Whether nothing more of the connection can be read.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken)
    }

    /// How many heads were passed on.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether a client may end its side here and wait for its answers: its requests are whole, and it knows interim
    /// answers, as HTTP/1.0 does not.
    pub(super) fn may_end(&self) -> bool {
        let whole = match &self.state {
            State::Head(head) => head.is_empty(),
            State::Over => true,
            _ => false,
        };
        whole && self.http_11
    }

    /// How many bytes pass unread from here on.
    pub(super) fn unread(&self) -> u64 {
        match &self.state {
            State::Body(left) | State::ChunkData(left) => *left,
            State::Http2 => u64::MAX,
            _ => 0,
        }
    }

    /// Notes that so many bytes have passed unread, at most [`Requests::unread`].
    pub(super) fn passed(&mut self, bytes: u64) {
        match &mut self.state {
            State::Body(left) => {
                *left -= bytes;
                if *left == 0 {
                    self.state = State::default();
                }
            }
            State::ChunkData(left) => {
                *left -= bytes;
                if *left == 0 {
                    self.state = State::ChunkEnd(Vec::new());
                }
            }
            _ => {}
        }
    }

    /// Reads what has come and writes what the HTTP library sees of it.
    pub(super) fn read(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            let unread = usize::try_from(self.unread()).unwrap_or(usize::MAX).min(input.len());
            if unread > 0 {
                out.extend_from_slice(&input[..unread]);
                self.passed(unread as u64);
                input = &input[unread..];
                continue;
            }
            input = match &self.state {
                State::Head(_) => self.read_head(input, out),
                State::TooLong { .. } => self.discard(input, out),
                State::ChunkLine(_) | State::ChunkEnd(_) | State::Trailers { .. } => {
                    out.push(input[0]);
                    self.read_line(input[0]);
                    &input[1..]
                }
                _ => return,
            };
        }
    }

    /// Reads up to the end of a head; returns the rest.
    fn read_head<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let State::Head(head) = &mut self.state else { return input };
        let mut rest = input;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            // Empty lines before a request are skipped (RFC 9112 §2.2).
            if head.is_empty() && matches!(byte, b'\r' | b'\n') {
                continue;
            }
            head.push(*byte);
            if head.len() > LONGEST {
                let (answer, length) = (Some(Box::new(too_long(head))), head.len());
                let last = [head[length - 3], head[length - 2], head[length - 1]];
                self.state = State::TooLong { answer, length, last };
                return rest;
            }
            if *byte == b'\n' && (head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n")) {
                let head = mem::take(head);
                self.end_head(&head, out);
                return rest;
            }
        }
        rest
    }

    fn end_head(&mut self, head: &[u8], out: &mut Vec<u8>) {
        if head.starts_with(HTTP2) {
            out.extend_from_slice(head);
            self.state = State::Http2;
            return;
        }
        match readable(head) {
            Ok(readable) => {
                out.extend_from_slice(&readable.head);
                self.heads += 1;
                self.http_11 = readable.http_11;
                self.state = match readable.framing {
                    Framing::Length(0) => State::default(),
                    Framing::Length(length) => State::Body(length),
                    Framing::Chunked => State::ChunkLine(Vec::new()),
                };
            }
            Err(answer) => self.turn_away(answer, out),
        }
    }

    /// Reads a head that is too long up to its end.
    fn discard<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let State::TooLong { answer, length, last } = &mut self.state else { return input };
        for (index, byte) in input.iter().enumerate() {
            let ends = *byte == b'\n' && (last[2] == b'\n' || last[1..] == *b"\n\r");
            *last = [last[1], last[2], *byte];
            *length += 1;
            if ends || *length > MOST_DISCARDED {
                if let Some(answer) = answer.take() {
                    self.turn_away(*answer, out);
                }
                return &input[index + 1..];
            }
        }
        &[]
    }

    fn turn_away(&mut self, answer: LocalResponse, out: &mut Vec<u8>) {
        out.extend_from_slice(PLACEHOLDER);
        self.heads += 1;
        self.turned_away = Some(TurnedAway { number: self.heads, answer });
        self.state = State::Over;
    }

    /// Reads a byte of a line between chunks (RFC 9112 §7.1).
    fn read_line(&mut self, byte: u8) {
        let (line, before) = match &mut self.state {
            State::ChunkLine(line) | State::ChunkEnd(line) => (line, 0),
            State::Trailers { line, before } => (line, *before),
            _ => return,
        };
        // Only a carriage return with a line feed ends a line here: readers differ on what else does.
        let alone = (byte == b'\n') != (line.last() == Some(&b'\r'));
        if alone || before + line.len() >= LONGEST_LINE {
            self.state = State::Broken;
            return;
        }
        line.push(byte);
        if byte != b'\n' {
            return;
        }
        let line = mem::take(line);
        let empty = line == b"\r\n";
        self.state = match &self.state {
            State::ChunkEnd(_) if empty => State::ChunkLine(Vec::new()),
            State::ChunkLine(_) => match chunk_length(&line) {
                Some(0) => State::Trailers { line: Vec::new(), before: 0 },
                Some(length) => State::ChunkData(length),
                None => State::Broken,
            },
            State::Trailers { .. } if empty => State::default(),
            State::Trailers { .. } => State::Trailers { line: Vec::new(), before: before + line.len() },
            _ => State::Broken,
        };
    }
}

/// The length in a chunk's line; none where it can't be read. Any bytes may be an extension.
fn chunk_length(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r\n")?;
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let end = digits.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(digits.len());
    let (digits, space) = digits.split_at(end);
    if !space.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests;
