//! The thread that waits for the disk, one group commit at a time.

use quotakeeper_limiter_core::DueRecord;
use tokio::sync::{mpsc, oneshot};

use super::handle::Command;
use crate::ledger::store::RecordStore;
use crate::ledger::{Ledger, LedgerError};

/// Hands commits to the thread.
pub(super) struct Writer {
    commits: std::sync::mpsc::Sender<Commit>,
}

/// Records to be written; with the last ones, the reply to whoever waits for them.
struct Commit {
    records: Vec<DueRecord>,
    last: Option<oneshot::Sender<Result<(), LedgerError>>>,
}

impl Writer {
    /// Starts the thread. It reports each commit to the task that `task` leads to.
    pub(super) fn start<S: RecordStore>(mut ledger: Ledger<S>, task: mpsc::WeakSender<Command>) -> Writer {
        let (sender, commits) = std::sync::mpsc::channel::<Commit>();
        // Ends when the task has ended and everything that it sent is written.
        tokio::task::spawn_blocking(move || {
            for Commit { records, last } in commits {
                let written = ledger.write(&records);
                match last {
                    Some(reply) => {
                        // Closed before the reply, so that another process may open it then.
                        drop(ledger);
                        // Fails if nobody waits for it any more.
                        let _ = reply.send(written);
                        return;
                    }
                    // The task may have ended, and its last commit may still be queued. It ends when all
                    // handles are dropped, so this thread must not hold one.
                    None => {
                        task.upgrade().map(|task| task.blocking_send(Command::Written(written)).is_ok());
                    }
                }
            }
        });
        Writer { commits: sender }
    }

    /// Writes records; [`Command::Written`] reports the result.
    pub(super) fn write(&self, records: Vec<DueRecord>) {
        // The thread lives as long as the task.
        let _ = self.commits.send(Commit { records, last: None });
    }

    /// Writes the last records, closes the ledger and replies.
    pub(super) fn close(self, records: Vec<DueRecord>, reply: oneshot::Sender<Result<(), LedgerError>>) {
        // The thread lives until it has written what was sent.
        let _ = self.commits.send(Commit { records, last: Some(reply) });
    }
}
