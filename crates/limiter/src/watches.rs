//! What the limiter watches in the cluster: accounts and gate, its certificate, the injected pods.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use anyhow::Context;
use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Config;
use kube::{Client, ResourceExt};
use quotakeeper_api::names::{
    ACCOUNT_DOCUMENT, CONFIG, CONFIG_ACCOUNT, FINGERPRINT_KEY, INJECTED, LIMITER_SECRET, QUOTA,
};
use quotakeeper_kube_cache as kube_cache;
use quotakeeper_kube_cache::Signal;
use quotakeeper_limiter_core::Configuration;
use quotakeeper_transport::tls;
use quotakeeper_wire::gate;
use quotakeeper_wire::message::FingerprintKey;
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::auth::pods::Pods;
use crate::documents::{self, Document, StoredAccount};
use crate::gate::openings;

/// Deleted pods that may wait for the limiter.
const DELETED_PODS: usize = 1024;

/// All watches of a limiter. They end when this is dropped.
pub struct Watches {
    /// What is to be in force; none before accounts and gate have been listed.
    pub configurations: watch::Receiver<Option<Configuration>>,
    /// The injected pods of the whole cluster.
    pub pods: Pods,
    /// The UIDs of pods that were deleted.
    pub deleted_pods: mpsc::Receiver<String>,
    certificates: watch::Receiver<Option<Arc<ServerConfig>>>,
    fingerprint_key: watch::Receiver<Option<FingerprintKey>>,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl Watches {
    /// Starts the watches. `before`: the UIDs of pods that existed when a limiter last ran; those that
    /// are gone are reported as deleted.
    pub fn start(client: &Client, namespace: &str, before: BTreeSet<String>) -> Watches {
        let (to_configurations, configurations) = watch::channel(None);
        let (to_certificates, certificates) = watch::channel(None);
        let (to_fingerprint_key, fingerprint_key) = watch::channel(None);
        let (to_deleted_pods, deleted_pods) = mpsc::channel(DELETED_PODS);
        let pods = Pods::default();
        let tasks = [
            tokio::spawn(watch_accounts(Api::namespaced(client.clone(), namespace), to_configurations)),
            tokio::spawn(watch_certificate(
                Api::namespaced(client.clone(), namespace),
                to_certificates,
                to_fingerprint_key,
            )),
            tokio::spawn(watch_pods(Api::all(client.clone()), pods.clone(), before, to_deleted_pods)),
        ];
        let _tasks = tasks.map(AbortOnDropHandle::new);
        Watches { configurations, pods, deleted_pods, certificates, fingerprint_key, _tasks }
    }

    /// Waits for the first configuration.
    ///
    /// # Errors
    /// When its watch has ended.
    pub async fn first_configuration(&mut self) -> anyhow::Result<Configuration> {
        let first = self.configurations.wait_for(Option::is_some).await;
        let first = first.context("the watch of the accounts has ended")?.clone();
        self.configurations.mark_unchanged();
        Ok(first.unwrap_or_default())
    }

    /// The key of the credentials' fingerprints; none before the first certificate that can be used.
    pub fn fingerprint_key(&self) -> Option<FingerprintKey> {
        *self.fingerprint_key.borrow()
    }

    /// Waits for the first certificate that can be used, and returns the newest from then on.
    ///
    /// # Errors
    /// When its watch has ended.
    pub async fn certificates(&mut self) -> anyhow::Result<watch::Receiver<Arc<ServerConfig>>> {
        let ended = "the watch of the certificate has ended";
        let first = self.certificates.wait_for(Option::is_some).await.context(ended)?.clone();
        let (sender, receiver) = watch::channel(first.context(ended)?);
        let mut certificates = self.certificates.clone();
        // Ends with the watch.
        tokio::spawn(async move {
            while certificates.changed().await.is_ok() {
                let newest = certificates.borrow_and_update().clone();
                newest.into_iter().for_each(|newest| drop(sender.send_replace(newest)));
            }
        });
        Ok(receiver)
    }
}

/// Sends what is to be in force, once accounts and gate have been listed, and whenever it changes.
async fn watch_accounts(maps: Api<ConfigMap>, to: watch::Sender<Option<Configuration>>) {
    let signal = Signal::default();
    let mut changes = signal.subscribe();
    let labelled = Config::default().labels(&format!("{CONFIG}={CONFIG_ACCOUNT}"));
    let view = |map: ConfigMap, before: Option<&Document>| Some(Document::read(stored(map), before));
    let (documents, filling) = kube_cache::watch(maps.clone(), labelled, "accounts", &signal, view);
    let mut filling = pin!(filling);
    let gate = kube_cache::object(maps, gate::NAME, "the gate");
    let mut openings = pin!(openings(gate, Timestamp::now));
    let mut gate_open_until = None;
    loop {
        tokio::select! {
            () = &mut filling => return,
            Ok(()) = changes.changed() => {}
            until = openings.next() => match until {
                Some(until) => gate_open_until = Some(until),
                None => return,
            },
        }
        let (Some(until), Some(documents)) = (gate_open_until, documents.all()) else { continue };
        let configuration = documents::configuration(documents.values(), until);
        for (quota, problem) in documents::new_problems(to.borrow().as_ref(), &configuration) {
            error!(%quota, problem, "an account can't be put in force; what was in force before stays");
        }
        to.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&configuration);
            *current = Some(configuration);
            changed
        });
    }
}

