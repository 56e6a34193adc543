//! Waits that stand only in the text of a message, such as `Please try again in 1m2.5s.`
//!
//! A duration counts where a word before it says that it is a wait, so that figures of limits and usage are not taken
//! for one. It needs a unit: a bare number may be anything.

use std::time::Duration;

use crate::instant::decimal_seconds;

/// No wait in a text is believed to be longer: a month and a day.
pub const LONGEST: Duration = Duration::from_secs(32 * 24 * 60 * 60);
/// How much of a text is read, in bytes.
const MAX_TEXT: usize = 4096;
/// Words after which a duration is a wait, in small letters.
const MARKERS: [&str; 6] = ["try again", "retry", "wait", "reset", "come back", "available"];
/// Words that may stand between such a word and the duration.
const FILLERS: [&str; 16] = [
    "in",
    "after",
    "for",
    "within",
    "at",
    "least",
    "about",
    "approximately",
    "another",
    "please",
    "until",
    "again",
    "will",
    "be",
    "is",
    "s",
];

/// The longest wait that the text names, at most [`LONGEST`]; `None` if it names none.
///
/// ```
/// # use quotakeeper_dialects::prose::wait;
/// # use std::time::Duration;
/// assert_eq!(wait("Limit 500, Used 500. Please try again in 37ms."), Some(Duration::from_millis(37)));
/// assert_eq!(wait("Limit 500, Used 500 in 60s."), None);
/// ```
pub fn wait(text: &str) -> Option<Duration> {
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    let text = text.to_ascii_lowercase();
    let after_marker = |marker: &'static str| {
        text.match_indices(marker).filter_map(|(at, found)| duration_after(&text[at + found.len()..]))
    };
    MARKERS.into_iter().flat_map(after_marker).max().map(|wait| wait.min(LONGEST))
}

/// The duration at the beginning of the text, after words that only lead to it.
fn duration_after(text: &str) -> Option<Duration> {
    let mut rest = skip_separators(text);
    while let Some(after) = FILLERS.iter().find_map(|filler| word(rest, filler)) {
        rest = skip_separators(after);
    }
    let mut total = None;
    while let Some((part, after)) = quantity(rest) {
        total = Some(part.saturating_add(total.unwrap_or_default()));
        rest = skip_separators(after);
        rest = word(rest, "and").map_or(rest, skip_separators);
    }
    total
}

/// What follows this whole word, if the text begins with it.
fn word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    text.strip_prefix(word).filter(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

fn skip_separators(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', ',', ':', '(', '~'])
}

/// A number with a unit at the beginning of the text, and what follows it.
fn quantity(text: &str) -> Option<(Duration, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let amount = decimal_seconds(number)?;
    let rest = rest.trim_start_matches([' ', '-']);
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let times = |factor: u32| amount.checked_mul(factor).unwrap_or(LONGEST);
    let part = match unit {
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => amount / 1000,
        "s" | "sec" | "secs" | "second" | "seconds" => amount,
        "m" | "min" | "mins" | "minute" | "minutes" => times(60),
        "h" | "hr" | "hrs" | "hour" | "hours" => times(60 * 60),
        "d" | "day" | "days" => times(24 * 60 * 60),
        _ => return None,
    };
    Some((part, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_as_providers_write_them() {
        let millis = |text: &str| wait(text).map(|wait| wait.as_millis());
        for (text, expected) in [
            ("Rate limit reached (TPM): Limit 40000000, Used 40000000. Please try again in 37ms.", Some(37)),
            ("Limit 200000, Used 155151, Requested 49105. Please try again in 1.276s. Visit …", Some(1_276)),
            ("Please try again in 1m2.5s.", Some(62_500)),
            ("Please try again in 6h12m7.8s", Some(22_327_800)),
            ("Please retry in 58.821668433s.", Some(58_821)),
            ("Rate limit exceeded, please try again 50680 seconds later", Some(50_680_000)),
            ("Try again in 1 minute and 30 seconds", Some(90_000)),
            ("Your quota will reset after 25s.", Some(25_000)),
            ("Retry after 2 hours, or wait: 5 min", Some(7_200_000)),
            ("please wait at least 20 sec before you try again", Some(20_000)),
            ("Please try again later.", None),
            ("Please try again in 20", None),
            ("You may retry 3 times in 60s", None),
            ("Limit: 500 requests per 60 seconds", None),
            ("", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
        assert_eq!(wait("try again in 99999999999999999999999999s"), None, "no number of this world");
        assert_eq!(wait("try again in 18446744073709551615 days"), Some(LONGEST));
        assert_eq!(wait("retry in 9999999999 days 9999999999h 5s"), Some(LONGEST));
    }
}
