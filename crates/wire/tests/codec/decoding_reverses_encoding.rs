//! What one end writes, the other reads as the same.

use std::time::Duration;

use proptest::prelude::*;
use quotakeeper_engine::event::{CallClass, CallId, Observation, Scope};
use quotakeeper_engine::time::Stamp;
use quotakeeper_wire::codec::{Coded, MOST_NAME, MOST_OBSERVATIONS, MOST_REASON};
use quotakeeper_wire::message::{
    AccountIndex, AccountUpdate, Epoch, LimiterMessage, ProxyMessage, Report, ToLimiter, ToProxy,
};

use crate::messages::{to_limiter, to_proxy};

proptest! {
    #[test]
    fn messages_of_a_proxy_arrive_unchanged(message in to_limiter()) {
        let bytes = message.clone().to_bytes();
        prop_assert_eq!(ToLimiter::decode(&bytes), Ok(Some(message)));
    }

    #[test]
    fn messages_of_a_limiter_arrive_unchanged(message in to_proxy()) {
        let bytes = message.clone().to_bytes();
        prop_assert_eq!(ToProxy::decode(&bytes), Ok(Some(message)));
    }
}

/// A model's name comes from a client's body; one strange body must not end the pod's session.
#[test]
fn a_text_that_is_too_long_is_cut_where_a_letter_ends() {
    let model = "ä".repeat(MOST_NAME);
    let ask = ProxyMessage::Ask {
        account: AccountIndex(0),
        call: CallId(1),
        details: CallClass { model: Some(format!("x{model}")), ..CallClass::default() }.into(),
        patience: None,
    };
    let bytes = ToLimiter { stamp: Stamp(1), body: ask }.to_bytes();
    let Ok(Some(ToLimiter { body: ProxyMessage::Ask { details, .. }, .. })) = ToLimiter::decode(&bytes)
    else {
        panic!("the question did not arrive")
    };
    // One letter of one byte and as many of two as fit.
    assert_eq!(details.class.model.map(|model| model.len()), Some(MOST_NAME - 1));

    let update = AccountUpdate::Paused {
        scope: Scope::account(),
        remaining: Duration::from_secs(1),
        reason: "because ".repeat(MOST_REASON),
    };
    let body = LimiterMessage::Account { account: AccountIndex(0), update };
    let message = ToProxy::decode(&ToProxy { epoch: Epoch(1), body }.to_bytes()).unwrap().unwrap();
    let LimiterMessage::Account { update: AccountUpdate::Paused { reason, .. }, .. } = message.body else {
        panic!("the pause did not arrive: {message:?}")
    };
    assert_eq!(reason.len(), MOST_REASON);
}

#[test]
fn observations_of_too_many_limits_are_cut() {
    let seen = Observation { limit: "requests".to_owned(), hard: Some(1), remaining: Some(1), ends_in: None };
    let report = Report::FirstByte { at: Stamp(1), observations: vec![seen; MOST_OBSERVATIONS + 9] };
    let body = ProxyMessage::Report { account: AccountIndex(0), call: CallId(1), attempt: 1, report };
    let bytes = ToLimiter { stamp: Stamp(1), body }.to_bytes();
    let Ok(Some(ToLimiter { body: ProxyMessage::Report { report, .. }, .. })) = ToLimiter::decode(&bytes)
    else {
        panic!("the report did not arrive")
    };
    let Report::FirstByte { observations, .. } = report else { panic!("not the same report: {report:?}") };
    assert_eq!(observations.len(), MOST_OBSERVATIONS);
}
