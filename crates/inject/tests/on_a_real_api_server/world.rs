//! The API server with the goldens' cluster in it, and the webhook beside it: one listener for each entry, so that
//! one sees which entry has asked.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use kube::{Client, Config};
use quotakeeper_api::yaml;
use quotakeeper_inject::server::{Counts, Webhook, serve};
use serde_json::{Value, json};
use test_support::certificates::Ca;
use test_support::kubectl::{self, create_dry, kubectl};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::certificate::serving;
use crate::fixture::{Fixture, goldens};
use crate::meddler;
use crate::watched::Watched;

const NEEDS: &str =
    "tests/cluster/control-plane.sh run tests/built.py quotakeeper-inject:on_a_real_api_server -- --ignored";

/// The entries of the registration, in its order.
const ENTRIES: [&str; 3] = ["annotation", "pod", "namespace"];

pub struct World {
    webhooks: Vec<(&'static str, Webhook)>,
    /// Who counts is alone.
    turn: Mutex<()>,
    _runtime: Runtime,
}

impl World {
    /// What `act` gives, and which entries were asked meanwhile.
    pub fn asked<T>(&self, act: impl FnOnce() -> T) -> (T, Vec<(&'static str, Counts)>) {
        let _turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before: Vec<Counts> = self.webhooks.iter().map(|(_, webhook)| webhook.counts()).collect();
        let given = act();
        let since = self.webhooks.iter().zip(before).map(|((entry, webhook), before)| {
            let now = webhook.counts();
            let counts = Counts {
                injected: now.injected - before.injected,
                unchanged: now.unchanged - before.unchanged,
                skipped: now.skipped - before.skipped,
                denied: now.denied - before.denied,
                unavailable: now.unavailable - before.unavailable,
            };
            (*entry, counts)
        });
        (given, since.collect())
    }
}

/// The only one of this process: its tests run one after the other.
pub fn world() -> impl std::ops::Deref<Target = World> {
    static WORLD: OnceLock<World> = OnceLock::new();
    static TURNS: Mutex<()> = Mutex::new(());
    struct Alone(&'static World, #[expect(dead_code)] std::sync::MutexGuard<'static, ()>);
    impl std::ops::Deref for Alone {
        type Target = World;
        fn deref(&self) -> &World {
            self.0
        }
    }
    let turn = TURNS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    Alone(WORLD.get_or_init(build), turn)
}

fn build() -> World {
    kubectl::require_test_control_plane(NEEDS);
    fill();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ca = Ca::new();
    let (webhooks, ports) = runtime.block_on(start(&ca));
    register(&ca, &ports);
    let world = World { webhooks, turn: Mutex::new(()), _runtime: runtime };
    wait_until_asked(&world);
    world
}

/// The goldens' cluster, and a few namespaces more.
fn fill() {
    kubectl::install_crds();
    let text = std::fs::read_to_string(goldens().join("cluster.yaml")).unwrap();
    let mut objects: Vec<Value> = yaml::read(&text).unwrap().into_iter().map(|it| it.value).collect();
    let namespace = |name: &str, labels: Value| {
        let metadata = json!({"name": name, "labels": labels});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    };
    for name in ["platform", "research", "finance", "crm", "meddled", meddler::STRIPPED] {
        objects.push(namespace(name, json!({"kubernetes.io/metadata.name": name})));
    }
    let restricted = "pod-security.kubernetes.io/enforce";
    objects.push(namespace("restricted", json!({(restricted): "restricted"})));
    for (place, provider) in [
        ("crm", "openai"),
        ("meddled", "openai"),
        ("meddled", "hubspot"),
        (meddler::STRIPPED, "openai"),
        ("restricted", "openai"),
        ("restricted", "hubspot"),
    ] {
        objects.push(json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": provider, "namespace": place}, "spec": {"provider": {"name": provider}},
        }));
    }
    let (namespaces, others): (Vec<Value>, Vec<Value>) =
        objects.into_iter().partition(|object| object["kind"] == "Namespace");
    // Without controllers nobody makes them, or collects the Job of a CronJob that is not there.
    let places = namespaces.iter().map(|object| object["metadata"]["name"].clone());
    let accounts = places.chain([json!("kube-system")]).flat_map(|place| {
        ["default", "enrich"].map(|name| {
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": place}})
        })
    });
    let accounts: Vec<Value> = accounts.collect();
    for items in [namespaces, accounts, others] {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        kubectl(&["create", "-f", "-"], Some(&list)).unwrap();
    }
}

