//! What a proxy says of its pod's workload, which nobody believes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use quotakeeper_wire::message::{ProxyMessage, ToLimiter};
use tracing::warn;

use crate::limiter::{Speak, Stopped};
use quotakeeper_wire::limiter::PodIdentity;

/// The most pods whose false claims are remembered; then logging starts over.
const REMEMBERED: usize = 10_000;

/// The pods, by UID, whose false claims have been logged.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<BTreeSet<String>>);

impl Claims {
    fn is_new(&self, uid: &str) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() >= REMEMBERED {
            logged.clear();
        }
        logged.insert(uid.to_owned())
    }
}

/// A session of a pod: in its hellos, the workload that the pod was authenticated as takes the place of the
/// one that the proxy claims. A false claim is logged once for a pod.
pub(super) struct Vouched<S> {
    speak: S,
    pod: PodIdentity,
    claims: Arc<Claims>,
}

impl<S> Vouched<S> {
    pub(super) fn new(speak: S, pod: PodIdentity, claims: Arc<Claims>) -> Self {
        Self { speak, pod, claims }
    }
}

impl<S: Speak> Speak for Vouched<S> {
    async fn say(&mut self, mut message: ToLimiter) -> Result<(), Stopped> {
        if let ProxyMessage::Hello(hello) = &mut message.body
            && hello.consumer != self.pod.consumer
        {
            let claimed = std::mem::replace(&mut hello.consumer, self.pod.consumer.clone());
            if self.claims.is_new(&self.pod.uid) {
                let PodIdentity { namespace, pod, consumer, .. } = &self.pod;
                warn!(
                    namespace,
                    pod, %claimed, %consumer, "a proxy claims another workload than its pod's; ignored"
                );
            }
        }
        self.speak.say(message).await
    }

    async fn close(self) {
        self.speak.close().await;
    }
}
