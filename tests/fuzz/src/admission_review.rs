//! Reviews of pods. A patch applies to its pod, whatever that is, and a pod that was patched needs nothing more.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use quotakeeper_api::quota::ApiQuota;
use quotakeeper_dialects::{Profile, catalogue};
use quotakeeper_inject::decide::{Decision, Input, decide};
use quotakeeper_inject::fuzzing;
use quotakeeper_inject::policies::Policies;
use quotakeeper_inject::settings::Settings;
use quotakeeper_inject::view::{Namespace, View};
use quotakeeper_wire::bootstrap::Endpoint;
use serde_json::{Value, json};

pub fn read(data: &[u8]) {
    let Some(pod) = fuzzing::pod_of_review(data) else { return };
    let Decision::Patch { patch, .. } = decision(&pod) else { return };
    let mut patched = pod.clone();
    if let Err(error) = json_patch::patch(&mut patched, &patch) {
        panic!("a patch does not apply: {error}; {pod}");
    }
    let again = decision(&patched);
    assert!(matches!(again, Decision::Unchanged), "{again:?} of {patched}");
}

/// Whether the pod of a review gets a proxy.
pub fn is_injected(data: &[u8]) -> bool {
    fuzzing::pod_of_review(data).is_some_and(|pod| matches!(decision(&pod), Decision::Patch { .. }))
}

fn decision(pod: &Value) -> Decision {
    let namespace = Namespace { name: "gtm".to_owned(), labels: BTreeMap::new() };
    decide(&Input { pod, namespace: &namespace, view: &*CLUSTER, settings: &SETTINGS, job_owner: None })
}

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let limiter = Endpoint {
        address: "quotakeeper-limiter.quotakeeper.svc:8443".to_owned(),
        server_name: "quotakeeper-limiter.quotakeeper.svc".to_owned(),
        ca_pem: "-----BEGIN CERTIFICATE-----\nlimiter\n-----END CERTIFICATE-----\n".to_owned(),
    };
    Settings::new("quotakeeper", "registry.example/quotakeeper-proxy:1", limiter)
});

static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    let quota = |name: &str, provider: &str| {
        let quota = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": name, "namespace": "gtm"}, "spec": {"provider": {"name": provider}},
        });
        Arc::new(serde_json::from_value::<ApiQuota>(quota).unwrap_or_else(|error| panic!("{error}")))
    };
    Cluster(vec![quota("crm", "hubspot"), quota("openai", "openai"), quota("claude", "anthropic")])
});

struct Cluster(Vec<Arc<ApiQuota>>);

impl View for Cluster {
    fn is_synced(&self) -> bool {
        true
    }

    fn namespace(&self, name: &str) -> Option<Namespace> {
        Some(Namespace { name: name.to_owned(), labels: BTreeMap::new() })
    }

    fn policies(&self, _namespace: &str) -> Policies {
        Policies::default()
    }

    fn quotas(&self) -> Vec<Arc<ApiQuota>> {
        self.0.clone()
    }

    fn provider(&self, name: &str) -> Option<Profile> {
        catalogue::find(name).ok()
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let containers = [
        json!([{"name": "main", "image": "a"}]),
        json!([{"name": "main", "image": "a", "command": ["x"], "ports": [{"containerPort": 8080}],
            "env": [{"name": "OPENAI_BASE_URL", "value": "http://x"}, {"name": "SSL_CERT_FILE", "value": "/ca"}],
            "volumeMounts": [{"name": "v", "mountPath": "/etc/ssl"}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]),
    ];
    let annotations = [
        json!({"quotakeeper.dev/quotas": "crm"}),
        json!({"quotakeeper.dev/quotas": "openai, gtm/claude", "quotakeeper.dev/workload": "web"}),
        json!({"quotakeeper.dev/quotas": "auto", "quotakeeper.dev/containers": "main",
            "quotakeeper.dev/proxy-cpu": "10m", "quotakeeper.dev/trust-files": "true"}),
    ];
    let mut seeds = Vec::new();
    for containers in &containers {
        for annotations in &annotations {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "namespace": "gtm", "annotations": annotations,
                    "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]},
                "spec": {"containers": containers, "volumes": [{"name": "v", "emptyDir": {}}],
                    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a.example"]}],
                    "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]}},
            });
            let review = json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "request": {
                    "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"},
                    "resource": {"group": "", "version": "v1", "resource": "pods"},
                    "namespace": "gtm", "operation": "CREATE", "userInfo": {}, "object": pod, "dryRun": false,
                },
            });
            seeds.push(review.to_string().into_bytes());
        }
    }
    seeds
}
