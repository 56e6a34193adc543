//! Reports become columns, sentences and conditions.

#![allow(clippy::unwrap_used)]

mod assumed;
mod checkpoints;
mod money;
mod refused;
mod written;

use std::sync::Arc;
use std::time::Duration;

use quotakeeper_api::problem::Problem;
use quotakeeper_api::quota::LimitSource;
use quotakeeper_engine::event::Callers;
use quotakeeper_engine::{LearnedConcurrency, LimitStatus as ReportedLimit};
use quotakeeper_wire::status::{PastUse, ProxyCounts};
use quotakeeper_wire::tier::ToldLimit;
use serde_json::{Value, json};

use super::write_policy::{Worth, worth};
use super::*;
use crate::event_plan::EventState;
use crate::fixtures::{idle, pause, wait};
use crate::limiter_view::LIMITER_TIMEOUT;
use crate::reconcile::{ObservedState, Reason, plan};
use crate::view;

const NOW: &str = "2026-11-03T14:03:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A quota and what is known of it.
struct Story {
    name: String,
    view: QuotaView,
    verdict: Verdict,
    report: Option<AccountReport>,
    heard: bool,
    lost: bool,
    gate_open_until: Option<Timestamp>,
    active: Option<ActiveLimiter>,
    queueing: bool,
    refusals: Option<Refusals>,
    not_injected: u32,
    now: Timestamp,
}

impl Story {
    fn new(name: &str, spec: Value) -> Story {
        let (namespace, short) = name.split_once('/').unwrap();
        let object = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": short, "namespace": namespace, "generation": 3, "uid": "u", "creationTimestamp": NOW},
            "spec": spec,
        });
        let view = view::quota(serde_json::from_value(object).unwrap(), None).unwrap();
        let inputs =
            ObservedState { quotas: [(name.to_owned(), view.clone())].into(), ..ObservedState::default() };
        let verdict = plan(&inputs).quotas.remove(name).unwrap();
        let report = verdict.account().map(|account| AccountReport {
            generation: Some(3),
            mode: account.engine.mode,
            ..idle(name)
        });
        let name = name.to_owned();
        let (heard, lost, gate_open_until, queueing, not_injected) = (true, false, None, false, 0);
        Story {
            name,
            view,
            verdict,
            report,
            heard,
            lost,
            gate_open_until,
            active: None,
            queueing,
            refusals: None,
            not_injected,
            now: now(),
        }
    }

    fn report(&mut self) -> &mut AccountReport {
        self.report.as_mut().unwrap()
    }

    /// So much of a limit is used, and it is free again after so many seconds.
    fn uses(mut self, name: &str, used: u64, resets: u64) -> Story {
        let account = self.verdict.account().unwrap();
        let config = account.engine.limits.iter().find(|limit| limit.name == name).unwrap();
        let (unit, amount) = (config.unit, config.amount);
        let limit = ReportedLimit {
            window: Duration::from_secs(10),
            name: name.to_owned(),
            model: None,
            unit,
            amount,
            used,
            reserved: 0,
            used_by_others: 0,
            assumed: 0,
            waiting: 0,
            resets_in: Duration::from_secs(resets),
            wait: Duration::ZERO,
            spent: false,
        };
        self.report().status.limits.push(limit);
        self
    }

    fn waits(mut self, consumer: &str, calls: u64, longest_millis: u64) -> Story {
        self.queueing = true;
        self.report().status.waiting.push(wait(consumer, calls, longest_millis));
        self
    }

    fn pods(mut self, connected: u32, not_injected: u32) -> Story {
        self.report().proxies = ProxyCounts { current: connected, connected };
        self.not_injected = not_injected;
        self
    }

    fn paused(mut self, scope: Scope, remaining_millis: u64, reason: &str, stopped: bool) -> Story {
        let pause = PauseStatus { stopped, ..pause(scope, remaining_millis, reason) };
        self.report().status.pauses.push(pause);
        self
    }

    fn status(&self) -> ApiQuotaStatus {
        self.with_subject(status)
    }

    /// The Events that it has now, as `Reason: note`.
    fn news(&self, events: &mut EventState) -> Vec<String> {
        let planned = self.with_subject(|subject| {
            let view = QuotaView { status: Arc::new(status(subject)), ..self.view.clone() };
            events.next(&self.name, &Subject { view: &view, ..*subject })
        });
        planned.into_iter().map(|event| format!("{}: {}", event.reason.word(), event.note)).collect()
    }

    fn with_subject<T>(&self, of: impl FnOnce(&Subject<'_>) -> T) -> T {
        let limiter = match (self.lost, self.heard) {
            (true, _) => Limiter::Lost { since: now(), silence: LIMITER_TIMEOUT, replaced: false },
            (false, true) => {
                let (account, gate_open_until) = (self.report.as_ref(), self.gate_open_until);
                Limiter::Connected { account, active: self.active.as_ref(), gate_open_until }
            }
            (false, false) => Limiter::Unknown,
        };
        of(&Subject {
            view: &self.view,
            verdict: &self.verdict,
            unwritten: None,
            limiter,
            long_wait_ago: self.queueing.then_some(Duration::ZERO),
            refusals: self.refusals,
            not_injected: self.not_injected,
            namespace: "quotakeeper",
            now: self.now,
        })
    }

    /// The row of `kubectl get aq`.
    fn row(&self) -> String {
        let summary = self.status().summary.unwrap();
        let columns = [
            summary.tier,
            summary.tightest,
            summary.used,
            summary.waiting,
            summary.wait,
            summary.pods,
            summary.status,
        ];
        columns.map(|column| column.unwrap_or_default()).join(" | ")
    }

    fn message(&self) -> String {
        self.status().summary.unwrap().message.unwrap()
    }

    /// The conditions, one a line.
    fn conditions(&self) -> String {
        let line = |it: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            format!("{}={} {}: {}\n", it.type_, it.status, it.reason, it.message)
        };
        self.status().conditions.iter().map(line).collect()
    }

    /// The status is in the cluster now.
    fn written(&mut self) {
        let status = self.status();
        // Through JSON, as the API server keeps it.
        let kept: ApiQuotaStatus = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
        assert_eq!(worth(&kept, &status), Worth::Nothing, "{}: what was written is no news", self.name);
        self.view.status = Arc::new(kept);
    }

    fn worth(&self) -> Worth {
        worth(&self.view.status, &self.status())
    }
}

