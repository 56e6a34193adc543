//! The workload that a proxy claims, which is not trusted.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use quotakeeper_wire::message::{ProxyMessage, ToLimiter};
use tracing::warn;

use crate::limiter::{Inbox, Stopped};
use quotakeeper_wire::limiter::PodIdentity;

/// The most pods whose false claims are remembered; beyond it, logging starts over.
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

/// The inbox of a pod's session. In its hellos it replaces the workload that the proxy claims by the one
/// that the pod was authenticated as. A false claim is logged once for a pod.
pub(super) struct VerifiedInbox<I> {
    inbox: I,
    pod: PodIdentity,
    claims: Arc<Claims>,
}

impl<I> VerifiedInbox<I> {
    pub(super) fn new(inbox: I, pod: PodIdentity, claims: Arc<Claims>) -> Self {
        Self { inbox, pod, claims }
    }
}

impl<I: Inbox> Inbox for VerifiedInbox<I> {
    async fn deliver(&mut self, mut message: ToLimiter) -> Result<(), Stopped> {
        if let ProxyMessage::Hello(hello) = &mut message.body
            && hello.consumer != self.pod.consumer
        {
            let claimed = std::mem::replace(&mut hello.consumer, self.pod.consumer.clone());
            if self.claims.is_new(&self.pod.uid) {
                let PodIdentity { namespace, pod, consumer, .. } = &self.pod;
                warn!(
                    namespace,
                    pod, %claimed, %consumer, "the proxy claims another workload than its pod's; the claim is ignored"
                );
            }
        }
        self.inbox.deliver(message).await
    }

    async fn close(self) {
        self.inbox.close().await;
    }
}
