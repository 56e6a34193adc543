//! A `multipart/form-data` body (RFC 7578) read in pieces of any size for the values of some fields. Files are skipped.

use memchr::memmem;

/// Longest value that is read, in bytes; a longer one counts as absent.
const MAX_VALUE: usize = 4096;
/// Most bytes of a part's headers.
const MAX_HEADERS: usize = 8192;
/// Most bytes of padding after a boundary.
const MAX_PADDING: usize = 256;

/// Reads one form.
#[derive(Debug)]
pub(super) struct MultipartScanner {
    /// Line break, two hyphens and the boundary.
    delimiter: Vec<u8>,
    wanted: Vec<String>,
    found: Vec<Option<String>>,
    /// What has arrived and isn't read yet.
    unread: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Of a part, or before the first one.
    Content(Option<Field>),
    /// Directly after a delimiter.
    Delimiter,
    Headers,
    Done,
    Failed,
}

/// A part whose value is wanted.
#[derive(Debug)]
struct Field {
    index: usize,
    value: Vec<u8>,
}

impl MultipartScanner {
    /// A scanner for the fields of these names.
    pub(super) fn new(boundary: &str, wanted: Vec<String>) -> Self {
        Self {
            delimiter: [b"\r\n--", boundary.as_bytes()].concat(),
            found: vec![None; wanted.len()],
            wanted,
            // The first delimiter may begin the body, without a line break.
            unread: b"\r\n".to_vec(),
            state: State::Content(None),
        }
    }

    /// Reads the next piece.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while self.step() {}
    }

    /// Whether the form was a whole one, and the values.
    pub(super) fn finish(self) -> (bool, Vec<Option<String>>) {
        (matches!(self.state, State::Done), self.found)
    }

    /// Reads on; false: more has to arrive before.
    fn step(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Content(field) => self.content(field),
            State::Delimiter => self.after_delimiter(),
            State::Headers => self.headers(),
            end @ (State::Done | State::Failed) => {
                self.unread.clear();
                self.state = end;
                false
            }
        }
    }

    fn content(&mut self, mut field: Option<Field>) -> bool {
        let end = memmem::find(&self.unread, &self.delimiter);
        // The last bytes may be the beginning of a delimiter.
        let length = end.unwrap_or_else(|| self.unread.len().saturating_sub(self.delimiter.len() - 1));
        field = field.filter(|field| field.value.len() + length <= MAX_VALUE);
        if let Some(field) = &mut field {
            field.value.extend_from_slice(&self.unread[..length]);
        }
        match end {
            None => {
                self.unread.drain(..length);
                self.state = State::Content(field);
                false
            }
            Some(at) => {
                if let Some(field) = field {
                    self.found[field.index] = String::from_utf8(field.value).ok();
                }
                self.unread.drain(..at + self.delimiter.len());
                self.state = State::Delimiter;
                true
            }
        }
    }

    fn after_delimiter(&mut self) -> bool {
        if self.unread.starts_with(b"--") {
            self.state = State::Done;
            return true;
        }
        match memmem::find(&self.unread, b"\r\n") {
            // The line break stays: headers may be missing, and then it ends them.
            Some(at) => {
                self.unread.drain(..at);
                self.state = State::Headers;
                true
            }
            None => self.wait_in(State::Delimiter, MAX_PADDING),
        }
    }

    fn headers(&mut self) -> bool {
        match memmem::find(&self.unread, b"\r\n\r\n") {
            Some(at) => {
                let name = field_name(&self.unread[..at]);
                let index = name.and_then(|name| self.wanted.iter().position(|wanted| *wanted == name));
                self.unread.drain(..at + 4);
                self.state = State::Content(index.map(|index| Field { index, value: Vec::new() }));
                true
            }
            None => self.wait_in(State::Headers, MAX_HEADERS),
        }
    }

    /// Waits for more, unless there is too much already.
    fn wait_in(&mut self, state: State, at_most: usize) -> bool {
        let waits = self.unread.len() <= at_most;
        self.state = if waits { state } else { State::Failed };
        !waits
    }
}

/// The name of the field in a part's headers, unless the part is a file.
fn field_name(headers: &[u8]) -> Option<String> {
    let headers = String::from_utf8_lossy(headers);
    let disposition = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let is_file =
        parameter(disposition, "filename").or_else(|| parameter(disposition, "filename*")).is_some();
    parameter(disposition, "name").filter(|_| !is_file)
}

/// A parameter of a header's value, such as the boundary of a content type.
pub(super) fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim().trim_start_matches(';').trim();
        let after = after.trim_start();
        let (text, next) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let (text, next) = after.split_once(';').unwrap_or((after, ""));
                (text.trim().to_owned(), next)
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
        rest = next;
    }
}

/// A quoted string without its quotes, and what follows it.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => text.push(characters.next()?.1),
            other => text.push(other),
        }
    }
    None
}
