//! Whose token it is: ServiceAccount tokens for this limiter, bound to a pod that exists.
//!
//! A token is checked here by the keys that the cluster publishes, so that a thousand pods that
//! start at once ask the API server nothing. It is asked (a TokenReview) where only it knows: the
//! token's key is not published yet, the keys can't be had, or the pod has not been seen yet.
//! Nothing that a stranger can send makes more than a bounded number of questions.
//!
//! | room | holds |
//! |---|---|
//! | [`keys`] | the published keys |
//! | [`token`] | a token's check by them: pure |
//! | [`judge`] | the API server: its keys, its reviews |
//! | [`pods`] | the pods that exist |
//! | `bound` | how many questions at a time |
//! | `ring` | signatures, by the one provider of cryptography |

mod bound;
pub mod judge;
pub mod keys;
pub mod pods;
mod ring;
pub mod token;

use std::sync::Arc;
use std::time::Duration;

use quotakeeper_transport::{Authenticate, PodIdentity, Unauthenticated};
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;
use tracing::warn;

use self::bound::Bound;
use self::judge::{Judge, Reviewed};
use self::keys::Keys;
use self::pods::{Pods, SeenPod};
use self::token::{BoundPod, Rejected};

/// The published keys are asked for again no sooner than this after the last time, …
const KEYS_AGAIN: Duration = Duration::from_secs(10);
/// … and no later: a key that is published no more is not believed for ever.
const KEYS_OLD: Duration = Duration::from_secs(600);
/// Reviews a second that tokens can cause, …
const REVIEWS_A_SECOND: u32 = 20;
/// … and at once: a deployment may start faster than its pods are seen here.
const REVIEWS_AT_ONCE: u32 = 200;

/// Checks tokens. One for all connections.
#[derive(Clone)]
pub struct Authenticator<J>(Arc<Inner<J>>);

struct Inner<J> {
    judge: J,
    pods: Pods,
    keys: RwLock<Option<Arc<Keys>>>,
    /// When the keys were asked for last. Held while they are.
    asked: Mutex<Option<Instant>>,
    reviews: Bound,
}

impl<J: Judge> Authenticator<J> {
    /// Checks tokens by what `judge` publishes and says.
    pub fn new(judge: J, pods: Pods) -> Authenticator<J> {
        Authenticator(Arc::new(Inner {
            judge,
            pods,
            keys: RwLock::new(None),
            asked: Mutex::new(None),
            reviews: Bound::new(REVIEWS_A_SECOND, REVIEWS_AT_ONCE, Instant::now()),
        }))
    }

    /// Whether the token is that of one of the ServiceAccounts `users`
    /// (`system:serviceaccount:NAMESPACE:NAME`), by the API server's word.
    ///
    /// # Errors
    /// [`Unauthenticated`].
    pub async fn is_one_of(&self, token: &str, users: &[String]) -> Result<(), Unauthenticated> {
        let found = self.0.review(token).await?.user;
        if !users.contains(&found) {
            let users = users.join(" or ");
            return Err(Unauthenticated::Refused(format!("the token is that of {found}, not of {users}")));
        }
        Ok(())
    }
}

impl<J: Judge> Authenticate for Authenticator<J> {
    async fn authenticate(&self, token: &str) -> Result<PodIdentity, Unauthenticated> {
        match self.0.check(token).await {
            Ok(pod) => {
                if let Some(seen) = self.0.pods.get(&pod) {
                    return Ok(identity(pod, &seen));
                }
            }
            Err(Rejected::Refused(why)) => return Err(Unauthenticated::Refused(why)),
            Err(Rejected::UnknownKey) => {}
        }
        // Only the API server knows whether the pod exists, or whose key it is.
        let pod = self.0.review(token).await?.pod;
        let pod = pod.ok_or_else(|| Unauthenticated::Refused(token::NOT_A_PODS.to_owned()))?;
        let seen = match self.0.pods.get(&pod) {
            Some(seen) => Some(seen),
            None => self.0.judge.pod(&pod).await.map_err(Unauthenticated::Unavailable)?,
        };
        let seen =
            seen.ok_or_else(|| Unauthenticated::Refused("the pod does not exist any more".to_owned()))?;
        Ok(identity(pod, &seen))
    }
}

/// Who draws: the pod that the token is bound to, as the workload that its metadata names.
fn identity(pod: BoundPod, seen: &SeenPod) -> PodIdentity {
    let consumer = seen.consumer(&pod);
    let BoundPod { namespace, pod, uid, service_account } = pod;
    PodIdentity { namespace, pod, uid, service_account, consumer }
}

impl<J: Judge> Inner<J> {
    /// Checks a token by the published keys.
    async fn check(&self, token: &str) -> Result<BoundPod, Rejected> {
        let mut keys = self.keys.read().await.clone();
        if keys.is_none() || self.keys_are_old().await {
            keys = self.newer_than(keys.as_ref()).await.or(keys);
        }
        let Some(keys) = keys else { return Err(Rejected::UnknownKey) };
        match keys.check(token) {
            Err(Rejected::UnknownKey) => {}
            checked => return checked,
        }
        self.newer_than(Some(&keys)).await.map_or(Err(Rejected::UnknownKey), |newer| newer.check(token))
    }

    async fn keys_are_old(&self) -> bool {
        self.asked.lock().await.is_none_or(|at| at.elapsed() >= KEYS_OLD)
    }

    /// The published keys, if others than `known` can be had.
    async fn newer_than(&self, known: Option<&Arc<Keys>>) -> Option<Arc<Keys>> {
        let mut asked = self.asked.lock().await;
        let current = self.keys.read().await.clone();
        if let Some(current) = current
            && known.is_none_or(|known| !Arc::ptr_eq(known, &current))
        {
            return Some(current);
        }
        if asked.is_some_and(|at| at.elapsed() < KEYS_AGAIN) {
            return None;
        }
        *asked = Some(Instant::now());
        let published = self.judge.keys().await.and_then(|published| Keys::read(&published));
        match published {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *self.keys.write().await = Some(Arc::clone(&keys));
                Some(keys)
            }
            Err(why) => {
                warn!(why, "the cluster's keys can't be had; tokens are checked by the API server");
                None
            }
        }
    }

    async fn review(&self, token: &str) -> Result<Reviewed, Unauthenticated> {
        if !self.reviews.take(Instant::now()) {
            let busy = "too many tokens at once that only the API server can check";
            return Err(Unauthenticated::Unavailable(busy.to_owned()));
        }
        match self.judge.review(token).await {
            Ok(Ok(reviewed)) => Ok(reviewed),
            Ok(Err(why)) => Err(Unauthenticated::Refused(format!("the API server refuses the token: {why}"))),
            Err(why) => Err(Unauthenticated::Unavailable(why)),
        }
    }
}
