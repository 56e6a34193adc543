//! The webhook as the API server meets it: over TLS, on loopback, with watches that a test fills.

#![allow(clippy::unwrap_used)]

#[path = "../served/certificate.rs"]
mod certificate;
mod client;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use kube::{Client, Config};
use quotakeeper_api::names;
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_dialects::{Profile, catalogue};
use quotakeeper_inject::names::PROXY;
use quotakeeper_inject::policies::Policies;
use quotakeeper_inject::server::{Counts, Webhook, serve};
use quotakeeper_inject::settings::Settings;
use quotakeeper_inject::uninstall::{Announcement, Answering, Uninstall};
use quotakeeper_inject::view::{Namespace, View};
use quotakeeper_listen::{ClosedConnections, Reason};
use quotakeeper_wire::bootstrap::Endpoint;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use certificate::serving;
use client::Answer;
use test_support::certificates::Ca;
use test_support::crowd::Crowd;
use test_support::wait::until;

/// What the test has made known of the cluster; none: nothing has been read yet.
#[derive(Default)]
struct Known(Mutex<Option<Objects>>);

#[derive(Default)]
struct Objects {
    quotas: Vec<Arc<ApiQuota>>,
    namespaces: Vec<&'static str>,
}

impl Known {
    fn add(&self, namespace: &'static str, quotas: Vec<ApiQuota>) {
        let mut known = self.0.lock().unwrap();
        let objects = known.get_or_insert_default();
        objects.namespaces.push(namespace);
        objects.quotas.extend(quotas.into_iter().map(Arc::new));
    }
}

impl View for Known {
    fn is_synced(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }

    fn namespace(&self, name: &str) -> Option<Namespace> {
        let known = self.0.lock().unwrap();
        let found = known.iter().any(|objects| objects.namespaces.contains(&name));
        found.then(|| Namespace { name: name.to_owned(), ..Namespace::default() })
    }

    fn policies(&self, _namespace: &str) -> Policies {
        Policies::default()
    }

    fn quotas(&self) -> Vec<Arc<ApiQuota>> {
        self.0.lock().unwrap().iter().flat_map(|objects| objects.quotas.clone()).collect()
    }

    fn provider(&self, name: &str) -> Option<Profile> {
        catalogue::find(name).ok()
    }
}

/// A webhook that serves, and all that it rests on.
struct Served {
    address: SocketAddr,
    ca: Ca,
    webhook: Webhook,
    settings: watch::Sender<Option<Arc<Settings>>>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    known: Arc<Known>,
    closed: ClosedConnections,
    shutdown: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

fn settings() -> Arc<Settings> {
    let limiter = Endpoint {
        address: "limiter:8443".to_owned(),
        server_name: "limiter".to_owned(),
        ca_pem: String::new(),
    };
    Arc::new(Settings::new("quotakeeper", "proxy:1", limiter))
}

fn quota(namespace: &str, name: &str) -> ApiQuota {
    serde_json::from_value(json!({
        "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
        "metadata": {"name": name, "namespace": namespace}, "spec": {"provider": {"name": name}},
    }))
    .unwrap()
}

impl Served {
    /// Nothing is known yet.
    async fn empty() -> Self {
        Self::started(|webhook| webhook).await
    }

    async fn started(with: impl FnOnce(Webhook) -> Webhook) -> Self {
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        // Nobody listens there: nothing but owners of Jobs is asked for.
        let client = Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let known = Arc::new(Known::default());
        let (settings, settings_read) = watch::channel(None);
        let webhook = with(Webhook::new(known.clone(), client, settings_read));
        let ca = Ca::new();
        let (tls, tls_read) = watch::channel(Some(serving(&ca)));
        let (shutdown, told) = oneshot::channel::<()>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let until = async { drop(told.await) };
        let closed = ClosedConnections::default();
        let serving = tokio::spawn(serve(listener, tls_read, webhook.clone(), closed.clone(), until));
        Self { address, ca, webhook, settings, tls, known, closed, shutdown, serving }
    }

