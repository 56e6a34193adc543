//! What a person is warned of who creates a pod: that calls on a quota won't go for now. Pure, from the quota's status,
//! which every replica has.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::conditions::{FALSE, TRUE, find, reasons, types};
use crate::reconcile::QuotaView;
use crate::status::words::{CALLS_WAIT, until_utc};

/// A pause that ends sooner is not worth a warning, in seconds.
const LONG_PAUSE: i64 = 60;

/// Why calls on a quota, `namespace/name`, won't go for now and what to do, as a sentence; none: nothing is known to
/// keep them.
pub fn warning(name: &str, view: &QuotaView, now: Timestamp) -> Option<String> {
    if view.deleting {
        return Some(format!(
            "the quota {name} is being deleted, and calls wait once it is gone; name another"
        ));
    }
    let status = Arc::clone(&view.status);
    if status.observed_generation != Some(view.generation) {
        // The status is of another spec.
        return None;
    }
    let is = |type_: &str, wanted: &str| find(&status.conditions, type_).filter(|it| it.status == wanted);
    if let Some(Condition { reason, message, .. }) = is(types::ACCEPTED, FALSE) {
        // Where limits are in force, an earlier generation is.
        let waits = status.limits.is_empty();
        return waits.then(|| format!("calls on the quota {name} wait, it is refused ({reason}): {message}"));
    }
    if let Some(lost) = is(types::LIMITER_AVAILABLE, FALSE) {
        return Some(format!("calls on the quota {name} wait: {}", lost.message));
    }
    let unapplied = is(types::PROGRAMMED, FALSE);
    let unapplied = unapplied.filter(|it| [reasons::REFUSED, reasons::NOT_WRITTEN].contains(&&*it.reason));
    if let Some(Condition { message, .. }) = unapplied {
        return Some(match message.strip_suffix(CALLS_WAIT) {
            Some(message) => format!("calls on the quota {name} wait: {message}"),
            None => format!("the newest limits of the quota {name} are not in force: {message}"),
        });
    }
    let Condition { reason, message, .. } = is(types::THROTTLED, TRUE)?;
    let paused = status.paused_until.as_ref().map(|time| time.0);
    let far = |end: &Timestamp| end.as_second().saturating_sub(now.as_second()) > LONG_PAUSE;
    match reason.as_str() {
        reasons::PROVIDER_STOPPED => Some(format!("calls on the quota {name} are refused: {message}")),
        reasons::PAUSED_BY_HAND | reasons::PROVIDER_PAUSED | reasons::PROVIDER_OVERLOADED => {
            let end = paused.filter(far)?;
            Some(format!("calls on the quota {name} wait until {}: {message}", until_utc(end, now)))
        }
        reasons::BUDGET_EXHAUSTED => {
            let used_up = status.limits.iter().filter(|limit| limit.remaining == Some(0));
            let free = used_up.filter_map(|limit| limit.reset_time.as_ref()).map(|time| time.0).max();
            let free =
                free.map(|at| format!("; it is free again by {}", until_utc(at, now))).unwrap_or_default();
            let message = message.trim_end_matches('.');
            Some(format!("calls on the quota {name} wait or are refused: {message}{free}"))
        }
        // The message is too long for a warning.
        reasons::USAGE_UNKNOWN => {
            let (namespace, short) = name.split_once('/').unwrap_or(("default", name));
            Some(format!(
                "calls on the quota {name} wait, because it is not known how much of a budget was used; `kubectl describe aq {short} -n {namespace}` says how to state it"
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use quotakeeper_api::quota::ApiQuotaStatus;
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-03T14:03:00Z".parse().unwrap()
    }

    fn view() -> QuotaView {
        let object = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": "crm", "namespace": "gtm", "generation": 3, "uid": "u"},
            "spec": {"provider": {"name": "hubspot", "tier": "pro"}},
        });
        crate::view::quota(serde_json::from_value(object).unwrap(), None).unwrap()
    }

    /// The warning where the status has one condition that is not as it should be.
    fn warned(
        type_: &str,
        status: &str,
        reason: &str,
        change: impl Fn(&mut ApiQuotaStatus),
    ) -> Option<String> {
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: "The reason.".to_owned(),
            observed_generation: Some(3),
            last_transition_time: Time(now()),
        };
        let mut status = ApiQuotaStatus {
            observed_generation: Some(3),
            conditions: vec![condition],
            ..Default::default()
        };
        change(&mut status);
        warning("gtm/crm", &QuotaView { status: Arc::new(status), ..view() }, now())
    }

    fn limit(remaining: i64) -> quotakeeper_api::quota::LimitStatus {
        serde_json::from_value(json!({
            "name": "daily", "source": "Tier", "hard": 9, "effective": 9, "remaining": remaining,
            "resetTime": "2026-11-03T23:30:00Z",
        }))
        .unwrap()
    }

    #[test]
    fn a_quota_that_lets_no_call_go_is_told_with_the_reason() {
        let refused = warned("Accepted", "False", "TierNotFound", |_| ()).unwrap();
        assert_eq!(refused, "calls on the quota gtm/crm wait, it is refused (TierNotFound): The reason.");
        let lost = warned("LimiterAvailable", "False", "NotReporting", |_| ()).unwrap();
        assert_eq!(lost, "calls on the quota gtm/crm wait: The reason.");
        let inapplicable = warned("Programmed", "False", "Refused", |_| ()).unwrap();
        assert_eq!(inapplicable, "the newest limits of the quota gtm/crm are not in force: The reason.");
        let stopped = warned("Throttled", "True", "ProviderStopped", |_| ()).unwrap();
        assert_eq!(stopped, "calls on the quota gtm/crm are refused: The reason.");
        let spent = warned("Throttled", "True", "BudgetExhausted", |it| it.limits.push(limit(0))).unwrap();
        assert_eq!(
            spent,
            "calls on the quota gtm/crm wait or are refused: The reason; it is free again by 23:30 UTC"
        );
        let unknown = warned("Throttled", "True", "UsageUnknown", |_| ()).unwrap();
        assert!(unknown.contains("kubectl describe aq crm -n gtm"), "{unknown}");
        let deleting = QuotaView { deleting: true, ..view() };
        assert!(
            warning("gtm/crm", &deleting, now()).unwrap().starts_with("the quota gtm/crm is being deleted")
        );
    }

    #[test]
    fn a_pause_is_told_where_it_lasts_for_more_than_a_minute() {
        for reason in ["PausedByHand", "ProviderPaused", "ProviderOverloaded"] {
            let until = |end: &str| {
                let end = Time(end.parse().unwrap());
                warned("Throttled", "True", reason, |it| it.paused_until = Some(end.clone()))
            };
            assert_eq!(until("2026-11-03T14:04:00Z"), None);
            assert_eq!(
                until("2026-11-03T14:04:01Z").unwrap(),
                "calls on the quota gtm/crm wait until 14:04:01 UTC: The reason."
            );
        }
    }

    #[test]
    fn what_lets_calls_go_is_no_reason_to_warn() {
        assert_eq!(warning("gtm/crm", &view(), now()), None, "it is new");
        assert_eq!(warned("Throttled", "True", "Queueing", |_| ()), None);
        assert_eq!(warned("Throttled", "False", "NotThrottled", |_| ()), None);
        assert_eq!(warned("Programmed", "False", "Pending", |_| ()), None);
        let kept = warned("Accepted", "False", "TierNotFound", |it| it.limits.push(limit(5)));
        assert_eq!(kept, None, "an earlier generation is in force");
        let old = warned("Accepted", "False", "TierNotFound", |it| it.observed_generation = Some(2));
        assert_eq!(old, None, "the spec has been corrected since");
    }
}