fn mini_tokens() -> Story {
    let limit = json!({"name": "mini-requests", "unit": "Requests", "amount": "2M", "windowSeconds": 60});
    let account = json!({"sharePercent": 20, "reservePercent": 10});
    let spec =
        json!({"provider": {"name": "openai", "tier": "tier-4"}, "account": account, "limits": [limit]});
    Story::new("platform/openai", spec)
}

fn hubspot() -> Story {
    Story::new("platform/hubspot", json!({"provider": {"name": "hubspot"}}))
}

#[test]
fn the_columns_of_a_busy_morning() {
    let openai = mini_tokens().uses("mini-requests", 349_300, 59).pods(14, 0);
    let openai = openai.waits("gtm/Job/enrich", 200, 41_000).waits("gtm/Job/score", 12, 3000);
    assert_eq!(openai.row(), "tier-4 | mini-requests | 97% | 212 | <1m | 14 | Queueing");
    assert_eq!(
        openai.message(),
        "97 % of mini-requests (2M/min × 20 % share − 10 % reserve = 360k) is used; 212 calls of 2 workloads wait, \
         longest under 1 minute."
    );
    assert_eq!(openai.status().brief.unwrap(), format!("Queueing: {}", openai.message()));
    let crm = hubspot().uses("daily", 220_000, 9 * 3600).pods(6, 3);
    assert_eq!(crm.row(), "free (assumed) | daily | 88% | 0 | - | 6/9 | 3 pods not injected");
    let budget = json!({"name": "budget", "unit": "Requests", "amount": 1000, "windowSeconds": 2_592_000});
    let spec = json!({"provider": {"name": "anthropic", "tier": "tier-2"}, "limits": [budget]});
    let spent = Story::new("platform/anthropic", spec).uses("budget", 1000, 27 * 86_400 + 36_000).pods(2, 0);
    assert_eq!(spent.row(), "tier-2 | budget | 100% | 0 | - | 2 | BudgetExhausted until 1 Dec");
    let wide = openai.status().summary.unwrap();
    assert_eq!([wide.mode, wide.share, wide.resets].map(Option::unwrap), ["Enforce", "20%-10%", "<1m"]);
}