async fn start(ca: &Ca) -> (Vec<(&'static str, Webhook)>, Vec<u16>) {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_from(Config::infer().await.unwrap()).unwrap();
    let view = Watched::start(client.clone());
    let (webhooks, ports) = (&mut Vec::new(), &mut Vec::new());
    for entry in ENTRIES {
        // Their senders are gone: what they said last stays.
        let (_, settings) = watch::channel(Some(Arc::new(Fixture::new().settings)));
        let (_, tls) = watch::channel(Some(serving(ca)));
        let webhook = Webhook::new(view.clone(), client.clone(), settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        ports.push(listener.local_addr().unwrap().port());
        webhooks.push((entry, webhook.clone()));
        tokio::spawn(serve(listener, tls, webhook, Default::default(), std::future::pending()));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    ports.push(listener.local_addr().unwrap().port());
    tokio::spawn(meddler::serve(listener, serving(ca)));
    (std::mem::take(webhooks), std::mem::take(ports))
}

/// Registers the entries by their listeners' addresses, the other webhook and the policies.
fn register(ca: &Ca, ports: &[u16]) {
    let bundle: Value = serde_json::to_value(k8s_openapi::ByteString(ca.pem().into_bytes())).unwrap();
    let client = |port: u16| json!({"url": format!("https://127.0.0.1:{port}/inject"), "caBundle": bundle});
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(folder.join("webhook.yaml")).unwrap();
    let mut ours = yaml::read(&text.replace("RELEASE_NAMESPACE", "quotakeeper")).unwrap().remove(0).value;
    for ((entry, port), webhook) in ENTRIES.iter().zip(ports).zip(ours["webhooks"].as_array_mut().unwrap()) {
        assert!(webhook["name"].as_str().unwrap().starts_with(entry));
        webhook["clientConfig"] = client(*port);
    }
    let mut other = ours.clone();
    other["metadata"]["name"] = json!("zz.meddler.example.com");
    // The second one has the last word.
    let meddlers =
        [("meddled", "Never"), (meddler::STRIPPED, "IfNeeded")].map(|(namespace, reinvocation)| {
            let mut webhook = ours["webhooks"][0].clone();
            webhook["name"] = json!(format!("{namespace}.meddler.example.com"));
            webhook["reinvocationPolicy"] = json!(reinvocation);
            webhook["clientConfig"] = client(ports[ENTRIES.len()]);
            webhook["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
            webhook
        });
    other["webhooks"] = json!(meddlers);
    for object in [&ours, &other] {
        kubectl(&["create", "-f", "-"], Some(object)).unwrap();
    }
    kubectl(&["create", "-f", folder.join("policy.yaml").to_str().unwrap()], None).unwrap();
}

/// The API server takes registrations into account in its time.
fn wait_until_asked(world: &World) {
    let metadata = |namespace: &str| json!({"generateName": "x-", "namespace": namespace});
    let pod = |namespace: &str| {
        let spec = json!({"containers": [{"name": "app", "image": "x"}]});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata(namespace), "spec": spec})
    };
    let workload = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "slip", "labels": {"quotakeeper.dev/inject": "x"}},
    });
    let mut meddled = pod("meddled");
    meddled["metadata"]["annotations"] = json!({"quotakeeper.dev/quotas": "openai"});
    for _ in 0..300 {
        let asked = create_dry(&pod("sales")).is_ok() && world.webhooks[2].1.counts().injected > 0;
        let other = create_dry(&meddled).is_ok_and(|made| made.object.to_string().contains(meddler::ADDED));
        let policy = create_dry(&workload).is_ok_and(|made| !made.warnings.is_empty());
        if asked && other && policy {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("the API server does not ask the webhooks");
}
