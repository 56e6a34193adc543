//! Whatever a pod holds: nothing of it is lost, a second look changes nothing, and there is always an answer.

use proptest::prelude::*;
use quotakeeper_api::names;
use quotakeeper_inject::names::{DEFAULT_CONTAINER, PROXY};
use serde_json::{Map, Value, json};

use quotakeeper_inject::decide::Decision;

use crate::fixture::{Fixture, applied, lost};

/// In a volume, from which the proxy may take it into its bundle.
const OWN_CAS: &str = "/v/own.pem";

/// Some of the entries of an object.
fn some(entries: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let each: Vec<_> = entries
        .into_iter()
        .map(|(key, value)| proptest::option::of(value).prop_map(move |value| (key, value)))
        .collect();
    each.prop_map(|entries| {
        let present = entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Value::Object(present.collect::<Map<_, _>>())
    })
    .boxed()
}

fn one(values: Vec<Value>) -> BoxedStrategy<Value> {
    proptest::sample::select(values).boxed()
}

fn list(item: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    proptest::collection::vec(item, 0..=most).prop_map(Value::Array).boxed()
}

fn variable() -> BoxedStrategy<Value> {
    let names =
        ["OPENAI_BASE_URL", "OPENAI_API_BASE", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "X"];
    let names: Vec<Value> = names.into_iter().map(Value::from).collect();
    let values = ["", "http://127.0.0.1:15801/openai/v1", "/etc/own.pem", OWN_CAS, "127.0.0.1,.hubapi.com"];
    let from = json!({"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
    (one(names), proptest::option::of(proptest::sample::select(values.to_vec())))
        .prop_map(move |(name, value)| {
            let mut entry = value.map_or_else(|| from.clone(), |value| json!({"value": value}));
            entry["name"] = name;
            entry
        })
        .boxed()
}

fn container() -> BoxedStrategy<Value> {
    let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let source = |field: &str| json!({(field): {"name": "n"}, "prefix": "OPEN"});
    some(vec![
        ("image", one(vec![json!("x")])),
        ("env", prop_oneof![Just(Value::Null), list(variable(), 4)].boxed()),
        ("envFrom", list(one(vec![source("secretRef"), source("configMapRef"), json!({})]), 2)),
        ("resources", one(vec![json!({}), limits])),
        ("restartPolicy", one(vec![json!("Always")])),
        ("volumeMounts", list(one(vec![json!({"name": "v", "mountPath": "/v"})]), 1)),
        ("ports", list(one(vec![json!({"containerPort": 8080}), json!({"containerPort": 80})]), 1)),
        ("tomorrow", one(vec![json!({"a": [1, null]})])),
    ])
}

/// Containers whose names differ.
fn containers(prefix: &'static str, least: usize) -> BoxedStrategy<Value> {
    proptest::collection::vec(container(), least..=3)
        .prop_map(move |mut containers| {
            for (index, container) in containers.iter_mut().enumerate() {
                container["name"] = json!(format!("{prefix}{index}"));
            }
            Value::Array(containers)
        })
        .boxed()
}

fn alias() -> BoxedStrategy<Value> {
    let hosts = ["api.hubapi.com", "API.HubSpot.com", "other.example"].map(Value::from).to_vec();
    (one(vec![json!("127.0.0.1"), json!("10.0.0.1")]), list(one(hosts), 2))
        .prop_map(|(ip, hostnames)| json!({"ip": ip, "hostnames": hostnames}))
        .boxed()
}

fn pod() -> BoxedStrategy<Value> {
    let quotas = ["openai", "platform/hubspot", "openai,hubspot-app", "acme,openai", "auto", "nobody"];
    let quotas = one(quotas.map(Value::from).to_vec());
    let annotations = some(vec![
        ("own", one(vec![json!("")])),
        (DEFAULT_CONTAINER, one(vec![json!("c0")])),
        (names::CONTAINERS, one(vec![json!("c0")])),
        (names::TRUST_FILES, one(vec![json!("/etc/ssl/cert.pem,/jdk/lib/security/cacerts")])),
    ]);
    let labels = some(vec![("a/b~c", one(vec![json!("x")]))]);
    let namespaces = one(vec![json!("gtm"), json!("sales")]);
    let sysctls = list(one(vec![json!({"name": "net.ipv4.tcp_syncookies", "value": "1"})]), 1);
    let security = some(vec![
        ("runAsUser", one(vec![json!(0), json!(1000)])),
        ("sysctls", prop_oneof![Just(Value::Null), sysctls].boxed()),
    ]);
    let spec = some(vec![
        ("initContainers", prop_oneof![Just(Value::Null), containers("i", 0)].boxed()),
        (
            "volumes",
            list(one(vec![json!({"name": "v", "emptyDir": {}}), json!({"name": "v", "secret": {}})]), 1),
        ),
        ("hostAliases", list(alias(), 3)),
        ("securityContext", prop_oneof![Just(Value::Null), security].boxed()),
        ("hostNetwork", one(vec![json!(false), json!(false), json!(true)])),
        ("tomorrow", one(vec![json!([[{"deep": true}]])])),
    ]);
    (quotas, annotations, labels, namespaces, spec, containers("c", 1))
        .prop_map(|(quotas, mut annotations, labels, namespace, mut spec, containers)| {
            annotations[names::QUOTAS] = quotas;
            spec["containers"] = containers;
            let metadata = json!({"namespace": namespace, "annotations": annotations, "labels": labels});
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        })
        .boxed()
}

/// A null is what is absent: it may be filled. So may a value in place of CAs that the proxy takes over.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let present = fields.iter().filter(|(_, value)| !value.is_null() && **value != OWN_CAS);
            Value::Object(present.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn injection_loses_nothing_and_is_idempotent(pod in pod()) {
        let fixture = Fixture::new();
        let decision = fixture.decide(&pod);
        if let Decision::Patch { .. } = decision {
            let once = applied(&pod, &decision);
            prop_assert_eq!(lost(&without_nulls(&pod), &once, ""), None);
            prop_assert_eq!(&once["spec"]["initContainers"][0]["name"], PROXY);
            prop_assert_eq!(fixture.decide(&once), Decision::Unchanged);
        }
    }

    #[test]
    fn any_pod_gets_a_decision(
        place in proptest::sample::select(vec![
            "/metadata/labels", "/spec", "/spec/containers", "/spec/containers/0", "/spec/containers/0/env",
            "/spec/initContainers", "/spec/hostAliases", "/spec/hostAliases/0", "/spec/securityContext",
            "/spec/volumes", "/spec/containers/0/volumeMounts",
        ]),
        value in one(vec![json!(1), json!("x"), json!([]), json!({}), json!([1]), json!({"a": 1}), Value::Null]),
    ) {
        let fixture = Fixture::new();
        let mut pod = json!({
            "metadata": {
                "namespace": "gtm", "labels": {}, "annotations": {(names::QUOTAS): "openai,platform/hubspot"},
            },
            "spec": {
                "containers": [{"name": "a", "env": [], "volumeMounts": []}], "initContainers": [], "volumes": [],
                "hostAliases": [{"ip": "127.0.0.1", "hostnames": []}], "securityContext": {},
            },
        });
        *pod.pointer_mut(place).unwrap() = value;
        applied(&pod, &fixture.decide(&pod));
    }
}
