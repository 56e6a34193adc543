//! How long clients wait, in the words of their SDKs.

use std::time::Duration;

use quotakeeper_dialects::Profile;

use crate::answers::{headers, profile};

fn millis(profile: &Profile, lines: &[&str]) -> Option<u128> {
    profile.patience(&headers(lines)).map(|patience| patience.as_millis())
}

#[test]
fn the_request_says_it_in_one_of_four_ways() {
    let cases: [(&[&str], u128); 12] = [
        (&[], 600_000),
        (&["x-stainless-read-timeout: 30"], 30_000),
        (&["x-stainless-read-timeout: 12.5"], 12_500),
        (&["x-stainless-read-timeout: 600.0"], 600_000),
        (&["x-stainless-timeout: 90"], 90_000),
        (&["x-stainless-read-timeout: 20", "x-stainless-timeout: 90"], 20_000),
        (&["Prefer: wait=15"], 15_000),
        (&["Prefer: respond-async, Wait = 15; a=b, wait=99"], 15_000),
        (&["Prefer: respond-async", "Prefer: wait=\"7\""], 7_000),
        (&["x-quotakeeper-patience: 2.5", "x-stainless-read-timeout: 20", "Prefer: wait=9"], 2_500),
        (&["x-quotakeeper-patience: 0"], 0),
        (&["x-quotakeeper-patience: 999999999"], 86_400_000),
    ];
    for (lines, wanted) in cases {
        assert_eq!(millis(&profile("openai"), lines), Some(wanted), "{lines:?}");
    }
}

#[test]
fn garbage_is_ignored() {
    for garbage in ["None", "", "-5", "inf", "NaN", "1e3", "5s", "0", "0.0", "99999999999999999999999"] {
        let line = format!("x-stainless-read-timeout: {garbage}");
        assert_eq!(millis(&profile("anthropic"), &[&line]), Some(600_000), "{garbage}");
        assert_eq!(
            millis(&profile("anthropic"), &[&line, "x-stainless-timeout: 8"]),
            Some(8_000),
            "{garbage}"
        );
    }
    for garbage in ["wait", "wait=", "wait=soon", "wait=-1", "await=5", "x=wait=5", ",,;="] {
        assert_eq!(millis(&profile("openai"), &[&format!("Prefer: {garbage}")]), Some(600_000), "{garbage}");
    }
}

#[test]
fn where_neither_says_it_is_unknown() {
    assert_eq!(millis(&profile("hubspot"), &[]), None);
    assert_eq!(millis(&profile("hubspot"), &["Prefer: wait=4"]), Some(4_000));
    assert_eq!(profile("openai").max_queue(), Some(Duration::from_secs(480)));
    assert_eq!(profile("hubspot").max_queue(), None);
}

#[test]
fn node_gives_up_after_300_seconds_whatever_its_sdk_announces() {
    let sdk = ["x-stainless-timeout: 600", "x-stainless-lang: js", "x-stainless-runtime: node"];
    assert_eq!(millis(&profile("openai"), &sdk), Some(300_000));
    assert_eq!(
        millis(&profile("openai"), &["x-stainless-timeout: 90", "x-stainless-runtime: node"]),
        Some(90_000)
    );
    assert_eq!(
        millis(&profile("openai"), &["x-stainless-timeout: 600", "x-stainless-runtime: bun"]),
        Some(600_000)
    );
    for agent in ["node", "undici"] {
        assert_eq!(millis(&profile("hubspot"), &[&format!("user-agent: {agent}")]), Some(300_000), "{agent}");
    }
    assert_eq!(millis(&profile("hubspot"), &["user-agent: node-red"]), None);
    let ours = ["x-quotakeeper-patience: 900", "x-stainless-runtime: node"];
    assert_eq!(
        millis(&profile("openai"), &ours),
        Some(900_000),
        "a program that has set its dispatcher says so"
    );
}
