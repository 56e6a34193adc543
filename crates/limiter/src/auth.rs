//! Authentication: ServiceAccount tokens for this limiter, bound to a pod that exists.
//!
//! A token is checked by the keys that the cluster publishes, so that a thousand pods that start at once
//! cause no request to the API server. A TokenReview is requested only where it is needed: the token's key
//! is not published yet, the keys can't be fetched, the pod has not been seen yet, or the operator asks. The rate of
//! these requests is limited, and that of tokens whose signature could not be checked apart from the others: whatever
//! strangers send, new pods and the operator are reviewed.
//!
//! | module | holds |
//! |---|---|
//! | [`keys`] | the published keys |
//! | [`token`] | the check of a token by these keys: pure |
//! | [`cluster_api`] | the API server: its keys, its reviews, its pods |
//! | [`pods`] | the pods that exist |
//! | `rate_limit` | the rate of requests to the API server |
//! | `ring` | the check of signatures |

pub mod cluster_api;
pub mod keys;
pub mod pods;
mod rate_limit;
mod ring;
pub mod token;

use std::sync::Arc;
use std::time::Duration;

use quotakeeper_api::names::INJECTED;
use quotakeeper_transport::{Authenticate, PodIdentity, Unauthenticated};
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;
use tracing::warn;

use self::cluster_api::{ClusterApi, Reviewed};
use self::keys::Keys;
use self::pods::{Pods, SeenPod};
use self::rate_limit::RateLimit;
use self::token::{BoundPod, Rejected};

/// The published keys are fetched again no sooner than this after the last time, …
const KEYS_AGAIN: Duration = Duration::from_secs(10);
/// … and no later than this: a key that is no longer published must not be trusted for ever.
const KEYS_OLD: Duration = Duration::from_secs(600);
/// The rate of reviews, per second, …
const REVIEWS_A_SECOND: u32 = 20;
/// … and the burst: a Deployment may start faster than the watch shows its pods.
const REVIEWS_AT_ONCE: u32 = 200;

/// Checks tokens. One for all connections.
#[derive(Clone)]
pub struct Authenticator<A>(Arc<Inner<A>>);

struct Inner<A> {
    api: A,
    pods: Pods,
    keys: RwLock<Option<Arc<Keys>>>,
    /// When the keys were fetched last. Locked during the fetch.
    fetched: Mutex<Option<Instant>>,
    /// Of tokens that the cluster has signed.
    signed_reviews: RateLimit,
    /// Of tokens of which that is not known.
    unknown_reviews: RateLimit,
}

impl<A: ClusterApi> Authenticator<A> {
    /// Checks tokens by the keys and the reviews of `api`.
    pub fn new(api: A, pods: Pods) -> Authenticator<A> {
        Authenticator(Arc::new(Inner {
            api,
            pods,
            keys: RwLock::new(None),
            fetched: Mutex::new(None),
            signed_reviews: RateLimit::new(REVIEWS_A_SECOND, REVIEWS_AT_ONCE, Instant::now()),
            unknown_reviews: RateLimit::new(REVIEWS_A_SECOND, REVIEWS_AT_ONCE, Instant::now()),
        }))
    }

    /// Checks by a review that the token is that of one of the ServiceAccounts `users`
    /// (`system:serviceaccount:NAMESPACE:NAME`).
    ///
    /// # Errors
    /// [`Unauthenticated`].
    pub async fn is_one_of(&self, token: &str, users: &[String]) -> Result<(), Unauthenticated> {
        let is_one = |found: &String| {
            let others = || format!("the token is that of {found}, not of {}", users.join(" or "));
            if users.contains(found) { Ok(()) } else { Err(Unauthenticated::Refused(others())) }
        };
        let reviews = match self.0.check(|keys| keys.user(token)).await {
            Ok(user) => {
                is_one(&user)?;
                &self.0.signed_reviews
            }
            Err(Rejected::Refused(why)) => return Err(Unauthenticated::Refused(why)),
            Err(Rejected::UnknownKey) => &self.0.unknown_reviews,
        };
        is_one(&self.0.review(token, reviews).await?.user)
    }
}

