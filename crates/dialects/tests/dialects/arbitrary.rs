//! Arbitrary bytes: no parser panics, and what is read stays within its bounds.
//! `PROPTEST_CASES` says how many cases; a failing one is written down and runs again.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use quotakeeper_dialects::instant::{decimal_seconds, go_duration, offset};
use quotakeeper_dialects::profile::{HeaderFormat, LimitHeader, Model, Rejection, TimeFormat, WaitSource};
use quotakeeper_dialects::request::{BodyFacts, BodyReader, Measure};
use quotakeeper_dialects::stream::EventReader;
use quotakeeper_dialects::{Head, Profile, Reading, Verdict, catalogue, json, patience, prose};

use crate::answers::{headers, profile, test_profiles};

pub const FORMATS: [TimeFormat; 9] = [
    TimeFormat::DeltaSeconds,
    TimeFormat::DeltaMillis,
    TimeFormat::EpochSeconds,
    TimeFormat::EpochMillis,
    TimeFormat::GoDuration,
    TimeFormat::Rfc3339,
    TimeFormat::HttpDate,
    TimeFormat::RetryAfter,
    TimeFormat::Prose,
];

fn profiles() -> impl Strategy<Value = Profile> {
    let mut all: Vec<Profile> = catalogue::names().into_iter().map(profile).collect();
    all.extend(test_profiles().iter().map(|name| profile(name)));
    all.push(Profile::default());
    select(all)
}

/// Every header that a profile looks at, and those that all of them share.
fn names(profile: &Profile) -> Vec<String> {
    let of_limits = profile.headers.iter().flat_map(|header| {
        let named = [
            &header.hard,
            &header.remaining,
            &header.used,
            &header.reset,
            &header.interval_millis,
            &header.header,
        ];
        named.into_iter().flatten().cloned().collect::<Vec<_>>()
    });
    let of_rejections = profile.rejections.iter().flat_map(|rejection| {
        let conditions = rejection.headers.iter().map(|condition| condition.name.clone());
        conditions.chain(rejection.reason_header.clone()).collect::<Vec<_>>()
    });
    let shared = [
        "retry-after",
        "retry-after-ms",
        "date",
        "age",
        "ratelimit",
        "ratelimit-policy",
        "x-should-retry",
        "prefer",
        "x-stainless-read-timeout",
        "x-stainless-timeout",
        "x-quotakeeper-patience",
        "content-type",
        "authorization",
        "openai-organization",
    ];
    of_limits.chain(of_rejections).chain(shared.map(str::to_owned)).collect()
}

/// Bytes, and texts that are nearly what somebody would send.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        "[-+]?[0-9]{0,25}(\\.[0-9]{0,14})?".prop_map(String::into_bytes),
        "([0-9]{1,6}(\\.[0-9]{1,10})?(h|m|s|ms|us|ns)){1,4}".prop_map(String::into_bytes),
        "\"[a-z]{0,9}\"(;(r|q|t|w|pk|qu)=-?[0-9\":.]{0,16}){0,4}(, \"[a-z]{0,3}\";r=[0-9]{1,16})?"
            .prop_map(String::into_bytes),
        "\"requests\";(r|q)=[0-9]{1,15};(t|w)=[0-9]{1,15}".prop_map(String::into_bytes),
        "(Mon|Sun), [0-9]{2} (Oct|Feb) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT".prop_map(String::into_bytes),
        "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](Z|[+-][01][0-9]:00)"
            .prop_map(String::into_bytes),
        "(api-usage=)?-?[0-9]{0,12}/[0-9]{0,12}".prop_map(String::into_bytes),
        "(total|remaining|resets)=-?[0-9]{0,9}(; ?(total|remaining|resets)=-?[0-9]{0,9}){0,3}"
            .prop_map(String::into_bytes),
        "wait ?= ?\"?-?[0-9]{0,22}\"?".prop_map(String::into_bytes),
        select(vec!["0", "1", "false", "true", "core", "Bearer", "text/event-stream", "global-concurrency"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

fn header_map(names: Vec<String>) -> impl Strategy<Value = HeaderMap> {
    proptest::collection::vec((select(names), value()), 0..12).prop_map(|lines| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            // A state in the body has pointers instead of names.
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value)) {
                headers.append(name, value);
            }
        }
        headers
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let rejection = "\\{\"(error|errors|policyName|message)\":(\"(DAILY|SECONDLY)\"|[\\[{]{1,3}\"(code|type|details)\":\"[a-z_]{0,20}\")[\\]}]{0,4}";
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        rejection.prop_map(String::into_bytes),
        "(<html>|error code: 1015|\\[\\{\"error\":\\{)?.{0,20}(try again in|retry after) [0-9.]{0,25} ?(ms|s|m|h|days)?".prop_map(String::into_bytes),
        r#"\{"errors":\[\{"code":"60[67]"(\}\]\})?"#.prop_map(String::into_bytes),
    ]
}

