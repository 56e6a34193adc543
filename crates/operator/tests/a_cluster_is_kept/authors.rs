//! What the authors of workloads read.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_support::kubectl::{create_dry, get, kubectl};

use crate::kubectl::{self as workloads, golden};
use crate::limiter::FakeLimiter;
use crate::{NEEDS, becomes, events, of_hubspot, quota, told, until};

fn asks(quota: &str) -> Value {
    json!({"quotakeeper.dev/quotas": quota})
}

fn one_container() -> Value {
    json!({"containers": [{"name": "main", "image": "localhost/busybox:1"}]})
}

/// What the API server prints to who creates a pod on these quotas.
fn warnings(namespace: &str, quotas: &str) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "tried-", "namespace": namespace, "annotations": asks(quotas)},
        "spec": one_container(),
    });
    create_dry(&pod).unwrap().warnings
}

/// Waits until who creates a pod on these quotas is warned: each replica has the newest status a moment later.
fn warned(namespace: &str, quotas: &str, warning: &str) -> String {
    until(&format!("a warning at admission: {warning}"), || {
        Some(warnings(namespace, quotas)).filter(|text| text.contains(warning))
    })
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
    let text =
        warned("gtm", "hubspot", "calls on the quota gtm/hubspot wait or are refused: All of daily is used");
    assert!(text.contains("it is free again by"), "{text}");
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

/// Whatever keeps the calls of a Job from going is an Event at the Job, and a warning to who creates its pods.
pub fn are_told_why_no_call_goes(limiter: &FakeLimiter) {
    refused_quotas();
    pauses(limiter);

    // Its clients' timeout is shorter than the wait.
    limiter.change("gtm/hubspot", |report| {
        report["hangUps"] = json!([{
            "consumer": "gtm/Job/enrich", "calls": 20, "shortestMillis": 5000, "longestMillis": 5003, "waitMillis": 40_000,
        }]);
    });
    let event = told(
        "gtm",
        "job/enrich",
        "ClientsGiveUp gtm/hubspot: the clients of 20 waiting calls hung up after 5s",
    );
    assert!(event.contains("a call waits about 40s"), "{event}");

    // The limiter is there, and stopped.
    limiter.falls_silent(true);
    until("STATUS", || {
        let row = kubectl(&["get", "aq", "hubspot", "-n", "gtm"], None).unwrap();
        row.contains("LimiterUnavailable").then_some(())
    });
    told("gtm", "job/enrich", "LimiterUnavailable gtm/hubspot: The limiter has not reported since");
    warned("gtm", "hubspot", "calls on the quota gtm/hubspot wait: The limiter has not reported since");
    limiter.falls_silent(false);
    becomes("gtm/hubspot", "Ready", "True", "Ready");
    told("gtm", "job/enrich", "Resumed gtm/hubspot: the limiter reports again");

    deleted_quota();
}

/// Two quotas of one account, and a quota of an unknown tier: their workloads are told, and who creates others.
fn refused_quotas() {
    workloads::job("gtm", "loser", 1, &asks("openai"), &one_container());
    let event = told("gtm", "job/loser", "AccountConflict gtm/openai is refused: ");
    for part in
        ["belongs to ApiQuota sales/openai", "let that one admit namespace gtm", "Calls wait until then."]
    {
        assert!(event.contains(part), "{event}");
    }
    quota("gtm/gold", of_hubspot("gold"));
    becomes("gtm/gold", "Accepted", "False", "TierNotFound");
    workloads::job("gtm", "gold", 1, &asks("gold"), &one_container());
    let event = told("gtm", "job/gold", "TierNotFound gtm/gold is refused: ");
    assert!(event.contains("use one of: free, starter"), "{event}");
    for (name, reason) in [("openai", "AccountConflict"), ("gold", "TierNotFound")] {
        let text = format!("calls on the quota gtm/{name} wait, it is refused ({reason}): ");
        let warned = warned("gtm", name, &text);
        assert!(!warned.contains("gtm/hubspot"), "{warned}");
    }
    quota("gtm/gold", of_hubspot("pro"));
    told("gtm", "job/gold", "Resumed gtm/gold: its spec is accepted");
    kubectl(&["delete", "job", "gold", "-n", "gtm"], None).unwrap();
    kubectl(&["delete", "aq", "gold", "-n", "gtm"], None).unwrap();
}

/// Each pause has an Event with its own text, written when the pause is first seen and never again.
fn pauses(limiter: &FakeLimiter) {
    let of_pauses = || -> Vec<String> {
        let all = events("gtm", "job/enrich").into_iter();
        all.filter(|event| event.starts_with("ProviderPaused ")).collect()
    };
    limiter.pause("gtm/hubspot", 20, "429 TEN_SECONDLY_ROLLING");
    let first = told("gtm", "job/enrich", "ProviderPaused gtm/hubspot: 429 TEN_SECONDLY_ROLLING; all calls");
    let ours = || warnings("gtm", "hubspot").contains("calls on the quota gtm/hubspot");
    assert!(!ours(), "it is short");
    limiter.pause("gtm/hubspot", 3600, "429 DAILY");
    let later = told("gtm", "job/enrich", "ProviderPaused gtm/hubspot: 429 DAILY; all calls");
    let until_time = |event: &str| event.split(" paused until ").nth(1).unwrap().to_owned();
    assert_ne!(until_time(&first), until_time(&later));
    let warned = warned("gtm", "hubspot", "calls on the quota gtm/hubspot wait until ");
    assert!(warned.contains("The provider has rejected calls (429 DAILY)"), "{warned}");
    limiter.change("gtm/hubspot", |report| report["pauses"] = json!([]));
    told("gtm", "job/enrich", "Resumed gtm/hubspot: calls go again after ");
    let mut told = of_pauses();
    told.sort_unstable();
    let mut expected = [first, later];
    expected.sort_unstable();
    assert_eq!(told, expected, "one for each, with its own text");
    until("no warning", || (!ours()).then_some(()));
}

/// A quota is deleted while it is drawn on, and is created again.
fn deleted_quota() {
    quota("sales/crm", of_hubspot("pro"));
    becomes("sales/crm", "Ready", "True", "Ready");
    workloads::job("sales", "orphan", 1, &asks("crm"), &one_container());
    told("sales", "job/orphan", "Injected crm by hosts");
    kubectl(&["delete", "aq", "crm", "-n", "sales"], None).unwrap();
    let event = told("sales", "job/orphan", "QuotaDeleted sales/crm: there is no such ApiQuota any more");
    assert!(event.contains("create the Job orphan anew"), "{event}");
    quota("sales/crm", of_hubspot("pro"));
    told("sales", "job/orphan", "Resumed sales/crm: the ApiQuota is there again");
    kubectl(&["delete", "job", "orphan", "-n", "sales"], None).unwrap();
    kubectl(&["delete", "aq", "crm", "-n", "sales"], None).unwrap();
}

/// Our Events by object, reason and text, and how often each was written.
fn all_events() -> BTreeMap<String, u64> {
    let list = get(&["events.v1.events.k8s.io", "-A"]);
    let ours = list["items"].as_array().unwrap().iter();
    let ours = ours.filter(|event| event["reportingController"] == "quotakeeper");
    let mut all = BTreeMap::new();
    for event in ours {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["regarding"];
        let key = [&object["namespace"], &object["kind"], &object["name"], &event["reason"], &event["note"]];
        let times = event["series"]["count"].as_u64().unwrap_or(1);
        *all.entry(key.map(text).join(" ")).or_default() += times;
    }
    all
}

/// What stands while the leader changes, and the Events of it.
pub struct Standing(BTreeMap<String, u64>);

/// A pause, waiting calls, hang-ups and refused quotas are under way.
pub fn wait_while_the_leader_changes(limiter: &FakeLimiter) -> Standing {
    limiter.change("gtm/hubspot", |report| {
        report["waiting"] = json!([{"consumer": "gtm/Job/enrich", "calls": 7, "longestMillis": 9000}]);
    });
    limiter.pause("gtm/hubspot", 7200, "429 STANDING");
    told("gtm", "job/enrich", "ProviderPaused gtm/hubspot: 429 STANDING");
    told("gtm", "job/enrich", "WaitingForQuota 7 calls wait");
    Standing(all_events())
}

/// The new leader has told nothing that the one before had told. It writes Events in their order, so whatever it
/// found at first was written before the Event of a Job that is created now.
pub fn are_told_once(before: &Standing) {
    workloads::job("gtm", "later", 1, &asks("hubspot"), &one_container());
    told("gtm", "job/later", "Injected hubspot by hosts");
    told("gtm", "job/later", "ProviderPaused gtm/hubspot: 429 STANDING");
    let after: BTreeMap<String, u64> =
        all_events().into_iter().filter(|(event, _)| !event.contains(" later ")).collect();
    assert_eq!(after, before.0);
}

/// A limiter whose pod is being replaced is told in the status and at the quota, and not at workloads.
pub fn are_not_alarmed_by_an_upgrade(limiter: &FakeLimiter) {
    let of_absence = || -> Vec<String> {
        let all = events("gtm", "job/enrich").into_iter();
        all.filter(|event| event.starts_with("LimiterUnavailable ")).collect()
    };
    let before = of_absence();
    workloads::deployment("quotakeeper", "quotakeeper-limiter", &json!({}), &one_container());
    limiter.falls_silent(true);
    let message = becomes("gtm/hubspot", "LimiterAvailable", "False", "BeingReplaced");
    assert!(message.starts_with("The limiter's pod is being replaced, as in an upgrade."), "{message}");
    let row = kubectl(&["get", "aq", "hubspot", "-n", "gtm"], None).unwrap();
    assert!(row.contains("LimiterUnavailable"), "{row}");
    told("gtm", "apiquota/hubspot", "LimiterUnavailable gtm/hubspot: The limiter's pod is being replaced");
    warned("gtm", "hubspot", "calls on the quota gtm/hubspot wait: The limiter's pod is being replaced");
    limiter.falls_silent(false);
    becomes("gtm/hubspot", "Ready", "True", "Ready");
    told("gtm", "apiquota/hubspot", "Resumed gtm/hubspot: the limiter reports again");
    assert_eq!(of_absence(), before);
    kubectl(&["delete", "deployment", "quotakeeper-limiter", "-n", "quotakeeper"], None).unwrap();
}