#[test]
fn all_is_well() {
    let story = Story::new("gtm/hubspot", json!({"provider": {"name": "hubspot", "tier": "pro"}})).pods(5, 0);
    assert_eq!(story.row(), "pro | ten-seconds | 0% | 0 | - | 5 | Ready");
    assert_eq!(story.message(), "0 % of ten-seconds (190/10 s) is used; no calls wait.");
    assert_eq!(
        story.conditions(),
        "Accepted=True Accepted: The quota is compiled with provider hubspot, tier pro.\n\
         Programmed=True Programmed: The limiter enforces generation 3.\n\
         LimiterAvailable=True Connected: The limiter reports to the operator.\n\
         ProviderAvailable=True Available: No answer of the provider says that it is unavailable.\n\
         LimitsInSync=True InSync: No answer of the provider contradicts the declared limits.\n\
         UsageKnown=True NewAccount: The account is new here: ten-seconds, daily, search began as unused. All that this cluster uses counts in full; what others had used before is known as far as answers tell it.\n\
         Throttled=False NotThrottled: Calls pass without a noticeable wait.\n\
         Ready=True Ready: The quota is accepted, and the limiter enforces it.\n"
    );
}

/// Written when another limiter follows, and not again.
#[test]
fn which_limiter_is_active_is_told() {
    let mut story = hubspot();
    story.written();
    let active = |name: &str, began: &str| ActiveLimiter {
        name: name.to_owned(),
        since: "2026-11-03T14:00:07Z".parse().unwrap(),
        began: began.to_owned(),
    };
    for (name, began) in [("quotakeeper-limiter-a", "First"), ("quotakeeper-limiter-b", "Handover")] {
        story.active = Some(active(name, began));
        let sentence = format!(
            "LimiterAvailable=True Connected: The limiter {name} reports to the operator. It is active since 2026-11-03T14:00:07Z ({began})."
        );
        assert!(story.conditions().contains(&sentence), "{}", story.conditions());
        assert_eq!(story.worth(), Worth::Now);
        story.written();
        assert_eq!(story.worth(), Worth::Nothing);
    }
}

#[test]
fn limits_that_are_not_enforced_are_told() {
    let mut openai = mini_tokens();
    let Verdict::Accepted(account) = &mut openai.verdict else { panic!("it is accepted") };
    Arc::make_mut(account).not_enforced = vec!["records (Credits)".to_owned()];
    assert!(openai.conditions().contains(
        "Accepted=True PartlyEnforced: The quota is compiled with provider openai, tier tier-4; this version does not \
         enforce its limits records (Credits).\n"
    ));
}

#[test]
fn a_refused_quota_says_why_and_is_not_ready() {
    let story = Story::new("gtm/crm", json!({"provider": {"name": "hubspot", "tier": "gold"}}));
    assert_eq!(story.status().summary.unwrap().status.unwrap(), "TierNotFound");
    let conditions = story.conditions();
    assert!(conditions.contains("Accepted=False TierNotFound: spec.provider.tier: "), "{conditions}");
    assert!(
        conditions
            .contains("Programmed=False NotAccepted: Generation 3 is not accepted; nothing is in force.\n")
    );
    assert!(conditions.contains("Ready=False TierNotFound: spec.provider.tier: "), "{conditions}");
    let reason = Reason::Invalid;
    assert_eq!(reason.word(), "Invalid");
    assert_eq!(Problem::new("a", "b").to_string(), "a: b");
}

