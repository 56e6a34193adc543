//! `Retry-After` and its relatives, in every form that is seen in the wild.

use std::time::Duration;

use quotakeeper_dialects::profile::{Class, Rejection, TimeFormat, WaitSource};
use quotakeeper_dialects::{Head, Profile, Verdict};

use crate::answers::{headers, now, profile, read};

/// The wait that a 429 with these headers asks for; 42 seconds where it tells none, a day at most.
fn wait(lines: &[&str]) -> Duration {
    let rejection = Rejection {
        statuses: vec![429],
        cooldown_seconds: Some(42),
        maximum_seconds: Some(86_400),
        ..Rejection::default()
    };
    wait_by(&Profile { rejections: vec![rejection], ..Profile::default() }, lines).unwrap()
}

fn wait_by(profile: &Profile, lines: &[&str]) -> Option<Duration> {
    match read(profile, 429, lines, "").verdict {
        Verdict::Rejected { wait, .. } => wait,
        Verdict::Accepted => panic!("429 was taken for accepted"),
    }
}

#[test]
fn every_form_of_delay_is_read_exactly() {
    let cases = [
        ("Retry-After: 7", 7_000),
        ("Retry-After: 0", 0),
        ("Retry-After: 2.0", 2_000),
        ("Retry-After: 7.66", 7_660),
        ("Retry-After:   120  ", 120_000),
        ("Retry-After: 86400", 86_400_000),
        ("retry-after-ms: 1500", 1_500),
        ("retry-after-ms: 0.5", 0),
    ];
    for (line, millis) in cases {
        assert_eq!(wait(&[line]).as_millis(), millis, "{line}");
    }
    assert_eq!(wait(&["Retry-After: 0.000000001"]), Duration::from_nanos(1));
}

#[test]
fn the_three_syntaxes_of_a_date_are_measured_against_the_answers_own_date() {
    // Our clock says 14:00:00; theirs is eleven minutes ahead.
    let theirs = "Date: Mon, 05 Oct 2026 14:11:00 GMT";
    for date in
        ["Mon, 05 Oct 2026 14:11:30 GMT", "Monday, 05-Oct-26 14:11:30 GMT", "Mon Oct  5 14:11:30 2026"]
    {
        assert_eq!(wait(&[theirs, &format!("Retry-After: {date}")]), Duration::from_secs(30), "{date}");
    }
    // Theirs is an hour behind.
    let behind = ["Date: Mon, 05 Oct 2026 13:00:00 GMT", "Retry-After: Mon, 05 Oct 2026 13:00:09 GMT"];
    assert_eq!(wait(&behind), Duration::from_secs(9));
    // Without a readable Date our own clock has to do.
    let without = ["Date: yesterday", "Retry-After: Mon, 05 Oct 2026 14:01:00 GMT"];
    assert_eq!(wait(&without), Duration::from_secs(60));
}

#[test]
fn what_cannot_be_a_delay_falls_back() {
    let cases = [
        "-1",
        "-0",
        "+5",
        "NaN",
        "nan",
        "inf",
        "-inf",
        "soon",
        "",
        ".",
        "5.",
        ".5",
        "1e3",
        "0x10",
        "5s",
        "1,5",
        "1 2",
        "99999999999999999999",
        "18446744073709551615",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "1.2.3",
        "Mon, 05 Oct 2026 13:59:59 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Mon, 99 Oct 2026 14:00:00 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "2026-10-05T14:01:00Z",
    ];
    for value in cases {
        assert_eq!(wait(&[&format!("Retry-After: {value}")]), Duration::from_secs(42), "`{value}`");
    }
    assert_eq!(wait(&[]), Duration::from_secs(42));
}

#[test]
fn a_delay_of_years_is_cut_to_the_profiles_maximum() {
    for value in ["999999999", "Thu, 05 Oct 2079 14:00:00 GMT", "86401"] {
        assert_eq!(wait(&[&format!("Retry-After: {value}")]), Duration::from_secs(86_400), "{value}");
    }
    let by_default = wait_by(&Profile::default(), &["Retry-After: 999999"]);
    assert_eq!(by_default, Some(Duration::from_secs(3600)), "an hour");
}