impl<A: ClusterApi> Authenticate for Authenticator<A> {
    async fn authenticate(&self, token: &str) -> Result<PodIdentity, Unauthenticated> {
        let reviews = match self.0.check(|keys| keys.check(token)).await {
            Ok(pod) => {
                if let Some(seen) = self.0.pods.get(&pod) {
                    return Ok(identity(pod, &seen));
                }
                &self.0.signed_reviews
            }
            Err(Rejected::Refused(why)) => return Err(Unauthenticated::Refused(why)),
            Err(Rejected::UnknownKey) => &self.0.unknown_reviews,
        };
        // Only the API server knows whether the pod exists, or the key.
        let pod = self.0.review(token, reviews).await?.pod;
        let pod = pod.ok_or_else(|| Unauthenticated::Refused(token::NOT_A_PODS.to_owned()))?;
        let seen = match self.0.pods.get(&pod) {
            Some(seen) => Some(seen),
            None => self.0.api.pod(&pod).await.map_err(Unauthenticated::Unavailable)?,
        };
        // Of others the limiter would not hear when they end.
        if seen.as_ref().is_some_and(|seen| seen.labels.get(INJECTED).is_none_or(|value| value != "true")) {
            let sentence = format!("the pod was not injected: it has no label {INJECTED}=true");
            return Err(Unauthenticated::Refused(sentence));
        }
        let seen = seen.ok_or_else(|| {
            Unauthenticated::Refused("the pod does not exist any more; its token ends with it".to_owned())
        })?;
        Ok(identity(pod, &seen))
    }
}

/// The pod that the token is bound to, with the workload that its metadata names.
fn identity(pod: BoundPod, seen: &SeenPod) -> PodIdentity {
    let consumer = seen.consumer(&pod);
    let BoundPod { namespace, pod, uid, service_account } = pod;
    let labels = seen.labels.clone();
    PodIdentity { namespace, pod, uid, service_account, consumer, labels }
}

impl<A: ClusterApi> Inner<A> {
    /// Checks a token by the published keys.
    async fn check<T>(&self, check: impl Fn(&Keys) -> Result<T, Rejected>) -> Result<T, Rejected> {
        let mut keys = self.keys.read().await.clone();
        if keys.is_none() || self.keys_are_old().await {
            keys = self.newer_than(keys.as_ref()).await.or(keys);
        }
        let Some(keys) = keys else { return Err(Rejected::UnknownKey) };
        match check(&keys) {
            Err(Rejected::UnknownKey) => {}
            checked => return checked,
        }
        self.newer_than(Some(&keys)).await.map_or(Err(Rejected::UnknownKey), |newer| check(&newer))
    }

    async fn keys_are_old(&self) -> bool {
        self.fetched.lock().await.is_none_or(|at| at.elapsed() >= KEYS_OLD)
    }

    /// The published keys, if there are others than `known`.
    async fn newer_than(&self, known: Option<&Arc<Keys>>) -> Option<Arc<Keys>> {
        let mut fetched = self.fetched.lock().await;
        let current = self.keys.read().await.clone();
        if let Some(current) = current
            && known.is_none_or(|known| !Arc::ptr_eq(known, &current))
        {
            return Some(current);
        }
        if fetched.is_some_and(|at| at.elapsed() < KEYS_AGAIN) {
            return None;
        }
        *fetched = Some(Instant::now());
        let published = self.api.keys().await.and_then(|published| Keys::read(&published));
        match published {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *self.keys.write().await = Some(Arc::clone(&keys));
                Some(keys)
            }
            Err(why) => {
                warn!(why, "the cluster's keys can't be fetched; tokens are reviewed by the API server");
                None
            }
        }
    }

    async fn review(&self, token: &str, reviews: &RateLimit) -> Result<Reviewed, Unauthenticated> {
        if !reviews.try_acquire(Instant::now()) {
            let busy = "too many tokens at a time need a review by the API server";
            return Err(Unauthenticated::Unavailable(busy.to_owned()));
        }
        match self.api.review(token).await {
            Ok(Ok(reviewed)) => Ok(reviewed),
            Ok(Err(why)) => Err(Unauthenticated::Refused(format!("the API server refuses the token: {why}"))),
            Err(why) => Err(Unauthenticated::Unavailable(why)),
        }
    }
}
