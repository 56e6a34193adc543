//! A pod that comes again: the API server calls once more when another webhook has changed what ours had seen.

use quotakeeper_api::names;
use serde_json::{Value, json};

use quotakeeper_inject::decide::{Decision, Status};
use quotakeeper_wire::bootstrap::{BUNDLE_FILE, CA_FOLDER};

use crate::fixture::{Fixture, applied};

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "enrich", "namespace": "gtm",
            "annotations": {(names::QUOTAS): "openai,platform/hubspot"},
        },
        "spec": {"containers": [{"name": "app", "image": "x"}]},
    })
}

fn status(pod: &Value) -> Status {
    serde_json::from_str(pod["metadata"]["annotations"][names::STATUS].as_str().unwrap()).unwrap()
}

fn variable<'p>(container: &'p Value, name: &str) -> Option<&'p str> {
    let entry = container["env"].as_array()?.iter().find(|entry| entry["name"] == name)?;
    entry["value"].as_str()
}

#[test]
fn an_injected_pod_is_unchanged() {
    let fixture = Fixture::new();
    let once = applied(&pod(), &fixture.decide(&pod()));
    assert_eq!(fixture.decide(&once), Decision::Unchanged);
}

#[test]
fn what_holds_calls_up_now_is_a_warning_and_is_not_written_on_the_pod() {
    let mut fixture = Fixture::new();
    let without = applied(&pod(), &fixture.decide(&pod()));
    fixture.holdups.insert("platform/hubspot".into(), "calls on the quota platform/hubspot wait".to_owned());
    let decision = fixture.decide(&pod());
    let Decision::Patch { warnings, .. } = &decision else { panic!("{decision:?}") };
    assert_eq!(warnings[0], "calls on the quota platform/hubspot wait");
    assert_eq!(applied(&pod(), &decision), without);
    assert_eq!(fixture.decide(&without), Decision::Unchanged);
}

#[test]
fn a_container_added_by_another_webhook_is_injected() {
    let fixture = Fixture::new();
    let mut pod = applied(&pod(), &fixture.decide(&pod()));
    let added = json!({"name": "added", "image": "y"});
    pod["spec"]["containers"].as_array_mut().unwrap().push(added.clone());
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, added.clone());
    let again = applied(&pod, &fixture.decide(&pod));
    for container in [&again["spec"]["containers"][1], &again["spec"]["initContainers"][0]] {
        assert_eq!(variable(container, "OPENAI_BASE_URL"), Some("http://127.0.0.1:15801/openai/v1"));
        assert_eq!(variable(container, "SSL_CERT_FILE"), Some(BUNDLE_FILE));
        assert_eq!(container["volumeMounts"][0]["mountPath"], CA_FOLDER);
    }
    assert_eq!(
        again["spec"]["initContainers"][1], pod["spec"]["initContainers"][1],
        "the proxy is as it was"
    );
    assert_eq!(again["spec"]["containers"][0], pod["spec"]["containers"][0]);
    assert_eq!(fixture.decide(&again), Decision::Unchanged);
}

#[test]
fn a_later_container_with_its_own_base_url_gets_a_warning() {
    let fixture = Fixture::new();
    let mut pod = applied(&pod(), &fixture.decide(&pod()));
    let env = json!([{"name": "OPENAI_BASE_URL", "value": "https://llm.example"}]);
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "added", "env": env}));
    let again = applied(&pod, &fixture.decide(&pod));
    assert_eq!(status(&again).skipped.len(), 1);
    assert_eq!(variable(&again["spec"]["containers"][1], "OPENAI_BASE_URL"), Some("https://llm.example"));
    assert_eq!(fixture.decide(&again), Decision::Unchanged);
}

#[test]
fn the_sidecars_restart_policy_is_restored() {
    let fixture = Fixture::new();
    let once = applied(&pod(), &fixture.decide(&pod()));
    let mut stripped = once.clone();
    stripped["spec"]["initContainers"][0].as_object_mut().unwrap().remove("restartPolicy").unwrap();
    assert_eq!(applied(&stripped, &fixture.decide(&stripped)), once);
}

#[test]
fn a_quota_change_between_reviews_changes_nothing() {
    let mut fixture = Fixture::new();
    let mut pod = applied(&pod(), &fixture.decide(&pod()));
    pod["metadata"]["annotations"][names::QUOTAS] = json!("openai,gone");
    fixture.settings.image = "another".to_owned();
    assert_eq!(fixture.decide(&pod), Decision::Unchanged);
}

#[test]
fn later_cas_come_from_the_proxys_mounts_only() {
    let fixture = Fixture::new();
    let with = |name: &str, file: &str| {
        json!({
            "name": name, "image": "y", "env": [{"name": "SSL_CERT_FILE", "value": file}],
            "volumeMounts": [{"name": "cas", "mountPath": "/cas"}],
        })
    };
    let mut pod = pod();
    pod["spec"]["volumes"] = json!([{"name": "cas", "configMap": {"name": "cas"}}]);
    pod["spec"]["containers"] = json!([with("app", "/cas/own.pem")]);
    let mut pod = applied(&pod, &fixture.decide(&pod));
    assert_eq!(variable(&pod["spec"]["containers"][0], "SSL_CERT_FILE"), Some(BUNDLE_FILE));
    for added in [with("same", "/cas/own.pem"), with("other", "/cas/other.pem")] {
        pod["spec"]["containers"].as_array_mut().unwrap().push(added);
    }
    let again = applied(&pod, &fixture.decide(&pod));
    let files: Vec<_> =
        (1..3).map(|index| variable(&again["spec"]["containers"][index], "SSL_CERT_FILE").unwrap()).collect();
    assert_eq!(files, [BUNDLE_FILE, "/cas/other.pem"]);
    assert_eq!(status(&again).warnings.len(), 1);
    assert_eq!(again["spec"]["initContainers"][0], pod["spec"]["initContainers"][0]);
    assert_eq!(fixture.decide(&again), Decision::Unchanged);
}
