//! `quotakeeper limiter` as a process against a real API server, as its own ServiceAccount, with
//! tokens that the API server has signed for real pods. `make cluster-test` runs this with a
//! control plane of its own.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "in_a_cluster/checkpoints.rs"]
mod checkpoints;
#[allow(dead_code, reason = "the other stories use the rest")]
#[path = "limiter/cluster.rs"]
mod cluster;
#[path = "in_a_cluster/link.rs"]
mod link;
#[path = "in_a_cluster/partitions.rs"]
mod partitions;
#[allow(dead_code, reason = "the other stories use the rest")]
#[path = "limiter/proxy.rs"]
mod proxy;
#[path = "in_a_cluster/two_limiters.rs"]
mod two_limiters;
#[allow(dead_code, reason = "the other stories use the rest")]
#[path = "limiter/world.rs"]
mod world;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Once};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quotakeeper_wire::account::{CompiledAccount, StatedUse};
use quotakeeper_wire::gate;
use serde_json::{Value, json};
use test_support::certificates::Ca;
use test_support::kubectl::{self, apply};
use test_support::ports::free_port;
use test_support::wait::until;

use link::Link;
use proxy::{Door, NAME, Provider, Proxy};
use world::quota;

const NEEDS: &str =
    "tests/cluster/control-plane.sh run tests/built.py quotakeeper-limiter:in_a_cluster -- --ignored";
const NAMESPACE: &str = "quotakeeper";
const AMOUNT: u64 = 60;

fn kubectl(arguments: &[&str]) -> String {
    kubectl::kubectl(arguments, None).unwrap()
}

/// What the limiter's ServiceAccount may do, and no more.
fn install() {
    kubectl::require_test_control_plane(NEEDS);
    static NAMESPACES: Once = Once::new();
    NAMESPACES.call_once(|| kubectl::create_namespaces(&[NAMESPACE, "gtm"]));
    forget_other_tests();
    let account = |namespace: &str, name: &str| {
        apply(&json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace},
        }));
    };
    account(NAMESPACE, "quotakeeper-limiter");
    account("gtm", "runner");
    let group = "rbac.authorization.k8s.io";
    let subject = json!([{"kind": "ServiceAccount", "name": "quotakeeper-limiter", "namespace": NAMESPACE}]);
    let rule = |groups: &str, resources: &str, names: &[&str], verbs: &[&str]| json!({"apiGroups": [groups], "resources": [resources], "resourceNames": names, "verbs": verbs});
    let rules = json!([
        rule("apps", "deployments", &["quotakeeper-limiter"], &["get"]),
        rule("coordination.k8s.io", "leases", &[], &["create"]),
        rule("coordination.k8s.io", "leases", &["quotakeeper-limiter"], &["get", "update"]),
        rule("", "configmaps", &[], &["get", "list", "watch", "create", "update"]),
        rule("", "secrets", &["quotakeeper-limiter-tls"], &["list", "watch"]),
    ]);
    let whole = json!([
        {"nonResourceURLs": ["/openid/v1/jwks", "/.well-known/openid-configuration"], "verbs": ["get"]},
        rule("authentication.k8s.io", "tokenreviews", &[], &["create"]),
        rule("", "pods", &[], &["list", "watch"]),
    ]);
    for (kind, namespace, rules) in [("Role", Some(NAMESPACE), rules), ("ClusterRole", None, whole)] {
        let metadata = json!({"name": "quotakeeper-limiter", "namespace": namespace});
        apply(
            &json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata, "rules": rules}),
        );
        apply(&json!({
            "apiVersion": format!("{group}/v1"), "kind": format!("{kind}Binding"), "metadata": metadata,
            "subjects": subject, "roleRef": {"apiGroup": group, "kind": kind, "name": "quotakeeper-limiter"},
        }));
    }
}

/// A kubeconfig with which one is the limiter's ServiceAccount.
fn kubeconfig(folder: &Path) -> PathBuf {
    let mut config: Value =
        serde_json::from_str(&kubectl(&["config", "view", "--raw", "-o", "json"])).unwrap();
    let token = kubectl(&["create", "token", "quotakeeper-limiter", "-n", NAMESPACE]);
    config["users"][0]["user"] = json!({"token": token.trim()});
    let file = folder.join("kubeconfig");
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

fn write_certificate(ca: &Ca) {
    let leaf = ca.issue(NAME);
    apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "quotakeeper-limiter-tls", "namespace": NAMESPACE},
        "stringData": {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": ca.pem()},
    }));
}

