//! The limiter's Lease: it stores the epoch of the limiter that started last, for one that has lost its
//! ledger.
//!
//! It is no lock: the Deployment's strategy `Recreate` runs one limiter at a time.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};
use quotakeeper_api::names::{EPOCH, LIMITER};
use quotakeeper_wire::message::Epoch;
use tracing::warn;

use crate::epoch::EpochSources;

/// The right to be the newest limiter.
#[derive(Clone, Copy, Debug)]
pub struct Acquired {
    /// What was known of the limiters before.
    pub known: EpochSources,
    /// Its epoch.
    pub epoch: Epoch,
    /// When it began, by the API server's clock, to the second.
    pub at: Timestamp,
}

/// Acquires an epoch greater than that of every limiter before, and writes it to the Lease. `ledger`:
/// the epoch of the limiter that last used the ledger here.
///
/// # Errors
/// When the API server does not accept it.
pub async fn acquire(
    client: &Client,
    namespace: &str,
    holder: &str,
    ledger: Option<u64>,
) -> Result<Acquired, kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    loop {
        let found = leases.get_opt(LIMITER).await?;
        let lease = found.as_ref().and_then(|lease| lease.annotations().get(EPOCH)?.parse().ok());
        let known = EpochSources { ledger, lease, unix_seconds: unix_seconds() };
        let epoch = known.next();
        let written = match found {
            Some(lease) => leases.replace(LIMITER, &PostParams::default(), &held(lease, holder, epoch)).await,
            None => {
                let metadata = ObjectMeta {
                    name: Some(LIMITER.to_owned()),
                    owner_references: owner(client, namespace).await.map(|owner| vec![owner]),
                    ..ObjectMeta::default()
                };
                let lease = Lease { metadata, ..Lease::default() };
                leases.create(&PostParams::default(), &held(lease, holder, epoch)).await
            }
        };
        match written {
            Ok(lease) => return Ok(Acquired { known, epoch, at: written_at(&lease) }),
            // Another has written meanwhile: try again.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
}

/// When the API server stored the Lease, by its own clock, which also dates the records of the accounts.
fn written_at(lease: &Lease) -> Timestamp {
    let managed = lease.metadata.managed_fields.iter().flatten();
    managed.filter_map(|fields| Some(fields.time.as_ref()?.0)).max().unwrap_or_else(Timestamp::now)
}

fn held(mut lease: Lease, holder: &str, epoch: Epoch) -> Lease {
    // The Lease's own count of transitions has 32 bits.
    lease.annotations_mut().insert(EPOCH.to_owned(), epoch.0.to_string());
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if spec.holder_identity.as_deref() != Some(holder) {
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
    }
    spec.holder_identity = Some(holder.to_owned());
    spec.acquire_time = Some(MicroTime(Timestamp::now()));
    lease
}

/// The Deployment, so that an uninstall removes the Lease with it.
async fn owner(client: &Client, namespace: &str) -> Option<OwnerReference> {
    let deployments: Api<PartialObjectMeta<Deployment>> = Api::namespaced(client.clone(), namespace);
    match deployments.get_opt(LIMITER).await {
        Ok(deployment) => deployment.and_then(|deployment| {
            Some(OwnerReference {
                api_version: Deployment::api_version(&()).into_owned(),
                kind: Deployment::kind(&()).into_owned(),
                name: LIMITER.to_owned(),
                uid: deployment.uid()?,
                ..OwnerReference::default()
            })
        }),
        Err(error) => {
            warn!(%error, deployment = LIMITER, "the Lease gets no owner, and will outlive an uninstallation");
            None
        }
    }
}

fn unix_seconds() -> u64 {
    // A clock before 1970 is wrong.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
