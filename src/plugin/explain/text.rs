//! The explanation for people.

use std::fmt::Write;

use quotakeeper_wire::headroom::{QuotaHeadroom, WaitingHeadroom};

use super::{Explanation, PodExplanation};
use crate::plugin::words::{about, counted, held_by, standing};

/// Pods of which only the names are shown, when there are more.
const MOST_PODS: usize = 10;

/// The whole of it.
pub(super) fn of(explanation: &Explanation, wide: bool) -> String {
    let Explanation { object, namespace, workload, pods, quotas, events } = explanation;
    let mut text = String::new();
    let workload = workload.as_ref().map(|workload| format!(", counted as {workload}")).unwrap_or_default();
    // Writing into a string does not fail, here and below.
    let _ =
        writeln!(text, "{object} of namespace {namespace}: {}{workload}", counted(pods.len() as u64, "pod"));
    let shown = if wide { pods.len() } else { MOST_PODS };
    for pod in pods.iter().take(shown) {
        of_pod(&mut text, pod);
    }
    if pods.len() > shown {
        let _ = writeln!(text, "\n… and {} (-o wide shows all)", counted((pods.len() - shown) as u64, "pod"));
    }
    if !quotas.is_empty() {
        let _ = writeln!(text, "\nQuotas, as the operator reports them");
    }
    for quota in quotas {
        let _ = writeln!(text, "  {}: {}", quota.quota, quota.state);
    }
    if !events.is_empty() {
        let _ = writeln!(text, "\nWarnings");
    }
    for event in events {
        let _ = writeln!(text, "  {event}");
    }
    text
}

fn of_pod(text: &mut String, pod: &PodExplanation) {
    let PodExplanation { name, phase, problem, remarks, headroom } = pod;
    let _ = match problem {
        Some(problem) => writeln!(text, "\nPod {name} ({phase}): {problem}"),
        None => writeln!(text, "\nPod {name} ({phase})"),
    };
    for remark in remarks {
        let _ = writeln!(text, "  {remark}");
    }
    for quota in headroom.iter().flat_map(|headroom| &headroom.quotas) {
        of_quota(text, quota);
    }
}

fn of_quota(text: &mut String, quota: &QuotaHeadroom) {
    let _ = writeln!(text, "  {} ({})", quota.quota, quota.provider);
    if let Some(why) = &quota.unavailable {
        let _ = writeln!(text, "    All calls wait: {why}.");
        return;
    }
    if let Some(why) = &quota.refused {
        let _ = writeln!(text, "    A call would be refused: {why}");
    }
    let _ = writeln!(text, "    {}", waiting(quota));
    for class in &quota.waiting {
        let _ = writeln!(text, "    {}", of_class(class));
    }
    if quota.refused.is_none() {
        let _ = writeln!(text, "    {}", one_more(quota));
    }
    for pause in &quota.pauses {
        let left = match (pause.stopped, pause.remaining_seconds) {
            (true, seconds) => {
                format!("until a person acts at the provider; asked again in {}", about(seconds))
            }
            (false, 0.0) => "one call asks the provider whether it is over".to_owned(),
            (false, seconds) => format!("{} more at least", about(seconds)),
        };
        let _ = writeln!(text, "    Pause: {} ({left})", pause.reason);
    }
    for limit in &quota.limits {
        let _ = writeln!(text, "    Limit {}", standing(limit));
    }
}

fn waiting(quota: &QuotaHeadroom) -> String {
    match (quota.waiting_calls, quota.all_waiting_calls) {
        (0, 0) => "No call waits.".to_owned(),
        (0, all) => format!("No call of this workload waits; {} of others do.", counted(all, "call")),
        (own, all) if own == all => {
            format!("{} of this workload wait, and none of others.", counted(own, "call"))
        }
        (own, all) => {
            format!(
                "{} of this workload wait, and {} of others.",
                counted(own, "call"),
                counted(all - own, "call")
            )
        }
    }
}