/// What is in force, and who is active, is each test's own.
fn forget_other_tests() {
    let delete = |words: &[&str]| {
        kubectl(&[&["delete", "-n", NAMESPACE, "--ignore-not-found"], words].concat());
    };
    delete(&["configmap", "-l", "quotakeeper.dev/config in (account, checkpoint)"]);
    delete(&["configmap", gate::NAME]);
    kubectl(&["delete", "pods", "-n", "gtm", "--all", "--grace-period=0", "--force"]);
    delete(&["lease", "quotakeeper-limiter"]);
}

fn write_account(account: &CompiledAccount) {
    write_document(&account.quota, &serde_json::to_string(account).unwrap());
}

fn write_document(quota: &str, document: &str) {
    apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": format!("quotakeeper-account-{}", quota.replace('/', "-")), "namespace": NAMESPACE,
            "labels": {"quotakeeper.dev/config": "account"},
            "annotations": {"quotakeeper.dev/quota": quota},
        },
        "data": {"account.json": document},
    }));
}

/// A pod, on this node or on none yet.
fn write_pod(name: &str, injected: bool, node: Option<&str>) {
    let labels = if injected { json!({"quotakeeper.dev/injected": "true"}) } else { json!({}) };
    apply(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "gtm", "labels": labels,
            "annotations": {"quotakeeper.dev/workload": name},
        },
        "spec": {
            "serviceAccountName": "runner", "automountServiceAccountToken": false, "nodeName": node,
            "containers": [{"name": "app", "image": "localhost/none:1"}],
        },
    }));
}

