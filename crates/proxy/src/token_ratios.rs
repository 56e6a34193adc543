//! How many bytes of text make a token, as exact usages have shown: what an answer that does not tell has cost is
//! estimated by it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use quotakeeper_dialects::usage::AnswerTokens;
use quotakeeper_engine::event::CallClass;
use quotakeeper_engine::tokens::{CallSize, TokenUsage};

use crate::unknown_costs::MissingUsage;

/// The most kinds of calls that are told apart; of others nothing is learned.
const MOST_KINDS: usize = 256;
/// Fewer bytes of text than this show no ratio.
const LEAST_TEXT: u64 = 64;
/// No text has more tokens than bytes: where a usage says so, it counts what no text shows.
const LEAST: u64 = 1000;

/// What an answer has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// None: nothing is known of it.
    pub(crate) usage: Option<TokenUsage>,
    /// Why that is only estimated, of an answer that was read to its end.
    pub(crate) missing: Option<Missing>,
}

/// An answer whose usage is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) reason: MissingUsage,
    /// It is the first of such calls for which that is so.
    pub(crate) is_news: bool,
}

/// Thousandths of a byte of text per token, at most what any exact usage of such a call has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ratios {
    input: u64,
    output: u64,
}

/// The ratios of an account's calls, by kind.
#[derive(Default)]
pub(crate) struct TokenRatios(Mutex<HashMap<CallClass, Known>>);

#[derive(Clone, Copy, Default)]
struct Known {
    input: Option<u64>,
    output: Option<u64>,
}

impl Ratios {
    /// Output tokens of an answer so far: what it told, and an estimate of what came since.
    pub(crate) fn output(&self, told: &AnswerTokens) -> u64 {
        told.output.unwrap_or(0).saturating_add(tokens(told.text_since, self.output))
    }

    /// Input tokens of a request of this size.
    pub(crate) fn input(&self, size: CallSize) -> u64 {
        tokens(size.text_bytes, self.input).saturating_add(size.media_tokens)
    }
}

impl TokenRatios {
    /// The ratios of such calls; a byte per token until they are known.
    pub(crate) fn of(&self, class: &CallClass) -> Ratios {
        let known = self.known().get(class).copied().unwrap_or_default();
        Ratios { input: known.input.unwrap_or(LEAST), output: known.output.unwrap_or(LEAST) }
    }

    /// Learns from an exact usage.
    pub(crate) fn learn(&self, class: &CallClass, size: Option<CallSize>, told: &AnswerTokens) {
        let of_text = size.filter(|size| size.media_tokens == 0 && !size.stored_input);
        let input = of_text.and_then(|size| ratio(size.text_bytes, told.input?));
        let output = told.output.and_then(|output| ratio(told.text, output.saturating_sub(told.hidden)));
        self.with(class, |known| {
            known.input = least(known.input, input);
            known.output = least(known.output, output);
        });
    }

    fn with(&self, class: &CallClass, step: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        if let Some(known) = known.get_mut(class) {
            step(known);
        } else if known.len() < MOST_KINDS {
            step(known.entry(class.clone()).or_default());
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<CallClass, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many bytes as tokens, rounded up.
fn tokens(bytes: u64, ratio: u64) -> u64 {
    bytes.saturating_mul(1000).div_ceil(ratio.max(LEAST))
}

fn ratio(bytes: u64, tokens: u64) -> Option<u64> {
    let shown = bytes.saturating_mul(1000).checked_div(tokens)?;
    (bytes >= LEAST_TEXT).then_some(shown.max(LEAST))
}

fn least(known: Option<u64>, shown: Option<u64>) -> Option<u64> {
    known.into_iter().chain(shown).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(model: &str) -> CallClass {
        CallClass { model: Some(model.to_owned()), ..CallClass::default() }
    }

    fn told(text: u64, input: u64, output: u64, hidden: u64) -> AnswerTokens {
        AnswerTokens { text, input: Some(input), output: Some(output), hidden, ..AnswerTokens::default() }
    }

    fn size(text_bytes: u64) -> CallSize {
        CallSize { text_bytes, ..CallSize::default() }
    }

    #[test]
    fn an_estimate_is_no_less_than_any_exact_usage_showed() {
        let ratios = TokenRatios::default();
        let since = AnswerTokens { text_since: 1000, ..AnswerTokens::default() };
        let unknown = ratios.of(&class("a"));
        assert_eq!((unknown.output(&since), unknown.input(size(500))), (1000, 500), "a byte per token");

        ratios.learn(&class("a"), Some(size(4000)), &told(4000, 1000, 1200, 200));
        let known = ratios.of(&class("a"));
        assert_eq!((known.output(&since), known.input(size(500))), (250, 125));
        ratios.learn(&class("a"), Some(size(9000)), &told(2000, 1000, 1000, 0));
        ratios.learn(&class("a"), Some(size(9000)), &told(9000, 1000, 1000, 0));
        ratios.learn(&class("a"), Some(size(9)), &told(9, 9, 9, 0));
        let known = ratios.of(&class("a"));
        assert_eq!((known.output(&since), known.input(size(500))), (500, 125));
        // What was told counts, and the text behind it.
        assert_eq!(known.output(&AnswerTokens { output: Some(70), text_since: 10, ..since }), 75);

        // Hidden output that nobody tells apart.
        ratios.learn(&class("a"), None, &told(100, 1, 5000, 0));
        assert_eq!(ratios.of(&class("a")).output(&since), 1000);
        assert_eq!(ratios.of(&class("b")), Ratios { input: LEAST, output: LEAST });
    }

    #[test]
    fn kinds_are_bounded() {
        let ratios = TokenRatios::default();
        (0..2 * MOST_KINDS)
            .for_each(|kind| ratios.learn(&class(&kind.to_string()), None, &told(4000, 1, 1000, 0)));
        assert_eq!(ratios.known().len(), MOST_KINDS);
    }
}
