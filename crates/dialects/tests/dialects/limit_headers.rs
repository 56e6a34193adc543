//! Where limits stand, from headers of every kind; figures that cannot be meant say nothing.

use std::time::Duration;

use quotakeeper_dialects::instant::go_duration;
use quotakeeper_dialects::profile::{HeaderFormat, ResetMeans, TimeFormat};
use quotakeeper_dialects::{Observation, Profile};

use crate::answers::{observed, profile, read};

const MILLI: u64 = 1;
const SECOND: u64 = 1000 * MILLI;

/// Limit, amount, what is left, milliseconds to the reset.
type Row<'a> = (&'a str, Option<u64>, Option<u64>, Option<u64>);

fn rows(observations: &[Observation]) -> Vec<Row<'_>> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let row = |seen: &'_ Observation| (seen.hard, seen.remaining, seen.resets_in.map(millis));
    observations.iter().map(|seen| (seen.limit.as_str(), row(seen).0, row(seen).1, row(seen).2)).collect()
}

#[track_caller]
fn expect(provider: &str, lines: &[&str], wanted: &[Row]) {
    let seen = observed(&profile(provider), lines);
    assert_eq!(rows(&seen), wanted, "{provider}: {lines:?}");
}

#[test]
fn openai_writes_resets_as_go_durations() {
    expect(
        "openai",
        &[
            "x-ratelimit-limit-requests: 500",
            "x-ratelimit-remaining-requests: 499",
            "x-ratelimit-reset-requests: 120ms",
            "x-ratelimit-limit-tokens: 30000",
            "x-ratelimit-remaining-tokens: 29984",
            "x-ratelimit-reset-tokens: 1m0.032s",
        ],
        &[
            ("requests", Some(500), Some(499), Some(120)),
            ("tokens", Some(30_000), Some(29_984), Some(60_032)),
        ],
    );
}

#[test]
fn go_durations_are_exact() {
    let cases = [
        ("12ms", Duration::from_millis(12)),
        ("1s", Duration::from_secs(1)),
        ("6m0s", Duration::from_secs(360)),
        ("23h47m36.648s", Duration::from_millis((23 * 3600 + 47 * 60 + 36) * 1000 + 648)),
        ("1.5ms", Duration::from_micros(1500)),
        ("17.28µs", Duration::from_nanos(17_280)),
        ("17.28us", Duration::from_nanos(17_280)),
        ("998ns", Duration::from_nanos(998)),
        ("0s", Duration::ZERO),
        ("8.64s", Duration::from_millis(8640)),
        ("1h0m0s", Duration::from_secs(3600)),
    ];
    for (text, exact) in cases {
        assert_eq!(go_duration(text), Some(exact), "{text}");
    }
    for text in ["", "s", "60", "-6m0s", "6m 0s", "PT6M", "6m0", "1x", "999999999999999999999h", "1d", "0x1s"]
    {
        assert_eq!(go_duration(text), None, "{text}");
    }
}

#[test]
fn anthropic_writes_resets_as_times_measured_against_its_own_date() {
    expect(
        "anthropic",
        &[
            "date: Mon, 05 Oct 2026 15:30:00 GMT",
            "anthropic-ratelimit-requests-limit: 50",
            "anthropic-ratelimit-requests-remaining: 48",
            "anthropic-ratelimit-requests-reset: 2026-10-05T15:30:02Z",
            "anthropic-ratelimit-output-tokens-limit: 8000",
            "anthropic-ratelimit-output-tokens-remaining: 8000",
            "anthropic-ratelimit-output-tokens-reset: 2026-10-05T17:29:59+02:00",
        ],
        &[
            ("requests", Some(50), Some(48), Some(2 * SECOND)),
            ("output-tokens", Some(8000), Some(8000), Some(0)),
        ],
    );
}

