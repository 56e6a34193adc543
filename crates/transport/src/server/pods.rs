//! What the connections of each pod may take together: any pod of the cluster can show a token of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The most sessions of a pod at a time. A proxy has one; of one that reconnects the limiter may still hold another.
pub(super) const CONNECTIONS: usize = 4;
/// First messages that may be on their way at a time, of all pods together and one of each: of others up to
/// [`MOST_BYTES`](quotakeeper_wire::codec::MOST_BYTES) each would be kept in memory.
const FIRST_MESSAGES: usize = 16;

/// The pods with connections.
#[derive(Debug)]
pub(super) struct Pods {
    by_uid: Mutex<HashMap<String, Pod>>,
    first_messages: Arc<Semaphore>,
}

#[derive(Debug)]
struct Pod {
    /// The newest last.
    connections: VecDeque<(u64, CancellationToken)>,
    next: u64,
    first_message: Arc<Semaphore>,
}

impl Default for Pods {
    fn default() -> Pods {
        Pods { by_uid: Mutex::default(), first_messages: Arc::new(Semaphore::new(FIRST_MESSAGES)) }
    }
}

/// A connection of a pod. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct OfPod {
    pods: Arc<Pods>,
    uid: String,
    id: u64,
    first_message: Arc<Semaphore>,
}

/// A first message may come until this is dropped.
#[derive(Debug)]
pub(super) struct FirstMessage {
    _of_pod: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Pods {
    fn by_uid(&self) -> MutexGuard<'_, HashMap<String, Pod>> {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session of a pod begins, whose connection `cut` ends. Where the pod has too many, its oldest is cut.
    pub(super) fn begin(self: &Arc<Self>, uid: &str, cut: CancellationToken) -> OfPod {
        let mut by_uid = self.by_uid();
        let pod = by_uid.entry(uid.to_owned()).or_insert_with(|| Pod {
            connections: VecDeque::new(),
            next: 0,
            first_message: Arc::new(Semaphore::new(1)),
        });
        let id = pod.next;
        pod.next += 1;
        pod.connections.push_back((id, cut));
        if pod.connections.len() > CONNECTIONS
            && let Some((_, oldest)) = pod.connections.pop_front()
        {
            oldest.cancel();
        }
        let first_message = Arc::clone(&pod.first_message);
        OfPod { pods: Arc::clone(self), uid: uid.to_owned(), id, first_message }
    }
}

impl OfPod {
    /// Waits until the session's first message may come.
    pub(super) async fn first_message(&self) -> Option<FirstMessage> {
        // Neither is ever closed.
        let of_pod = Arc::clone(&self.first_message).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.pods.first_messages).acquire_owned().await.ok()?;
        Some(FirstMessage { _of_pod: of_pod, _of_all: of_all })
    }
}

impl Drop for OfPod {
    fn drop(&mut self) {
        let mut by_uid = self.pods.by_uid();
        let Some(pod) = by_uid.get_mut(&self.uid) else { return };
        pod.connections.retain(|(id, _)| *id != self.id);
        if pod.connections.is_empty() {
            by_uid.remove(&self.uid);
        }
    }
}
