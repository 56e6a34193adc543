//! The limiter's Lease: which limiter is active, its epoch, and where it is. Its epoch counts the transitions of the Lease.
//! It is written in the same request, and not in `leaseTransitions`, which would begin at 1 again after an uninstall,
//! while injected pods live on.
//!
//! With [`Terms`] it is a lock: its holder renews it, and another takes it only when it was not renewed for its whole
//! length. Without, the Deployment's strategy `Recreate` runs one limiter at a time, which grants for as long as it runs.
//! A limiter with terms waits until the pod of such a holder is gone.
//!
//! A Lease that somebody deletes says on what it said: its holder writes it again, and another that has read it takes it
//! no sooner than if it were there.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};
use quotakeeper_api::names::{EPOCH, LAST_CHANGE, LIMITER, LIMITER_ADDRESS, OFFLINE};
use quotakeeper_limiter_core::lease::{Held, Terms, Verdict, Watch};
use quotakeeper_limiter_core::offline::Offline;
use quotakeeper_wire::message::Epoch;
use tokio::time::timeout;
use tracing::warn;

use crate::clock::machine_time;
use crate::epoch::{Change, EpochSources};
use crate::offline::Claim;

/// The longest that a request may take where there are no terms.
const PATIENCE: Duration = Duration::from_secs(5);

/// The Lease, as one limiter sees it.
#[derive(Clone)]
pub struct Leases {
    api: Api<Lease>,
    client: Client,
    namespace: String,
    /// The limiter's pod.
    holder: String,
    /// Where peers reach it.
    address: Option<SocketAddr>,
    /// How it is held; none: for as long as its holder runs.
    pub terms: Option<Terms>,
    /// What this limiter may grant while it can't renew it; none: nothing.
    pub offline: Option<Offline>,
    /// The Lease as it was last read or written here.
    last: Arc<Mutex<Option<Lease>>>,
}

/// The right to be the newest limiter.
#[derive(Clone, Copy, Debug)]
pub struct Acquired {
    /// What was known of the limiters before.
    pub known: EpochSources,
    /// Its epoch.
    pub epoch: Epoch,
    /// How it begins.
    pub change: Change,
    /// When it began, by the API server's clock, to the second.
    pub at: Timestamp,
    /// What it may grant while it can't renew its Lease.
    pub offline: Option<Offline>,
    /// What another may grant that has lost its Lease.
    pub left_out: Option<Offline>,
}

/// What was found.
pub enum Found {
    /// It may be taken; none: there is none.
    Free(Option<Box<Lease>>),
    /// Another is active, perhaps there.
    Theirs(Option<SocketAddr>),
}

/// What a renewal came to.
pub enum Renewal {
    /// It is held on.
    Held,
    /// Another holds it.
    Lost,
}

/// Something that was asked of the API server was not done.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It did not answer in time.
    #[error("the API server has not answered in time")]
    Silent,
    /// It refused, or could not be reached.
    #[error(transparent)]
    Refused(#[from] kube::Error),
}

impl LeaseError {
    /// Another has written the Lease meanwhile.
    pub fn is_conflict(&self) -> bool {
        matches!(self, LeaseError::Refused(kube::Error::Api(status)) if status.code == 409)
    }
}

impl Leases {
    /// The Lease in this namespace, for the limiter of the pod `holder`, which peers reach at `address`.
    pub fn new(
        client: Client,
        namespace: &str,
        holder: &str,
        address: Option<SocketAddr>,
        terms: Option<Terms>,
    ) -> Leases {
        let api = Api::namespaced(client.clone(), namespace);
        let (namespace, holder) = (namespace.to_owned(), holder.to_owned());
        Leases { api, client, namespace, holder, address, terms, offline: None, last: Arc::default() }
    }

