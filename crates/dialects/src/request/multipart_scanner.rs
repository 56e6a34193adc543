//! A `multipart/form-data` body (RFC 7578) read in pieces of any size for the values of some fields, and how much text
//! all of them hold. Files are skipped.

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
    text_bytes: u64,
    has_files: bool,
    /// What has arrived and isn't read yet.
    unread: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    Content(Part),
    /// Directly after a delimiter.
    Delimiter,
    Headers,
    Done,
    Failed,
}

/// What is read of a part.
#[derive(Debug)]
enum Part {
    /// Nothing: it is a file, or what stands before the first part.
    Skipped,
    /// How long it is.
    Text,
    Wanted(Field),
}

/// What a form holds.
#[derive(Debug)]
pub(super) struct Form {
    /// It was read to its end.
    pub(super) whole: bool,
    /// The values of the wanted fields.
    pub(super) values: Vec<Option<String>>,
    /// Bytes of all fields.
    pub(super) text_bytes: u64,
    pub(super) has_files: bool,
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
            text_bytes: 0,
            has_files: false,
            // The first delimiter may begin the body, without a line break.
            unread: b"\r\n".to_vec(),
            state: State::Content(Part::Skipped),
        }
    }

    /// Reads the next piece.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while self.step() {}
    }

    /// What it holds, as far as it was read.
    pub(super) fn finish(self) -> Form {
        let Self { state, found, text_bytes, has_files, .. } = self;
        Form { whole: matches!(state, State::Done), values: found, text_bytes, has_files }
    }

    /// Reads on; false: more has to arrive before.
    fn step(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Content(part) => self.content(part),
            State::Delimiter => self.after_delimiter(),
            State::Headers => self.headers(),
            end @ (State::Done | State::Failed) => {
                self.unread.clear();
                self.state = end;
                false
            }
        }
    }

    fn content(&mut self, mut part: Part) -> bool {
        let end = memmem::find(&self.unread, &self.delimiter);
        // The last bytes may be the beginning of a delimiter.
        let length = end.unwrap_or_else(|| self.unread.len().saturating_sub(self.delimiter.len() - 1));
        if !matches!(part, Part::Skipped) {
            self.text_bytes += length as u64;
        }
        match &mut part {
            Part::Wanted(field) if field.value.len() + length > MAX_VALUE => part = Part::Text,
            Part::Wanted(field) => field.value.extend_from_slice(&self.unread[..length]),
            Part::Skipped | Part::Text => {}
        }
        match end {
            None => {
                self.unread.drain(..length);
                self.state = State::Content(part);
                false
            }
            Some(at) => {
                if let Part::Wanted(field) = part {
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
                let part = self.part(&self.unread[..at]);
                self.has_files |= matches!(part, Part::Skipped);
                self.unread.drain(..at + 4);
                self.state = State::Content(part);
                true
            }
            None => self.wait_in(State::Headers, MAX_HEADERS),
        }
    }

    /// The part with these headers.
    fn part(&self, headers: &[u8]) -> Part {
        let headers = String::from_utf8_lossy(headers);
        let Some(disposition) = disposition(&headers) else { return Part::Text };
        let file_name = parameter(disposition, "filename").or_else(|| parameter(disposition, "filename*"));
        if file_name.is_some() {
            return Part::Skipped;
        }
        let name = parameter(disposition, "name");
        let index = name.and_then(|name| self.wanted.iter().position(|wanted| *wanted == name));
        index.map_or(Part::Text, |index| Part::Wanted(Field { index, value: Vec::new() }))
    }

    /// Waits for more, unless there is too much already.
    fn wait_in(&mut self, state: State, at_most: usize) -> bool {
        let waits = self.unread.len() <= at_most;
        self.state = if waits { state } else { State::Failed };
        !waits
    }
}

/// What the headers of a part say that it is.
fn disposition(headers: &str) -> Option<&str> {
    headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })
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
