//! Figures as people read them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The waits that are distinguished, in seconds, in the column and in a sentence.
const WAITS: [(u64, &str, &str); 6] = [
    (60, "<1m", "under 1 minute"),
    (300, "<5m", "under 5 minutes"),
    (900, "<15m", "under 15 minutes"),
    (3600, "<1h", "under 1 hour"),
    (21_600, "<6h", "under 6 hours"),
    (86_400, "<1d", "under 1 day"),
];

fn step(seconds: u64) -> &'static (u64, &'static str, &'static str) {
    WAITS.iter().find(|(below, ..)| seconds < *below).unwrap_or(&WAITS[WAITS.len() - 1])
}

/// The step that a time is below of, in seconds.
pub(crate) fn coarse(seconds: u64) -> i32 {
    i32::try_from(step(seconds).0).unwrap_or(i32::MAX)
}

/// A step of [`coarse`] as in a column: `<1m`.
pub(crate) fn under(step_seconds: i32) -> String {
    step(before(step_seconds)).1.to_owned()
}

/// … as in a sentence: `under 1 minute`.
pub(crate) fn longest(step_seconds: i32) -> &'static str {
    step(before(step_seconds)).2
}

fn before(step_seconds: i32) -> u64 {
    u64::try_from(step_seconds).unwrap_or(0).saturating_sub(1)
}

/// A duration in the nearest whole seconds.
pub(crate) fn rounded_seconds(duration: Duration) -> u64 {
    rounded_up_seconds(duration.saturating_sub(Duration::from_millis(500)))
}

/// A duration in whole seconds; a part of a second counts as one.
pub(crate) fn rounded_up_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// How long something takes still, as in a column: `<1m`, `3d`.
pub(crate) fn remaining(seconds: u64) -> String {
    match seconds {
        0..86_400 => step(seconds).1.to_owned(),
        // A day's window is a little longer here, because the provider's clock may be slow.
        _ => format!("{}d", (seconds - seconds / 100).div_ceil(86_400)),
    }
}

/// A time to come, in UTC: `14:03:10` within hours, `4 Nov 14:02` within a day, `1 Dec` later.
pub(crate) fn until(time: Timestamp, now: Timestamp) -> String {
    let seconds = time.as_second().saturating_sub(now.as_second());
    let form = match seconds {
        ..3600 => "%H:%M:%S",
        3600..43_200 => "%H:%M",
        // A time of day alone could be taken for one that has just passed.
        43_200..86_400 => "%-d %b %H:%M",
        _ => "%-d %b",
    };
    time.to_zoned(TimeZone::UTC).strftime(form).to_string()
}

/// … as in a sentence: `14:03:10 UTC` today, `1 Dec` later.
pub(crate) fn until_utc(time: Timestamp, now: Timestamp) -> String {
    let today = time.as_second().saturating_sub(now.as_second()) < 86_400;
    format!("{}{}", until(time, now), if today { " UTC" } else { "" })
}

/// A time that has passed, as in a sentence: `14:03:10 UTC` within half a day, `1 Dec 14:03 UTC` before.
pub(crate) fn since_utc(time: Timestamp, now: Timestamp) -> String {
    let recent = now.as_second().saturating_sub(time.as_second()) < 43_200;
    let form = if recent { "%H:%M:%S UTC" } else { "%-d %b %H:%M UTC" };
    time.to_zoned(TimeZone::UTC).strftime(form).to_string()
}

/// Ends the message of what keeps a quota from coming into force at all.
pub(crate) const CALLS_WAIT: &str = " Calls wait until then.";

/// That the operator can't write the limiter's configuration, and what to do; `waits`: nothing is in force.
pub(crate) fn unwritten(why: &str, namespace: &str, waits: bool) -> String {
    let waits = if waits { CALLS_WAIT } else { "" };
    format!(
        "The limiter's configuration, a ConfigMap in namespace {namespace}, can't be written: {why}. It is tried again; if that goes on, see whether the operator's Role, a ResourceQuota or a policy forbids it.{waits}"
    )
}

/// That what counts in these limits can't be stored, and what to do.
pub(crate) fn not_stored(limits: &[&str], why: &str, namespace: &str) -> String {
    format!(
        "What calls use of {} can't be stored: {why}. What the last checkpoint covers, a few minutes' use, is granted; then calls that draw on it wait. It is tried again; if that goes on, see whether the limiter's Role, a ResourceQuota or a policy forbids its ConfigMaps in namespace {namespace}.",
        limits.join(", ")
    )
}

/// That the limiter can't apply its configuration, and what to do; `waits`: nothing is in force.
pub(crate) fn inapplicable(problem: &str, waits: bool) -> String {
    let waits = if waits { CALLS_WAIT } else { "" };
    format!(
        "The limiter can't apply it: {problem}; correct the spec, and see that operator and limiter are of one version.{waits}"
    )
}

/// A window behind an amount: `/min`, `/10 s`.
pub(crate) fn per(seconds: u64) -> String {
    match seconds {
        1 => "/s".to_owned(),
        60 => "/min".to_owned(),
        3600 => "/h".to_owned(),
        86_400 => "/day".to_owned(),
        minutes if minutes % 60 == 0 && minutes < 3600 => format!("/{} min", minutes / 60),
        other => format!("/{other} s"),
    }
}

/// `1 call`, `212 calls`.
pub(crate) fn counted(count: i64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// The form of a word that fits a count.
pub(crate) fn plural<'w>(count: i64, one: &'w str, more: &'w str) -> &'w str {
    if count == 1 { one } else { more }
}

/// A text of at most so many bytes.
pub(crate) fn clipped(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!([1, 10, 60, 300, 3600, 86_400].map(per), ["/s", "/10 s", "/min", "/5 min", "/h", "/day"]);
        assert_eq!([0, 59, 60, 100_000].map(coarse), [60, 60, 300, 86_400]);
        assert_eq!([86_400, 86_435, 172_870, 180_000].map(remaining), ["1d", "1d", "2d", "3d"]);
        assert_eq!([60, 300].map(under), ["<1m", "<5m"]);
        assert_eq!([60, 3600].map(longest), ["under 1 minute", "under 1 hour"]);
        let now: Timestamp = "2026-11-03T14:03:00Z".parse().unwrap();
        let at = |text: &str| until(text.parse().unwrap(), now);
        assert_eq!(at("2026-11-03T14:03:10Z"), "14:03:10");
        assert_eq!(at("2026-11-03T23:30:10Z"), "23:30");
        assert_eq!(at("2026-11-04T14:02:00Z"), "4 Nov 14:02");
        assert_eq!(at("2026-12-01T00:00:00Z"), "1 Dec");
        let since = |text: &str| since_utc(text.parse().unwrap(), now);
        assert_eq!(since("2026-11-03T02:03:01Z"), "02:03:01 UTC");
        assert_eq!(since("2026-11-03T02:03:00Z"), "3 Nov 02:03 UTC");
        assert_eq!(clipped("äöü", 5), "ä…");
    }
}
