//! The rules that accounts are judged by: a built-in table, a rules file, the control port.
//!
//! The built-in numbers are low tiers as the providers' documents give them (OpenAI tier 1: 500 requests per minute
//! and model; Anthropic tier 1: 50 per minute and model class, "token bucket"; HubSpot's free and starter apps: 100 per
//! rolling 10 s, 250,000 a day, 5 searches a second). They are a start: tests set their own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::counting::{CountedAs, Limit};
use crate::dialect::Dialect;
use crate::tokens::{OutputTokens, Unit};

const MINUTE: u64 = 60_000;
const DAY: u64 = 86_400_000;
// Keeps every product of the counting in range: windows up to about a year, counts up to 10^15 (a million dollars in nanodollars).
const LARGEST_WINDOW_MILLIS: u64 = 366 * DAY;
const LARGEST_COUNT: u64 = 1_000_000_000_000_000;

/// Rules in which every part may be left to the layer below.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rules {
    /// The limits, all of them: a list here replaces the list below.
    pub limits: Option<Vec<Limit>>,
    /// Whether a call that was rejected as over a limit is charged all the same.
    pub rejected_counts: Option<bool>,
    /// Milliseconds from a call's arrival to the first byte of its answer.
    pub answer_millis: Option<u64>,
    /// Milliseconds between the chunks of a stream.
    pub stream_millis: Option<u64>,
    /// How many calls may be under way at the same time; one more is rejected without saying when to retry.
    pub most_under_way: Option<u64>,
    /// How long answers are that their requests don't decide; 8 tokens when absent.
    pub output_tokens: Option<OutputTokens>,
    /// Output tokens in a chunk of a stream.
    pub tokens_per_chunk: Option<u64>,
    /// Whether an answer is produced to its end after its client has left.
    pub after_hang_up: Option<AfterHangUp>,
}

/// What happens to the rest of an answer whose client has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterHangUp {
    /// It is produced, and counted.
    #[default]
    GoesOn,
    /// It is not produced.
    Stops,
}

/// A rules file: what differs from the built-in table, by provider and by account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuleBook {
    /// For every account of a provider.
    pub providers: BTreeMap<Dialect, Rules>,
    /// For one account, named by its credential.
    pub accounts: BTreeMap<String, Rules>,
}

/// The rules in force for one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The limits, in the order in which they are checked.
    pub limits: Vec<Limit>,
    /// Whether rejected calls are charged.
    pub rejected_counts: bool,
    /// Milliseconds to the first byte of an answer.
    pub answer_millis: u64,
    /// Milliseconds between the chunks of a stream.
    pub stream_millis: u64,
    /// How many calls may be under way at the same time; any number when absent.
    pub most_under_way: Option<u64>,
    /// How long answers are that their requests don't decide.
    pub output_tokens: Option<OutputTokens>,
    /// Output tokens in a chunk of a stream, at least 1.
    pub tokens_per_chunk: u64,
    /// What happens to the rest of an answer whose client has left.
    pub after_hang_up: AfterHangUp,
}

/// Rules that can't be judged by.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The text is not a rules file.
    #[error(
        "the rules can't be read: {0}; write `providers:` and `accounts:` with limits as --help shows them"
    )]
    Unreadable(#[from] serde_yaml::Error),
    /// A limit's name can't stand in a header.
    #[error("limit name {0:?}: use one or more letters, digits, `-` and `_`")]
    Name(String),
    /// Two limits of one account share a name.
    #[error("two limits are named {0:?}: give each its own name")]
    Duplicate(String),
    /// A number out of range.
    #[error("limit {name:?}: {field} is {value}; write a number from 1 to {largest}")]
    Range {
        /// The limit's name.
        name: String,
        /// The field at fault.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The largest accepted value.
        largest: u64,
    },
    /// A way of counting tokens where none are counted.
    #[error("limit {0:?}: tokens goes with a unit other than Requests; name a unit or remove it")]
    NoTokens(String),
    /// A field that belongs to another kind of window.
    #[error("limit {name:?}: {field} goes with countedAs {belongs:?} only; remove it")]
    Misplaced {
        /// The limit's name.
        name: String,
        /// The field at fault.
        field: &'static str,
        /// The kind of window that has it.
        belongs: CountedAs,
    },
}

