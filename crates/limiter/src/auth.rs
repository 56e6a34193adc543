//! Authentication: ServiceAccount tokens for this limiter, bound to a pod that exists.
//!
//! A token is checked by the keys that the cluster publishes, so that a thousand pods that start at once
//! cause no request to the API server. A TokenReview is requested only where it is needed: the token's key
//! is not published yet, the keys can't be fetched, the pod has not been seen yet, or the operator asks. The rate of
//! these requests is limited, apart for the operator, for pods, and for tokens whose signature could not be checked: what
//! strangers send delays neither. A pod that was refused is refused again for a while without a review.
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

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
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

/// A pod that was refused is refused for so long without another review.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Pods of which that is remembered.
const MOST_REFUSED: usize = 1_024;

/// Checks tokens. One for all connections.
#[derive(Clone)]
pub struct Authenticator<A>(Arc<Inner<A>>);

struct Inner<A> {
    api: A,
    pods: Pods,
    keys: RwLock<Option<Arc<Keys>>>,
    /// When the keys were fetched last. Locked during the fetch.
    fetched: Mutex<Option<Instant>>,
    /// Of pods' tokens that the cluster has signed.
    signed_reviews: RateLimit,
    /// Of the operator's.
    operator_reviews: RateLimit,
    /// Pods that were refused lately, by their uids.
    refused: std::sync::Mutex<HashMap<String, Refused>>,
    /// Of tokens of which that is not known.
    unknown_reviews: RateLimit,
}

/// The answer to a pod.
#[derive(Clone, Debug)]
struct Refused {
    at: Instant,
    why: String,
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
            operator_reviews: RateLimit::new(REVIEWS_A_SECOND, REVIEWS_AT_ONCE, Instant::now()),
            refused: std::sync::Mutex::default(),
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
                &self.0.operator_reviews
            }
            Err(Rejected::Refused(why)) => return Err(Unauthenticated::Refused(why)),
            Err(Rejected::UnknownKey) => &self.0.unknown_reviews,
        };
        is_one(&self.0.review(token, reviews).await?.user)
    }
}

impl<A: ClusterApi> Authenticate for Authenticator<A> {
    async fn authenticate(&self, token: &str) -> Result<PodIdentity, Unauthenticated> {
        let signed = match self.0.check(|keys| keys.check(token)).await {
            Ok(pod) => match self.0.pods.get(&pod) {
                Some(seen) => return Ok(identity(pod, &seen)),
                None => Some(pod.uid),
            },
            Err(Rejected::Refused(why)) => return Err(Unauthenticated::Refused(why)),
            Err(Rejected::UnknownKey) => None,
        };
        if let Some(why) = signed.as_deref().and_then(|uid| self.0.refused_lately(uid)) {
            return Err(Unauthenticated::Refused(why));
        }
        let reviews = if signed.is_some() { &self.0.signed_reviews } else { &self.0.unknown_reviews };
        let (pod, seen) = self.0.look_up(token, reviews).await?;
        // Of others the limiter would not hear when they end.
        if seen.labels.get(INJECTED).is_none_or(|value| value != "true") {
            let why = format!("the pod was not injected: it has no label {INJECTED}=true");
            if signed.is_some() {
                self.0.remember(pod.uid, why.clone());
            }
            return Err(Unauthenticated::Refused(why));
        }
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

impl<A> Inner<A> {
    /// Why the pod was refused a moment ago. One that is seen to be injected meanwhile is not asked about.
    fn refused_lately(&self, uid: &str) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(uid).filter(|refused| refused.at.elapsed() < REFUSED_FOR).map(|it| it.why.clone())
    }

    /// Remembers the answer to a pod that exists and stays as it is.
    fn remember(&self, uid: String, why: String) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= MOST_REFUSED {
            refused.retain(|_, refused| refused.at.elapsed() < REFUSED_FOR);
        }
        if refused.len() < MOST_REFUSED {
            refused.insert(uid, Refused { at: Instant::now(), why });
        }
    }
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

    /// The pod of a token, of which only the API server knows whether it exists, or the key.
    async fn look_up(
        &self,
        token: &str,
        reviews: &RateLimit,
    ) -> Result<(BoundPod, SeenPod), Unauthenticated> {
        let refused = |why: &str| Unauthenticated::Refused(why.to_owned());
        let pod = self.review(token, reviews).await?.pod.ok_or_else(|| refused(token::NOT_A_PODS))?;
        let seen = match self.pods.get(&pod) {
            Some(seen) => Some(seen),
            None => self.api.pod(&pod).await.map_err(Unauthenticated::Unavailable)?,
        };
        let seen = seen.ok_or_else(|| refused("the pod does not exist any more; its token ends with it"))?;
        Ok((pod, seen))
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