/// A pod that runs on a node, and a token that is bound to it.
fn pod(name: &str, injected: bool) -> String {
    write_pod(name, injected, Some("node"));
    let token = kubectl(&[
        "create",
        "token",
        "runner",
        "-n",
        "gtm",
        "--audience",
        "quotakeeper.dev/limiter",
        "--bound-object-kind",
        "Pod",
        "--bound-object-name",
        name,
    ]);
    token.trim().to_owned()
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// The process, and what starts it again at the same place.
struct Limiter {
    folder: tempfile::TempDir,
    kubeconfig: PathBuf,
    address: SocketAddr,
    metrics: SocketAddr,
    ca: Arc<Ca>,
    process: Option<Child>,
    /// Its name in the Lease.
    identity: &'static str,
    /// How the Lease is held, if there is another.
    lease_seconds: Option<u32>,
    /// What it may grant while it can't renew the Lease, in percent, and for how many seconds.
    offline: Option<(u32, u32)>,
    /// By which it reaches the API server; none: as the test does.
    to_api_server: Option<Link>,
}

/// The stories share the Lease of one namespace: one at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Door for Limiter {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn ca_pem(&self) -> String {
        self.ca.pem()
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Limiter {
    fn new(ca: Arc<Ca>, identity: &'static str, lease_seconds: Option<u32>) -> Limiter {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = kubeconfig(folder.path());
        let (address, metrics) = (free_address(), free_address());
        Limiter {
            folder,
            kubeconfig,
            address,
            metrics,
            ca,
            process: None,
            identity,
            lease_seconds,
            offline: None,
            to_api_server: None,
        }
    }

    /// It reaches the API server by a link that can be cut.
    async fn by_a_link(mut self) -> Limiter {
        let mut config: Value = serde_json::from_slice(&std::fs::read(&self.kubeconfig).unwrap()).unwrap();
        let server = &mut config["clusters"][0]["cluster"]["server"];
        let address = server.as_str().unwrap().strip_prefix("https://").unwrap().parse().unwrap();
        let link = Link::to(address).await;
        *server = format!("https://{}", link.address).into();
        std::fs::write(&self.kubeconfig, config.to_string()).unwrap();
        self.to_api_server = Some(link);
        self
    }

    /// The API server is out of its reach, or back.
    fn cut_off(&self, cut: bool) {
        self.to_api_server.as_ref().unwrap().cut(cut);
    }

    fn spawn(&mut self) {
        let program = std::env::current_exe().unwrap();
        let program = program.parent().unwrap().parent().unwrap().join("quotakeeper");
        let mut command = Command::new(program);
        command.args(["limiter", "--namespace", NAMESPACE, "--identity", self.identity]);
        command.args(["--address", &self.address.to_string()]);
        if let Some(seconds) = self.lease_seconds {
            command.args(["--lease-seconds", &seconds.to_string()]);
        }
        if let Some((percent, seconds)) = self.offline {
            command.args(["--offline-percent", &percent.to_string()]);
            command.args(["--offline-seconds", &seconds.to_string()]);
        }
        command.args(["--listen", &self.address.to_string(), "--metrics", &self.metrics.to_string()]);
        command.arg("--ledger").arg(self.folder.path().join("ledger.redb"));
        command.env("KUBECONFIG", &self.kubeconfig);
        let child = command.spawn().unwrap_or_else(|error| panic!("quotakeeper: {error}; run {NEEDS}"));
        self.process = Some(child);
    }

    /// As the kubelet ends it.
    fn stop(&mut self) {
        self.signal("-TERM");
        assert!(self.process.take().unwrap().wait().unwrap().success());
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    }

    /// As `kill -9` does.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.metrics).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: limiter\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// As if its pod were replaced: what it had on its disk is gone. Waits until the proxy has found the new one.
    async fn lose_ledger(&mut self, proxy: &Proxy, meanwhile: impl FnOnce()) {
        let epoch = proxy.newest_epoch();
        self.kill();
        std::fs::remove_file(self.folder.path().join("ledger.redb")).unwrap();
        meanwhile();
        self.spawn();
        until("the proxy is back", || proxy.newest_epoch() > epoch).await;
    }

    async fn ready(&self) {
        until("the limiter is ready", || self.get("/readyz").is_some_and(|(status, _)| status == 200)).await;
    }

    /// What is taken to be used of the quota gtm/openai.
    fn used(&self) -> Option<u64> {
        let (_, text) = self.get("/metrics")?;
        let line = r#"quotakeeper_limiter_limit_used{quota="gtm/openai",limit="requests",model=""} "#;
        text.lines().find_map(|found| found.strip_prefix(line)?.parse().ok())
    }

    fn metric(&self, line: &str) -> bool {
        self.get("/metrics").is_some_and(|(_, text)| text.lines().any(|found| found == line))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make cluster-test"]
async fn a_limiter_lives_and_dies_in_a_cluster() {
    let _alone = ALONE.lock().await;
    install();
    let mut limiter = Limiter::new(Arc::new(Ca::new()), "limiter-0", None);
    write_account(&quota("gtm/openai", AMOUNT));

    // Without a certificate it is alive, reports what it waits for, and serves nobody.
    limiter.spawn();
    until("it reports what it waits for", || {
        limiter.get("/readyz").is_some_and(|(status, why)| status == 503 && why.contains("Secret"))
    })
    .await;
    assert_eq!(limiter.get("/healthz").unwrap().0, 200);
    write_certificate(&limiter.ca);
    limiter.ready().await;

    // Three pods draw; it is killed again and again.
    let provider = Provider::of(AMOUNT);
    let proxies: Vec<Proxy> = (1..=3)
        .map(|number| {
            let token = pod(&format!("pod-{number}"), true);
            let consumer = format!("gtm/Job/job-{number}");
            let quotas = ["gtm/openai"];
            Proxy::drawing(&limiter, (number, &token), &consumer, &quotas, provider.clone())
        })
        .collect();
    let ask = |calls| proxies.iter().for_each(|proxy| proxy.ask(0, calls));
    let mut epoch = 0;
    ask(1);
    for asked in [3, 15, 27] {
        until("all calls are granted", || provider.counted() == asked).await;
        until("what was charged ahead is given back", || {
            limiter.used().is_some_and(|used| used <= asked + 1)
        })
        .await;
        // What it knows is in its ledger then: a kill soon after the next start costs nothing of that.
        limiter.stop();
        limiter.spawn();
        ask(4);
        until("some more calls are granted", || provider.counted() > asked).await;
        epoch = proxies.iter().map(Proxy::newest_epoch).max().unwrap();
        limiter.kill();
        limiter.spawn();
        until("all are back", || proxies.iter().all(|proxy| proxy.newest_epoch() > epoch)).await;
        limiter.ready().await;
    }
    until("all calls are granted", || provider.counted() == 39).await;
    epoch = epoch.max(proxies[0].newest_epoch());
    // And killed before it can have given anything back: whatever that costs, it grants no more than the quota.
    limiter.kill();
    limiter.spawn();
    until("all are back", || proxies.iter().all(|proxy| proxy.newest_epoch() > epoch)).await;
    limiter.ready().await;
    epoch = proxies.iter().map(Proxy::newest_epoch).max().unwrap();
    ask(100);
    let waiting =
        || format!(r#"quotakeeper_limiter_waiting_calls{{quota="gtm/openai"}} {}"#, 339 - provider.counted());
    until("it knows of all calls that it may not grant", || limiter.metric(&waiting())).await;
    assert!(provider.counted() <= AMOUNT, "{} of {AMOUNT}", provider.counted());
    let lease = kubectl(&[
        "get",
        "lease",
        "quotakeeper-limiter",
        "-n",
        NAMESPACE,
        "-o",
        r"jsonpath={.metadata.annotations.quotakeeper\.dev/epoch}",
    ]);
    assert_eq!(lease.parse::<u64>().unwrap(), epoch);

    // A quota that comes later is waited for.
    let later = pod("later", true);
    let later = Proxy::drawing(&limiter, (10, &later), "gtm/Job/later", &["gtm/later"], Provider::of(50));
    later.ask(0, 3);
    until("it is absent", || later.absence(0).is_some()).await;
    write_account(&quota("gtm/later", 50));
    until("its calls are granted", || later.granted(0) == 3).await;

    // What can't be read leaves in force what was, and is reported.
    write_document("gtm/later", r#"{"format": 99}"#);
    let degraded = r#"quotakeeper_limiter_degraded{reason="ConfigurationProblem"}"#;
    until("the problem is reported", || limiter.metric(&format!("{degraded} 1"))).await;
    later.ask(0, 1);
    until("calls are granted as before", || later.granted(0) == 4).await;
    write_account(&quota("gtm/later", 50));
    until("it is solved", || limiter.metric(&format!("{degraded} 0"))).await;

    // A pod that no watch shows is looked up; one that was not injected, or is gone, is refused.
    let unseen = pod("unseen", false);
    let unseen = Proxy::start(&limiter, (11, &unseen), "gtm/Job/unseen", &["gtm/later"]);
    until("a pod without the label has been refused", || unseen.attempts() >= 2).await;
    assert_eq!((unseen.received(), unseen.account(0)), (0, None));
    let gone = pod("gone", true);
    kubectl(&["delete", "pod", "gone", "-n", "gtm", "--grace-period=0", "--force"]);
    let gone = Proxy::start(&limiter, (12, &gone), "gtm/Job/gone", &["gtm/later"]);
    until("it has been refused", || gone.attempts() >= 2).await;
    assert_eq!((gone.received(), gone.account(0)), (0, None));
    kubectl(&["delete", "pod", "pod-3", "-n", "gtm", "--grace-period=0", "--force"]);
    let two = r#"quotakeeper_limiter_connected_proxies{quota="gtm/openai"} 2"#;
    until("a deleted pod's session ends", || limiter.metric(two)).await;

    // A damaged ledger is set aside, and closes what was in force for long; what is stated opens it, once.
    limiter.stop();
    std::fs::write(limiter.folder.path().join("ledger.redb"), "rubbish").unwrap();
    let old = CompiledAccount { in_force_since: Some(Timestamp::UNIX_EPOCH), ..quota("gtm/old", 50) };
    write_account(&old);
    limiter.spawn();
    limiter.ready().await;
    assert!(limiter.folder.path().join("ledger.damaged").exists());
    let silent = Provider::silent();
    let token = pod("old", true);
    let stated = Proxy::drawing(&limiter, (14, &token), "gtm/Job/old", &["gtm/old"], silent.clone());
    stated.ask(0, 30);
    until("one call asks the provider", || silent.counted() == 1).await;
    let at = Timestamp::now() + SignedDuration::from_secs(5);
    let used = vec![StatedUse { limit: "requests".to_owned(), amount: 40, at }];
    write_account(&CompiledAccount { generation: 2, used: used.clone(), ..old.clone() });
    until("what is left is granted", || silent.counted() == 10).await;
    write_account(&CompiledAccount { generation: 3, used, ..old });
    let waiting = r#"quotakeeper_limiter_waiting_calls{quota="gtm/old"} 20"#;
    until("it knows of all calls that it may not grant", || limiter.metric(waiting)).await;
    assert_eq!(silent.counted(), 10);

    checkpoints::a_rolled_back_one_closes_the_window(&mut limiter).await;
    let epoch = checkpoints::lost_ledgers_reopen_no_window(&mut limiter).await;
    // They trust the CA of their start alone.
    until("all are back", || proxies[..2].iter().all(|proxy| proxy.newest_epoch() > epoch)).await;

    // A renewed certificate, of another CA even, is shown to new connections.
    limiter.ca = Arc::new(Ca::new());
    write_certificate(&limiter.ca);
    let token = pod("pod-4", true);
    let renewed = Proxy::start(&limiter, (13, &token), "gtm/Job/renewed", &["gtm/later"]);
    until("the new certificate is shown", || renewed.in_force(0).is_some()).await;

    // The gate.
    apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": gate::NAME, "namespace": NAMESPACE},
        "data": gate::Opening::beginning(Timestamp::now()).data(),
    }));
    until("the others' waiting calls pass", || proxies[0].granted(0) == 113 && proxies[1].granted(0) == 113)
        .await;
    limiter.stop();
}
