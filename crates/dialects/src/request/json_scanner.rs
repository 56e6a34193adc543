//! A JSON text read in pieces of any size for the values at given pointers.
//!
//! Memory does not grow with the text: containers are counted, strings are skipped, and only a value that a pointer
//! leads to is stored. What was found before the text broke off counts.

use memchr::memchr2;

use crate::json;
use crate::profile::StoredInput;

/// Longest value that is read, in bytes as written; a longer one counts as absent.
const MAX_VALUE: usize = 4096;
/// Most containers inside each other, as in `serde_json`.
const MAX_DEPTH: usize = 128;
/// Most pointers of one scanner: one bit of a mask each.
pub(crate) const MAX_POINTERS: usize = 64;
/// As much of a string's beginning is read to see what it holds, in bytes.
const MAX_START: usize = 16;

/// Reads one JSON text.
#[derive(Debug)]
pub(crate) struct JsonScanner {
    wanted: Vec<Wanted>,
    levels: Vec<Level>,
    state: State,
    /// What is stored of the current token; none: it is skipped.
    token: Option<Vec<u8>>,
    is_key: bool,
    escaped: bool,
    /// The current value is longer than what is read.
    too_long: bool,
    /// Bytes of text so far.
    text: u64,
    /// The string that begins or has begun, if it may hold media.
    medium: Option<Medium>,
}

/// What is noted of the values at a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// The last one, as text.
    Last,
    /// Whether there is one that refers to stored input.
    Any(StoredInput),
    /// How many strings there are, of which those that begin so are no text; without beginnings, all of them.
    Media { starts_with: Vec<String> },
    /// Whether there is one, whatever it is.
    Present,
    /// How many there are, whatever they are.
    Count,
}

/// What was found at a pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// The last string, number or truth value.
    pub(crate) last: Option<String>,
    /// There was a value that [`Note::Any`] or [`Note::Present`] wants.
    pub(crate) any: bool,
    /// Strings that hold or name media, or values that are counted.
    pub(crate) items: u64,
    /// Bytes of those that hold them.
    pub(crate) left_out: u64,
}

impl Scanned {
    pub(super) fn of_value(last: Option<String>) -> Self {
        Self { last, ..Self::default() }
    }
}

#[derive(Debug)]
struct Wanted {
    steps: Vec<String>,
    note: Note,
    found: Scanned,
}

impl Wanted {
    /// Notes a value at the pointer, or one that was `too_long`; true: it is a medium of `length` bytes, no text.
    fn note(&mut self, value: Option<&str>, too_long: bool, medium: Option<&Medium>, length: u64) -> bool {
        match (&self.note, value, medium) {
            (Note::Last, Some(value), _) => self.found.last = Some(value.to_owned()),
            (Note::Any(any), Some(value), _) => {
                self.found.any |= !value.is_empty() && value != "false" && any.covers(value);
            }
            (Note::Any(any), None, _) => self.found.any |= too_long && any.equals.is_empty(),
            (Note::Media { starts_with }, _, Some(medium)) => {
                self.found.items += 1;
                let known = |known: &String| medium.start.starts_with(known.as_bytes());
                if starts_with.is_empty() || starts_with.iter().any(known) {
                    self.found.left_out += length;
                    return true;
                }
            }
            (Note::Last | Note::Media { .. } | Note::Present | Note::Count, ..) => {}
        }
        false
    }
}

/// A string that may hold media.
#[derive(Debug)]
struct Medium {
    start: Vec<u8>,
    /// The bytes of text before it.
    text_before: u64,
}

/// An open container.
#[derive(Debug)]
struct Level {
    is_array: bool,
    /// The current element.
    index: usize,
    /// The pointers that lead into this container …
    leading_here: Mask,
    /// … and on into its current member.
    into_member: Mask,
}

/// A bit for each pointer.
type Mask = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    /// Directly after `[` or `{`.
    First,
    Key,
    Colon,
    AfterValue,
    String,
    /// A number or literal, which ends where something else begins.
    Scalar,
    Done,
    Failed,
}