#[test]
fn hubspots_figures_count_only_for_the_window_that_they_name() {
    let hubspot = |interval: &str| {
        let interval = format!("X-HubSpot-RateLimit-Interval-Milliseconds: {interval}");
        let lines = [
            "X-HubSpot-RateLimit-Max: 190",
            "X-HubSpot-RateLimit-Remaining: 187",
            "X-HubSpot-RateLimit-Daily: 625000",
            "X-HubSpot-RateLimit-Daily-Remaining: 612300",
            &interval,
        ];
        observed(&profile("hubspot"), &lines)
    };
    let daily = ("daily", Some(625_000), Some(612_300), None);
    assert_eq!(rows(&hubspot("10000")), [("ten-seconds", Some(190), Some(187), None), daily]);
    assert_eq!(rows(&hubspot("1000")), [daily]);
}

#[test]
fn groqs_requests_are_a_days_and_leave_the_minute_alone() {
    expect(
        "groq",
        &[
            "x-ratelimit-limit-requests: 14400",
            "x-ratelimit-remaining-requests: 14370",
            "x-ratelimit-reset-requests: 2m59.56s",
            "x-ratelimit-limit-tokens: 6000",
            "x-ratelimit-remaining-tokens: 5997",
            "x-ratelimit-reset-tokens: 7.66s",
        ],
        &[
            ("daily-requests", Some(14_400), Some(14_370), Some(179_560)),
            ("tokens", Some(6000), Some(5997), Some(7660)),
        ],
    );
}

#[test]
fn githubs_figures_belong_to_the_resource_that_they_name() {
    let lines = |resource: &str| {
        let figures = "x-ratelimit-limit: 30|x-ratelimit-remaining: 18|x-ratelimit-reset: 1791208824";
        format!("{figures}|x-ratelimit-resource: {resource}")
    };
    let seen = |resource: &str| {
        let lines = lines(resource);
        observed(&profile("github"), &lines.split('|').collect::<Vec<_>>())
    };
    // 1791208800 is 2026-10-05T14:00:00Z.
    assert_eq!(rows(&seen("search")), [("search", Some(30), Some(18), Some(24 * SECOND))]);
    assert_eq!(rows(&seen("core")), [("core", Some(30), Some(18), Some(24 * SECOND))]);
    assert_eq!(rows(&seen("CORE")).len(), 1, "in any case");
    assert_eq!(rows(&seen("graphql")), []);
}

#[test]
fn used_and_limit_are_read_from_one_header() {
    expect(
        "salesforce",
        &["Sforce-Limit-Info: api-usage=18/5000"],
        &[("daily", Some(5000), Some(4982), None)],
    );
    expect(
        "salesforce",
        &["Sforce-Limit-Info: api-usage=25/5000; per-app-api-usage=17/250(appName=sample-connected-app)"],
        &[("daily", Some(5000), Some(4975), None)],
    );
    expect("shopify", &["X-Shopify-Shop-Api-Call-Limit: 32/40"], &[("rest", Some(40), Some(8), None)]);
    expect("shopify", &["X-Shopify-Shop-Api-Call-Limit: 41/40"], &[("rest", Some(40), Some(0), None)]);
    for malformed in ["", "18", "18/", "/40", "-1/40", "a/b", "18/40/2", "api-usage=18/40"] {
        expect("shopify", &[&format!("X-Shopify-Shop-Api-Call-Limit: {malformed}")], &[]);
    }
    expect("salesforce", &["Sforce-Limit-Info: per-app-api-usage=17/250"], &[]);
}

#[test]
fn zendesk_writes_an_endpoints_figures_into_one_header() {
    expect(
        "zendesk",
        &[
            "ratelimit-limit: 700",
            "ratelimit-remaining: 699",
            "ratelimit-reset: 41",
            "Zendesk-RateLimit-incremental-exports: total=10; remaining=9; resets=36",
        ],
        &[
            ("account", Some(700), Some(699), Some(41 * SECOND)),
            ("incremental", Some(10), Some(9), Some(36 * SECOND)),
        ],
    );
}

#[test]
fn minus_one_is_unknown() {
    expect(
        "zoominfo",
        &[
            "X-RateLimit-Limit-Second: 25",
            "X-RateLimit-Remaining-Second: -1",
            "X-RateLimit-Limit-Hour: -1",
            "X-RateLimit-Remaining-Hour: -1",
        ],
        &[("second", Some(25), None, None)],
    );
}