#[test]
fn a_change_is_programmed_when_the_limiter_has_taken_it() {
    let mut story = hubspot();
    story.report().generation = Some(2);
    assert!(story.row().ends_with("Programming"));
    assert!(
        story
            .conditions()
            .contains("Programmed=False Pending: The limiter has not applied generation 3 yet.\n")
    );
    assert!(story.conditions().contains("Ready=False Pending"));
    story.report().problem = Some("it has 3 limits too many".to_owned());
    assert!(
        story
            .conditions()
            .contains("Programmed=False Refused: The limiter can't apply it: it has 3 limits too many; correct the spec, and see that operator and limiter are of one version.\n")
    );
}

#[test]
fn a_pause_is_told_with_its_end() {
    let story = hubspot().paused(Scope::limit("ten-seconds"), 9_200, "429 TEN_SECONDLY_ROLLING", false);
    assert!(story.row().ends_with("ProviderPaused until 14:03:10"), "{}", story.row());
    assert_eq!(story.status().paused_until.unwrap().0.to_string(), "2026-11-03T14:03:10Z");
    assert!(story.conditions().contains(
        "Throttled=True ProviderPaused: The provider has rejected calls (429 TEN_SECONDLY_ROLLING); paused: limit \
         ten-seconds."
    ));
    let search = hubspot().paused(Scope::limit("search"), 9_200, "429", false);
    assert!(search.row().ends_with("Ready"), "a pause of some calls does not hold all back");
}

#[test]
fn a_provider_that_is_overloaded_is_not_called_available() {
    let mut story = hubspot().paused(Scope::account(), 4_000, "status 503", false);
    assert!(story.conditions().contains("ProviderAvailable=True Available"), "its quota is another matter");
    story.report().status.pauses[0].overloaded = true;
    assert!(story.conditions().contains(
        "ProviderAvailable=False Overloaded: The provider says that it is overloaded (status 503); paused: all \
         calls, until a call succeeds again."
    ));
    assert!(story.conditions().contains(
        "Throttled=True ProviderOverloaded: The provider is overloaded (status 503); paused: all calls.\n"
    ));
    assert!(story.row().ends_with("ProviderOverloaded until 14:03:04"), "{}", story.row());
    assert_eq!(
        story.status().brief.unwrap(),
        "ProviderOverloaded until 14:03:04: The provider is overloaded (status 503); paused: all calls. 0 % of \
         ten-seconds (100/10 s) is used; no calls wait."
    );
    assert!(story.conditions().contains("Ready=True"), "that is about our own parts");
}

#[test]
fn an_account_that_the_provider_stopped_is_told() {
    let story = hubspot().paused(Scope::account(), 0, "insufficient_quota", true);
    assert!(story.conditions().contains("ProviderAvailable=False Stopped"));
    assert!(story.row().ends_with("ProviderStopped"));
    let mut story = hubspot().paused(Scope::account(), 239_500, "insufficient_quota", true);
    assert!(story.row().ends_with("ProviderStopped until 14:07:00"), "{}", story.row());
    assert_eq!(story.status().paused_until.unwrap().0.to_string(), "2026-11-03T14:07:00Z");
    assert!(story.conditions().contains(
        "Throttled=True ProviderStopped: The provider refuses all calls: insufficient_quota. One call asks again in under 5 minutes."
    ), "{}", story.conditions());
    story.report().status.pauses[0].callers = Callers::Credential(Default::default());
    assert!(story.row().ends_with("Ready"), "other credentials are not refused");
    assert!(story.conditions().contains("The provider refuses all calls with one of the credentials until"));
}

#[test]
fn a_pause_of_one_workload_is_told_and_throttles_no_other() {
    let mut story = hubspot().paused(Scope::account(), 3_599_000, "daily limit", false);
    story.report().status.pauses[0].callers = Callers::Workload("gtm/Job/forger".into());
    assert!(story.row().ends_with("Ready"), "{}", story.row());
    assert!(story.conditions().contains(
        "Throttled=False NotThrottled: Calls pass without a noticeable wait. The provider has rejected some calls (daily limit); paused: all calls of workload gtm/Job/forger."
    ), "{}", story.conditions());
}