    async fn patiently<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
        let patience = self.terms.map_or(PATIENCE, Terms::patience);
        Ok(timeout(patience, request).await.map_err(|_| LeaseError::Silent)??)
    }

    /// The Lease; if it was deleted, as it was last, and without a version.
    async fn read(&self) -> Result<Option<Lease>, LeaseError> {
        match self.patiently(self.api.get_opt(LIMITER)).await? {
            Some(found) => {
                self.remember(&found);
                Ok(Some(found))
            }
            None => Ok(self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }

    /// Writes it over the version that was read.
    async fn write(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        let post = PostParams::default();
        let written = match lease.resource_version() {
            Some(_) => self.patiently(self.api.replace(LIMITER, &post, lease)).await?,
            None => self.patiently(self.api.create(&post, lease)).await?,
        };
        self.remember(&written);
        Ok(written)
    }

    fn remember(&self, lease: &Lease) {
        let ObjectMeta { name, annotations, owner_references, .. } = lease.metadata.clone();
        let metadata = ObjectMeta { name, annotations, owner_references, ..ObjectMeta::default() };
        let remembered = Lease { metadata, ..lease.clone() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(remembered);
    }

    /// Whether this limiter may be active now.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn look(&self, watch: &mut Watch) -> Result<Found, LeaseError> {
        let found = self.read().await?;
        if self.terms.is_none() {
            return Ok(Found::Free(found.map(Box::new)));
        }
        let theirs = match watch.sees(machine_time(), found.as_ref().map(held).as_ref(), &self.holder) {
            Verdict::Theirs { .. } => true,
            Verdict::WhileItRuns => self.is_there(found.as_ref().and_then(holder)).await?,
            Verdict::Free | Verdict::Ours => false,
        };
        Ok(match theirs {
            true => Found::Theirs(found.as_ref().and_then(address)),
            false => Found::Free(found.map(Box::new)),
        })
    }

    async fn is_there(&self, pod: Option<&str>) -> Result<bool, LeaseError> {
        let Some(pod) = pod else { return Ok(false) };
        let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(self.client.clone(), &self.namespace);
        let named = ListParams::default().fields(&format!("metadata.name={pod}"));
        Ok(!self.patiently(pods.list_metadata(&named)).await?.items.is_empty())
    }

    /// Takes the Lease that was found, with an epoch greater than that of every limiter before. `ledger`: the epoch of
    /// the limiter that last used the ledger here; `handed`: that of the one that has handed over to this.
    ///
    /// # Errors
    /// [`LeaseError`]; a conflict if another has written it meanwhile.
    pub async fn take(
        &self,
        found: Option<Box<Lease>>,
        ledger: Option<u64>,
        handed: Option<u64>,
    ) -> Result<Acquired, LeaseError> {
        let lease = found.as_deref().and_then(epoch);
        let known = EpochSources { ledger, lease, unix_seconds: unix_seconds() };
        let epoch = known.next();
        let change = known.change(handed);
        let claimed = found.as_deref().and_then(claim);
        let left_out = claimed.and_then(|claim| claim.left_out(known.lease, change));
        let found = match found {
            Some(lease) => *lease,
            None => self.first().await,
        };
        let mut lease = self.held_by_this(found, Some((epoch, change)));
        if left_out.is_none() {
            self.claim(&mut lease);
        }
        let written = self.write(&lease).await?;
        let offline = self.offline.filter(|_| left_out.is_none());
        Ok(Acquired { known, epoch, change, at: written_at(&written), offline, left_out })
    }

    /// Takes it again under a new epoch, for a state that follows another of this process; none: it is another's now.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn take_again(&self, ledger: u64) -> Result<Option<Acquired>, LeaseError> {
        let found = self.read().await?;
        let others = self.terms.is_some() && found.as_ref().and_then(holder) != Some(self.holder.as_str());
        match others {
            true => Ok(None),
            false => Ok(Some(self.take(found.map(Box::new), Some(ledger), None).await?)),
        }
    }

    /// Renews it. `claims`: no other may go on without it any more.
    ///
    /// # Errors
    /// [`LeaseError`]; nobody knows then whether it is renewed.
    pub async fn renew(&self, claims: bool) -> Result<Renewal, LeaseError> {
        match self.read().await? {
            Some(lease) if holder(&lease) == Some(self.holder.as_str()) => {
                let mut lease = self.held_by_this(lease, None);
                if claims {
                    self.claim(&mut lease);
                }
                let deleted = lease.resource_version().is_none();
                self.write(&lease).await?;
                if deleted {
                    warn!(lease = LIMITER, "the Lease was deleted; it is written again");
                }
                Ok(Renewal::Held)
            }
            _ => Ok(Renewal::Lost),
        }
    }

    /// Gives it up, so that another may take it at once. To be called when nothing is granted any more.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn give_up(&self) -> Result<(), LeaseError> {
        let Some(mut lease) = self.read().await? else { return Ok(()) };
        if self.terms.is_none() || holder(&lease) != Some(self.holder.as_str()) {
            return Ok(());
        }
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        spec.holder_identity = None;
        self.write(&lease).await?;
        Ok(())
    }

    /// The Lease as this limiter holds it; with an epoch and how it begins, anew.
    fn held_by_this(&self, mut lease: Lease, anew: Option<(Epoch, Change)>) -> Lease {
        let time = MicroTime(Timestamp::now());
        if let Some((epoch, change)) = anew {
            lease.annotations_mut().insert(LAST_CHANGE.to_owned(), change.to_string());
            lease.annotations_mut().insert(EPOCH.to_owned(), epoch.0.to_string());
            match self.address {
                Some(address) => {
                    lease.annotations_mut().insert(LIMITER_ADDRESS.to_owned(), address.to_string())
                }
                None => lease.annotations_mut().remove(LIMITER_ADDRESS),
            };
        }
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(&self.holder) {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.holder_identity = Some(self.holder.clone());
        if anew.is_some() {
            spec.acquire_time = Some(time.clone());
        }
        spec.lease_duration_seconds = self.terms.and_then(|terms| i32::try_from(terms.length.as_secs()).ok());
        spec.renew_time = self.terms.map(|_| time);
        lease
    }

    /// This limiter is the one that may go on without it, or none is.
    fn claim(&self, lease: &mut Lease) {
        let claim = epoch(lease).zip(self.offline).map(|(epoch, offline)| Claim { epoch, offline });
        match claim {
            Some(claim) => lease.annotations_mut().insert(OFFLINE.to_owned(), claim.to_string()),
            None => lease.annotations_mut().remove(OFFLINE),
        };
    }

    /// A Lease that nobody has held.
    async fn first(&self) -> Lease {
        let owner_references = self.owner().await.map(|owner| vec![owner]);
        let metadata =
            ObjectMeta { name: Some(LIMITER.to_owned()), owner_references, ..ObjectMeta::default() };
        Lease { metadata, ..Lease::default() }
    }

    /// The Deployment, so that an uninstall removes the Lease with it.
    async fn owner(&self) -> Option<OwnerReference> {
        let deployments: Api<PartialObjectMeta<Deployment>> =
            Api::namespaced(self.client.clone(), &self.namespace);
        match self.patiently(deployments.get_opt(LIMITER)).await {
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
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn epoch(lease: &Lease) -> Option<u64> {
    lease.annotations().get(EPOCH)?.parse().ok()
}

fn claim(lease: &Lease) -> Option<Claim> {
    lease.annotations().get(OFFLINE)?.parse().ok()
}

fn address(lease: &Lease) -> Option<SocketAddr> {
    lease.annotations().get(LIMITER_ADDRESS)?.parse().ok()
}

/// The Lease as others see it.
fn held(lease: &Lease) -> Held {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
    Held {
        holder: holder(lease).unwrap_or_default().to_owned(),
        renewal: lease.resource_version().unwrap_or_default(),
        epoch: epoch(lease).unwrap_or_default(),
        length: seconds.map(Duration::from_secs),
    }
}

/// When the API server stored the Lease, by its own clock, which also dates the records of the accounts.
fn written_at(lease: &Lease) -> Timestamp {
    let managed = lease.metadata.managed_fields.iter().flatten();
    managed.filter_map(|fields| Some(fields.time.as_ref()?.0)).max().unwrap_or_else(Timestamp::now)
}

fn unix_seconds() -> u64 {
    // A clock before 1970 is wrong.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
