//! Costs that are not known, before a call is sent or after its answer: what is logged of them, once for each kind of
//! calls, and what people are told to do.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use quotakeeper_engine::event::CallClass;

/// The most kinds of calls that are told apart; of others nothing is logged.
const MOST_KINDS: usize = 256;

/// Why the cost of a call is not known, or only the most of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UnknownCost {
    /// The profile knows no price of its model.
    NoPrice,
    /// It sets no maximum of output, where the most is held.
    NoMaximum,
    /// Its answer does not say it.
    Told(MissingUsage),
}

/// Why the usage of an answer is only estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MissingUsage {
    /// It tells none, or not after all of its text.
    Absent,
    /// A figure is no number of tokens, or of credits.
    Unreadable,
    /// A figure is larger than the model allows.
    Absurd,
    /// Its content coding is none that is read.
    UnknownEncoding,
}

impl UnknownCost {
    /// What it means, and what to do, as a sentence.
    pub(crate) fn in_words(self) -> String {
        match self {
            Self::NoPrice => {
                "the profile knows no price of this model, so its calls count as those of the dearest; name it in `models` of an ApiProvider"
                    .to_owned()
            }
            Self::NoMaximum => {
                "a call sets no maximum of output, so as much as its model can produce is held until it ends, and fewer run at the same time; set max_tokens"
                    .to_owned()
            }
            Self::Told(why) => format!(
                "an answer {}; its cost is estimated, so that fewer calls may go out than the limit allows",
                why.in_words()
            ),
        }
    }
}

impl MissingUsage {
    /// Its name in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "Absent",
            Self::Unreadable => "Unreadable",
            Self::Absurd => "Absurd",
            Self::UnknownEncoding => "UnknownEncoding",
        }
    }

    /// The same as a part of a sentence that begins with the answer, and what to do.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Absent => {
                "does not say what it has cost; if it should, correct `tokens.usage` or `credits` of the ApiProvider"
            }
            Self::Unreadable => {
                "says what it has cost by something that is no such number; correct `tokens.usage` or `credits` of the \
                 ApiProvider, or ask the provider"
            }
            Self::Absurd => {
                "tells more tokens than its model can read and write; correct `contextTokens` of the model in the \
                 ApiProvider, or ask the provider"
            }
            Self::UnknownEncoding => {
                "is compressed in a way that is not read; let the client accept gzip, br, zstd or no compression"
            }
        }
    }
}

/// What has been logged of an account's calls.
#[derive(Default)]
pub(crate) struct LoggedCosts(Mutex<HashSet<(CallClass, UnknownCost)>>);

impl LoggedCosts {
    /// Whether it is the first call of its kind whose cost is not known for this reason.
    pub(crate) fn is_news(&self, class: &CallClass, why: UnknownCost) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (class.clone(), why);
        !logged.contains(&key) && logged.len() < MOST_KINDS && logged.insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(model: &str) -> CallClass {
        CallClass { model: Some(model.to_owned()), ..CallClass::default() }
    }

    #[test]
    fn each_reason_is_news_once_for_each_kind_of_calls() {
        let logged = LoggedCosts::default();
        let absent = UnknownCost::Told(MissingUsage::Absent);
        assert!(logged.is_news(&class("a"), absent) && !logged.is_news(&class("a"), absent));
        assert!(logged.is_news(&class("a"), UnknownCost::NoPrice) && logged.is_news(&class("b"), absent));
        for model in 0..2 * MOST_KINDS {
            let _news = logged.is_news(&class(&model.to_string()), absent);
        }
        assert!(logged.0.lock().is_ok_and(|logged| logged.len() == MOST_KINDS));
        assert!(!logged.is_news(&class("another"), absent), "clients choose the names");
    }
}