    /// What a client that trusts this CA gets.
    async fn trusting_get(&self, ca: &str) -> Result<client::Answer, client::Failed> {
        client::send(self.address, ca, "GET", "/healthz", Vec::new()).await
    }

    /// One namespace and one quota are known.
    async fn ready() -> Self {
        Self::empty().await.filled()
    }

    fn filled(self) -> Self {
        self.settings.send_replace(Some(settings()));
        self.known.add("gtm", vec![quota("gtm", "openai")]);
        self
    }

    async fn post(&self, body: impl Into<Vec<u8>>) -> Answer {
        client::send(self.address, &self.ca.pem(), "POST", "/inject", body.into()).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        client::send(self.address, &self.ca.pem(), "GET", path, Vec::new()).await.unwrap()
    }

    /// The response to a pod's creation.
    async fn create(&self, pod: Value) -> Value {
        let answer = self.post(review(pod, "CREATE").to_string()).await;
        assert_eq!(answer.status, StatusCode::OK);
        let review: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(review["kind"], "AdmissionReview");
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(review["response"]["uid"], "the-uid");
        review["response"].clone()
    }
}

fn pod(namespace: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "enrich-", "namespace": namespace, "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "x"}]},
    })
}

fn review(pod: Value, operation: &str) -> Value {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "the-uid", "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "namespace": pod["metadata"]["namespace"], "operation": operation,
            "userInfo": {"username": "system:serviceaccount:kube-system:job-controller"},
            "object": pod, "oldObject": null, "dryRun": false, "options": {},
        },
    })
}

fn message(response: &Value) -> &str {
    response["status"]["message"].as_str().unwrap()
}

/// The patch, which kube writes as a list of bytes.
fn patch(response: &Value) -> Vec<u8> {
    serde_json::from_value(response["patch"].clone()).unwrap()
}

fn asking(quotas: &str) -> Value {
    pod("gtm", json!({(names::QUOTAS): quotas}))
}

#[tokio::test]
async fn an_annotated_pod_is_patched() {
    let served = Served::ready().await;
    let response = served.create(asking("openai")).await;
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch: json_patch::Patch = serde_json::from_slice(&patch(&response)).unwrap();
    let mut patched = asking("openai");
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched["spec"]["initContainers"][0]["name"], PROXY);
    assert_eq!(patched["metadata"]["labels"][names::INJECTED], "true");
    assert_eq!(served.webhook.counts(), Counts { injected: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_refusal_and_a_skip_are_explained() {
    let served = Served::ready().await;
    let response = served.create(asking("opnai")).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)));
    assert!(message(&response).contains("did you mean `openai`?"), "{response}");
    let mut pod = asking("openai");
    pod["spec"]["hostNetwork"] = json!(true);
    let response = served.create(pod).await;
    assert_eq!(response["allowed"], true);
    assert!(response.get("patch").is_none());
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("quotakeeper: a pod with hostNetwork gets no proxy"), "{warning}");
    assert_eq!(served.webhook.counts(), Counts { denied: 1, skipped: 1, ..Counts::default() });
}

