//! A real API server asks the webhook as `webhook.yaml` registers it: each entry catches what it should, pods become
//! what the goldens say, and other webhooks and policies stand beside it.
//!
//! `tests/cluster/control-plane.sh run tests/built.py quotakeeper-inject:on_a_real_api_server -- --ignored`

#![allow(clippy::unwrap_used)]

#[path = "../served/certificate.rs"]
mod certificate;
#[path = "../decisions/fixture.rs"]
mod fixture;
mod meddler;
mod watched;
mod world;

use std::path::Path;

use quotakeeper_api::names;
use quotakeeper_inject::decide::{Decision, Status};
use quotakeeper_inject::names::PROXY;
use quotakeeper_inject::server::Counts;
use serde_json::{Value, json};

use fixture::{Fixture, applied, document, goldens, lost};
use test_support::kubectl::{create, create_dry, get, kubectl};
use world::world;

fn pod(namespace: &str, annotations: Value, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "enrich-", "namespace": namespace, "annotations": annotations, "labels": labels,
        },
        "spec": {"containers": [{"name": "app", "image": "registry.example/enrich:3"}]},
    })
}

fn names_of(containers: &Value) -> Vec<&str> {
    containers.as_array().into_iter().flatten().map(|it| it["name"].as_str().unwrap()).collect()
}

fn variable<'p>(container: &'p Value, name: &str) -> Option<&'p str> {
    container["env"].as_array()?.iter().find(|entry| entry["name"] == name)?["value"].as_str()
}

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn each_webhook_matches_its_own_pods_only() {
    let world = world();
    let quotas = |value: &str| json!({(names::QUOTAS): value});
    let inject = |value: &str| json!({(names::INJECT): value});
    let [annotation, label, namespace] = [Some("annotation"), Some("pod"), Some("namespace")];
    for (place, annotations, labels, expected, injected) in [
        ("gtm", json!({}), json!({}), None, false),
        ("gtm", Value::Null, Value::Null, None, false),
        ("gtm", quotas("openai"), Value::Null, annotation, true),
        ("gtm", quotas("openai"), inject("enabled"), annotation, true),
        ("gtm", quotas("openai"), inject("disabled"), None, false),
        ("gtm", json!({}), inject("disabled"), None, false),
        ("crm", Value::Null, inject("enabled"), label, true),
        ("sales", Value::Null, Value::Null, namespace, true),
        ("sales", Value::Null, inject("enabled"), label, true),
        ("sales", Value::Null, inject("disabled"), None, false),
        ("sales", quotas("crm"), Value::Null, annotation, true),
        ("sales", quotas("crm"), inject("disabled"), None, false),
        ("quotakeeper", quotas("openai"), inject("enabled"), None, false),
        ("kube-system", quotas("openai"), inject("enabled"), None, false),
    ] {
        let case = format!("{place} {annotations} {labels}");
        let (answer, asked) = world.asked(|| create_dry(&pod(place, annotations, labels)));
        let answer = answer.unwrap_or_else(|refusal| panic!("{case}: {refusal}")).object;
        let asked: Vec<&str> = asked.iter().filter(|(_, counts)| counts.total() > 0).map(|it| it.0).collect();
        assert_eq!(asked, expected.into_iter().collect::<Vec<_>>(), "{case}");
        let proxies = names_of(&answer["spec"]["initContainers"]);
        assert_eq!(proxies.contains(&PROXY), injected, "{case}");
    }
    // A slip in the label is refused where it is made.
    let (answer, asked) = world.asked(|| create_dry(&pod("gtm", Value::Null, inject("true"))));
    assert!(answer.unwrap_err().contains("write enabled or disabled"));
    assert_eq!(asked[1], ("pod", Counts { denied: 1, ..Counts::default() }));
}

