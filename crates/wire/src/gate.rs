//! The gate of all accounts: while it is open, every call passes and no limit is enforced.
//!
//! A ConfigMap in the limiter's namespace opens it. It names a beginning and an end that are at most
//! [`LONGEST`] apart, so that nobody can leave the gate open by forgetting to close it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// The name of the ConfigMap.
pub const NAME: &str = "quotakeeper-gate";
/// The key of the time at which the gate was opened, as RFC 3339.
pub const OPENED_AT: &str = "openedAt";
/// The key of the time at which it closes, as RFC 3339.
pub const OPEN_UNTIL: &str = "openUntil";
/// The longest time that the gate is open.
pub const LONGEST: SignedDuration = SignedDuration::from_mins(15);
/// How far the clock of whoever opens it may be ahead of the limiter's.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The period in which the gate is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    opened_at: Timestamp,
    open_until: Timestamp,
}

/// Why a ConfigMap does not open the gate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpeningError {
    /// A time is missing or malformed.
    #[error(
        "{key} of the ConfigMap {NAME} is not a time (RFC 3339); open the gate with `quotakeeper open-gate --yes`"
    )]
    NoTime { key: &'static str },
    /// It ends before it begins, or is too long.
    #[error(
        "the ConfigMap {NAME} does not open the gate for 1 second to {} minutes; open it with `quotakeeper open-gate --yes`",
        LONGEST.as_mins()
    )]
    Length,
}

impl Opening {
    /// The longest opening that begins now.
    pub fn beginning(now: Timestamp) -> Opening {
        // Whole seconds, as people and the API server write times.
        let opened_at = Timestamp::from_second(now.as_second()).unwrap_or(now);
        // Only the last minutes of the year 9999 have no such end.
        let open_until = opened_at.checked_add(LONGEST).unwrap_or(opened_at);
        Opening { opened_at, open_until }
    }

    /// Reads a ConfigMap's data.
    ///
    /// # Errors
    /// [`OpeningError`]: it opens nothing.
    pub fn read(data: &BTreeMap<String, String>) -> Result<Opening, OpeningError> {
        let time = |key: &'static str| {
            let time = data.get(key).and_then(|text| text.parse::<Timestamp>().ok());
            time.ok_or(OpeningError::NoTime { key })
        };
        let (opened_at, open_until) = (time(OPENED_AT)?, time(OPEN_UNTIL)?);
        let length = open_until.duration_since(opened_at);
        if length <= SignedDuration::ZERO || length > LONGEST {
            return Err(OpeningError::Length);
        }
        Ok(Opening { opened_at, open_until })
    }

    /// What [`read`](Opening::read) reads.
    pub fn data(&self) -> BTreeMap<String, String> {
        let entries = [(OPENED_AT, self.opened_at), (OPEN_UNTIL, self.open_until)];
        entries.map(|(key, time)| (key.to_owned(), time.to_string())).into()
    }

    /// When the gate closes.
    pub fn open_until(&self) -> Timestamp {
        self.open_until
    }

    /// How much longer the gate is open; none: it is not open at this time.
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        // Otherwise a clock that was set back would leave it open for longer.
        if self.opened_at.duration_since(now) > SKEW {
            return None;
        }
        let remaining = Duration::try_from(self.open_until.duration_since(now)).ok()?;
        (remaining > Duration::ZERO).then_some(remaining)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-03T{text}Z").parse().unwrap()
    }

    fn data(opened_at: &str, open_until: &str) -> BTreeMap<String, String> {
        [(OPENED_AT, opened_at), (OPEN_UNTIL, open_until)]
            .map(|(key, time)| (key.to_owned(), time.to_owned()))
            .into()
    }

    #[test]
    fn an_opening_lasts_a_quarter_of_an_hour() {
        let opening = Opening::beginning(at("14:03:10.7"));
        assert_eq!(opening.data(), data("2026-11-03T14:03:10Z", "2026-11-03T14:18:10Z"));
        assert_eq!(Opening::read(&opening.data()), Ok(opening));
        assert_eq!(opening.remaining(at("14:03:10")), Some(Duration::from_secs(900)));
        assert_eq!(opening.remaining(at("14:18:09")), Some(Duration::from_secs(1)));
        assert_eq!(opening.remaining(at("14:18:10")), None);
        assert!(opening.remaining(at("13:58:10")).is_some(), "clocks may differ a little");
        assert_eq!(opening.remaining(at("13:58:09")), None, "a clock that was set back leaves nothing open");
    }

    #[test]
    fn what_names_no_end_opens_nothing() {
        let earlier_format = [("open".to_owned(), "true".to_owned())].into();
        assert_eq!(Opening::read(&earlier_format), Err(OpeningError::NoTime { key: OPENED_AT }));
        let now = "2026-11-03T14:03:10Z";
        for wrong in ["", "true", "never", "14:18", "1793714590"] {
            assert_eq!(
                Opening::read(&data(now, wrong)),
                Err(OpeningError::NoTime { key: OPEN_UNTIL }),
                "{wrong}"
            );
        }
        for length in
            ["2026-11-03T14:03:10Z", "2026-11-03T14:03:09Z", "2026-11-03T14:18:11Z", "2027-11-03T14:03:10Z"]
        {
            let refused = Opening::read(&data(now, length)).unwrap_err();
            assert!(refused.to_string().contains("15 minutes"), "{length}: {refused}");
        }
        assert!(Opening::read(&data(now, "2026-11-03T14:18:10Z")).is_ok());
    }
}