fn instant() -> impl Strategy<Value = Timestamp> {
    let seconds = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
    prop_oneof![seconds, 1_700_000_000_i64..1_900_000_000]
        .prop_map(|second| Timestamp::from_second(second).unwrap())
}

pub fn answer() -> impl Strategy<Value = (Profile, StatusCode, HeaderMap, Vec<u8>, Timestamp)> {
    let statuses =
        prop_oneof![select(vec![200_u16, 400, 402, 403, 413, 423, 429, 477, 503, 529]), 100_u16..600];
    profiles().prop_flat_map(move |profile| {
        let headers = header_map(names(&profile));
        (Just(profile), statuses.clone(), headers, body(), instant()).prop_map(
            |(profile, status, headers, body, now)| (profile, status.try_into().unwrap(), headers, body, now),
        )
    })
}

fn assert_bounded(profile: &Profile, reading: &Reading) {
    let longest = profile.rejections.iter().map(|rejection| rejection.maximum_seconds.unwrap_or(3600)).max();
    let longest = Duration::from_secs(longest.unwrap_or(3600).max(3600).into());
    if let Verdict::Rejected { class, wait, reason, .. } = &reading.verdict {
        assert!(wait.is_none_or(|wait| wait <= longest), "{wait:?}");
        assert!(class.has_wait() || wait.is_none());
        assert!(
            !reason.is_empty()
                && reason.len() <= 128
                && reason.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        );
    }
    assert!(reading.observations.len() <= profile.headers.len());
    for seen in &reading.observations {
        assert!(seen.hard != Some(0), "a limit of nothing");
        assert!(seen.hard.max(seen.remaining).unwrap_or(0) <= 1_000_000_000_000_000);
        assert!(seen.hard.zip(seen.remaining).is_none_or(|(hard, left)| left <= hard));
        assert!(seen.resets_in.is_none_or(|reset| reset <= Duration::from_secs(366 * 86_400)));
        assert!(seen.exhausted_for().is_none_or(|blocked| Some(blocked) <= seen.resets_in));
    }
    assert!(reading.organization.as_ref().is_none_or(|name| (1..=128).contains(&name.len())));
}

/// One of the profile's endpoints, or none.
fn endpoint_at(profile: &Profile, place: usize) -> Option<&str> {
    profile.endpoints.get(place).map(|endpoint| endpoint.name.as_str())
}

/// A JSON text with white space, escapes and members that are named alike.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|bool| bool.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        (-1e9..1e9_f64).prop_map(|number| serde_json::to_string(&number).unwrap()),
        "\\PC{0,20}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\u006dodel \ud83d\ude00 \" \\""#.to_owned()),
    ];
    let space = select(vec!["", " ", "\n\t", "\r\n  "]);
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let space = space.clone();
        let key = prop_oneof![select(vec!["model", "a", "b", "m\\u006fdel"]), Just("\\\"")];
        let member = (key, inner.clone(), space.clone())
            .prop_map(|(key, value, space)| format!("{space}\"{key}\"{space}:{space}{value}{space}"));
        let element = (inner, space).prop_map(|(value, space)| format!("{space}{value}{space}"));
        prop_oneof![
            proptest::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
            proptest::collection::vec(element, 0..5).prop_map(|elements| format!("[{}]", elements.join(","))),
        ]
    })
}

fn reader_at(pointer: &str) -> BodyReader {
    let model = Model { body: Some(pointer.to_owned()), ..Model::default() };
    Profile { model: Some(model), ..Profile::default() }
        .body_reader(&Method::POST, "/", &HeaderMap::new(), Measure::Nothing)
        .unwrap()
}

