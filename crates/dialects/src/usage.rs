//! What tokens an answer has cost, read as it passes, in bounded memory.
//!
//! An answer is one JSON text, a stream of events whose data are JSON texts, or one JSON text a line. Figures are found by the profile's
//! pointers; of several events the last that has one counts, so that figures that grow replace each other.

mod events;

use std::ops::Range;

use http::header::CONTENT_TYPE;
use memchr::{memchr, memmem};

use crate::profile::{Profile, ToldCredits, Usage};
use crate::request::json_scanner::{JsonScanner, Note, Scanned};
use crate::request::{path_fits, without_query};
use crate::response::Head;
use events::EventSplitter;

/// The content types of answers that are a JSON text a line. They have no registered one.
const LINES: [&[u8]; 4] =
    [b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/stream+json"];

/// The figures of an answer so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerTokens {
    /// All of the input, if it was told.
    pub input: Option<u64>,
    /// Of the input, read from a cache.
    pub cached: u64,
    /// Of the input, written to a cache.
    pub cache_write: u64,
    /// All of the output, if it was told.
    pub output: Option<u64>,
    /// Of the output, what no text shows.
    pub hidden: u64,
    /// Bytes of produced text, all together …
    pub text: u64,
    /// … and those that came after the output was last told.
    pub text_since: u64,
    /// A figure was no number of tokens.
    pub unreadable: bool,
    /// What it says that the call has cost in the provider's own units.
    pub credits: ToldCost,
}

/// What an answer says that its call has cost in the provider's own units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ToldCost {
    /// Nothing.
    #[default]
    Absent,
    /// So many, a fraction rounded up.
    Credits(u64),
    /// Something that is no such number.
    Unreadable,
}

/// No call costs more: a larger figure is no cost.
const MOST_CREDITS: f64 = 1e12;

impl ToldCost {
    fn of(text: &str) -> ToldCost {
        match text.trim().parse::<f64>() {
            Ok(credits) if (0.0..=MOST_CREDITS).contains(&credits) => {
                ToldCost::Credits(credits.ceil() as u64)
            }
            _ => ToldCost::Unreadable,
        }
    }
}

impl AnswerTokens {
    /// Whether input and output were told after all text.
    pub fn is_complete(&self) -> bool {
        self.input.is_some() && self.output.is_some() && self.text_since == 0 && !self.unreadable
    }
}

/// Reads the decoded body of one answer in pieces of any size.
#[derive(Debug)]
pub struct UsageReader {
    usage: Usage,
    scanner: JsonScanner,
    framing: Framing,
    /// The last of each figure, in the order of [`Usage::figures`].
    figures: Vec<Option<u64>>,
    /// Which of them are parts of the output …
    outputs: Range<usize>,
    /// … and which the total, if there is one.
    total: usize,
    /// Whether the output of such a call is nothing.
    no_output: bool,
    /// How many places may say what the call has cost in the provider's own units.
    credits: usize,
    told: AnswerTokens,
}

/// How the JSON texts of an answer are parted.
#[derive(Debug)]
enum Framing {
    /// It is a single one.
    Single,
    /// Each is the data of an event.
    Events(EventSplitter),
    /// Each is a line, and this one has begun or not.
    Lines { begun: bool },
}

impl Framing {
    fn is_stream(&self) -> bool {
        !matches!(self, Framing::Single)
    }
}

impl Profile {
    /// The reader for an answer with this head to a request of this path, which wants an event stream or not. `None`
    /// where answers tell nothing, or this one is no text.
    pub fn usage_reader(&self, head: Head<'_>, path: &str, requested_stream: bool) -> Option<UsageReader> {
        let tokens = self.tokens.as_ref();
        let usage = tokens.and_then(|tokens| tokens.usage.clone());
        let credits = self.told_credits(head.endpoint);
        if usage.is_none() && credits.is_none() {
            return None;
        }
        let usage = usage.unwrap_or_default();
        let told = AnswerTokens { credits: in_header(credits, head), ..AnswerTokens::default() };
        let content_type = head.headers.get(CONTENT_TYPE);
        let content_type =
            content_type.map(|value| value.as_bytes().to_ascii_lowercase()).unwrap_or_default();
        let json = memmem::find(&content_type, b"json").is_some();
        let lines = LINES.iter().any(|lines| content_type.starts_with(lines));
        let stream = content_type.starts_with(b"text/event-stream")
            || requested_stream && !json && self.stream.is_some();
        let in_header = told.credits != ToldCost::Absent;
        if !head.status.is_success() || !json && !stream && !in_header {
            return None;
        }
        let path = without_query(path);
        let figures = usage.figures().count();
        let before = usage.input.len() + usage.cached.len() + usage.cache_write.len();
        Some(UsageReader {
            scanner: scanner(&usage, credits),
            framing: match (stream, lines) {
                (true, _) => Framing::Events(EventSplitter::default()),
                (false, true) => Framing::Lines { begun: false },
                (false, false) => Framing::Single,
            },
            figures: vec![None; figures],
            outputs: before..before + usage.output.len(),
            total: if usage.total.is_some() { figures - 1 } else { figures },
            no_output: tokens
                .is_some_and(|tokens| tokens.without_output.iter().any(|known| path_fits(known, path))),
            credits: credits.map_or(0, |credits| credits.at.len()),
            told,
            usage,
        })
    }
}

