//! What the cluster says: accounts and gate, the certificate, the injected pods. Each watch goes on
//! where it was after a failure, with growing pauses.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, watcher::watch_object};
use kube::{Client, ResourceExt};
use quotakeeper_api::names::{ACCOUNT_DOCUMENT, CONFIG, CONFIG_ACCOUNT, INJECTED, LIMITER_SECRET, QUOTA};
use quotakeeper_transport::tls;
use quotakeeper_wire::gate;
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::auth::pods::{Pods, SeenPod};
use crate::documents::{AccountDocument, Documents, Refused};
use crate::gate::openings;
use quotakeeper_limiter_core::Configuration;

/// Keeps `to` at what is to be in force: none until accounts and gate have been listed once.
pub async fn accounts(client: Client, namespace: &str, to: watch::Sender<Option<Configuration>>) {
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let labelled = watcher::Config::default().labels(&format!("{CONFIG}={CONFIG_ACCOUNT}"));
    let mut accounts = std::pin::pin!(told(watcher(maps.clone(), labelled).default_backoff(), "accounts"));
    let gate = told(watch_object(maps, gate::NAME).default_backoff(), "the gate");
    let mut gate = std::pin::pin!(openings(gate, Timestamp::now));
    let mut documents = Documents::default();
    let mut list: Option<Vec<AccountDocument>> = None;
    let (mut listed, mut gate_open_until) = (false, None);
    loop {
        tokio::select! {
            Some(event) = accounts.next() => match event {
                Event::Init => list = Some(Vec::new()),
                Event::InitApply(map) => list.get_or_insert_default().push(written(map)),
                Event::InitDone => {
                    listed = true;
                    documents.replace(list.take().unwrap_or_default()).iter().for_each(tell);
                }
                Event::Apply(map) => documents.put(written(map)).iter().for_each(tell),
                Event::Delete(map) => documents.remove(&map.name_any()),
            },
            Some(until) = gate.next() => gate_open_until = Some(until),
            else => return,
        }
        if let Some(until) = gate_open_until.filter(|_| listed) {
            let configuration = Some(documents.configuration(until));
            to.send_if_modified(|current| {
                let changed = *current != configuration;
                *current = configuration;
                changed
            });
        }
    }
}

fn written(map: ConfigMap) -> AccountDocument {
    AccountDocument {
        name: map.name_any(),
        quota: map.annotations().get(QUOTA).map(|quota| quota.as_str().into()),
        text: map.data.and_then(|mut data| data.remove(ACCOUNT_DOCUMENT)),
    }
}

fn tell(Refused { quota, problem }: &Refused) {
    error!(%quota, problem, "an account's document can't be taken; what was in force before stays");
}

/// Keeps `to` at the newest certificate that can be used.
pub async fn certificate(client: Client, namespace: &str, to: watch::Sender<Option<Arc<ServerConfig>>>) {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let mut secret =
        std::pin::pin!(told(watch_object(secrets, LIMITER_SECRET).default_backoff(), LIMITER_SECRET));
    while let Some(secret) = secret.next().await {
        let Some(secret) = secret else {
            warn!(secret = LIMITER_SECRET, "there is no certificate; the operator makes it");
            continue;
        };
        match server_config(&secret) {
            Ok(config) => {
                info!(secret = LIMITER_SECRET, "the certificate is in use");
                to.send_replace(Some(config));
            }
            Err(why) => {
                error!(secret = LIMITER_SECRET, why, "the certificate can't be used; the one before stays")
            }
        }
    }
}

fn server_config(secret: &Secret) -> Result<Arc<ServerConfig>, String> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        text.ok_or_else(|| format!("it has no {key} in PEM"))
    };
    tls::server_config(text("tls.crt")?, text("tls.key")?).map_err(|error| error.to_string())
}

/// Keeps `pods` at the injected pods of the whole cluster, and says which are gone: of `before` too, the UIDs that
/// the ledger names, those that were deleted while no limiter ran.
pub async fn pods(client: Client, pods: Pods, mut before: BTreeSet<String>, gone: mpsc::Sender<String>) {
    let all: Api<PartialObjectMeta<Pod>> = Api::all(client);
    let injected = watcher::Config::default().labels(&format!("{INJECTED}=true"));
    let mut events = std::pin::pin!(told(watcher(all, injected).default_backoff(), "injected pods"));
    let mut list = Vec::new();
    while let Some(event) = events.next().await {
        let lost = match event {
            Event::Init => {
                list.clear();
                Vec::new()
            }
            Event::InitApply(pod) => {
                list.extend(SeenPod::of(&pod.metadata));
                Vec::new()
            }
            Event::InitDone => {
                let mut lost = pods.replace(std::mem::take(&mut list));
                lost.extend(std::mem::take(&mut before).into_iter().filter(|uid| pods.get(uid).is_none()));
                lost
            }
            Event::Apply(pod) => {
                SeenPod::of(&pod.metadata).into_iter().for_each(|pod| pods.insert(pod));
                Vec::new()
            }
            Event::Delete(pod) => pod.uid().into_iter().inspect(|uid| pods.remove(uid)).collect(),
        };
        for uid in lost {
            if gone.send(uid).await.is_err() {
                return;
            }
        }
    }
}

/// The events of a watch; failures are logged.
fn told<T>(
    stream: impl Stream<Item = Result<T, watcher::Error>>,
    what: &'static str,
) -> impl Stream<Item = T> {
    stream.filter_map(move |event| {
        let event = event.inspect_err(|error| warn!(%error, what, "a watch failed; it is tried again")).ok();
        std::future::ready(event)
    })
}
