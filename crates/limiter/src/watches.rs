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
    ACCOUNT_DOCUMENT, CONFIG, CONFIG_ACCOUNT, FINGERPRINT_KEY, INJECTED, LIMITER, LIMITER_SECRET, QUOTA,
};
use quotakeeper_kube_cache as kube_cache;
use quotakeeper_kube_cache::Signal;
use quotakeeper_limiter_core::Configuration;
use quotakeeper_transport::tls;
use quotakeeper_wire::gate;
use quotakeeper_wire::message::FingerprintKey;
use rustls::{ClientConfig, ServerConfig};
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
    /// UIDs of pods that existed before: those that are gone by now are reported as deleted.
    pub compare: mpsc::Sender<BTreeSet<String>>,
    /// With which this limiter connects to another; none: its certificate comes without a CA.
    pub among_limiters: watch::Receiver<Option<Arc<ClientConfig>>>,
    certificates: watch::Receiver<Option<Arc<ServerConfig>>>,
    fingerprint_key: watch::Receiver<Option<FingerprintKey>>,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl Watches {
    /// Whether every call passes, as far as it is known.
    pub fn gate_is_open(&self) -> bool {
        let newest = self.configurations.borrow();
        newest.as_ref().is_some_and(|configuration| configuration.gate_open_until.is_some())
    }

    /// Starts the watches.
    pub fn start(client: &Client, namespace: &str) -> Watches {
        let (to_configurations, configurations) = watch::channel(None);
        let (to_certificates, certificates) = watch::channel(None);
        let (to_limiters, among_limiters) = watch::channel(None);
        let (to_fingerprint_key, fingerprint_key) = watch::channel(None);
        let (to_deleted_pods, deleted_pods) = mpsc::channel(DELETED_PODS);
        let (compare, before) = mpsc::channel(1);
        let pods = Pods::default();
        let tasks = [
            tokio::spawn(watch_accounts(Api::namespaced(client.clone(), namespace), to_configurations)),
            tokio::spawn(watch_certificate(
                Api::namespaced(client.clone(), namespace),
                server_name(namespace),
                CertificateTo {
                    server: to_certificates,
                    among_limiters: to_limiters,
                    key: to_fingerprint_key,
                },
            )),
            tokio::spawn(watch_pods(Api::all(client.clone()), pods.clone(), before, to_deleted_pods)),
        ];
        let _tasks = tasks.map(AbortOnDropHandle::new);
        Watches {
            configurations,
            pods,
            deleted_pods,
            compare,
            among_limiters,
            certificates,
            fingerprint_key,
            _tasks,
        }
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

/// Where each certificate goes.
struct CertificateTo {
    server: watch::Sender<Option<Arc<ServerConfig>>>,
    among_limiters: watch::Sender<Option<Arc<ClientConfig>>>,
    key: watch::Sender<Option<FingerprintKey>>,
}

/// Sends each certificate that can be used, and the key of fingerprints that goes with it.
async fn watch_certificate(secrets: Api<Secret>, name: String, to: CertificateTo) {
    let mut secret = pin!(kube_cache::object(secrets, LIMITER_SECRET, "the certificate"));
    while let Some(secret) = secret.next().await {
        let Some(secret) = secret else {
            warn!(secret = LIMITER_SECRET, "there is no certificate; the operator makes it");
            continue;
        };
        match certificate(&secret, &name) {
            Ok(Certificate { server, among_limiters }) => {
                info!(secret = LIMITER_SECRET, "the certificate is in use");
                to.key.send_replace(fingerprint_key(&secret));
                to.among_limiters.send_replace(among_limiters);
                to.server.send_replace(Some(server));
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

/// The name of the limiters' certificates.
pub fn server_name(namespace: &str) -> String {
    format!("{LIMITER}.{namespace}.svc")
}

struct Certificate {
    server: Arc<ServerConfig>,
    among_limiters: Option<Arc<ClientConfig>>,
}

fn certificate(secret: &Secret, name: &str) -> Result<Certificate, String> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        text.ok_or_else(|| format!("it has no {key} in PEM"))
    };
    let own = tls::Identity { chain_pem: text("tls.crt")?, key_pem: text("tls.key")? };
    let read = || match text("ca.crt") {
        Ok(ca) => Ok(Certificate {
            server: tls::server_config_beside_others(own, ca, name)?,
            among_limiters: Some(tls::client_config_of_a_limiter(own, ca)?),
        }),
        Err(_) => {
            Ok(Certificate { server: tls::server_config(own.chain_pem, own.key_pem)?, among_limiters: None })
        }
    };
    read().map_err(|error: tls::TlsError| error.to_string())
}

/// Applies the events of the injected pods, and sends the UIDs of those that are gone: of those that come by `before` too,
/// once the pods have been listed.
async fn watch_pods(
    api: Api<PartialObjectMeta<Pod>>,
    pods: Pods,
    mut before: mpsc::Receiver<BTreeSet<String>>,
    to: mpsc::Sender<String>,
) {
    // One that has ended says nothing any more, and may be there for days; so may one that no node has room for.
    let runs = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";
    let injected = Config::default().labels(&format!("{INJECTED}=true")).fields(runs);
    let mut events = pin!(kube_cache::events(api, injected, "injected pods"));
    let mut compared = BTreeSet::new();
    loop {
        let mut gone = tokio::select! {
            event = events.next() => match event {
                Some(event) => pods.apply(event),
                None => return,
            },
            Some(more) = before.recv() => {
                compared.extend(more);
                Vec::new()
            }
        };
        if !compared.is_empty()
            && let Some(present) = pods.namespaces()
        {
            gone.extend(std::mem::take(&mut compared).into_iter().filter(|uid| !present.contains_key(uid)));
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
