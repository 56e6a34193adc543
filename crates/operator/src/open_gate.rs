//! Opens the gate of all accounts, before an uninstall: running proxies let calls pass from then on.
//!
//! The gate belongs to the limiter's pods: it goes with the last of them and not before, so that
//! nobody is told of a closed gate in between, and a new installation begins with a closed one.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::{Client, ResourceExt};
use quotakeeper_wire::account::GATE;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cluster::{FIELD_MANAGER, owner};
use crate::limiter_view::{self, LimiterView, Source};
use crate::{DEPLOYMENT, LIMITER_SECRET, view};

/// Which pods are the limiter's.
const LIMITER: &str = "app.kubernetes.io/component=limiter";

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// All proxies that are connected have been told.
    Told {
        /// How many.
        proxies: u32,
    },
    /// The time was over: so many have been told, of so many.
    OutOfTime {
        /// Told.
        told: u32,
        /// Connected; 0 also where the limiter was not heard.
        connected: u32,
    },
}

/// Opens the gate.
///
/// # Errors
/// When it can't be written.
pub async fn open(client: &Client, namespace: &str) -> kube::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": GATE,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "quotakeeper"},
            "ownerReferences": owners(client, namespace).await?,
        },
        "data": {"open": "true"},
    });
    maps.patch(GATE, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await.map(drop)
}

/// The limiter's pods, else the operator's Deployment, so that an uninstall leaves nothing.
async fn owners(client: &Client, namespace: &str) -> kube::Result<Vec<OwnerReference>> {
    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), namespace);
    let mut owners: Vec<OwnerReference> = Vec::new();
    for pod in pods.list(&ListParams::default().labels(LIMITER)).await? {
        let (api_version, kind, name) = ("v1".to_owned(), "Pod".to_owned(), pod.name_any());
        let uid = pod.metadata.uid.unwrap_or_default();
        owners.push(OwnerReference { api_version, kind, name, uid, ..OwnerReference::default() });
    }
    if owners.is_empty() {
        owners.extend(owner(client, namespace, DEPLOYMENT).await?);
    }
    Ok(owners)
}

/// Waits until the limiter says that all proxies know, for at most `patience`.
///
/// # Errors
/// When the limiter's CA can't be read.
pub async fn told(
    client: &Client,
    namespace: &str,
    source: &Source,
    patience: Duration,
) -> kube::Result<Opened> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let named = ListParams::default().fields(&format!("metadata.name={LIMITER_SECRET}"));
    let secret = secrets.list(&named).await?.items.into_iter().next();
    let ca = secret.and_then(view::secret).and_then(|mut entries| entries.remove("ca.crt"));
    let (_known, limiter_ca) = watch::channel(ca);
    let (sender, mut heard) = watch::channel(LimiterView::nothing());
    let all = async {
        loop {
            let told = heard.borrow_and_update().report.as_ref().filter(|it| it.gate_open).map(|it| it.told);
            if let Some(told) = told.filter(|told| told.current >= told.connected) {
                return told.connected;
            }
            if heard.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let waited = timeout(patience, async {
        tokio::select! {
            proxies = all => proxies,
            () = limiter_view::listen(source, limiter_ca, &sender) => 0,
        }
    });
    Ok(match waited.await {
        Ok(proxies) => Opened::Told { proxies },
        Err(_) => {
            let told = sender.borrow().report.as_ref().map(|report| report.told).unwrap_or_default();
            Opened::OutOfTime { told: told.current, connected: told.connected }
        }
    })
}