fn stored(map: ConfigMap) -> StoredAccount {
    StoredAccount {
        name: map.name_any(),
        quota: map.annotations().get(QUOTA).map(|quota| quota.as_str().into()),
        text: map.data.and_then(|mut data| data.remove(ACCOUNT_DOCUMENT)),
    }
}

/// Sends each certificate that can be used, and the key of fingerprints that goes with it.
async fn watch_certificate(
    secrets: Api<Secret>,
    to: watch::Sender<Option<Arc<ServerConfig>>>,
    key_to: watch::Sender<Option<FingerprintKey>>,
) {
    let mut secret = pin!(kube_cache::object(secrets, LIMITER_SECRET, "the certificate"));
    while let Some(secret) = secret.next().await {
        let Some(secret) = secret else {
            warn!(secret = LIMITER_SECRET, "there is no certificate; the operator makes it");
            continue;
        };
        match server_config(&secret) {
            Ok(config) => {
                info!(secret = LIMITER_SECRET, "the certificate is in use");
                key_to.send_replace(fingerprint_key(&secret));
                to.send_replace(Some(config));
            }
            Err(why) => {
                error!(secret = LIMITER_SECRET, why, "the certificate can't be used; the one before stays")
            }
        }
    }
}

/// The key of the credentials' fingerprints, which is random for each installation, known to each limiter of it, and
/// stays for years. None: an operator of before has written the Secret, and another one will.
fn fingerprint_key(secret: &Secret) -> Option<FingerprintKey> {
    let digits = std::str::from_utf8(&secret.data.as_ref()?.get(FINGERPRINT_KEY)?.0).ok()?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    bytes?.try_into().ok().map(FingerprintKey)
}

fn server_config(secret: &Secret) -> Result<Arc<ServerConfig>, String> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        text.ok_or_else(|| format!("it has no {key} in PEM"))
    };
    tls::server_config(text("tls.crt")?, text("tls.key")?).map_err(|error| error.to_string())
}

/// Applies the events of the injected pods, and sends the UIDs of those that are gone: of `before` too,
/// once the pods have been listed.
async fn watch_pods(
    api: Api<PartialObjectMeta<Pod>>,
    pods: Pods,
    before: BTreeSet<String>,
    to: mpsc::Sender<String>,
) {
    let injected = Config::default().labels(&format!("{INJECTED}=true"));
    let mut events = pin!(kube_cache::events(api, injected, "injected pods"));
    let mut before = Some(before);
    while let Some(event) = events.next().await {
        let mut gone = pods.apply(event);
        if let Some(present) = before.is_some().then(|| pods.uids()).flatten() {
            gone.extend(before.take().unwrap_or_default().into_iter().filter(|uid| !present.contains(uid)));
        }
        for uid in gone {
            if to.send(uid).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn the_key_of_fingerprints_is_read_as_the_operator_writes_it() {
        let secret = |text: &str| Secret {
            data: Some([(FINGERPRINT_KEY.to_owned(), ByteString(text.as_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        let key = fingerprint_key(&secret(&"0a".repeat(32))).unwrap();
        assert_eq!(key.0, [10; 32]);
        for bad in ["", "0a", "zz", &"0a".repeat(33), &"0g".repeat(32)] {
            assert!(fingerprint_key(&secret(bad)).is_none(), "{bad}");
        }
    }
}
