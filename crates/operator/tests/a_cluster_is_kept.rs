//! The operator as a process, twice, against a real API server: what it writes, what it tells, that
//! another goes on when one is killed, and that it is quiet when nothing happens.

#![allow(clippy::unwrap_used)]

#[path = "a_cluster_is_kept/authors.rs"]
mod authors;
#[path = "a_cluster_is_kept/kubectl.rs"]
mod kubectl;
#[path = "a_cluster_is_kept/limiter.rs"]
mod limiter;
#[path = "a_cluster_is_kept/replica.rs"]
mod replica;
#[path = "a_cluster_is_kept/webhook.rs"]
mod webhook;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kubectl::{golden, masked};
use limiter::FakeLimiter;
use quotakeeper_dialects::catalogue;
use replica::Replica;
use serde_json::{Value, json};
use test_support::kubectl::{
    apply, create_namespaces, get, install_crds, kubectl, require_test_control_plane,
};
use test_support::ports::free_port;
use test_support::wait::until_seen as until;

const NEEDS: &str = "tests/cluster/control-plane.sh run --controllers \
    tests/built.py quotakeeper-operator:a_cluster_is_kept -- --ignored";
fn quota(name: &str, spec: Value) {
    let (namespace, short) = name.split_once('/').unwrap();
    apply(&json!({
        "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
        "metadata": {"name": short, "namespace": namespace}, "spec": spec,
    }));
}

fn of_hubspot(tier: &str) -> Value {
    json!({"provider": {"name": "hubspot", "tier": tier}})
}

/// The documents by quota.
fn documents() -> BTreeMap<String, Value> {
    let maps = get(&["configmaps", "-n", "quotakeeper", "-l", "quotakeeper.dev/config=account"]);
    let maps = maps["items"].as_array().unwrap();
    let document = |map: &Value| -> (String, Value) {
        let quota = map["metadata"]["annotations"]["quotakeeper.dev/quota"].as_str().unwrap().to_owned();
        (quota, serde_json::from_str(map["data"]["account.json"].as_str().unwrap()).unwrap())
    };
    maps.iter().map(document).collect()
}

fn conditions(name: &str) -> BTreeMap<String, (String, String, String)> {
    let (namespace, short) = name.split_once('/').unwrap();
    let quota = get(&["apiquota", short, "-n", namespace]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = quota["status"]["conditions"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|it| (text(&it["type"]), (text(&it["status"]), text(&it["reason"]), text(&it["message"]))))
        .collect()
}

fn becomes(name: &str, type_: &str, status: &str, reason: &str) -> String {
    until(&format!("{name}: {type_}={status}/{reason}"), || {
        let (now, why, message) = conditions(name).remove(type_)?;
        (now == status && why == reason).then_some(message)
    })
}

/// Events of an object, as `REASON message`.
fn events(namespace: &str, object: &str) -> Vec<String> {
    let text = kubectl(&["events", "-n", namespace, "--for", object, "-o", "json"], None).unwrap_or_default();
    let list: Value = serde_json::from_str(&text).unwrap_or_default();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items
        .iter()
        .map(|it| format!("{} {}", it["reason"].as_str().unwrap(), it["message"].as_str().unwrap()))
        .collect()
}

fn told(namespace: &str, object: &str, begins: &str) -> String {
    until(&format!("an Event {begins} on {object}"), || {
        events(namespace, object).into_iter().find(|event| event.starts_with(begins))
    })
}

/// Writes that the API server has counted, of what an operator may write, by kind.
fn writes() -> BTreeMap<String, u64> {
    const KINDS: [&str; 6] =
        ["apiquotas", "apiproviders", "configmaps", "secrets", "events", "mutatingwebhookconfigurations"];
    const VERBS: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];
    let metrics = kubectl(&["get", "--raw", "/metrics"], None).unwrap();
    let mut writes = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let label =
            |name: &str| line.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        let (Some(kind), Some(verb)) = (label("resource"), label("verb")) else { continue };
        if KINDS.contains(&kind) && VERBS.contains(&verb) {
            let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            *writes.entry(format!("{kind}/{}", label("subresource").unwrap_or_default())).or_default() +=
                count as u64;
        }
    }
    writes
}