impl RuleBook {
    /// Reads a rules file, YAML or JSON (which YAML contains).
    ///
    /// # Errors
    /// When the text is no rules file or a limit in it can't be counted.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let book: Self = serde_yaml::from_str(text)?;
        book.providers.values().chain(book.accounts.values()).try_for_each(Rules::check)?;
        Ok(book)
    }

    /// The rules in force for `account` at `dialect`.
    pub fn settings(&self, dialect: Dialect, account: &str) -> Settings {
        let mut settings = built_in(dialect);
        for rules in [self.providers.get(&dialect), self.accounts.get(account)].into_iter().flatten() {
            settings.override_by(rules);
        }
        settings
    }

    /// Lays `rules` over what `account` already has.
    pub fn set_account(&mut self, account: &str, rules: Rules) {
        let own = self.accounts.entry(account.to_owned()).or_default();
        own.limits = rules.limits.or(own.limits.take());
        own.rejected_counts = rules.rejected_counts.or(own.rejected_counts);
        own.answer_millis = rules.answer_millis.or(own.answer_millis);
        own.stream_millis = rules.stream_millis.or(own.stream_millis);
        own.most_under_way = rules.most_under_way.or(own.most_under_way);
        own.output_tokens = rules.output_tokens.or(own.output_tokens);
        own.tokens_per_chunk = rules.tokens_per_chunk.or(own.tokens_per_chunk);
        own.after_hang_up = rules.after_hang_up.or(own.after_hang_up);
    }
}

impl Rules {
    /// Whether every limit can be counted.
    ///
    /// # Errors
    /// Names the limit, the field and the remedy.
    pub fn check(&self) -> Result<(), RulesError> {
        let mut names = BTreeSet::new();
        for limit in self.limits.iter().flatten() {
            check_limit(limit)?;
            if !names.insert(&limit.name) {
                return Err(RulesError::Duplicate(limit.name.clone()));
            }
        }
        Ok(())
    }
}

impl Settings {
    fn override_by(&mut self, rules: &Rules) {
        if let Some(limits) = &rules.limits {
            self.limits.clone_from(limits);
        }
        self.rejected_counts = rules.rejected_counts.unwrap_or(self.rejected_counts);
        self.answer_millis = rules.answer_millis.unwrap_or(self.answer_millis);
        self.stream_millis = rules.stream_millis.unwrap_or(self.stream_millis);
        self.most_under_way = rules.most_under_way.or(self.most_under_way);
        self.output_tokens = rules.output_tokens.or(self.output_tokens);
        self.tokens_per_chunk = rules.tokens_per_chunk.unwrap_or(self.tokens_per_chunk).max(1);
        self.after_hang_up = rules.after_hang_up.unwrap_or(self.after_hang_up);
    }
}

fn check_limit(limit: &Limit) -> Result<(), RulesError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if limit.name.is_empty() || !limit.name.chars().all(plain) {
        return Err(RulesError::Name(limit.name.clone()));
    }
    for (field, value, largest) in [
        ("count", limit.count, LARGEST_COUNT),
        ("windowMillis", limit.window_millis, LARGEST_WINDOW_MILLIS),
        ("bucket", limit.capacity(), LARGEST_COUNT),
        ("phaseMillis plus 1", limit.phase_millis.saturating_add(1), LARGEST_WINDOW_MILLIS),
    ] {
        if value == 0 || value > largest {
            return Err(RulesError::Range { name: limit.name.clone(), field, value, largest });
        }
    }
    if limit.unit == Unit::Requests && limit.tokens.is_some() {
        return Err(RulesError::NoTokens(limit.name.clone()));
    }
    let misplaced = |field, belongs| Err(RulesError::Misplaced { name: limit.name.clone(), field, belongs });
    if limit.bucket.is_some() && limit.counted_as != CountedAs::Bucket {
        return misplaced("bucket", CountedAs::Bucket);
    }
    if limit.phase_millis > 0 && limit.counted_as != CountedAs::Fixed {
        return misplaced("phaseMillis", CountedAs::Fixed);
    }
    Ok(())
}

