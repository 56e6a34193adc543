//! The thread that waits for the disk, one group commit at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use quotakeeper_limiter_core::DueRecord;
use quotakeeper_wire::message::Epoch;
use tokio::sync::{mpsc, oneshot};

use super::handle::Command;
use super::recovery::AnyLedger;
use crate::ledger::LedgerError;

/// Hands commits to the thread.
pub(super) struct Writer {
    jobs: std::sync::mpsc::Sender<Job>,
}

enum Job {
    /// Write records of the state with this epoch, and report the result.
    Write(Epoch, Vec<DueRecord>),
    /// Write the last records, close the ledger, and reply.
    Close(Vec<DueRecord>, oneshot::Sender<Result<(), LedgerError>>),
    /// Give the ledger back.
    Return(oneshot::Sender<AnyLedger>),
}

impl Writer {
    /// Starts the thread. It reports each commit to the task that `task` leads to.
    pub(super) fn start(mut ledger: AnyLedger, task: mpsc::WeakSender<Command>) -> Writer {
        let (sender, jobs) = std::sync::mpsc::channel::<Job>();
        // Ends when the task has ended and everything that it sent is written.
        tokio::task::spawn_blocking(move || {
            for job in jobs {
                match job {
                    // The task may have ended, and its last commit may still be queued. It ends when all
                    // handles are dropped, so this thread must not hold one.
                    Job::Write(epoch, records) => {
                        let written = write(&mut ledger, &records);
                        task.upgrade()
                            .map(|task| task.blocking_send(Command::Written(epoch, written)).is_ok());
                    }
                    Job::Close(records, reply) => {
                        let written = write(&mut ledger, &records);
                        // Closed before the reply, so that another process may open it then.
                        drop(ledger);
                        // Fails if nobody waits for it any more.
                        let _ = reply.send(written);
                        return;
                    }
                    Job::Return(reply) => {
                        // Fails if nobody waits for it any more.
                        let _ = reply.send(ledger);
                        return;
                    }
                }
            }
        });
        Writer { jobs: sender }
    }

    /// Writes records of the state with this epoch; [`Command::Written`] reports the result.
    pub(super) fn write(&self, epoch: Epoch, records: Vec<DueRecord>) {
        // The thread lives as long as the task.
        let _ = self.jobs.send(Job::Write(epoch, records));
    }

    /// Writes the last records, closes the ledger and replies.
    pub(super) fn close(self, records: Vec<DueRecord>, reply: oneshot::Sender<Result<(), LedgerError>>) {
        // The thread lives until it has written what was sent.
        let _ = self.jobs.send(Job::Close(records, reply));
    }

    /// Ends the thread once it has written what was sent, and returns the ledger.
    pub(super) async fn into_ledger(self) -> Option<AnyLedger> {
        let (reply, ledger) = oneshot::channel();
        // The thread lives until then.
        let _ = self.jobs.send(Job::Return(reply));
        ledger.await.ok()
    }
}

/// Writes records. A store that panics has not stored them; it opens its storage anew for the next commit.
fn write(ledger: &mut AnyLedger, records: &[DueRecord]) -> Result<(), LedgerError> {
    let written = catch_unwind(AssertUnwindSafe(|| ledger.write(records)));
    written.unwrap_or(Err(LedgerError::Panicked))
}