fn holder() -> String {
    let lease = get(&["lease", "quotakeeper-operator", "-n", "quotakeeper"]);
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// A CA whose key is gone is followed by another, and the API server goes on to reach every replica.
fn certificates_are_renewed(replicas: &[Replica]) {
    let presented = |cas: &str| -> Vec<Option<Vec<u8>>> {
        replicas.iter().map(|replica| replica.presents(cas)).collect()
    };
    let old = webhook::entry("ca.crt");
    until("the API server trusts the CA", || (webhook::bundle() == old).then_some(()));
    let before = presented(&old);
    assert!(before.iter().all(|leaf| leaf.is_some() && *leaf == before[0]), "one certificate for all");

    webhook::spoil_the_key();
    let bundle = until("the old CA and a new one in caBundle", || {
        Some(webhook::bundle()).filter(|bundle| bundle.len() > old.len() && bundle.ends_with(&old))
    });
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2);
    let new = bundle.strip_suffix(&old).unwrap();
    until("the new certificate at both replicas", || {
        let now = presented(new);
        (now.iter().all(|leaf| leaf.is_some() && *leaf == now[0]) && now[0] != before[0]).then_some(())
    });
    assert_eq!(webhook::entry("ca.crt"), bundle, "pods and API server trust the same");
    for replica in replicas {
        until(&format!("{} is ready", replica.name), || replica.is_ready().then_some(()));
    }
    until("the API server asks the webhook", webhook::injects);
}