#[test]
fn what_is_learned_of_concurrency_is_told() {
    let mut story = hubspot();
    let (scope, raise_after) = (Scope::model("haiku"), Duration::from_secs(10));
    story.report().status.concurrency = vec![LearnedConcurrency { scope, calls: 4, raise_after }];
    let sentence = "Calls that it takes at the same time: about 4 of model haiku.";
    assert!(story.conditions().contains(sentence), "{}", story.conditions());
}

#[test]
fn lower_limits_of_the_provider_are_told() {
    let spec = json!({"provider": {"name": "hubspot", "tier": "free"}});
    let mut story = Story::new("platform/hubspot", spec).uses("ten-seconds", 10, 9);
    story.report().status.limits[0].amount = 80;
    let conditions = story.conditions();
    assert!(conditions.contains("LimitsInSync=False LowerLimits"), "{conditions}");
    assert!(conditions.contains("ten-seconds (80, not 100)"), "{conditions}");
    let status = story.status();
    let limit = &status.limits[0];
    assert_eq!((limit.hard, limit.effective, limit.used, limit.remaining), (100, 80, Some(10), Some(70)));
    assert_eq!(limit.source, quotakeeper_api::quota::LimitSource::Headers);
    story.report().generation = Some(2);
    assert!(story.conditions().contains("LimitsInSync=True"), "the report is older than the raise");
}

#[test]
fn an_open_gate_and_a_disabled_quota_hold_nothing() {
    let mut story = hubspot();
    story.written();
    story.gate_open_until = Some("2026-11-03T14:18:00Z".parse().unwrap());
    assert!(story.row().ends_with("GateOpen until 14:18:00"));
    assert_eq!(story.worth(), Worth::Now);
    let conditions = story.conditions();
    let sentence = "GateOpen: The gate is open until 14:18:00 UTC: the calls of all workloads pass at once";
    for condition in ["Ready=False", "Throttled=False"] {
        assert!(conditions.contains(&format!("{condition} {sentence}")), "{conditions}");
    }
    assert!(conditions.contains("kubectl -n quotakeeper delete configmap quotakeeper-gate"), "{conditions}");
    // A new leader without a report keeps the conditions of the one before.
    story.written();
    (story.heard, story.gate_open_until) = (false, None);
    assert!(story.conditions().contains("Ready=False GateOpen"));
    story.heard = true;
    assert_eq!(story.worth(), Worth::Now);
    assert!(story.conditions().contains("Ready=True"));
    let spec = json!({"provider": {"name": "hubspot", "tier": "pro"}, "enforcement": {"mode": "Disabled"}});
    let disabled = Story::new("gtm/hubspot", spec).uses("ten-seconds", 190, 9);
    assert!(disabled.row().ends_with("Disabled"));
    assert_eq!(disabled.status().summary.unwrap().mode.unwrap(), "Disabled");
}

#[test]
fn a_limiter_that_is_lost_is_told_and_figures_are_not_made_up() {
    let mut story = hubspot().uses("daily", 220_000, 9 * 3600).pods(6, 0);
    story.written();
    story.lost = true;
    assert_eq!(story.worth(), Worth::Now);
    assert_eq!(story.row(), "free (assumed) | ten-seconds | - | - | - | - | LimiterUnavailable");
    assert!(
        story
            .conditions()
            .contains("Ready=False NotReporting: The limiter has not reported since 14:03:00 UTC")
    );
    story.written();
    story.lost = false;
    assert_eq!(story.worth(), Worth::Now);
}

#[test]
fn a_quota_that_is_being_deleted_says_so_at_once() {
    let mut story = hubspot();
    story.written();
    story.view.deleting = true;
    assert!(story.row().ends_with("Deleting"));
    assert_eq!(story.worth(), Worth::Now);
}

#[test]
fn a_new_leader_changes_nothing_before_it_has_heard_the_limiter() {
    let mut story = hubspot().uses("daily", 220_000, 9 * 3600).pods(6, 3).waits("gtm/Job/a", 5, 9000);
    story.written();
    story.heard = false;
    assert_eq!(story.worth(), Worth::Nothing);
    let (before, after) = (story.row(), {
        story.heard = true;
        story.row()
    });
    assert_eq!(before, after);
}
