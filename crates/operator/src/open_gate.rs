//! Opens the gate of all accounts, before an uninstall: running proxies let calls pass from then on.
//!
//! The gate belongs to the limiter's pods: it goes with the last of them and not before, so that
//! no proxy sees a closed gate in between, and a new installation begins with a closed one. The
//! limiter closes it after 15 minutes if it is still there.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::{Client, ResourceExt};
use quotakeeper_api::names::{LIMITER_SECRET, OPERATOR};
use quotakeeper_wire::gate::{NAME, Opening};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{FIELD_MANAGER, owner};
use crate::limiter_view::{self, LimiterView, Source};
use crate::release::{NoProof, Release};
use crate::view;

/// The time between two attempts of a request.
const AGAIN: Duration = Duration::from_millis(500);
/// Which pods are the limiter's.
const LIMITER: &str = "app.kubernetes.io/component=limiter";

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// All connected proxies know.
    Told {
        /// How many.
        proxies: u32,
    },
    /// The time was over: so many proxies know, of so many.
    OutOfTime {
        /// Told.
        told: u32,
        /// Connected; 0 also where the limiter did not report.
        connected: u32,
    },
}

impl Opened {
    /// How far it came, for people: the gate is open until then, and proxies were waited for so long.
    pub fn sentence(&self, until: Timestamp, waited: Duration) -> String {
        match self {
            Opened::Told { proxies } => format!("the gate is open until {until}, and {proxies} proxies know"),
            Opened::OutOfTime { told, connected } => format!(
                "the gate is open until {until}, and {told} of {connected} proxies know after {} s; pods of the \
                 others wait until they are restarted without a proxy",
                waited.as_secs()
            ),
        }
    }
}

/// Looks whether Helm is uninstalling the release; what can't be read is asked for again during `patience`.
///
/// # Errors
/// [`NoProof`]: the gate has to stay closed.
pub async fn proof(
    client: &Client,
    namespace: &str,
    release: &Release,
    patience: Duration,
) -> Result<(), NoProof> {
    let newest = patiently(patience, || release.newest(client, namespace))
        .await
        .map_err(|error| unreadable(release.name.clone(), &error))?;
    release.is_going(namespace, newest.as_ref(), Timestamp::now())
}

fn unreadable(name: String, error: &kube::Error) -> NoProof {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => NoProof::NotAllowed { name },
        error => NoProof::Unreadable { name, why: error.to_string() },
    }
}

/// Opens the gate, and returns when it closes by itself.
///
/// # Errors
/// When it can't be written during `patience`.
pub async fn open(client: &Client, namespace: &str, patience: Duration) -> kube::Result<Timestamp> {
    patiently(patience, || write(client, namespace)).await
}

/// Tries again for a while: the rights of a hook that has just been made are not known everywhere yet.
async fn patiently<T, F: Future<Output = kube::Result<T>>>(
    patience: Duration,
    request: impl Fn() -> F,
) -> kube::Result<T> {
    let end = Instant::now() + patience;
    loop {
        match request().await {
            Err(_) if Instant::now() < end => sleep(AGAIN).await,
            outcome => return outcome,
        }
    }
}

async fn write(client: &Client, namespace: &str) -> kube::Result<Timestamp> {
    let opening = Opening::beginning(Timestamp::now());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "quotakeeper"},
            "ownerReferences": owners(client, namespace).await?,
        },
        "data": opening.data(),
    });
    maps.patch(NAME, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await?;
    Ok(opening.open_until())
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
        owners.extend(owner(client, namespace, OPERATOR).await?);
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
    let ca =
        secret.and_then(|secret| view::secret(secret, None)).and_then(|mut entries| entries.remove("ca.crt"));
    let (_known, limiter_ca) = watch::channel(ca);
    let (sender, mut heard) = watch::channel(LimiterView::nothing());
    let all = async {
        loop {
            let told =
                heard.borrow_and_update().report.as_ref().filter(|it| it.gate_open).map(|it| it.proxies);
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
            let told = sender.borrow().report.as_ref().map(|report| report.proxies).unwrap_or_default();
            Opened::OutOfTime { told: told.current, connected: told.connected }
        }
    })
}