#[tokio::test]
async fn pods_are_retried_until_the_caches_are_synced() {
    let served = Served::empty().await;
    assert_eq!(served.get("/healthz").await.status, StatusCode::OK);
    for known in ["nothing", "settings"] {
        let response = served.create(asking("openai")).await;
        assert_eq!(
            (&response["allowed"], &response["status"]["code"]),
            (&json!(false), &json!(503)),
            "{known}"
        );
        assert_eq!(message(&response), "quotakeeper is not ready yet; try again in a few seconds");
        assert_eq!(served.get("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
        served.settings.send_replace(Some(settings()));
    }
    served.known.add("gtm", vec![quota("gtm", "openai")]);
    assert_eq!(served.get("/readyz").await.status, StatusCode::OK);
    assert_eq!(served.create(asking("openai")).await["allowed"], true);
}

#[tokio::test]
async fn a_quota_created_just_before_its_pod_is_waited_for() {
    let patient = |webhook: Webhook| webhook.with_lag(Duration::from_secs(60));
    let served = Served::started(patient).await.filled();
    let early = pod("later", json!({(names::QUOTAS): "openai"}));
    let address = (served.address, served.ca.pem());
    let sent = tokio::spawn(async move {
        let body = review(early, "CREATE").to_string().into_bytes();
        client::send(address.0, &address.1, "POST", "/inject", body).await.unwrap()
    });
    // Time for a first look, which finds nothing.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(served.webhook.counts(), Counts::default());
    served.known.add("later", vec![quota("later", "openai")]);
    let answer: Value = serde_json::from_slice(&sent.await.unwrap().body).unwrap();
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
}

#[tokio::test]
async fn a_quota_that_never_appears_is_refused() {
    let served = Served::ready().await;
    assert_eq!(served.create(pod("never", json!({(names::QUOTAS): "openai"}))).await["allowed"], false);
}

#[tokio::test]
async fn a_job_with_an_unreadable_owner_is_its_own_workload() {
    let served = Served::ready().await;
    let mut pod = asking("openai");
    pod["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": "once", "controller": true}]);
    let response = served.create(pod).await;
    let patch = String::from_utf8(patch(&response)).unwrap();
    assert!(patch.contains("gtm/Job/once"), "{patch}");
}

#[tokio::test]
async fn other_operations_pass() {
    let served = Served::ready().await;
    let answer = served.post(review(asking("nobody"), "UPDATE").to_string()).await;
    let review: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(review["response"]["allowed"], true);
}

/// Takes releases that are known, and refuses the others.
struct KnownReleases;

impl Uninstall for KnownReleases {
    fn prepare(&self, announcement: Announcement) -> Answering<'_> {
        Box::pin(async move {
            let Announcement { release, revision, patience } = announcement;
            match release.as_str() {
                "known" => Ok(format!("{release} {revision} {}", patience.as_secs())),
                _ => Err("unknown".to_owned()),
            }
        })
    }
}

/// The review of the chart's pre-delete hook.
fn hook(release: &str, operation: &str, dry_run: bool) -> String {
    let mut review = review(json!({"metadata": {"namespace": "quotakeeper"}}), operation);
    let data = json!({"release": release, "revision": "3", "timeoutSeconds": "7"});
    review["request"]["object"] =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": data});
    review["request"]["dryRun"] = json!(dry_run);
    review.to_string()
}