impl JsonScanner {
    /// A scanner for the values at `pointers` (RFC 6901, `*` for any element or member); the first 64 count.
    pub(crate) fn new(pointers: impl IntoIterator<Item = (String, Note)>) -> Self {
        let wanted = pointers.into_iter().take(MAX_POINTERS).map(|(pointer, note)| {
            // What is no pointer leads nowhere.
            let steps = json::steps(&pointer).unwrap_or_else(|| vec![String::new(); MAX_DEPTH + 1]);
            Wanted { steps, note, found: Scanned::default() }
        });
        Self {
            wanted: wanted.collect(),
            levels: Vec::new(),
            state: State::Value,
            token: None,
            is_key: false,
            escaped: false,
            too_long: false,
            text: 0,
            medium: None,
        }
    }

    /// Reads the next piece.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            bytes = match self.state {
                State::Failed => return,
                State::String => self.string(bytes),
                State::Scalar => self.scalar(bytes),
                _ => {
                    if !byte.is_ascii_whitespace() {
                        self.text += 1;
                        self.punctuation(*byte);
                    }
                    rest
                }
            };
        }
    }

    /// Whether the text was a whole one, its bytes without media and white space between values, and what was found
    /// at each pointer. An escape counts as at most three bytes, and as no less than the character that it stands for.
    pub(crate) fn finish(mut self) -> (bool, u64, Vec<Scanned>) {
        self.restart()
    }

    /// The same, and makes it ready for another text.
    pub(crate) fn restart(&mut self) -> (bool, u64, Vec<Scanned>) {
        // A medium that was cut counts as far as it came.
        if self.state == State::Scalar || self.state == State::String && !self.is_key && self.medium.is_some()
        {
            self.end_value();
        }
        let found = self.wanted.iter_mut().map(|wanted| std::mem::take(&mut wanted.found)).collect();
        let read = (self.state == State::Done, self.text, found);
        self.levels.clear();
        (self.state, self.token, self.medium, self.escaped, self.text) = (State::Value, None, None, false, 0);
        read
    }

    fn punctuation(&mut self, byte: u8) {
        let in_array = self.levels.last().map(|level| level.is_array);
        match (self.state, byte, in_array) {
            (State::First, b']', Some(true)) | (State::First, b'}', Some(false)) => self.close(),
            (State::First | State::Value, _, Some(true) | None) => self.begin_value(byte),
            (State::First | State::Key, b'"', Some(false)) => self.begin_key(),
            (State::Colon, b':', _) => self.state = State::Value,
            (State::Value, _, Some(false)) => self.begin_value(byte),
            (State::AfterValue, b',', Some(true)) => {
                if let Some(level) = self.levels.last_mut() {
                    level.index += 1;
                }
                self.state = State::Value;
            }
            (State::AfterValue, b',', Some(false)) => self.state = State::Key,
            (State::AfterValue, b']', Some(true)) | (State::AfterValue, b'}', Some(false)) => self.close(),
            _ => self.state = State::Failed,
        }
    }

    fn begin_key(&mut self) {
        let leads_on = self.levels.last().is_some_and(|level| level.leading_here != 0);
        self.token = leads_on.then(|| vec![b'"']);
        (self.is_key, self.state) = (true, State::String);
    }

    fn begin_value(&mut self, byte: u8) {
        let here = self.leading_to_value();
        let depth = self.levels.len();
        let (mut stored, mut medium) = (false, false);
        for wanted in selected(&mut self.wanted, here) {
            let ends_here = wanted.steps.len() == depth;
            match &wanted.note {
                Note::Last => {
                    stored |= ends_here;
                    // Of members of the same name the last counts, as in most parsers.
                    if !wanted.steps.iter().any(|step| step == "*") {
                        wanted.found.last = None;
                    }
                }
                Note::Any(any) => {
                    stored |= ends_here;
                    wanted.found.any |= ends_here && byte == b'{' && any.equals.is_empty();
                }
                Note::Media { .. } => medium |= ends_here,
                Note::Present => wanted.found.any |= ends_here,
                Note::Count => wanted.found.items += u64::from(ends_here),
            }
        }
        let token = || stored.then(|| vec![byte]);
        let medium = medium && byte == b'"';
        self.medium = medium.then(|| Medium { start: Vec::new(), text_before: self.text });
        (self.is_key, self.too_long) = (false, false);
        (self.token, self.state) = match byte {
            b'"' => (token(), State::String),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => (token(), State::Scalar),
            b'[' | b'{' if depth < MAX_DEPTH => {
                let level = Level { is_array: byte == b'[', index: 0, leading_here: here, into_member: 0 };
                self.levels.push(level);
                (None, State::First)
            }
            _ => (None, State::Failed),
        };
    }

    /// The pointers that lead to the value that begins, or through it.
    fn leading_to_value(&mut self) -> Mask {
        let depth = self.levels.len();
        let Some(level) = self.levels.last_mut() else {
            return Mask::MAX;
        };
        if level.is_array && level.leading_here != 0 {
            let index = level.index.to_string();
            level.into_member = narrowed(&self.wanted, level.leading_here, depth, &index);
        }
        level.into_member
    }

    fn close(&mut self) {
        self.levels.pop();
        self.after_value();
    }

    fn after_value(&mut self) {
        self.state = if self.levels.is_empty() { State::Done } else { State::AfterValue };
    }

    fn string<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.escaped {
            self.escaped = false;
            self.store(&bytes[..1]);
            // With its four digits a character by number makes three bytes.
            self.text = if bytes[0] == b'u' { self.text.saturating_sub(1) } else { self.text + 1 };
            return &bytes[1..];
        }
        let Some(at) = memchr2(b'"', b'\\', bytes) else {
            self.store(bytes);
            self.text += bytes.len() as u64;
            return &[];
        };
        let (part, rest) = bytes.split_at(at + 1);
        self.store(part);
        self.text += at as u64;
        if bytes[at] == b'\\' {
            self.escaped = true;
        } else if self.is_key {
            self.end_key();
        } else {
            self.end_value();
        }
        rest
    }

    fn scalar<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
        let at = bytes.iter().position(ends);
        let (part, rest) = bytes.split_at(at.unwrap_or(bytes.len()));
        self.store(part);
        // Its first byte is counted.
        self.text += part.len() as u64;
        if at.is_some() {
            self.end_value();
        }
        rest
    }

    fn store(&mut self, part: &[u8]) {
        if let Some(Medium { start, .. }) = &mut self.medium {
            let room = MAX_START.saturating_sub(start.len());
            start.extend(part.iter().filter(|byte| **byte != b'\\').take(room));
        }
        if let Some(token) = &mut self.token {
            if token.len() + part.len() > MAX_VALUE {
                (self.token, self.too_long) = (None, true);
            } else {
                token.extend_from_slice(part);
            }
        }
    }

    fn end_key(&mut self) {
        let key = self.token.take().and_then(|raw| serde_json::from_slice::<String>(&raw).ok());
        let depth = self.levels.len();
        if let Some(level) = self.levels.last_mut() {
            let narrow = |key: String| narrowed(&self.wanted, level.leading_here, depth, &key);
            level.into_member = key.map_or(0, narrow);
        }
        self.state = State::Colon;
    }

    fn end_value(&mut self) {
        let value = self.token.take().and_then(|raw| text(&raw));
        let medium = self.medium.take();
        if value.is_some() || medium.is_some() || self.too_long {
            let depth = self.levels.len();
            let here = self.levels.last().map_or(Mask::MAX, |level| level.into_member);
            let length = medium.as_ref().map_or(0, |medium| self.text - medium.text_before);
            let ends_here = |wanted: &&mut Wanted| wanted.steps.len() == depth;
            let mut left_out = false;
            for wanted in selected(&mut self.wanted, here).filter(ends_here) {
                left_out |= wanted.note(value.as_deref(), self.too_long, medium.as_ref(), length);
            }
            if left_out {
                self.text -= length;
            }
        }
        self.after_value();
    }
}

/// The pointers of a mask.
fn selected(wanted: &mut [Wanted], mask: Mask) -> impl Iterator<Item = &mut Wanted> {
    wanted.iter_mut().enumerate().filter(move |(index, _)| mask & (1 << index) != 0).map(|(_, wanted)| wanted)
}

/// Those of `mask` whose step into a container at `depth` is `name`.
fn narrowed(wanted: &[Wanted], mask: Mask, depth: usize, name: &str) -> Mask {
    let leads = |wanted: &Wanted| wanted.steps.get(depth - 1).is_some_and(|step| step == "*" || step == name);
    let bits = wanted.iter().enumerate().filter(|(_, wanted)| leads(wanted));
    bits.fold(0, |bits, (index, _)| bits | (1 << index)) & mask
}

/// A string, number or truth value as text.
fn text(raw: &[u8]) -> Option<String> {
    match serde_json::from_slice(raw).ok()? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(bool) => Some(bool.to_string()),
        _ => None,
    }
}
