//! The wait that a rejection names.
//!
//! Several sources may name it: the longest counts. Some providers write the same wait twice, once in whole seconds,
//! rounded up, and once exactly (`Retry-After: 1` and `retry-after-ms: 37`, or `try again in 37ms`): then the exact
//! one counts. SDKs read the exact header first for this reason; they would also believe a `retry-after-ms: 0` beside
//! `Retry-After: 4`, which is not the same wait.

use std::time::Duration;

use http::header::RETRY_AFTER;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};

use super::Observation;
use super::answer::Answer;
use crate::instant::offset;
use crate::profile::{Rejection, TimeFormat, WaitSource};

/// Longest wait of a rejection that names no maximum.
const MAXIMUM: Duration = Duration::from_secs(60 * 60);
/// Where messages stand, for rejections whose headers name no wait.
const MESSAGES: [&str; 2] = ["/error/message", "/message"];

/// A wait, and whether it is written more exactly than in whole seconds.
#[derive(Clone, Copy)]
struct NamedWait {
    wait: Duration,
    exact: bool,
}

impl Answer<'_> {
    /// The wait of a rejection, within its bounds.
    pub(super) fn wait(&self, rejection: &Rejection) -> Option<Duration> {
        let seconds = |field: Option<u32>| field.map(|seconds| Duration::from_secs(seconds.into()));
        let minimum = seconds(rejection.minimum_seconds);
        let maximum = seconds(rejection.maximum_seconds).unwrap_or(MAXIMUM);
        let wait = self.named_wait(rejection).or(seconds(rejection.cooldown_seconds)).or(minimum)?;
        Some(wait.max(minimum.unwrap_or_default()).min(maximum))
    }

    fn named_wait(&self, rejection: &Rejection) -> Option<Duration> {
        if !rejection.wait.is_empty() {
            let named = rejection.wait.iter().filter_map(|source| self.source(source));
            return combined(&named.collect::<Vec<_>>());
        }
        let named = [
            self.header("retry-after-ms", TimeFormat::DeltaMillis),
            self.header(RETRY_AFTER.as_str(), TimeFormat::RetryAfter),
            rejection.limit.as_deref().and_then(|limit| self.reset_of(limit)),
        ];
        combined(&named.into_iter().flatten().collect::<Vec<_>>()).or_else(|| self.in_message())
    }

    fn in_message(&self) -> Option<Duration> {
        let named = MESSAGES.iter().filter_map(|pointer| self.in_body(pointer, TimeFormat::Prose));
        named.map(|named| named.wait).max()
    }

    fn source(&self, source: &WaitSource) -> Option<NamedWait> {
        let format = source.format.unwrap_or(TimeFormat::RetryAfter);
        if let Some(name) = &source.header {
            self.header(name, format)
        } else if let Some(pointer) = &source.body {
            self.in_body(pointer, format)
        } else if let Some(zone) = &source.midnight_of {
            self.until_midnight(zone)
        } else {
            self.reset_of(source.reset_of.as_deref()?)
        }
    }

    /// The longest of the header's lines, and of the members of a list in one, that can be read.
    fn header(&self, name: &str, format: TimeFormat) -> Option<NamedWait> {
        let lines = self.head.headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
        let waits =
            lines.filter_map(|line| self.ahead(format, line).or_else(|| self.longest_of(format, line)));
        waits.max().map(|wait| NamedWait { wait, exact: is_exact(format) })
    }

    /// The longest of a list, such as an intermediary makes of two fields: `2814, 2`. A date has a comma of its own,
    /// and a comma without a space may be a decimal one.
    fn longest_of(&self, format: TimeFormat, list: &str) -> Option<Duration> {
        let members: Vec<&str> = list.split(", ").collect();
        let dates = members.windows(2).map(|pair| pair.join(", "));
        let waits = dates.filter_map(|date| self.ahead(format, &date));
        waits.chain(members.iter().filter_map(|member| self.ahead(format, member))).max()
    }

    fn in_body(&self, pointer: &str, format: TimeFormat) -> Option<NamedWait> {
        let texts = self.values(pointer);
        let wait = texts.iter().filter_map(|text| self.ahead(format, text)).max()?;
        Some(NamedWait { wait, exact: is_exact(format) })
    }

    fn ahead(&self, format: TimeFormat, text: &str) -> Option<Duration> {
        Duration::try_from(offset(format, text, self.now)?).ok()
    }

    fn reset_of(&self, limit: &str) -> Option<NamedWait> {
        let seen = self.observations.iter().filter(|seen| seen.limit == limit);
        let wait = seen.filter_map(Observation::exhausted_for).max()?;
        Some(NamedWait { wait, exact: false })
    }

    fn until_midnight(&self, zone: &str) -> Option<NamedWait> {
        let now: Zoned = self.now.to_zoned(TimeZone::posix(zone).ok()?);
        let tomorrow = now.date().checked_add(1.day()).ok()?;
        let midnight = tomorrow.to_datetime(Time::midnight()).to_zoned(now.time_zone().clone()).ok()?;
        let wait = Duration::try_from(midnight.timestamp().duration_since(self.now)).ok()?;
        Some(NamedWait { wait, exact: false })
    }
}

/// Whether a format has fractions of a second by nature.
fn is_exact(format: TimeFormat) -> bool {
    matches!(format, TimeFormat::DeltaMillis | TimeFormat::GoDuration | TimeFormat::Prose)
}

/// The longest, or the exact one that it is when rounded up to whole seconds.
fn combined(named: &[NamedWait]) -> Option<Duration> {
    let longest = named.iter().map(|named| named.wait).max()?;
    let second = Duration::from_secs(1);
    let same = |wait: &Duration| !wait.is_zero() && *wait < longest && longest - *wait < second;
    let exact = named.iter().filter(|named| named.exact).map(|named| named.wait).filter(same).max();
    Some(exact.filter(|_| longest.subsec_nanos() == 0).unwrap_or(longest))
}