fn form_reader() -> BodyReader {
    let model = Model { body: Some("/model".to_owned()), ..Model::default() };
    let headers = headers(&["content-type: multipart/form-data; boundary=b"]);
    Profile { model: Some(model), ..Profile::default() }
        .body_reader(&Method::POST, "/", &headers, Measure::Nothing)
        .unwrap()
}

trait InPieces {
    fn read_in_pieces(self, body: &[u8], cuts: &[usize]) -> BodyFacts;
}

impl InPieces for BodyReader {
    fn read_in_pieces(mut self, body: &[u8], cuts: &[usize]) -> BodyFacts {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts.into_iter().chain([body.len()]) {
            self.push(&body[from..cut]);
            from = cut;
        }
        self.finish()
    }
}

proptest! {
    #[test]
    fn any_answer_is_read_within_bounds((profile, status, headers, body, now) in answer(), place in 0_usize..20) {
        let endpoint = endpoint_at(&profile, place);
        let head = Head { status, headers: &headers, endpoint };
        let reading = profile.read(head, Some(&body), now);
        assert_bounded(&profile, &reading);
        if !profile.needs_body(head) {
            let unseen = profile.read(head, None, now);
            // An accepted event stream may match a rule on bodies, and is passed on all the same.
            let stream = status.is_success() && headers.contains_key("content-type");
            prop_assert!(unseen == reading || stream, "a body that was not asked for made a difference");
        }
    }

    #[test]
    fn a_wait_in_any_text_is_within_its_bound(
        before in "\\PC{0,40}",
        marker in select(vec!["try again in", "RETRY AFTER", "wait", "resets in", ""]),
        parts in proptest::collection::vec("[0-9.]{0,40} ?(ms|s|m|h|d|days|é|)", 0..6),
        after in "\\PC{0,40}",
    ) {
        let text = format!("{before} {marker} {}{after}", parts.concat());
        prop_assert!(prose::wait(&text).is_none_or(|wait| wait <= prose::LONGEST), "{}", text);
    }

    #[test]
    fn any_request_is_described_and_its_patience_bounded(
        (profile, headers) in profiles().prop_flat_map(|profile| (Just(profile.clone()), header_map(names(&profile)))),
        path in "(/(v1|crm|v3|objects|models|search|[a-z:?*%]{0,8})){0,6}|\\PC{0,40}",
        body in body(),
    ) {
        prop_assert!(profile.patience(&headers).is_none_or(|patience| patience <= patience::LONGEST));
        let said = profile.body_reader(&Method::POST, &path, &headers, Measure::Nothing).map(|mut reader| {
            reader.push(&body);
            reader.finish()
        });
        let described = profile.describe(&Method::POST, &path, &said.unwrap_or_default());
        prop_assert!(described.model.as_ref().is_none_or(|model| (1..=256).contains(&model.len())));
        let known = |name: &String| profile.endpoints.iter().any(|endpoint| endpoint.name == *name);
        prop_assert!(described.endpoint.as_ref().is_none_or(known));
        for limit in profile.tiers.iter().flat_map(|tier| &tier.limits) {
            profile.partition(limit, &described);
        }
        profile.credential(&headers);
    }

    #[test]
    fn no_time_in_any_format_panics(text in "\\PC{0,40}", bytes in value(), now in instant()) {
        let nearly = String::from_utf8_lossy(&bytes);
        for format in FORMATS {
            offset(format, &text, now);
            offset(format, &nearly, now);
        }
    }

    #[test]
    fn a_go_duration_is_read_back_exactly(nanos in 0_u64..400 * 24 * 3600 * 1_000_000_000) {
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let text = format!("{hours}h{minutes}m{seconds}.{rest:09}s");
        prop_assert_eq!(go_duration(&text), Some(Duration::from_nanos(nanos)), "{}", text);
    }

    #[test]
    fn decimal_seconds_are_read_back_exactly(seconds in any::<u64>(), nanos in 0_u32..1_000_000_000) {
        prop_assert_eq!(decimal_seconds(&format!("{seconds}.{nanos:09}")), Some(Duration::new(seconds, nanos)));
    }

    #[test]
    fn a_model_in_a_prefix_is_the_whole_bodys_or_none(
        model in "[a-z0-9.-]{1,20}",
        content in "\\PC{0,60}",
        model_first in any::<bool>(),
        cut in 0_usize..200,
    ) {
        let message = serde_json::json!([{"role": "user", "content": content}]);
        let body = match model_first {
            true => format!(r#"{{"model":"{model}","messages":{message}}}"#),
            false => format!(r#"{{"messages":{message},"model":"{model}"}}"#),
        };
        let whole = json::first(body.as_bytes(), "/model");
        prop_assert_eq!(whole.as_deref(), Some(model.as_str()));
        let prefix = &body.as_bytes()[..cut.min(body.len())];
        let found = json::first(prefix, "/model");
        prop_assert!(found.is_none() || found == whole);
    }

    #[test]
    fn a_model_is_read_as_a_whole_parser_reads_it(
        text in json_text(),
        pointer in "(/(model|a|b|0|1)){1,3}",
        cuts in proptest::collection::vec(0_usize..300, 0..8),
    ) {
        let reader = reader_at(&pointer).read_in_pieces(text.as_bytes(), &cuts);
        let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = whole.pointer(&pointer).and_then(|value| match value {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            serde_json::Value::Bool(bool) => Some(bool.to_string()),
            _ => None,
        });
        let expected = expected.filter(|name| (1..=256).contains(&name.len()));
        prop_assert_eq!(reader, BodyFacts { model: expected, whole: true, ..BodyFacts::default() }, "{}", text);
    }

    #[test]
    fn how_a_body_is_cut_makes_no_difference(
        body in prop_oneof![
            body(),
            json_text().prop_map(String::into_bytes),
            "(\r\n|--b|--|[a-c:;=\" ]|content-disposition: form-data; name=\"model\"|\r\n\r\n){0,30}".prop_map(String::into_bytes),
        ],
        form in any::<bool>(),
        cuts in proptest::collection::vec(0_usize..300, 0..8),
    ) {
        let read = |cuts: &[usize]| {
            let reader = if form { form_reader() } else { reader_at("/model") };
            reader.read_in_pieces(&body, cuts)
        };
        prop_assert_eq!(read(&cuts), read(&[]));
    }

    #[test]
    fn how_a_stream_is_cut_makes_no_difference(
        text in "((event|data|id|:)?:? ?(error|ping|\\{\\}|x)?(\r\n|\n|\r){1,2}){0,20}",
        cuts in proptest::collection::vec(0_usize..300, 0..8),
    ) {
        let mut whole = EventReader::default();
        let mut reader = EventReader::default();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).chain([text.len()]).collect();
        cuts.sort_unstable();
        let mut from = 0;
        let mut events = Vec::new();
        for cut in cuts {
            events.extend(reader.push(&text.as_bytes()[from..cut]));
            from = cut;
        }
        prop_assert_eq!(events, whole.push(text.as_bytes()));
    }

    #[test]
    fn a_profile_of_arbitrary_texts_is_judged_and_read(
        texts in proptest::collection::vec("\\PC{0,20}|[a-z/*~-]{0,12}", 12),
        format in select(vec![HeaderFormat::Separate, HeaderFormat::RateLimitFields, HeaderFormat::UsedOfLimit, HeaderFormat::KeyValues]),
        seconds in any::<u32>(),
        bytes in value(),
        body in body(),
        now in instant(),
    ) {
        let text = |index: usize| Some(texts[index].clone());
        let header = LimitHeader {
            limit: texts[0].clone(), format: Some(format), hard: text(1), remaining: text(2), used: text(3),
            reset: text(4), policy: text(5), header: text(6), key: text(7), ..LimitHeader::default()
        };
        let wait = vec![WaitSource { body: text(8), ..WaitSource::default() }, WaitSource { header: text(9), ..WaitSource::default() }];
        let rejection = Rejection {
            statuses: vec![429], wait, reason_body: text(10), reason_header: text(11),
            cooldown_seconds: Some(seconds), maximum_seconds: Some(seconds), ..Rejection::default()
        };
        let profile = Profile { hosts: texts.clone(), headers: vec![header], rejections: vec![rejection], ..Profile::default() };
        prop_assert!(profile.validate().is_err(), "it has no tiers");
        let mut headers = HeaderMap::new();
        for name in &texts {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&bytes)) {
                headers.insert(name, value);
            }
        }
        let head = Head { status: StatusCode::TOO_MANY_REQUESTS, headers: &headers, endpoint: None };
        let reading = profile.read(head, Some(&body), now);
        assert_bounded(&profile, &reading);
    }
}
