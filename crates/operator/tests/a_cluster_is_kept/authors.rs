//! What the authors of workloads read.

use serde_json::{Value, json};
use test_support::kubectl::kubectl;

use crate::kubectl::{self as workloads, golden};
use crate::limiter::FakeLimiter;
use crate::{NEEDS, becomes, told, until};

fn asks(quota: &str) -> Value {
    json!({"quotakeeper.dev/quotas": quota})
}

/// What happens to workloads is told where their authors look.
pub fn are_told(limiter: &FakeLimiter) {
    let variables = |own: &str| json!([{"name": "OPENAI_BASE_URL", "value": own}]);
    let main = |more: Value| {
        let mut container = json!({"name": "main", "image": "localhost/busybox:1"});
        container.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        container
    };
    workloads::job("gtm", "enrich", 5, &asks("hubspot"), &json!({"containers": [main(json!({}))]}));
    let host = json!({"hostNetwork": true, "containers": [main(json!({}))]});
    workloads::deployment("gtm", "edge", &asks("hubspot"), &host);
    let own = main(json!({"env": variables("http://gateway.example/v1")}));
    workloads::deployment("sales", "own-address", &asks("openai"), &json!({"containers": [own]}));
    let from = main(json!({"envFrom": [{"configMapRef": {"name": "settings"}}]}));
    workloads::deployment("sales", "from-elsewhere", &asks("openai"), &json!({"containers": [from]}));

    told("gtm", "job/enrich", "Injected hubspot by hosts");
    told("gtm", "deployment/edge", "InjectionSkipped a pod with hostNetwork gets no proxy");
    told("sales", "deployment/own-address", "Injected openai by base URL");
    told("sales", "deployment/own-address", "InjectionSkipped calls of container main bypass openai");
    told("sales", "deployment/from-elsewhere", "InjectionWarning container main: if the ConfigMap settings");

    let daily = |amount: u64, used: u64| {
        json!([{
            "name": "daily", "amount": amount, "used": used, "usedByOthers": 0, "assumed": 0, "waiting": 0,
            "resetsInMillis": 20 * 60_000,
        }])
    };
    limiter.change("gtm/hubspot", |report| {
        report["limits"] = daily(500_000, 500_000);
        report["waiting"] = json!([{"consumer": "gtm/Job/enrich", "calls": 12, "longestMillis": 9000}]);
    });
    becomes("gtm/hubspot", "LimitsInSync", "False", "LowerLimits");
    becomes("gtm/hubspot", "Throttled", "True", "BudgetExhausted");
    told("gtm", "apiquota/hubspot", "LimitDrift The provider reports lower limits");
    told("gtm", "apiquota/hubspot", "BudgetExhausted gtm/hubspot: All of daily is used");
    told("gtm", "job/enrich", "BudgetExhausted gtm/hubspot: All of daily is used");
    told("gtm", "job/enrich", "WaitingForQuota 12 calls wait");
    limiter.change("gtm/hubspot", |report| {
        report["limits"] = daily(625_000, 1000);
        report["waiting"] = json!([]);
    });
    becomes("gtm/hubspot", "LimitsInSync", "True", "InSync");
    becomes("gtm/hubspot", "Throttled", "False", "NotThrottled");
    let mut table = workloads::events_table("gtm", &["apiquota/hubspot", "job/enrich", "deployment/edge"]);
    table += &workloads::events_table("sales", &["deployment/own-address", "deployment/from-elsewhere"]);
    golden("events_of_workloads", &table, NEEDS);
    // Found by the object's UID, as an author finds them.
    let shown = kubectl(&["describe", "deployment", "edge", "-n", "gtm"], None).unwrap();
    assert!(shown.contains("InjectionSkipped"), "{shown}");
}

/// Whatever keeps the calls of a Job from going is an Event at the Job.
pub fn are_told_why_no_call_goes(limiter: &FakeLimiter) {
    // Its clients' timeout is shorter than the wait.
    limiter.change("gtm/hubspot", |report| {
        report["hangUps"] = json!([{
            "consumer": "gtm/Job/enrich", "calls": 20, "shortestMillis": 5000, "longestMillis": 5003, "waitMillis": 40_000,
        }]);
    });
    told("gtm", "job/enrich", "ClientsGiveUp gtm/hubspot: the clients of 20 waiting calls hung up after 5s");

    // The limiter is there, and stopped.
    limiter.falls_silent(true);
    until("STATUS", || {
        let row = kubectl(&["get", "aq", "hubspot", "-n", "gtm"], None).unwrap();
        row.contains("LimiterUnavailable").then_some(())
    });
    told("gtm", "job/enrich", "LimiterUnavailable gtm/hubspot: The limiter has not reported since");
    limiter.falls_silent(false);
    becomes("gtm/hubspot", "Ready", "True", "Ready");
    told("gtm", "job/enrich", "Resumed gtm/hubspot: the limiter reports again");
}
