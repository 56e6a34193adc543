//! What has one event when it begins.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::*;
use crate::fixtures::idle;

#[test]
fn a_budget_that_begins_closed_has_one_event_for_all_whose_calls_wait() {
    let throttled = Condition {
        type_: "Throttled".to_owned(),
        status: "True".to_owned(),
        reason: "UsageUnknown".to_owned(),
        message: "How much of daily was used is not known.".to_owned(),
        observed_generation: Some(1),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    };
    let closed = ApiQuotaStatus { conditions: vec![throttled], ..ApiQuotaStatus::default() };
    let verdict = Verdict::Refused { reason: Reason::Invalid, message: String::new(), in_force: None };
    let next = |state: &mut EventState, status: &ApiQuotaStatus| -> Vec<_> {
        let events = state.next("gtm/crm", &verdict, status, Some(&idle("gtm/crm")), Timestamp::UNIX_EPOCH);
        events.into_iter().map(|it| format!("{:?} {}: {}", it.target, it.reason, it.note)).collect()
    };
    let mut state = EventState::default();
    let note = "gtm/crm: How much of daily was used is not known.";
    assert_eq!(
        next(&mut state, &closed),
        [format!("Quota UsageUnknown: {note}"), format!("Consumers UsageUnknown: {note}")]
    );
    assert!(next(&mut state, &closed).is_empty());
    let mut later = EventState::published_before(&closed, Some(&idle("gtm/crm")), Timestamp::UNIX_EPOCH);
    assert!(next(&mut later, &closed).is_empty(), "an earlier leader has published it");
}

#[test]
fn a_conflict_has_one_event() {
    let mut state = EventState::default();
    let message = "The account org-1 belongs to ApiQuota a/b.".to_owned();
    let verdict = Verdict::Refused { reason: Reason::AccountConflict, message, in_force: None };
    let mut next =
        || state.next("gtm/crm", &verdict, &ApiQuotaStatus::default(), None, Timestamp::UNIX_EPOCH).len();
    assert_eq!([next(), next()], [1, 0]);
}
