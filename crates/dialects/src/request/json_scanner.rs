//! A JSON text read in pieces of any size for the values at given pointers.
//!
//! Memory does not grow with the text: containers are counted, strings are skipped, and only a value that a pointer
//! leads to is stored. What was found before the text broke off counts.

use memchr::memchr2;

use crate::json;

/// Longest value that is read, in bytes as written; a longer one counts as absent.
const MAX_VALUE: usize = 4096;
/// Most containers inside each other, as in `serde_json`.
const MAX_DEPTH: usize = 128;
/// Most pointers of one scanner: one bit of a mask each.
const MAX_POINTERS: usize = 32;

/// Reads one JSON text.
#[derive(Debug)]
pub(super) struct JsonScanner {
    wanted: Vec<Wanted>,
    levels: Vec<Level>,
    state: State,
    /// What is stored of the current token; none: it is skipped.
    token: Option<Vec<u8>>,
    is_key: bool,
    escaped: bool,
}

#[derive(Debug)]
struct Wanted {
    steps: Vec<String>,
    found: Option<String>,
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
type Mask = u32;

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
    /// A scanner for the values at `pointers` (RFC 6901, `*` for any element or member); the first 32 count.
    pub(super) fn new<'p>(pointers: impl IntoIterator<Item = &'p str>) -> Self {
        let wanted = pointers.into_iter().take(MAX_POINTERS).map(|pointer| {
            // What is no pointer leads nowhere.
            let steps = json::steps(pointer).unwrap_or_else(|| vec![String::new(); MAX_DEPTH + 1]);
            Wanted { steps, found: None }
        });
        Self {
            wanted: wanted.collect(),
            levels: Vec::new(),
            state: State::Value,
            token: None,
            is_key: false,
            escaped: false,
        }
    }

    /// Reads the next piece.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            bytes = match self.state {
                State::Failed => return,
                State::String => self.string(bytes),
                State::Scalar => self.scalar(bytes),
                _ => {
                    if !byte.is_ascii_whitespace() {
                        self.punctuation(*byte);
                    }
                    rest
                }
            };
        }
    }

    /// Whether the text was a whole one, and the values as text: strings, numbers and truth values.
    pub(super) fn finish(mut self) -> (bool, Vec<Option<String>>) {
        if self.state == State::Scalar {
            self.end_value();
        }
        (self.state == State::Done, self.wanted.into_iter().map(|wanted| wanted.found).collect())
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
        let mut ends_here = false;
        for wanted in selected(&mut self.wanted, here) {
            ends_here |= wanted.steps.len() == depth;
            // Of members of the same name the last counts, as in most parsers.
            if !wanted.steps.iter().any(|step| step == "*") {
                wanted.found = None;
            }
        }
        let token = || ends_here.then(|| vec![byte]);
        self.is_key = false;
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
            return &bytes[1..];
        }
        let Some(at) = memchr2(b'"', b'\\', bytes) else {
            self.store(bytes);
            return &[];
        };
        let (part, rest) = bytes.split_at(at + 1);
        self.store(part);
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
        if at.is_some() {
            self.end_value();
        }
        rest
    }

    fn store(&mut self, part: &[u8]) {
        if let Some(token) = &mut self.token {
            if token.len() + part.len() > MAX_VALUE {
                self.token = None;
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
        if let Some(value) = self.token.take().and_then(|raw| text(&raw)) {
            let depth = self.levels.len();
            let here = self.levels.last().map_or(Mask::MAX, |level| level.into_member);
            for wanted in selected(&mut self.wanted, here).filter(|wanted| wanted.steps.len() == depth) {
                wanted.found = Some(value.clone());
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