#[test]
fn the_structured_fields_of_draft_11_are_read() {
    let demo = |lines: &[&str]| observed(&profile("demo"), lines);
    let read = [("requests", Some(100), Some(50), Some(30 * SECOND))];
    let policy = r#"RateLimit-Policy: "requests";q=100;w=60;qu="requests";pk=:YWNtZQ==:"#;
    assert_eq!(rows(&demo(&[policy, r#"RateLimit: "requests";r=50;t=30"#])), read);
    // Any name will do where there is one policy only.
    assert_eq!(
        rows(&demo(&[r#"RateLimit-Policy: "default";q=100;w=60"#, r#"RateLimit: "default";r=50;t=30"#])),
        read
    );
    // Several: by name, in one line or two; of one policy's partitions the scarcest counts.
    let two =
        [r#"RateLimit: "daily";r=9000;t=40000, "requests";r=70;t=30"#, r#"RateLimit: "requests";r=50;t=30"#];
    assert_eq!(rows(&demo(&[policy, two[0], two[1]])), read);
    assert_eq!(rows(&demo(&[r#"RateLimit: "a";r=5, "b";r=6"#])), [], "which of them is not said");
    // State without policy, policy without state, no time.
    assert_eq!(rows(&demo(&[r#"RateLimit: "requests";r=50"#])), [("requests", None, Some(50), None)]);
    assert_eq!(rows(&demo(&[policy])), [("requests", Some(100), None, None)]);
    // Another window than ours is another limit.
    let hourly = [r#"RateLimit-Policy: "requests";q=5000;w=3600"#, r#"RateLimit: "requests";r=50;t=30"#];
    assert_eq!(rows(&demo(&hourly)), []);
}

#[test]
fn a_malformed_structured_field_is_ignored_whole() {
    let demo = profile("demo");
    for malformed in [
        r#""requests";r=50;t=30, "daily";r=soon"#,
        r#""requests";r=50;t=30,"#,
        r#""requests";r=50;t=30, requests;r=1"#,
        r#""requests";r=-1;t=30"#,
        r#""requests";r=5.5;t=30"#,
        r#""requests";r="50""#,
        r#""requests";t=30"#,
        r#""requests";r=50;t=-1"#,
        r#"("requests");r=50"#,
        r#""requests;r=50"#,
        "limit=100, remaining=50, reset=30",
        "50",
        "",
        ";;;",
    ] {
        assert_eq!(rows(&observed(&demo, &[&format!("RateLimit: {malformed}")])), [], "{malformed}");
    }
    // The other field stands by itself.
    let policy = r#"RateLimit-Policy: "requests";q=100;w=60"#;
    assert_eq!(rows(&observed(&demo, &[policy, "RateLimit: r=50"])), [("requests", Some(100), None, None)]);
}

#[test]
fn an_epoch_is_read_by_its_declared_format_only() {
    let with = |format: TimeFormat, reset: &str| {
        let mut profile = profile("zendesk");
        profile.headers[0].reset_format = Some(format);
        let reset = format!("ratelimit-reset: {reset}");
        let seen = observed(&profile, &["ratelimit-limit: 700", "ratelimit-remaining: 0", &reset]);
        assert_eq!((seen[0].hard, seen[0].remaining), (Some(700), Some(0)), "the rest stands");
        seen[0].resets_in
    };
    // 1791208800 is 2026-10-05T14:00:00Z.
    assert_eq!(with(TimeFormat::EpochSeconds, "1791208830"), Some(Duration::from_secs(30)));
    assert_eq!(with(TimeFormat::EpochMillis, "1791208830250"), Some(Duration::from_millis(30_250)));
    // GitLab's epoch where seconds are declared: no wait of a billion seconds.
    assert_eq!(with(TimeFormat::DeltaSeconds, "1791208830"), None);
    assert_eq!(with(TimeFormat::EpochSeconds, "1791208830250"), None, "milliseconds for seconds");
    assert_eq!(with(TimeFormat::EpochMillis, "1791208830"), None, "seconds for milliseconds: 1970");
    assert_eq!(with(TimeFormat::EpochSeconds, "30"), None, "a delay for an epoch");
    assert_eq!(with(TimeFormat::EpochSeconds, "99999999999999999999"), None);
    assert_eq!(
        with(TimeFormat::EpochSeconds, "1791208795"),
        Some(Duration::ZERO),
        "just past: a clock that is off"
    );
    assert_eq!(with(TimeFormat::DeltaSeconds, "121"), None, "more than two windows ahead");
    assert_eq!(with(TimeFormat::HttpDate, "Mon, 05 Oct 2026 14:00:41 GMT"), Some(Duration::from_secs(41)));
    assert_eq!(with(TimeFormat::Unknown, "30"), None);
}

#[test]
fn figures_that_cannot_be_meant_say_nothing() {
    let zendesk = profile("zendesk");
    let cases: [(&str, &str, Option<Row>); 9] = [
        ("700", "701", Some(("account", Some(700), None, None))),
        ("0", "0", None),
        ("0", "5", None),
        ("many", "few", None),
        ("18446744073709551616", "1", Some(("account", None, Some(1), None))),
        ("9007199254740993", "1", Some(("account", None, Some(1), None))),
        ("100, 100;w=60;burst=1000", "99", Some(("account", Some(100), Some(99), None))),
        ("1,000", "99", Some(("account", None, Some(99), None))),
        ("700.0", "+5", None),
    ];
    for (hard, remaining, wanted) in cases {
        let lines = [format!("ratelimit-limit: {hard}"), format!("ratelimit-remaining: {remaining}")];
        let seen = observed(&zendesk, &[&lines[0], &lines[1]]);
        assert_eq!(rows(&seen), Vec::from_iter(wanted), "{hard} / {remaining}");
    }
}

#[test]
fn a_cache_repeats_old_figures() {
    let figures = ["ratelimit-limit: 700", "ratelimit-remaining: 3"];
    assert_eq!(rows(&observed(&profile("zendesk"), &[figures[0], figures[1], "age: 0"])).len(), 1);
    assert_eq!(rows(&observed(&profile("zendesk"), &[figures[0], figures[1], "age: 17"])), []);
}

#[test]
fn a_format_of_a_newer_version_tells_nothing() {
    let text = r#"{"headers": [{"limit": "account", "format": "QuantumFields", "hard": "ratelimit-limit"}]}"#;
    let newer: Profile = serde_json::from_str(text).unwrap();
    assert_eq!(newer.headers[0].format, Some(HeaderFormat::Unknown));
    assert!(observed(&newer, &["ratelimit-limit: 1000000", "ratelimit-remaining: 1000000"]).is_empty());
    assert!(!newer.has_limit_headers());
    assert!(newer.validate().is_err());
}

#[test]
fn an_exhausted_limit_blocks_until_a_unit_is_back() {
    let seen = |means: ResetMeans, remaining: u64| Observation {
        limit: "requests".to_owned(),
        hard: Some(500),
        remaining: Some(remaining),
        resets_in: Some(Duration::from_secs(60)),
        reset_means: means,
    };
    assert_eq!(seen(ResetMeans::WindowEnd, 0).exhausted_for(), Some(Duration::from_secs(60)));
    assert_eq!(seen(ResetMeans::NextUnit, 0).exhausted_for(), Some(Duration::from_secs(60)));
    assert_eq!(seen(ResetMeans::FullRefill, 0).exhausted_for(), Some(Duration::from_millis(120)));
    assert_eq!(seen(ResetMeans::WindowEnd, 1).exhausted_for(), None);
}

#[test]
fn a_short_retry_after_does_not_hide_another_limit_that_is_used_up() {
    let lines = [
        "Retry-After: 1",
        "x-ratelimit-limit-requests: 500",
        "x-ratelimit-remaining-requests: 120",
        "x-ratelimit-reset-requests: 45.6s",
        "x-ratelimit-limit-tokens: 30000",
        "x-ratelimit-remaining-tokens: 0",
        "x-ratelimit-reset-tokens: 1m0s",
    ];
    let mut openai = profile("openai");
    openai.headers[1].reset_means = Some(ResetMeans::WindowEnd);
    let reading = read(&openai, 429, &lines, r#"{"error":{"type":"requests"}}"#);
    let blocked: Vec<_> = reading.observations.iter().map(Observation::exhausted_for).collect();
    assert_eq!(blocked, [None, Some(Duration::from_secs(60))]);
}