#[test]
#[ignore = "needs an API server: see NEEDS in this file"]
fn quotas_are_kept_by_two_replicas() {
    require_test_control_plane(NEEDS);
    install_crds();
    create_namespaces(&["quotakeeper", "gtm", "sales"]);
    let address = format!("127.0.0.1:{}", free_port());
    let mut replicas = ["one", "two"].map(|name| Replica::start(name, &address));
    let limiter = FakeLimiter::start(&address);
    for replica in &replicas {
        until(&format!("{} is ready", replica.name), || replica.is_ready().then_some(()));
    }
    until("the catalogue is there", || {
        let providers = get(&["apiproviders"])["items"].as_array().unwrap().len();
        (providers == catalogue::names().len()).then_some(())
    });

    // A bad quota does not keep a good one from working.
    quota("gtm/bad", json!({"provider": {"name": "hubspott"}}));
    quota("gtm/hubspot", of_hubspot("pro"));
    let message = becomes("gtm/bad", "Accepted", "False", "ProviderNotFound");
    assert!(message.contains("did you mean `hubspot`?"), "{message}");
    becomes("gtm/hubspot", "Ready", "True", "Ready");
    let fresh = documents().remove("gtm/hubspot").unwrap();

    // Another tier and back is as if nothing had been.
    quota("gtm/hubspot", of_hubspot("free"));
    until("the other tier", || (documents()["gtm/hubspot"]["tier"] == "free").then_some(()));
    quota("gtm/hubspot", of_hubspot("pro"));
    let back =
        until("the tier of before", || documents().remove("gtm/hubspot").filter(|it| it["tier"] == "pro"));
    let without_generation = |mut document: Value| {
        document["generation"] = Value::Null;
        document
    };
    assert_eq!(without_generation(fresh), without_generation(back));

    // A mistake leaves in force what was good, and says so.
    quota("gtm/hubspot", of_hubspot("gold"));
    let message = becomes("gtm/hubspot", "Accepted", "False", "TierNotFound");
    assert!(message.ends_with("Generation 3 stays in force until then."), "{message}");
    assert_eq!(documents()["gtm/hubspot"]["generation"], 3);
    told("gtm", "apiquota/hubspot", "TierNotFound gtm/hubspot is refused: ");
    quota("gtm/hubspot", of_hubspot("pro"));
    becomes("gtm/hubspot", "Ready", "True", "Ready");
    told("gtm", "apiquota/hubspot", "Resumed gtm/hubspot: its spec is accepted, after ");

    // Two quotas of one account: the older has it.
    let org = json!({"provider": {"name": "openai", "tier": "tier-1"}, "account": {"id": "org-1"}});
    quota("sales/openai", org.clone());
    becomes("sales/openai", "Ready", "True", "Ready");
    std::thread::sleep(Duration::from_millis(1100)); // creationTimestamps have whole seconds
    quota("gtm/openai", org);
    let message = becomes("gtm/openai", "Accepted", "False", "AccountConflict");
    assert!(message.contains("belongs to ApiQuota sales/openai, which is older"), "{message}");
    told(
        "gtm",
        "apiquota/openai",
        "AccountConflict gtm/openai is refused: The account org-1 of openai belongs to",
    );

    // What the limiter tells is in the columns, and a pause in the Events.
    limiter.change("gtm/hubspot", |report| {
        report["limits"] = json!([{
            "name": "daily", "amount": 625_000, "used": 550_000, "usedByOthers": 0, "assumed": 0, "waiting": 0,
            "resetsInMillis": 9 * 3_600_000,
        }]);
        report["proxies"] = json!({"current": 5, "connected": 5});
        report["pauses"] = json!([{
            "scope": "account", "remainingMillis": 20_000, "reason": "429 TEN_SECONDLY_ROLLING", "stopped": false,
        }]);
    });
    becomes("gtm/hubspot", "Throttled", "True", "ProviderPaused");
    told(
        "gtm",
        "apiquota/hubspot",
        "ProviderPaused gtm/hubspot: 429 TEN_SECONDLY_ROLLING; all calls of 5 pods paused",
    );
    limiter.change("gtm/hubspot", |report| report["pauses"] = json!([]));
    becomes("gtm/hubspot", "Throttled", "False", "NotThrottled");
    told("gtm", "apiquota/hubspot", "Resumed gtm/hubspot: calls go again after ");

    // A pod that asks and has no proxy is told where its author looks.
    kubectl::pod("gtm", "enrich", &json!({"quotakeeper.dev/quotas": "hubspot"}));
    let message = told("gtm", "pod/enrich", "NotInjected ");
    assert!(message.contains("calls are not limited by hubspot"), "{message}");
    until("the pod in the columns", || {
        kubectl(&["get", "aq", "hubspot", "-n", "gtm"], None).unwrap().contains("5/6").then_some(())
    });
    let table = kubectl(&["get", "aq", "-A"], None).unwrap();
    golden("get_apiquotas", &table, NEEDS);
    let table = kubectl(&["get", "aq", "-A", "-o", "wide"], None).unwrap();
    golden("get_apiquotas_wide", &kubectl::without_times(&table), NEEDS);
    let table = kubectl(&["get", "apiproviders", "hubspot", "openai"], None).unwrap();
    golden("get_apiproviders", &kubectl::without_times(&table), NEEDS);
    let shown = kubectl(&["describe", "aq", "hubspot", "-n", "gtm"], None).unwrap();
    // The Events below it are in the next one.
    let shown = shown.split("Events:").next().unwrap();
    golden("describe_apiquota", &masked(shown), NEEDS);
    let table = kubectl::events_table("gtm", &["apiquota/hubspot", "apiquota/openai", "pod/enrich"]);
    golden("events", &table, NEEDS);

    webhook::register(&replicas[0]);
    authors::are_told(&limiter);
    authors::are_told_why_no_call_goes(&limiter);
    certificates_are_renewed(&replicas);

    // A provider in trouble is told apart from a quota that is used up, each pause with its own words.
    limiter.change("gtm/hubspot", |report| {
        report["pauses"] = json!([{
            "scope": "account", "remainingMillis": 20_000, "reason": "status 503", "stopped": false, "overloaded": true,
        }]);
    });
    becomes("gtm/hubspot", "ProviderAvailable", "False", "Overloaded");
    becomes("gtm/hubspot", "Throttled", "True", "ProviderOverloaded");
    told("gtm", "job/enrich", "ProviderOverloaded gtm/hubspot: status 503; all calls of 5 pods paused until");
    limiter.change("gtm/hubspot", |report| report["pauses"] = json!([]));
    becomes("gtm/hubspot", "ProviderAvailable", "True", "Available");

    // The switch for incidents.
    let mut disabled = of_hubspot("pro");
    disabled["enforcement"] = json!({"mode": "Disabled"});
    quota("gtm/hubspot", disabled);
    until("the document says so", || {
        (documents()["gtm/hubspot"]["engine"]["mode"] == "Disabled").then_some(())
    });
    becomes("gtm/hubspot", "Throttled", "False", "Disabled");
    quota("gtm/hubspot", of_hubspot("pro"));
    becomes("gtm/hubspot", "Throttled", "False", "NotThrottled");

    // Nothing happens: nothing is written. DesiredState is what was not written to for a while.
    let mut settled = writes();
    assert!(
        settled.get("apiquotas/status").is_some_and(|count| *count > 0),
        "writes are not seen: {settled:?}"
    );
    let mut quiet_since = Instant::now();
    until("the writes have ended", || {
        let now = writes();
        if now != settled {
            (settled, quiet_since) = (now, Instant::now());
        }
        (quiet_since.elapsed() > Duration::from_secs(15)).then_some(())
    });
    std::thread::sleep(Duration::from_secs(30));
    assert_eq!(writes(), settled, "an idle operator writes");

    // The leader dies; the other goes on, and repeats nothing.
    let standing = authors::wait_while_the_leader_changes(&limiter);
    let leader = holder();
    let index = replicas.iter().position(|replica| leader.starts_with(replica.name)).unwrap();
    replicas[index].kill();
    webhook::register(&replicas[1 - index]);
    until("another leads", || (holder() != leader).then_some(()));
    authors::are_told_once(&standing);
    kubectl(&["delete", "aq", "bad", "-n", "gtm"], None).unwrap();
    kubectl(&["delete", "aq", "openai", "-n", "sales"], None).unwrap();
    quota("sales/hubspot", of_hubspot("free"));
    becomes("sales/hubspot", "Ready", "True", "Ready");
    becomes("gtm/openai", "Ready", "True", "Ready");
    let names: Vec<String> = documents().into_keys().collect();
    assert_eq!(names, ["gtm/hubspot", "gtm/openai", "sales/hubspot"]);

    // The limiter is upgraded: that is said at once, and alarms no author.
    authors::are_not_alarmed_by_an_upgrade(&limiter);

    // The limiter is lost, and is told to be.
    drop(limiter);
    becomes("gtm/hubspot", "LimiterAvailable", "False", "NotReporting");
    becomes("gtm/hubspot", "Ready", "False", "NotReporting");

    // A replica that is upgraded answers reviews for seconds after another may lead: API servers go on to send them.
    let answered = replicas[1 - index].end(&webhook::entry("ca.crt")).unwrap();
    let lease = get(&["lease", "quotakeeper-operator", "-n", "quotakeeper"]);
    assert_eq!(lease["spec"]["holderIdentity"], "", "the lease is given up");
    let given_up: Timestamp = lease["spec"]["renewTime"].as_str().unwrap().parse().unwrap();
    let for_a_while = given_up + SignedDuration::from_secs(1);
    assert!(answered > for_a_while, "last answer at {answered}, and the lease was given up at {given_up}");
}