fn built_in(dialect: Dialect) -> Settings {
    let limit = Limit::new;
    let on = |endpoint: &str, limit: Limit| Limit { endpoint: Some(endpoint.to_owned()), ..limit };
    let limits = match dialect {
        Dialect::Openai => {
            vec![Limit { per_model: true, ..limit("requests", 500, MINUTE, CountedAs::Sliding) }]
        }
        Dialect::Anthropic => {
            vec![Limit { per_model: true, ..limit("requests", 50, MINUTE, CountedAs::Bucket) }]
        }
        Dialect::Hubspot => vec![
            limit("burst", 100, 10_000, CountedAs::Sliding),
            on("search", limit("search", 5, 1_000, CountedAs::Sliding)),
            on("*", limit("daily", 250_000, DAY, CountedAs::Fixed)),
        ],
        Dialect::Demo => vec![limit("requests", 100, 10_000, CountedAs::Sliding)],
    };
    // OpenAI: "unsuccessful requests contribute to your per-minute limit" (its rate limits guide).
    Settings {
        limits,
        rejected_counts: dialect == Dialect::Openai,
        answer_millis: 0,
        stream_millis: 0,
        most_under_way: None,
        output_tokens: None,
        tokens_per_chunk: 1,
        after_hang_up: AfterHangUp::GoesOn,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn accounts_override_providers_in_yaml_and_json() {
        let yaml = "providers:\n  demo:\n    answerMillis: 5\n    limits: [{name: a, count: 7, windowMillis: 1000, countedAs: Fixed, phaseMillis: 250}]\naccounts:\n  key: {answerMillis: 9, rejectedCounts: true}\n";
        let json = r#"{"providers":{"demo":{"answerMillis":5,"limits":[{"name":"a","count":7,"windowMillis":1000,"countedAs":"Fixed","phaseMillis":250}]}},"accounts":{"key":{"answerMillis":9,"rejectedCounts":true}}}"#;
        let book = RuleBook::parse(yaml).unwrap();
        assert_eq!(book, RuleBook::parse(json).unwrap());
        let settings = book.settings(Dialect::Demo, "key");
        assert_eq!(
            (settings.limits[0].count, settings.answer_millis, settings.rejected_counts),
            (7, 9, true)
        );
        assert_eq!(book.settings(Dialect::Demo, "other").answer_millis, 5);
        assert_eq!(book.settings(Dialect::Hubspot, "other").limits.len(), 3);
    }

    #[test]
    fn impossible_limits_are_refused_with_name_and_remedy() {
        for (limit, word) in [
            ("{name: a, count: 0, windowMillis: 1000, countedAs: Sliding}", "count is 0"),
            ("{name: a, count: 1, windowMillis: 0, countedAs: Sliding}", "windowMillis is 0"),
            ("{name: a b, count: 1, windowMillis: 1, countedAs: Sliding}", "letters"),
            ("{name: a, count: 1, windowMillis: 1, countedAs: Sliding, bucket: 2}", "Bucket only"),
            ("{name: a, count: 1, windowMillis: 1, countedAs: Bucket, phaseMillis: 2}", "Fixed only"),
            ("{name: a, count: 1, windowMillis: 1, countedAs: Sliding, size: 2}", "size"),
        ] {
            let error = RuleBook::parse(&format!("accounts: {{key: {{limits: [{limit}]}}}}")).unwrap_err();
            assert!(error.to_string().contains(word), "{limit}: {error}");
        }
    }
}
