//! The admission webhook as the chart registers it, asked by the real API server.

use std::path::Path;

use k8s_openapi::ByteString;
use quotakeeper_api::yaml;
use serde_json::{Value, json};
use test_support::kubectl::{apply, get, kubectl};

use crate::replica::{Replica, text};
use crate::until;

/// Has the API server ask this replica. The Service's name leads to this machine, so that the certificate is
/// checked as in a cluster.
pub fn register(replica: &Replica) {
    apply(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "quotakeeper-webhook", "namespace": "quotakeeper"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../inject/webhook.yaml");
    let file = std::fs::read_to_string(file).unwrap().replace("RELEASE_NAMESPACE", "quotakeeper");
    let mut registration = yaml::read(&file).unwrap().remove(0).value;
    for webhook in registration["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"]["service"]["port"] = json!(replica.webhook);
    }
    apply(&registration);
    until("the API server asks the webhook", injects);
}

/// Whether a pod that asks for a proxy would get one.
pub fn injects() -> Option<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "tried-", "namespace": "gtm", "annotations": {"quotakeeper.dev/quotas": "hubspot"},
        },
        "spec": {"containers": [{"name": "main", "image": "localhost/busybox:1"}]},
    });
    let made = kubectl(&["create", "--dry-run=server", "-o", "json", "-f", "-"], Some(&pod)).ok()?;
    made.contains("quotakeeper.dev/status").then_some(())
}

/// What the API server trusts, the same for each entry.
pub fn bundle() -> String {
    let registration = get(&["mutatingwebhookconfiguration", "quotakeeper"]);
    let entries = registration["webhooks"].as_array().cloned().unwrap_or_default();
    let bundles: Vec<Option<String>> =
        entries.iter().map(|entry| text(&entry["clientConfig"]["caBundle"])).collect();
    let same = bundles
        .first()
        .cloned()
        .flatten()
        .filter(|first| bundles.iter().all(|it| it.as_ref() == Some(first)));
    same.unwrap_or_default()
}

/// An entry of the webhook's Secret.
pub fn entry(name: &str) -> String {
    let secret = get(&["secret", "quotakeeper-webhook-tls", "-n", "quotakeeper"]);
    text(&secret["data"][name]).unwrap_or_default()
}

/// Makes the CA's key useless, as one who restores half of a backup would.
pub fn spoil_the_key() {
    let key: Value = serde_json::to_value(ByteString(b"no key".to_vec())).unwrap();
    let patch = json!({"data": {"ca.key": key}}).to_string();
    let secret = ["secret", "quotakeeper-webhook-tls", "-n", "quotakeeper"];
    kubectl(&[&["patch"], &secret[..], &["--type=merge", "-p", &patch]].concat(), None).unwrap();
}
