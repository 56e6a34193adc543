//! Which calls may be sent a second time.

use http::{Method, StatusCode};
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::profile::Retry;

use crate::answers::{headers, profile};

fn may(profile: &Profile, method: Method, lines: &[&str], status: Option<u16>) -> bool {
    let status = status.map(|status| StatusCode::from_u16(status).unwrap());
    profile.may_resend(&method, &headers(lines), status)
}

#[test]
fn a_post_without_an_answer_is_not_sent_again_without_a_key() {
    let stripe = profile("stripe");
    assert!(!may(&stripe, Method::POST, &[], None));
    assert!(may(&stripe, Method::POST, &["Idempotency-Key: 1"], None));
    assert!(!may(&profile("openai"), Method::POST, &["Idempotency-Key: 1"], None), "not one of its promises");
    assert!(may(&stripe, Method::GET, &[], None));
    assert!(!may(&stripe, Method::PATCH, &[], Some(500)));
}

#[test]
fn a_call_that_was_turned_away_may_be_sent_again_whatever_its_method() {
    assert!(may(&profile("hubspot"), Method::POST, &[], Some(429)));
    assert!(may(&profile("hubspot"), Method::POST, &[], Some(423)));
    assert!(may(&profile("anthropic"), Method::POST, &[], Some(529)));
    assert!(!may(&profile("openai"), Method::POST, &[], Some(529)));
    assert!(!may(&profile("openai"), Method::POST, &[], Some(503)));
    let plain = Profile::default();
    assert!(may(&plain, Method::POST, &[], Some(429)) && !may(&plain, Method::POST, &[], Some(503)));
    assert!(may(&plain, Method::PUT, &[], Some(503)));
}

#[test]
fn a_profile_can_forbid_what_methods_promise() {
    let retry = Retry { methods: vec!["GET".to_owned()], ..Retry::default() };
    let careful = Profile { retry: Some(retry), ..Profile::default() };
    assert!(may(&careful, Method::GET, &[], None) && !may(&careful, Method::PUT, &[], None));
}

#[test]
fn advice_comes_from_the_header_that_the_profile_names() {
    let lines = headers(&["stripe-should-retry: true", "x-should-retry: false"]);
    assert_eq!(profile("stripe").retry_advice(&lines), Some(true));
    assert_eq!(profile("openai").retry_advice(&lines), Some(false));
    assert_eq!(profile("openai").retry_advice(&headers(&[])), None);
}