#[tokio::test]
async fn an_uninstall_is_answered_when_it_is_prepared() {
    let served = Served::started(|webhook| webhook.with_uninstall(Arc::new(KnownReleases))).await;
    let post = async |body: String| {
        let ca = served.ca.pem();
        let answer = client::send(served.address, &ca, "POST", "/uninstall", body.into()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        serde_json::from_slice::<Value>(&answer.body).unwrap()["response"].clone()
    };
    let response = post(hook("known", "CREATE", false)).await;
    assert_eq!((&response["allowed"], &response["uid"]), (&json!(true), &json!("the-uid")));
    assert_eq!(response["warnings"][0], "quotakeeper: known 3 7");
    let response = post(hook("another", "CREATE", false)).await;
    assert_eq!((&response["allowed"], message(&response)), (&json!(false), "unknown"));
    for (operation, dry_run) in [("CREATE", true), ("UPDATE", false)] {
        let response = post(hook("another", operation, dry_run)).await;
        assert_eq!((&response["allowed"], &response["warnings"]), (&json!(true), &Value::Null));
    }
}

#[tokio::test]
async fn an_invalid_review_is_refused() {
    let served = Served::ready().await;
    let status = |answer: Answer| answer.status;
    for body in ["", "{}", "[]", "{\"kind\": \"AdmissionReview\", \"apiVersion\": \"admission.k8s.io/v1\"}"] {
        assert_eq!(status(served.post(body).await), StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(status(served.post(vec![b' '; 9 << 20]).await), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(status(served.get("/inject").await), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_new_certificate_applies_at_once_without_ending_connections() {
    let mut served = Served::ready().await;
    let before = served.ca.pem();
    served.ca = Ca::new();
    assert!(served.trusting_get(&served.ca.pem()).await.is_err(), "the new CA is not yet in use");
    served.tls.send_replace(Some(serving(&served.ca)));
    assert_eq!(served.get("/healthz").await.status, StatusCode::OK);
    assert!(served.trusting_get(&before).await.is_err());
    served.tls.send_replace(None);
    assert!(served.trusting_get(&served.ca.pem()).await.is_err());
}

#[tokio::test]
async fn silent_connections_of_others_delay_no_review() {
    let served = Served::ready().await;
    let silent = Crowd::of(400, served.address, b"").await;
    let agreed = {
        let ca = served.ca.pem();
        let each = (0..100).map(|_| client::connect(served.address, ca.clone()));
        futures_util::future::join_all(each).await
    };
    assert!(agreed.iter().all(Result::is_ok));
    for _ in 0..5 {
        let response = served.create(pod("gtm", asking("openai"))).await;
        assert_eq!(response["allowed"], true);
    }
    // Those that had to give way, and not all of them because their time was over.
    until("the crowd gives way", || silent.closed() >= 400 + 100 - 256).await;
    until("that is counted", || served.closed.of(Reason::GaveWay) >= 400 + 100 - 256).await;
}

#[tokio::test]
async fn connections_that_fail_before_a_request_are_counted() {
    let served = Served::ready().await;
    let plain = Crowd::of(3, served.address, b"GET / HTTP/1.1\r\n\r\n").await;
    plain.is_gone().await;
    until("each is counted", || served.closed.of(Reason::Handshake) == 3).await;
    assert_eq!(served.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(served.closed.of(Reason::Handshake), 3, "the client is done with its connection itself");
}

/// A pod that sends reviews without their bodies, small and large, holds no turn that the API server needs.
#[tokio::test]
async fn unfinished_reviews_of_another_delay_no_review() {
    let served = Served::ready().await;
    let another = "127.0.0.2".parse().unwrap();
    let mut unfinished = Vec::new();
    for (path, length, times) in
        [("/inject", 1_000, 100), ("/inject", 1_000_000, 10), ("/uninstall", 1_000, 10)]
    {
        for _ in 0..times {
            let mut stream = client::connect_from(another, served.address, served.ca.pem()).await.unwrap();
            let head = format!("POST {path} HTTP/1.1\r\nhost: webhook\r\ncontent-length: {length}\r\n\r\n{{");
            stream.write_all(head.as_bytes()).await.unwrap();
            unfinished.push(stream);
        }
    }
    let large = json!({"quotakeeper.dev/quotas": "openai", "large": "x".repeat(100_000)});
    for annotations in [json!({(names::QUOTAS): "openai"}), large] {
        let response = served.create(pod("gtm", annotations)).await;
        assert_eq!(response["allowed"], true);
    }
}

/// As JSON they are small, in memory a hundred megabytes.
#[tokio::test]
async fn millions_of_values_are_no_review() {
    let served = Served::ready().await;
    let pod = json!({"spec": {"containers": vec![0; 1_500_000]}, "metadata": {"namespace": "gtm"}});
    let answer = served.post(review(pod, "CREATE").to_string()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(String::from_utf8_lossy(&answer.body).contains("more values than a pod of its length"));
    // Commas in a text are none.
    let text = json!({(names::QUOTAS): "openai", "list": ",[{".repeat(50_000)});
    assert_eq!(served.create(self::pod("gtm", text)).await["allowed"], true);
}

#[tokio::test]
async fn shutdown_closes_all_connections() {
    let served = Served::ready().await;
    assert_eq!(served.get("/healthz").await.status, StatusCode::OK);
    served.shutdown.send(()).unwrap();
    served.serving.await.unwrap();
    let ca = served.ca.pem();
    assert!(client::send(served.address, &ca, "GET", "/healthz", Vec::new()).await.is_err());
}
