//! The cluster of `goldens/cluster.yaml`, and decisions in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::ResourceExt;
use quotakeeper_api::provider::ApiProvider;
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_api::{workload, yaml};
use quotakeeper_dialects::{Profile, catalogue};
use quotakeeper_inject::decide::{Decision, Input, decide};
use quotakeeper_inject::policies::{self, Policies};
use quotakeeper_inject::settings::Settings;
use quotakeeper_inject::view::{Namespace, View};
use quotakeeper_wire::bootstrap::Endpoint;
use quotakeeper_wire::name::QuotaName;
use serde_json::Value;

pub fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// The only document of a file.
pub fn document(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    yaml::read(&text).unwrap().remove(0).value
}

pub struct Fixture {
    pub settings: Settings,
    namespaces: BTreeMap<String, Namespace>,
    quotas: Vec<Arc<ApiQuota>>,
    providers: Vec<ApiProvider>,
    jobs: Vec<Value>,
    policies: BTreeMap<String, Policies>,
    /// Why calls of quotas won't go.
    pub holdups: BTreeMap<QuotaName, String>,
}

impl Fixture {
    pub fn new() -> Self {
        let limiter = Endpoint {
            address: "quotakeeper-limiter.quotakeeper.svc:8443".to_owned(),
            server_name: "quotakeeper-limiter.quotakeeper.svc".to_owned(),
            ca_pem: "-----BEGIN CERTIFICATE-----\nlimiter\n-----END CERTIFICATE-----\n".to_owned(),
        };
        let mut settings = Settings::new("quotakeeper", "registry.example/quotakeeper-proxy:1", limiter);
        settings.version = "1.2.3".to_owned();
        let mut fixture = Self {
            settings,
            namespaces: BTreeMap::new(),
            quotas: Vec::new(),
            providers: Vec::new(),
            jobs: Vec::new(),
            policies: BTreeMap::new(),
            holdups: BTreeMap::new(),
        };
        let text = std::fs::read_to_string(goldens().join("cluster.yaml")).unwrap();
        for document in yaml::read(&text).unwrap() {
            fixture.add(document.value);
        }
        fixture
    }

    fn add(&mut self, object: Value) {
        match object["kind"].as_str().unwrap() {
            "Namespace" => {
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                let labels = serde_json::from_value(object["metadata"]["labels"].clone()).unwrap();
                self.namespaces.insert(name.clone(), Namespace { name, labels });
            }
            "ApiQuota" => self.quotas.push(Arc::new(serde_json::from_value(object).unwrap())),
            "ApiProvider" => self.providers.push(serde_json::from_value(object).unwrap()),
            "Job" => self.jobs.push(object),
            "LimitRange" => {
                let namespace = object["metadata"]["namespace"].as_str().unwrap().to_owned();
                let bounds = policies::bounds(&serde_json::from_value(object).unwrap());
                self.policies.entry(namespace).or_default().bounds.extend(bounds);
            }
            other => panic!("{other} is no part of the fixture"),
        }
    }

    pub fn decide(&self, pod: &Value) -> Decision {
        let name = pod["metadata"]["namespace"].as_str().unwrap();
        let unknown = Namespace { name: name.to_owned(), labels: BTreeMap::new() };
        let namespace = self.namespaces.get(name).unwrap_or(&unknown);
        let metadata =
            |object: &Value| serde_json::from_value(object["metadata"].clone()).unwrap_or_default();
        let job = workload::job(&metadata(pod)).and_then(|job| {
            self.jobs.iter().find(|it| it["metadata"]["name"] == job && it["metadata"]["namespace"] == name)
        });
        let owner = job.and_then(|job| workload::owner(&metadata(job)));
        let job_owner = owner.as_ref();
        decide(&Input { pod, namespace, view: self, settings: &self.settings, job_owner })
    }
}

impl View for Fixture {
    fn is_synced(&self) -> bool {
        true
    }

    fn namespace(&self, name: &str) -> Option<Namespace> {
        self.namespaces.get(name).cloned()
    }

    fn policies(&self, namespace: &str) -> Policies {
        self.policies.get(namespace).cloned().unwrap_or_default()
    }

    fn quotas(&self) -> Vec<Arc<ApiQuota>> {
        self.quotas.clone()
    }

    fn provider(&self, name: &str) -> Option<Profile> {
        let own = self.providers.iter().find(|it| it.name_any() == name);
        own.map(|it| it.spec.profile.clone()).or_else(|| catalogue::find(name).ok())
    }

    fn holdup(&self, quota: &QuotaName) -> Option<String> {
        self.holdups.get(quota).cloned()
    }
}

/// The pod as the API server makes it of a decision.
pub fn applied(pod: &Value, decision: &Decision) -> Value {
    let mut patched = pod.clone();
    if let Decision::Patch { patch, .. } = decision {
        // As it goes over the wire.
        let wire = serde_json::to_string(patch).unwrap();
        let patch: json_patch::Patch = serde_json::from_str(&wire).unwrap();
        json_patch::patch(&mut patched, &patch).unwrap();
    }
    patched
}

/// Where `small` is not contained in `big`: each field with its value, each item in its order.
pub fn lost(small: &Value, big: &Value, path: &str) -> Option<String> {
    match (small, big) {
        (Value::Object(small), Value::Object(big)) => small.iter().find_map(|(key, value)| {
            let path = format!("{path}/{key}");
            match big.get(key) {
                Some(found) => lost(value, found, &path),
                None => Some(path),
            }
        }),
        (Value::Array(small), Value::Array(big)) => {
            let mut rest = big.iter();
            small.iter().enumerate().find_map(|(index, item)| {
                let path = format!("{path}/{index}");
                let found = rest.any(|candidate| lost(item, candidate, &path).is_none());
                (!found).then_some(path)
            })
        }
        _ => (small != big).then(|| path.to_owned()),
    }
}
