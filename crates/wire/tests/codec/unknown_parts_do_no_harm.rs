//! A newer peer sends what this version does not know: it is ignored where that is safe, and ends the session
//! with a sentence where it is not.

use std::time::Duration;

use quotakeeper_engine::event::{CallId, RefusalReason, RejectionClass, Scope};
use quotakeeper_engine::time::Stamp;
use quotakeeper_wire::codec::{Coded, DecodeError};
use quotakeeper_wire::message::{
    AccountIndex, Epoch, LimiterMessage, ProxyMessage, Report, ToLimiter, ToProxy,
};

use crate::samples::{a_rejection, samples_to_limiter, samples_to_proxy};

/// An unknown field of each wire type.
const UNKNOWN: &[u8] = &[
    0xc0, 0x3e, 0x07, // 1000: a varint
    0xc9, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8, // 1001: eight bytes
    0xd2, 0x3e, 3, b'n', b'e', b'w', // 1002: a text
    0xdd, 0x3e, 1, 2, 3, 4, // 1003: four bytes
];

#[test]
fn unknown_fields_are_ignored() {
    for (name, message) in samples_to_limiter() {
        let bytes = [message.clone().to_bytes(), UNKNOWN.to_vec()].concat();
        assert_eq!(ToLimiter::decode(&bytes), Ok(Some(message)), "{name}");
    }
    for (name, message) in samples_to_proxy() {
        let bytes = [message.clone().to_bytes(), UNKNOWN.to_vec()].concat();
        assert_eq!(ToProxy::decode(&bytes), Ok(Some(message)), "{name}");
    }
}

/// The bytes of a message with `inner` at `number`, and one more field if given.
fn with(number: u8, inner: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(inner.len()).unwrap()], inner].concat()
}

#[test]
fn an_unknown_body_to_a_limiter_counts_as_a_heartbeat() {
    let stamp = [9, 7, 0, 0, 0, 0, 0, 0, 0];
    let bytes = [&stamp[..], &with(15, b"new")].concat();
    let alive = ToLimiter { stamp: Stamp(7), body: ProxyMessage::ALIVE };
    assert_eq!(ToLimiter::decode(&bytes), Ok(Some(alive)));
}

#[test]
fn an_unknown_body_to_a_proxy_is_ignored() {
    assert_eq!(ToProxy::decode(&[&[8, 4][..], &with(15, b"new")].concat()), Ok(None));
    // Paused and resumed, of a scope with an unknown kind, or none.
    for number in [5, 6] {
        assert_eq!(ToProxy::decode(&with(number, &with(2, &with(15, b"new")))), Ok(None));
        assert_eq!(ToProxy::decode(&with(number, &[])), Ok(None));
    }
}

#[test]
fn an_unknown_outcome_ending_or_progress_ends_the_session() {
    let unknown = |bytes: &[u8]| ToLimiter::decode(bytes).unwrap_err();
    let report = with(6, &with(15, b"new"));
    assert_eq!(unknown(&report), DecodeError::Unknown("the outcome of a report"));
    let hello = |list: &[u8]| with(2, &[&[0x08, 1, 0x10, 9], list].concat());
    assert_eq!(unknown(&hello(&with(8, &[]))), DecodeError::Unknown("the ending of an attempt"));
    assert_eq!(unknown(&hello(&with(9, &[]))), DecodeError::Unknown("the progress of a call"));
    assert_eq!(
        unknown(&report).to_string(),
        "the outcome of a report is missing or of a kind that version 1 of the session does not have; use \
         the version of the welcome"
    );
}

#[test]
fn an_unknown_rejection_pauses_more_rather_than_less() {
    // A rejection of class 99, of a scope of an unknown kind.
    let rejection = [&[0x08, 99][..], &with(2, &with(15, b"new"))].concat();
    let bytes = with(6, &with(7, &with(3, &rejection)));
    let Ok(Some(ToLimiter { body: ProxyMessage::Report { report, .. }, .. })) = ToLimiter::decode(&bytes)
    else {
        panic!("the report was not read")
    };
    let Report::Rejected { rejection, .. } = report else { panic!("not rejected: {report:?}") };
    let (class, scope) = (RejectionClass::Quota, Scope::account());
    assert_eq!((rejection.class, &rejection.scope), (class, &scope));
    assert_ne!(rejection, a_rejection(class, scope));
}

#[test]
fn a_call_that_is_refused_for_an_unknown_reason_is_refused() {
    let bytes = with(4, &[0x10, 5, 0x18, 99, 0x20, 7]);
    let refuse = LimiterMessage::Refuse {
        account: AccountIndex(0),
        call: CallId(5),
        reason: RefusalReason::QuotaExceeded,
        retry_after: Some(Duration::from_nanos(7)),
        words: None,
    };
    assert_eq!(ToProxy::decode(&bytes), Ok(Some(ToProxy { epoch: Epoch(0), body: refuse })));
}

#[test]
fn versions_without_a_common_one_end_the_session_with_a_remedy() {
    let hello = |min, max| ToLimiter::decode(&with(2, &[0x08, min, 0x10, max]));
    assert!(hello(1, 1).is_ok());
    assert!(hello(1, 3).is_ok());
    assert_eq!(
        hello(2, 4).unwrap_err().to_string(),
        "the proxy supports versions 2 to 4 of the session, this limiter 1 to 1; upgrade the limiter first"
    );
    assert_eq!(
        hello(0, 0).unwrap_err().to_string(),
        "the proxy supports versions 0 to 0 of the session, this limiter 1 to 1; restart the pod to get a newer \
         proxy"
    );
    assert_eq!(ToProxy::decode(&with(2, &[0x18, 2])), Err(DecodeError::StrangeVersion(2)));
}