/// Which calls, their place, and what they wait for.
fn of_class(class: &WaitingHeadroom) -> String {
    let model = class.model.as_ref().map(|model| format!(" of {model}")).unwrap_or_default();
    let endpoint = class.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
    let place = match class.turn.ahead {
        0 => "is the next of all".to_owned(),
        ahead => format!("has {} before it", counted(ahead, "call")),
    };
    format!(
        "{}{model}{endpoint}: the next has waited {}, {place}, and goes in about {}; it waits for {}.",
        counted(class.calls, "call"),
        about(class.waited_seconds),
        about(class.turn.wait_seconds),
        held_by(class.turn.held_by.as_ref())
    )
}

fn one_more(quota: &QuotaHeadroom) -> String {
    let next = &quota.next;
    match (next.wait_seconds, &next.held_by) {
        (0.0, None) if next.ahead == 0 => "One more call would go at once.".to_owned(),
        (seconds, by) => format!(
            "One more call would have {} before it and wait about {}, for {}.",
            counted(next.ahead, "call"),
            about(seconds),
            held_by(by.as_ref())
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use quotakeeper_wire::headroom::Headroom;
    use serde_json::json;

    use super::*;
    use crate::plugin::explain::QuotaState;

    fn explained(quota: serde_json::Value) -> String {
        let headroom: Headroom = serde_json::from_value(json!({"quotas": [quota]})).unwrap();
        let pod = PodExplanation {
            name: "enrich-7x2kq".to_owned(),
            phase: "Running".to_owned(),
            headroom: Some(headroom),
            ..Default::default()
        };
        of(
            &Explanation {
                object: "Job enrich".to_owned(),
                namespace: "gtm".to_owned(),
                workload: Some("gtm/Job/enrich".to_owned()),
                pods: vec![pod],
                quotas: vec![QuotaState {
                    quota: "gtm/openai".to_owned(),
                    state: "Queueing: 97 % is used.".to_owned(),
                }],
                events: Vec::new(),
            },
            false,
        )
    }

    #[test]
    fn a_wait_is_explained_by_place_limit_and_time() {
        let text = explained(json!({
            "quota": "gtm/openai", "provider": "openai", "waitingCalls": 212, "allWaitingCalls": 480,
            "limits": [{"name": "requests", "unit": "Requests", "amount": 500, "used": 500, "remaining": 0,
                "resetsInSeconds": 58.2}],
            "next": {"ahead": 310, "waitSeconds": 38.4, "heldBy": {"limit": {"name": "requests"}}},
            "waiting": [{"model": "gpt-4o", "calls": 212, "waitedSeconds": 4.0, "ahead": 12, "waitSeconds": 1.5,
                "heldBy": {"limit": {"name": "requests"}}}],
        }));
        assert_eq!(
            text,
            "Job enrich of namespace gtm: 1 pod, counted as gtm/Job/enrich\n\nPod enrich-7x2kq (Running)\n  gtm/openai \
             (openai)\n    212 calls of this workload wait, and 268 calls of others.\n    212 calls of gpt-4o: the next \
             has waited 4.0 s, has 12 calls before it, and goes in about 1.5 s; it waits for the limit requests, which \
             has no room.\n    One more call would have 310 calls before it and wait about 38 s, for the limit \
             requests, which has no room.\n    Limit requests: 500 of 500 used, all free in 58 s\n\nQuotas, as the \
             operator reports them\n  gtm/openai: Queueing: 97 % is used.\n"
        );
    }

    #[test]
    fn a_limiter_that_is_away_is_said() {
        let text = explained(
            json!({"quota": "gtm/openai", "provider": "openai", "unavailable": "nothing is in force"}),
        );
        assert!(text.contains("    All calls wait: nothing is in force.\n"), "{text}");
        let idle = explained(json!({"quota": "gtm/openai", "provider": "openai"}));
        assert!(idle.contains("No call waits.\n    One more call would go at once.\n"), "{idle}");
    }
}