#[test]
fn milliseconds_say_more_exactly_what_seconds_say_and_otherwise_the_longest_counts() {
    assert_eq!(wait(&["Retry-After: 9", "retry-after-ms: 8400"]), Duration::from_millis(8400));
    assert_eq!(wait(&["Retry-After: 9", "retry-after-ms: soon"]), Duration::from_secs(9));
    assert_eq!(wait(&["Retry-After: 3", "Retry-After: 9", "Retry-After: x"]), Duration::from_secs(9));
    assert_eq!(wait(&["Retry-After: 4", "retry-after-ms: 0"]), Duration::from_secs(4));
    assert_eq!(wait(&["Retry-After: 4", "retry-after-ms: 60000"]), Duration::from_secs(60));
    assert_eq!(wait(&["Retry-After: 1", "retry-after-ms: 37"]), Duration::from_millis(37));
}

#[test]
fn a_list_is_as_long_as_its_longest_member() {
    for (value, seconds) in [
        ("2814, 2", 2814),
        ("2, 2814", 2814),
        ("x, 9", 9),
        ("3, Mon, 05 Oct 2026 14:00:20 GMT", 20),
        ("Mon, 05 Oct 2026 14:00:20 GMT, 3", 20),
        ("Mon, 05 Oct 2026 14:00:20 GMT, 30, 3", 30),
    ] {
        assert_eq!(wait(&[&format!("Retry-After: {value}")]), Duration::from_secs(seconds), "{value}");
    }
}

#[test]
fn a_wait_stands_in_the_message_where_no_header_names_one() {
    let told = |lines: &[&str], message: &str| {
        let body = serde_json::json!({"message": message}).to_string();
        match read(&Profile::default(), 429, lines, &body).verdict {
            Verdict::Rejected { wait, .. } => wait,
            Verdict::Accepted => panic!("429 was taken for accepted"),
        }
    };
    assert_eq!(told(&[], "please try again 50 seconds later"), Some(Duration::from_secs(50)));
    assert_eq!(told(&["Retry-After: 3"], "please try again 50 seconds later"), Some(Duration::from_secs(3)));
    assert_eq!(
        told(&[], "please try again 50680 seconds later"),
        Some(Duration::from_secs(3600)),
        "the maximum"
    );
    assert_eq!(told(&[], "slow down"), None);
}

#[test]
fn a_rejection_names_its_own_places() {
    let places = vec![
        WaitSource {
            header: Some("x-amz-retry-after".to_owned()),
            format: Some(TimeFormat::DeltaMillis),
            ..WaitSource::default()
        },
        WaitSource {
            body: Some("/retry/at".to_owned()),
            format: Some(TimeFormat::Rfc3339),
            ..WaitSource::default()
        },
    ];
    let rejection = Rejection { statuses: vec![429], wait: places, ..Rejection::default() };
    let profile = Profile { rejections: vec![rejection], ..Profile::default() };
    let told = |lines: &[&str], body: &str| {
        let headers = headers(lines);
        let head = Head { status: 429.try_into().unwrap(), headers: &headers, endpoint: None };
        assert!(profile.needs_body(head));
        match profile.read(head, Some(body.as_bytes()), now()).verdict {
            Verdict::Rejected { wait, .. } => wait,
            Verdict::Accepted => panic!("429 was taken for accepted"),
        }
    };
    let body = r#"{"retry":{"at":"2026-10-05T14:00:20.250Z"}}"#;
    assert_eq!(told(&["x-amz-retry-after: 2500"], "{}"), Some(Duration::from_millis(2500)));
    assert_eq!(told(&["x-amz-retry-after: 2500"], body), Some(Duration::from_millis(20_250)), "the longest");
    assert_eq!(told(&["x-amz-retry-after: 40000"], body), Some(Duration::from_secs(40)));
    assert_eq!(told(&["x-amz-retry-after: -1"], body), Some(Duration::from_millis(20_250)));
    assert_eq!(told(&["Retry-After: 5"], "{}"), None, "not one of its places");
}

#[test]
fn a_zero_with_a_concurrency_reason_is_a_second_and_no_pause_of_the_window() {
    let stripe = profile("stripe");
    let verdict =
        read(&stripe, 429, &["Retry-After: 0", "Stripe-Rate-Limited-Reason: global-concurrency"], "{}")
            .verdict;
    let Verdict::Rejected { class, wait, .. } = verdict else { panic!("429 was taken for accepted") };
    assert_eq!((class, wait), (Class::Concurrency, Some(Duration::from_secs(1))));
}
