//! Times and durations in every notation that providers use. Exact, without floating point; what cannot be
//! read is none.

use std::time::Duration;

use http::HeaderMap;
use http::header::DATE;
use jiff::{SignedDuration, Timestamp};

use crate::profile::TimeFormat;
use crate::prose;

/// How far `text` lies ahead of `now`; negative where it is past.
///
/// `now` should be the provider's own time, see [`provider_now`].
pub fn offset(format: TimeFormat, text: &str, now: Timestamp) -> Option<SignedDuration> {
    let text = text.trim();
    match format {
        TimeFormat::DeltaSeconds => ahead(decimal_seconds(text)?),
        TimeFormat::DeltaMillis => ahead(decimal_seconds(text)? / 1000),
        TimeFormat::EpochSeconds => since_epoch(decimal_seconds(text)?, now),
        TimeFormat::EpochMillis => since_epoch(decimal_seconds(text)? / 1000, now),
        TimeFormat::GoDuration => ahead(go_duration(text)?),
        TimeFormat::Rfc3339 => Some(text.parse::<Timestamp>().ok()?.duration_since(now)),
        TimeFormat::HttpDate => Some(http_date(text)?.duration_since(now)),
        TimeFormat::RetryAfter => match decimal_seconds(text) {
            Some(delay) => ahead(delay),
            None => Some(http_date(text)?.duration_since(now)),
        },
        TimeFormat::Prose => ahead(prose::wait(text)?),
        TimeFormat::Unknown => None,
    }
}

/// The provider's time when it answered: its `Date` (RFC 9110, 6.6.1), else `now`. Dates in the same answer are
/// measured against it, so that a clock that is off, theirs or ours, does not matter.
pub fn provider_now(headers: &HeaderMap, now: Timestamp) -> Timestamp {
    headers.get(DATE).and_then(|date| http_date(date.to_str().ok()?)).unwrap_or(now)
}

/// Seconds as digits with an optional decimal part, to the nanosecond: `7`, `2.0`, `7.66`. No sign, no exponent.
pub fn decimal_seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let nanos =
        fraction.bytes().chain([b'0'; 9]).take(9).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(Duration::new(whole.parse().ok()?, nanos))
}

/// A duration as Go prints it: `12ms`, `6m0s`, `23h47m36.648s`. Not negative.
pub fn go_duration(text: &str) -> Option<Duration> {
    let compact =
        text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'h' | 'm' | 's' | 'u' | 'µ' | 'n'));
    if !compact || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    text.parse::<SignedDuration>().ok()?.try_into().ok()
}

/// An HTTP date in one of its three syntaxes (RFC 9110, 5.6.7).
pub fn http_date(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text.trim()).ok()?.try_into().ok()
}

fn ahead(delay: Duration) -> Option<SignedDuration> {
    delay.try_into().ok()
}

fn since_epoch(time: Duration, now: Timestamp) -> Option<SignedDuration> {
    let nanos = i32::try_from(time.subsec_nanos()).ok()?;
    let instant = Timestamp::new(i64::try_from(time.as_secs()).ok()?, nanos).ok()?;
    Some(instant.duration_since(now))
}
