//! Has checkpoints read and written while the limiter goes on, and tells it what became of them.

use std::sync::Arc;
use std::time::Duration;

use quotakeeper_limiter_core::{CheckpointTask, FoundCheckpoint, NotStored, StoredCheckpoint};
use quotakeeper_wire::message::Epoch;
use quotakeeper_wire::name::AccountKey;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

use super::handle::Command;
use crate::checkpoints::CheckpointStore;

/// Between two writes: 20 a second at most, of all accounts together.
const PACE: Duration = Duration::from_millis(50);
/// Requests under way at a time.
const AT_ONCE: usize = 8;
/// How long the end of a limiter waits for its last checkpoints.
const LAST: Duration = Duration::from_secs(3);

/// What became of a checkpoint.
pub(super) enum Checkpointed {
    /// It has been read, or could not be, for this reason.
    Read(AccountKey, Result<FoundCheckpoint, String>),
    /// It was to be written.
    Written(AccountKey, Result<(), NotStored>),
}

/// Hands tasks to those who do them.
pub(super) struct Checkpointing {
    jobs: mpsc::UnboundedSender<Job>,
}

enum Job {
    /// A task of the state with this epoch.
    Do(Epoch, CheckpointTask),
    /// The last checkpoints.
    Close(Vec<StoredCheckpoint>, oneshot::Sender<()>),
}

impl Checkpointing {
    /// Starts it. It reports to the task that `task` leads to, and ends when this is dropped.
    pub(super) fn start(store: CheckpointStore, task: mpsc::WeakSender<Command>) -> Checkpointing {
        // Bounded by itself: each account has one at a time.
        let (sender, jobs) = mpsc::unbounded_channel();
        tokio::spawn(work(Arc::new(store), jobs, task));
        Checkpointing { jobs: sender }
    }

    /// Does a task of the state with this epoch; [`Command::Checkpointed`] reports the result.
    pub(super) fn begin(&self, epoch: Epoch, task: CheckpointTask) {
        // It lives as long as this.
        let _ = self.jobs.send(Job::Do(epoch, task));
    }

    /// Stores the last checkpoints, as far as that takes no longer than a few seconds.
    pub(super) async fn close(self, last: Vec<StoredCheckpoint>) {
        let (done, is_done) = oneshot::channel();
        // It lives as long as this.
        let _ = self.jobs.send(Job::Close(last, done));
        if timeout(LAST, is_done).await.is_err() {
            warn!("the last checkpoints are not stored; what they would have given back counts as used");
        }
    }
}

async fn work(
    store: Arc<CheckpointStore>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    task: mpsc::WeakSender<Command>,
) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    loop {
        let job = tokio::select! {
            job = jobs.recv(), if under_way.len() < AT_ONCE => job,
            Some(_) = under_way.join_next() => continue,
        };
        match job {
            None => return,
            Some(Job::Do(epoch, job)) => {
                if matches!(job, CheckpointTask::Write(_)) {
                    pace.tick().await;
                }
                let (store, task) = (Arc::clone(&store), task.clone());
                under_way.spawn(async move {
                    let outcome = perform(&store, job).await;
                    if let Some(task) = task.upgrade() {
                        // Fails if the limiter has ended.
                        let _ = task.send(Command::Checkpointed(epoch, outcome)).await;
                    }
                });
            }
            Some(Job::Close(last, done)) => {
                while under_way.join_next().await.is_some() {}
                for checkpoint in last {
                    // What is not stored costs capacity.
                    let _ = store.write(&checkpoint).await;
                }
                // Fails if nobody waits for it any more.
                let _ = done.send(());
                return;
            }
        }
    }
}

async fn perform(store: &CheckpointStore, task: CheckpointTask) -> Checkpointed {
    match task {
        CheckpointTask::Read(key) => {
            let found = store.read(&key).await.map_err(|error| error.to_string());
            Checkpointed::Read(key, found)
        }
        CheckpointTask::Write(checkpoint) => {
            let written = store.write(&checkpoint).await;
            Checkpointed::Written(checkpoint.account, written)
        }
    }
}
