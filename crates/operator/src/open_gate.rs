//! Opens the gate of all accounts, before an uninstall: running proxies let calls pass from then on.
//!
//! The gate belongs to the limiter's pods: it goes with the last of them and not before, so that
//! no proxy sees a closed gate in between, and a new installation begins with a closed one. The
//! limiter closes it after 15 minutes if it is still there.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
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

/// The hook's Job in the chart.
const JOB: &str = "quotakeeper-open-gate";
/// How long a request is tried, and the time between two.
const PATIENCE: Duration = Duration::from_secs(10);
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

/// Looks whether Helm is uninstalling the release.
///
/// # Errors
/// [`NoProof`]: the gate has to stay closed.
pub async fn proof(client: &Client, namespace: &str, release: &Release) -> Result<(), NoProof> {
    let newest = patiently(|| release.newest(client, namespace))
        .await
        .map_err(|error| NoProof::Unreadable { name: release.name.clone(), why: error.to_string() })?;
    release.is_going(namespace, newest.as_ref(), Timestamp::now())
}

/// Opens the gate, and returns when it closes by itself.
///
/// # Errors
/// When it can't be written.
pub async fn open(client: &Client, namespace: &str) -> kube::Result<Timestamp> {
    patiently(|| write(client, namespace)).await
}

/// Tries again for a while: the rights of a hook that has just been made are not known everywhere yet.
async fn patiently<T, F: Future<Output = kube::Result<T>>>(request: impl Fn() -> F) -> kube::Result<T> {
    let end = Instant::now() + PATIENCE;
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

/// Tells a Job, by an Event, that it has opened nothing; `uid` is the Job's.
///
/// # Errors
/// When it can't be written.
pub async fn tell_job(client: &Client, namespace: &str, uid: &str, note: &str) -> kube::Result<()> {
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some("open-gate".to_owned()) };
    let job = ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(JOB.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    };
    let reason = "GateStaysClosed".to_owned();
    let (action, note) = (reason.clone(), Some(note.to_owned()));
    let event = Event { type_: EventType::Warning, reason, note, action, secondary: None };
    Recorder::new(client.clone(), reporter).publish(&event, &job).await
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
