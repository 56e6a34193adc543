//! What could be misread of any rejection: its form, and how long it lasts.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use proptest::prelude::*;
use quotakeeper_dialects::instant::{offset, provider_now};
use quotakeeper_dialects::profile::Rejection;
use quotakeeper_dialects::{Head, Profile, Verdict, catalogue, prose};
use serde_json::{Value, json};

use crate::answers::{headers, now, profile, test_profiles};
use crate::arbitrary::{FORMATS, answer};

/// The end of a day is no farther away.
const DAY: Duration = Duration::from_secs(25 * 60 * 60);

/// Puts a value where a pointer leads.
fn put(document: &mut Value, pointer: &str, value: Value) {
    let mut place = document;
    for step in pointer.split('/').skip(1) {
        if step == "*" || step.bytes().all(|byte| byte.is_ascii_digit()) {
            if !place.is_array() {
                *place = json!([null]);
            }
            place = &mut place[0];
        } else {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[step];
        }
    }
    *place = value;
}

/// A document that a rejection's conditions on the body hold for, with a wait where one may stand.
fn document(rejection: &Rejection) -> Value {
    let mut document = json!({"id": 7});
    put(&mut document, "/error/message", json!("Please try again in 1.5s."));
    for pointer in rejection.wait.iter().filter_map(|source| source.body.as_ref()) {
        put(&mut document, pointer, json!("3.5s"));
    }
    for (number, condition) in rejection.body.iter().enumerate() {
        let text = condition.equals.first().or(condition.contains.first()).cloned();
        let value = match condition.within_seconds {
            Some(seconds) => json!(now().as_second() - i64::from(seconds) / 2),
            None => json!(text.unwrap_or_default()),
        };
        match &condition.at {
            Some(pointer) => put(&mut document, pointer, value),
            None => put(&mut document, &format!("/words-{number}"), value),
        }
    }
    document
}

#[test]
fn every_rejection_means_the_same_in_a_list() {
    let mut tried = 0;
    for name in catalogue::names().into_iter().map(str::to_owned).chain(test_profiles()) {
        let profile = profile(&name);
        for rejection in profile.rejections.iter().filter(|rejection| !rejection.body.is_empty()) {
            let condition = rejection.headers.iter().map(|condition| {
                let value = condition.equals.first().map_or("1", String::as_str);
                format!("{}: {value}", condition.name)
            });
            let lines: Vec<String> = condition.collect();
            let headers = headers(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            let head = Head {
                status: StatusCode::from_u16(rejection.statuses[0]).unwrap(),
                headers: &headers,
                endpoint: rejection.endpoints.first().map(String::as_str),
            };
            let document = document(rejection);
            let read = |text: String| profile.read(head, Some(text.as_bytes()), now()).verdict;
            let plain = read(document.to_string());
            assert!(matches!(plain, Verdict::Rejected { .. }), "{name}: {document}");
            for listed in [format!("[{document}]"), format!(" [\n  {document:#}\n]")] {
                assert_eq!(read(listed), plain, "{name}: {document}");
            }
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

/// The longest time in a text, however it or a part of it is read.
fn longest(text: &str, clocks: [Timestamp; 2]) -> Duration {
    let parts = text.split([';', ',', ' ', '=', '"', '{', '}', '[', ']']);
    let members: Vec<&str> = text.split(", ").collect();
    let pairs: Vec<String> = members.windows(2).map(|pair| pair.join(", ")).collect();
    let texts = parts.chain(members).chain(pairs.iter().map(String::as_str)).chain([text]);
    let read = |text: &str| {
        let by_clock = clocks.map(|now| FORMATS.map(|format| offset(format, text.trim(), now)));
        by_clock.into_iter().flatten().flatten().filter_map(|ahead| Duration::try_from(ahead).ok()).max()
    };
    texts.filter_map(read).chain(prose::wait(text)).max().unwrap_or_default()
}

/// The longest time that a profile names by itself.
fn longest_of_its_own(profile: &Profile) -> Duration {
    let named = profile.rejections.iter().map(|rejection| {
        let seconds = rejection.cooldown_seconds.max(rejection.minimum_seconds).unwrap_or_default();
        let midnight = rejection.wait.iter().any(|source| source.midnight_of.is_some());
        Duration::from_secs(seconds.into()).max(if midnight { DAY } else { Duration::ZERO })
    });
    // A CDN's answer has no rule of its own: two seconds.
    named.chain([Duration::from_secs(2)]).max().unwrap_or_default()
}

proptest! {
    #[test]
    fn no_pause_is_longer_than_the_answers_words_or_the_profiles(
        (profile, status, headers, body, now) in answer(),
    ) {
        let head = Head { status, headers: &headers, endpoint: None };
        if let Verdict::Rejected { wait: Some(wait), .. } = profile.read(head, Some(&body), now).verdict {
            let clocks = [now, provider_now(&headers, now)];
            let said = headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let said = said.chain([String::from_utf8_lossy(&body).into_owned()]);
            let words = said.map(|text| longest(&text, clocks)).max().unwrap_or_default();
            prop_assert!(wait <= words.max(longest_of_its_own(&profile)), "{wait:?} {words:?}");
        }
    }

    #[test]
    fn no_pause_is_longer_than_its_rule_allows(
        (profile, _, mut headers, body, now) in answer(),
        place in any::<prop::sample::Index>(),
    ) {
        let Some(rule) = (!profile.rejections.is_empty()).then(|| place.get(&profile.rejections).clone()) else {
            return Ok(());
        };
        let longest = Duration::from_secs(rule.maximum_seconds.unwrap_or(3600).into());
        let rule = Rejection {
            statuses: vec![429], endpoints: vec![], headers: vec![], body: vec![], exhausted: vec![], ..rule
        };
        let profile = Profile { rejections: vec![rule], ..profile };
        // Not a CDN's.
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let head = Head { status: StatusCode::TOO_MANY_REQUESTS, headers: &headers, endpoint: None };
        let Verdict::Rejected { wait, .. } = profile.read(head, Some(&body), now).verdict else {
            return Err(TestCaseError::fail("429 was taken for accepted"));
        };
        prop_assert!(wait.is_none_or(|wait| wait <= longest), "{wait:?} of {longest:?}");
    }
}