/// What a header says that the call has cost in the provider's own units.
fn in_header(credits: Option<&ToldCredits>, head: Head<'_>) -> ToldCost {
    let name = credits.and_then(|credits| credits.header.as_deref());
    let value = name.and_then(|name| head.headers.get(name));
    value.map_or(ToldCost::Absent, |value| value.to_str().map_or(ToldCost::Unreadable, ToldCost::of))
}

/// Looks for each figure in each object that may hold it, then for texts, then for credits.
fn scanner(usage: &Usage, credits: Option<&ToldCredits>) -> JsonScanner {
    let figures = usage.at.iter().flat_map(|at| usage.figures().map(move |figure| format!("{at}{figure}")));
    let figures = figures.map(|at| (at, Note::Last));
    let texts = usage.text.iter().map(|at| (at.clone(), Note::Media { starts_with: Vec::new() }));
    let credits = credits.into_iter().flat_map(|credits| &credits.at).map(|at| (at.clone(), Note::Last));
    JsonScanner::new(figures.chain(texts).chain(credits))
}

impl UsageReader {
    /// Reads the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let ended = match &mut self.framing {
                Framing::Single => return self.scanner.push(rest),
                Framing::Events(events) => events.push(&mut rest, &mut self.scanner),
                Framing::Lines { begun } => {
                    let end = memchr(b'\n', rest);
                    let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
                    self.scanner.push(line);
                    *begun |= !line.trim_ascii().is_empty();
                    rest = after.get(1..).unwrap_or_default();
                    end.is_some() && std::mem::take(begun)
                }
            };
            if ended {
                self.end_text();
            }
        }
    }

    /// The figures of what has ended so far: of events or lines.
    pub fn so_far(&self) -> AnswerTokens {
        self.told
    }

    /// The figures at the end, or where the answer breaks off.
    pub fn finish(mut self) -> AnswerTokens {
        let unfinished = match &self.framing {
            Framing::Single => true,
            Framing::Events(events) => events.has_data(),
            Framing::Lines { begun } => *begun,
        };
        if unfinished {
            self.end_text();
        }
        self.told
    }

    /// A JSON text has ended, or what there is of it.
    fn end_text(&mut self) {
        let (_, all, found) = self.scanner.restart();
        let figures = self.figures.len();
        let (told, found) = found.split_at(self.usage.at.len() * figures);
        let (texts, credits) = found.split_at(found.len().saturating_sub(self.credits));
        if let Some(told) = credits.iter().find_map(|found| found.last.as_deref()) {
            self.told.credits = ToldCost::of(told);
        }
        let texts = texts.iter().map(|text| text.left_out).sum::<u64>();
        let knows_texts = !self.usage.text.is_empty();
        self.told.text = self.told.text.saturating_add(if knows_texts { texts } else { all });
        let since = match self.framing.is_stream() {
            true if knows_texts => texts,
            // What follows the figures is no text.
            true if self.told.output.is_some() => 0,
            // All of it may be output, unless it tells.
            _ => all + texts,
        };
        self.told.text_since = self.told.text_since.saturating_add(since);
        let (mut any, mut tells_output) = (false, self.no_output);
        for (index, Scanned { last, .. }) in told.iter().enumerate() {
            let Some(last) = last else { continue };
            let figure = index % figures;
            any = true;
            tells_output |= self.outputs.contains(&figure) || figure == self.total;
            match last.parse() {
                Ok(number) => self.figures[figure] = Some(number),
                Err(_) => self.told.unreadable = true,
            }
        }
        if any {
            self.sum_up();
        }
        if any && tells_output && self.told.output.is_some() {
            self.told.text_since = 0;
        }
    }

    fn sum_up(&mut self) {
        let Usage { input, cached, cache_write, output, hidden, total, .. } = &self.usage;
        let mut figures = self.figures.iter().copied();
        let mut next = |fields: &[String]| {
            let there: Vec<u64> = figures.by_ref().take(fields.len()).flatten().collect();
            let sum = there.iter().try_fold(0_u64, |sum, figure| sum.checked_add(*figure));
            sum.map(|sum| (!there.is_empty()).then_some(sum))
        };
        let sums = [
            next(input),
            next(cached),
            next(cache_write),
            next(output),
            next(hidden),
            next(total.as_slice()),
        ];
        if sums.contains(&None) {
            self.told.unreadable = true;
            return;
        }
        let [input, cached, cache_write, output, hidden, total] = sums.map(Option::flatten);
        let rest = input.zip(total).map(|(input, total)| total.saturating_sub(input));
        let none = self.no_output.then_some(0);
        let output = output.into_iter().chain(rest).max().or(none.filter(|_| input.is_some()));
        self.told = AnswerTokens {
            input,
            cached: cached.unwrap_or_default(),
            cache_write: cache_write.unwrap_or_default(),
            output,
            hidden: hidden.unwrap_or_default(),
            ..self.told
        };
    }
}