/// The cases of the goldens whose pods no API server takes to the webhook.
const NO_POD: [&str; 1] = ["not_a_pod"];

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn admitted_pods_match_the_goldens() {
    let _world = world();
    let fixture = Fixture::new();
    let mut injected = 0;
    for entry in std::fs::read_dir(goldens()).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if !folder.is_dir() || NO_POD.contains(&name.as_str()) {
            continue;
        }
        let pod = document(&folder.join("pod.yaml"));
        let mut known = pod.clone();
        for unknown in ["/spec/fieldOfTomorrow", "/spec/containers/0/anotherOfTomorrow"] {
            let (parent, field) = unknown.rsplit_once('/').unwrap();
            known.pointer_mut(parent).and_then(Value::as_object_mut).map(|it| it.remove(field));
        }
        let decision = fixture.decide(&known);
        match (create_dry(&known), &decision) {
            (Err(refusal), Decision::Denied { sentence, .. }) => {
                assert!(refusal.contains(sentence.as_str()), "{name}: {refusal}");
            }
            (Ok(answer), Decision::Patch { warnings, .. }) => {
                injected += 1;
                assert_eq!(lost(&applied(&known, &decision), &answer.object, ""), None, "{name}");
                for warning in warnings {
                    // Longer ones are cut.
                    let start: String = warning.chars().take(200).collect();
                    assert!(
                        answer.warnings.contains(&format!("quotakeeper: {start}")),
                        "{name}: {}",
                        answer.warnings
                    );
                }
            }
            (Ok(answer), Decision::Skipped { reason }) => {
                assert!(answer.warnings.contains(reason.as_str()), "{name}: {}", answer.warnings);
            }
            (Ok(answer), Decision::Unchanged) => assert_eq!(lost(&known, &answer.object, ""), None, "{name}"),
            (answer, decision) => panic!("{name}: {answer:?} instead of {decision:?}"),
        }
    }
    assert!(injected > 20, "only {injected} pods were injected");
}

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn a_restricted_namespace_accepts_an_injected_pod() {
    let _world = world();
    let plain = pod("restricted", Value::Null, Value::Null);
    let refusal = create_dry(&plain).unwrap_err();
    assert!(refusal.contains("violates PodSecurity \"restricted:latest\""), "{refusal}");
    let mut pod = pod("restricted", json!({(names::QUOTAS): "hubspot,openai"}), Value::Null);
    pod["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    pod["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let answer = create_dry(&pod).unwrap().object;
    assert_eq!(names_of(&answer["spec"]["initContainers"]), [PROXY]);
    assert_eq!(answer["spec"]["securityContext"]["sysctls"][0]["value"], "80");
}

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn a_container_added_by_a_later_webhook_is_injected() {
    let world = world();
    let (answer, asked) =
        world.asked(|| create_dry(&pod("meddled", json!({(names::QUOTAS): "openai,hubspot"}), Value::Null)));
    let answer = answer.unwrap().object;
    assert_eq!(names_of(&answer["spec"]["containers"]), ["app", meddler::ADDED]);
    assert_eq!(names_of(&answer["spec"]["initContainers"]), [PROXY]);
    for container in answer["spec"]["containers"].as_array().unwrap() {
        assert_eq!(variable(container, "OPENAI_BASE_URL"), Some("http://127.0.0.1:15801/openai/v1"));
        assert!(variable(container, "SSL_CERT_FILE").is_some());
    }
    assert_eq!(asked[0], ("annotation", Counts { injected: 2, ..Counts::default() }));
}

/// It would stay in Init for ever: the startup probe, which only sidecars may have, lets the API server refuse it. Whoever
/// creates the pod, for example its Job, has the sentence in an Event.
#[test]
#[ignore = "needs an API server: make cluster-test"]
fn a_pod_whose_proxy_is_no_sidecar_any_more_is_refused() {
    let world = world();
    let asked_for = pod(meddler::STRIPPED, json!({(names::QUOTAS): "openai"}), Value::Null);
    let (refusal, asked) = world.asked(|| create_dry(&asked_for).unwrap_err());
    let sentence = "startupProbe: Forbidden: may not be set for init containers without restartPolicy=Always";
    assert!(refusal.contains(sentence), "{refusal}");
    assert_eq!(asked[0], ("annotation", Counts { injected: 2, ..Counts::default() }), "ours gave it back");
}

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn pods_of_thirty_kinds_of_owners_are_created() {
    let _world = world();
    for number in 0..30 {
        let quotas = ["openai", "hubspot-app", "openai,platform/hubspot", "platform/anthropic"][number % 4];
        let mut pod = pod("gtm", json!({(names::QUOTAS): quotas}), json!({"number": number.to_string()}));
        match number % 3 {
            0 => pod["spec"]["initContainers"] = json!([{"name": "first", "image": "x"}]),
            1 => pod["spec"]["containers"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "second", "image": "x"})),
            _ => {
                let owner =
                    json!({"apiVersion": "batch/v1", "kind": "Job", "name": "enrich-29384", "uid": "y"});
                pod["metadata"]["ownerReferences"] = json!([owner]);
                pod["metadata"]["ownerReferences"][0]["controller"] = json!(true);
            }
        }
        let created = create(&pod).unwrap().object;
        assert_eq!(created["spec"]["initContainers"][0]["name"], PROXY);
        assert_eq!(created["spec"]["initContainers"][0]["restartPolicy"], "Always");
        let status = created["metadata"]["annotations"][names::STATUS].as_str().unwrap();
        let status: Status = serde_json::from_str(status).unwrap();
        assert_eq!(status.quotas.len(), quotas.split(',').count());
        // The API server looks at the pod again, and gives its credentials to containers that came late.
        let mounts = &created["spec"]["initContainers"][0]["volumeMounts"];
        assert!(names_of(mounts).iter().all(|volume| volume.starts_with("quotakeeper-")), "{mounts}");
        let expected = if number % 3 == 2 { "gtm/CronJob/enrich" } else { "gtm/ServiceAccount/default" };
        assert_eq!(status.consumer, expected);
    }
    for label in ["number", "quotakeeper.dev/injected=true"] {
        let listed = kubectl(&["get", "pods", "-n", "gtm", "-l", label, "-o", "name"], None).unwrap();
        assert_eq!(listed.lines().count(), 30, "{label}");
    }
}

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn a_quota_applied_with_its_pod_is_found() {
    let _world = world();
    let quota = json!({
        "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
        "metadata": {"name": "fresh", "namespace": "fresh"}, "spec": {"provider": {"name": "openai"}},
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fresh"}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "fresh"}});
    let mut pod = pod("fresh", json!({(names::QUOTAS): "fresh"}), Value::Null);
    pod["metadata"]["name"] = json!("fresh");
    let file = json!({"apiVersion": "v1", "kind": "List", "items": [namespace, account, quota, pod]});
    kubectl(&["create", "-f", "-"], Some(&file)).unwrap();
    let found = get(&["pod", "fresh", "-n", "fresh"]);
    assert_eq!(names_of(&found["spec"]["initContainers"]), [PROXY]);
}

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn a_misplaced_annotation_gets_a_warning() {
    let _world = world();
    let meta = |on: bool| if on { json!({(names::QUOTAS): "openai"}) } else { json!({}) };
    let template = |on: bool| {
        json!({
            "metadata": {"labels": {"app": "x"}, "annotations": meta(on)},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "x"}]},
        })
    };
    for kind in ["Deployment", "Job", "CronJob"] {
        for (above, below, expected) in [(true, false, true), (true, true, false), (false, true, false)] {
            let mut template = template(below);
            let (api, spec) = match kind {
                "Deployment" => {
                    template["spec"]["restartPolicy"] = json!("Always");
                    ("apps/v1", json!({"selector": {"matchLabels": {"app": "x"}}, "template": template}))
                }
                "Job" => ("batch/v1", json!({"template": template})),
                _ => {
                    let job = json!({"spec": {"template": template}});
                    ("batch/v1", json!({"schedule": "0 0 * * *", "jobTemplate": job}))
                }
            };
            let metadata = json!({"name": "wrong", "namespace": "gtm", "annotations": meta(above)});
            let workload = json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec});
            let answer = create_dry(&workload).unwrap();
            let told = answer.warnings.contains("does nothing here: write it on the pod template");
            assert_eq!(told, expected, "{kind} {above} {below}: {}", answer.warnings);
        }
    }
    let labels = json!({(names::INJECT): "true"});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "slip", "labels": labels}});
    let answer = create_dry(&namespace).unwrap();
    assert!(answer.warnings.contains("write enabled or disabled"), "{}", answer.warnings);
}

/// The registration is what the chart renders: it must not say more than the API server keeps.
#[test]
#[ignore = "needs an API server: make cluster-test"]
fn the_registration_applies_without_warnings() {
    let _world = world();
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["webhook.yaml", "policy.yaml"] {
        let text = std::fs::read_to_string(crate_folder.join(file)).unwrap();
        for document in
            quotakeeper_api::yaml::read(&text.replace("RELEASE_NAMESPACE", "quotakeeper")).unwrap()
        {
            let mut object = document.value;
            object["metadata"]["name"] =
                json!(format!("again-{}", object["metadata"]["name"].as_str().unwrap()));
            let answer = create_dry(&object).unwrap();
            assert_eq!(answer.warnings, "", "{file}");
        }
    }
}
