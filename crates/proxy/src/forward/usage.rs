//! The tokens and credits that an answer has cost, read beside its way to the client, which waits for nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use quotakeeper_dialects::Head;
use quotakeeper_dialects::usage::{AnswerTokens, ToldCost, UsageReader};
use quotakeeper_engine::event::CallClass;
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};

use crate::account::Account;
use crate::coding::{Decoder, PIECE};
use crate::token_ratios::{Missing, Ratios, Used};
use crate::unknown_costs::{MissingUsage, UnknownCost};

/// How often the progress of an answer is told to the session, which tells the limiter with its heartbeats.
const OFTEN: Duration = Duration::from_millis(100);
/// No call costs more: a figure above it is absurd, even where nothing bounds the call's input.
const MOST_TOKENS: u64 = 1_000_000_000_000;

/// What of a call its usage is judged by.
pub(super) struct Asked<'a> {
    pub(super) class: &'a CallClass,
    pub(super) size: Option<CallSize>,
    /// At the provider.
    pub(super) path: &'a str,
    /// It wants an event stream.
    pub(super) stream: bool,
}

/// Reads one answer.
pub(super) struct UsageTee {
    account: Arc<Account>,
    class: CallClass,
    size: Option<CallSize>,
    ratios: Ratios,
    source: Source,
    progress: Progress,
}

/// Where the figures come from.
enum Source {
    Reader {
        reader: Box<UsageReader>,
        decoder: Decoder,
    },
    /// The call costs nothing: it is none that does, or the provider has refused it by this answer.
    Free,
    /// The answer is not read.
    Unread(MissingUsage),
}

/// What the session was told last.
#[derive(Default)]
struct Progress {
    output: u64,
    at: Option<Instant>,
}

impl UsageTee {
    /// A tee for an answer with this head; `None` where no limit counts tokens, nor credits that it may tell.
    pub(super) fn new(
        account: &Arc<Account>,
        asked: &Asked<'_>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<UsageTee> {
        let told_credits = account.is_told_credits(asked.class);
        if !account.counts_tokens() && !told_credits {
            return None;
        }
        let head = Head { status, headers, endpoint: asked.class.endpoint.as_deref() };
        let source = match account.profile.usage_reader(head, asked.path, asked.stream) {
            _ if status.is_client_error() => Source::Free,
            // An answer may tell what another call has cost.
            _ if asked.size.is_some_and(|size| size.is_nothing()) && !told_credits => Source::Free,
            None => Source::Unread(MissingUsage::Absent),
            Some(reader) => match Decoder::new(headers) {
                None => Source::Unread(MissingUsage::UnknownEncoding),
                Some(decoder) => Source::Reader { reader: Box::new(reader), decoder },
            },
        };
        Some(UsageTee {
            account: Arc::clone(account),
            class: asked.class.clone(),
            size: asked.size,
            ratios: account.ratios.of(asked.class),
            source,
            progress: Progress::default(),
        })
    }

    /// Reads the next part; returns the output tokens so far, now and then, if they have grown.
    pub(super) fn pass(&mut self, data: &[u8]) -> Option<u64> {
        let Source::Reader { reader, decoder } = &mut self.source else {
            return None;
        };
        match decoder {
            Decoder::Identity(_) => reader.push(data),
            _ => data.chunks(PIECE).for_each(|piece| reader.push(decoder.push(piece))),
        }
        let output = self.ratios.output(&reader.so_far());
        let now = Instant::now();
        let news = output > self.progress.output
            && self.progress.at.is_none_or(|told| now.saturating_duration_since(told) >= OFTEN);
        if news {
            self.progress = Progress { output, at: Some(now) };
        }
        news.then_some(output)
    }

    /// What the answer has cost that ended so.
    pub(super) fn end(mut self, end: CallEnd) -> Used {
        let seen = end == CallEnd::Seen;
        let nothing = Some(TokenUsage { exact: true, ..TokenUsage::default() });
        match std::mem::replace(&mut self.source, Source::Free) {
            Source::Free => Used { usage: nothing.filter(|_| seen), missing: None },
            Source::Unread(why) => Used { usage: None, missing: seen.then(|| self.missing(why)) },
            Source::Reader { reader, .. } => {
                let told = reader.finish();
                let used = if self.account.counts_tokens() { self.told(told, seen) } else { Used::default() };
                self.with_credits(used, told.credits, seen)
            }
        }
    }

    /// The same with what the answer tells of the provider's own units.
    fn with_credits(&self, used: Used, told: ToldCost, seen: bool) -> Used {
        if !self.account.is_told_credits(&self.class) {
            return used;
        }
        let missing = |why| seen.then(|| self.missing(why));
        match told {
            ToldCost::Credits(credits) => {
                // Of no tokens it is exact where none are counted.
                let nothing = TokenUsage { exact: !self.account.counts_tokens(), ..TokenUsage::default() };
                let usage = TokenUsage { credits: Some(credits), ..used.usage.unwrap_or(nothing) };
                Used { usage: Some(usage), ..used }
            }
            ToldCost::Absent => Used { missing: used.missing.or(missing(MissingUsage::Absent)), ..used },
            ToldCost::Unreadable => {
                Used { missing: used.missing.or(missing(MissingUsage::Unreadable)), ..used }
            }
        }
    }

    fn told(&self, told: AnswerTokens, seen: bool) -> Used {
        let absurd = self.is_absurd(&told);
        if absurd || told.unreadable {
            // None of its figures is believed.
            let text = AnswerTokens { text: told.text, text_since: told.text, ..AnswerTokens::default() };
            let why = if absurd { MissingUsage::Absurd } else { MissingUsage::Unreadable };
            return Used { usage: self.usage(&text, false), missing: seen.then(|| self.missing(why)) };
        }
        let exact = seen && told.is_complete();
        if exact {
            self.account.ratios.learn(&self.class, self.size, &told);
        }
        let missing = (seen && !exact).then(|| self.missing(MissingUsage::Absent));
        Used { usage: self.usage(&told, exact), missing }
    }

    fn missing(&self, reason: MissingUsage) -> Missing {
        let is_news = self.account.logged_costs.is_news(&self.class, UnknownCost::Told(reason));
        Missing { reason, is_news }
    }

    fn usage(&self, told: &AnswerTokens, exact: bool) -> Option<TokenUsage> {
        let bounded = self.size.filter(|size| !size.stored_input);
        let estimated =
            || bounded.map(|size| self.ratios.input(size)).or(self.account.context_of(&self.class));
        let input = told.input.or_else(estimated)?;
        let cached = told.cached.min(input);
        let cache_write = told.cache_write.min(input - cached);
        Some(TokenUsage {
            input,
            cached,
            cache_write,
            output: self.ratios.output(told),
            exact,
            credits: None,
        })
    }

    /// Whether a figure is larger than the model allows.
    fn is_absurd(&self, told: &AnswerTokens) -> bool {
        let size = self.size.filter(|size| !size.stored_input);
        let context =
            size.and_then(|size| Some(self.account.context_of(&self.class)?.saturating_mul(size.choices())));
        let most = context.unwrap_or(MOST_TOKENS).min(MOST_TOKENS);
        told.input.into_iter().chain(told.output).any(|figure| figure > most)
    }
}
