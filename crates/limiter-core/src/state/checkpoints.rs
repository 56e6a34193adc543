//! The checkpoints of accounts with long windows: when they are read, when they are written, and what follows.
//!
//! Whoever drives a [`LimiterState`] reads and writes them, by compare and swap, and reports what became of it. Until
//! an account's checkpoint has been read nothing is written, and nothing of its long windows is granted.

use std::time::Duration;

use quotakeeper_engine::Engine;
use quotakeeper_engine::checkpoint::Checkpoint;
use quotakeeper_engine::event::{CheckpointRead, Event};
use quotakeeper_engine::time::Time;
use quotakeeper_wire::name::{AccountKey, QuotaName};
use quotakeeper_wire::status::{CheckpointReport, PastUse};
use serde::{Deserialize, Serialize};

use super::{LimiterState, Outbox};

/// The pause after a checkpoint that could not be read or written.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A checkpoint as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredCheckpoint {
    /// The account.
    pub account: AccountKey,
    /// Its quota.
    pub quota: QuotaName,
    /// Counts the checkpoints of the account: one that is lower than another was stored before it.
    pub number: u64,
    /// The epoch of the limiter that wrote it.
    pub epoch: u64,
    /// What it holds.
    #[serde(flatten)]
    pub checkpoint: Checkpoint,
}

/// What has to be done for an account's checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointTask {
    /// It has to be read: report [`LimiterState::checkpoint_read`].
    Read(AccountKey),
    /// It has to be stored in place of the one that was read or written last: report
    /// [`LimiterState::checkpoint_written`].
    Write(StoredCheckpoint),
}

/// What was found where an account's checkpoint should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCheckpoint {
    /// The checkpoint, and how long it has been stored for, at least.
    pub stored: Option<(StoredCheckpoint, Duration)>,
    /// The number of the newest one that the quota's status has told of.
    pub told: Option<u64>,
}

/// Why a checkpoint is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// Nobody knows, or it was refused: it is tried again.
    Failed,
    /// Another has been stored meanwhile: that is read.
    Conflict,
}

/// The checkpoints of one account.
#[derive(Debug, Default)]
pub(super) struct AccountCheckpoints {
    /// The number of the newest; none: it has to be read.
    number: Option<u64>,
    /// The highest number that is known.
    highest: u64,
    /// A task is under way.
    busy: bool,
    not_before: Time,
    /// A later limiter writes them.
    superseded: bool,
    /// This limiter has stored one.
    stored: bool,
    /// The last task has failed.
    failing: bool,
    /// None was found, or one that was rolled back, although the quota's status tells of it.
    lost: bool,
}

impl AccountCheckpoints {
    /// Whether something has to be read or written, once its time has come.
    fn is_due(&self, engine: &Engine) -> bool {
        let idle = !self.busy && !self.superseded && engine.needs_checkpoints();
        idle && (self.number.is_none() || engine.checkpoint_is_wanted())
    }

    /// What people and the quota's status are told of them.
    pub(super) fn report(&self) -> Option<CheckpointReport> {
        let Self { highest: number, failing, lost, .. } = *self;
        (number > 0 || failing).then_some(CheckpointReport { number, failing, lost })
    }
}

impl LimiterState {
    /// When [`LimiterState::due_checkpoints`] has something, if nothing else happens before.
    pub(super) fn next_checkpoint(&self, now: Time) -> Option<Time> {
        let accounts = self.accounts.values().filter(|_| self.checkpoints);
        let due = accounts.filter(|account| account.checkpoints.is_due(&account.engine));
        due.map(|account| account.checkpoints.not_before.max(now)).min()
    }

    /// From now on long windows grant only what a stored checkpoint covers. To be called before anything is granted.
    pub fn require_checkpoints(&mut self, now: Time) {
        self.checkpoints = true;
        self.accounts.values_mut().for_each(|account| account.engine.require_checkpoints(now));
    }

    /// What has to be read and written now.
    pub fn due_checkpoints(&mut self, now: Time) -> Vec<CheckpointTask> {
        if !self.checkpoints {
            return Vec::new();
        }
        let epoch = self.greeting.epoch.0;
        let mut due = Vec::new();
        for (key, account) in &mut self.accounts {
            let (engine, checkpoints) = (&mut account.engine, &mut account.checkpoints);
            if !checkpoints.is_due(engine) || now < checkpoints.not_before {
                continue;
            }
            let (key, quota) = (key.clone(), account.compiled.quota.clone());
            let task = match checkpoints.number {
                None => CheckpointTask::Read(key),
                Some(last) => CheckpointTask::Write(StoredCheckpoint {
                    account: key,
                    quota,
                    number: last.saturating_add(1),
                    epoch,
                    checkpoint: engine.checkpoint(now),
                }),
            };
            checkpoints.busy = true;
            due.push(task);
        }
        due
    }

    /// The last checkpoints of a limiter that grants nothing any more: they hold nothing ahead.
    pub fn closing_checkpoints(&mut self, now: Time) -> Vec<StoredCheckpoint> {
        let epoch = self.greeting.epoch.0;
        let stored = self.accounts.iter_mut().filter(|(_, account)| {
            let AccountCheckpoints { stored, superseded, .. } = account.checkpoints;
            stored && !superseded
        });
        let last = stored.map(|(key, account)| {
            // One that is being stored has the next number.
            let number = account.checkpoints.highest.saturating_add(2);
            let (account_key, quota) = (key.clone(), account.compiled.quota.clone());
            let checkpoint = account.engine.last_checkpoint(now);
            StoredCheckpoint { account: account_key, quota, number, epoch, checkpoint }
        });
        last.collect()
    }

    /// An account's checkpoint has been read, or nothing was found in its place. One that is older than the quota's
    /// status tells was rolled back, and is as good as lost.
    pub fn checkpoint_read(&mut self, now: Time, key: &AccountKey, found: FoundCheckpoint, out: &mut Outbox) {
        let epoch = self.greeting.epoch.0;
        let Some(account) = self.accounts.get_mut(key) else { return };
        let FoundCheckpoint { stored, told } = found;
        let number = stored.as_ref().map(|(stored, _)| stored.number).max(told).unwrap_or(0);
        let number = number.max(account.checkpoints.highest);
        account.checkpoints.busy = false;
        account.checkpoints.failing = false;
        (account.checkpoints.number, account.checkpoints.highest) = (Some(number), number);
        let read = match stored {
            Some((stored, _)) if stored.epoch > epoch => {
                account.checkpoints.superseded = true;
                return;
            }
            // This limiter's own: what it has granted since is known.
            Some((stored, _)) if stored.epoch == epoch => return,
            Some((stored, age)) if Some(stored.number) >= told => {
                CheckpointRead::Found { checkpoint: stored.checkpoint, age }
            }
            Some(_) => CheckpointRead::Lost,
            None if told.is_some() => CheckpointRead::Lost,
            None => CheckpointRead::None,
        };
        account.checkpoints.lost = read == CheckpointRead::Lost && account.past != PastUse::Recorded;
        if read != CheckpointRead::None && account.past != PastUse::Recorded {
            // What was stated is to be applied to what the checkpoint has.
            account.stated.clear();
        }
        self.handle_event(now, Some(key.clone()), Event::CheckpointRead(read), out);
        self.apply_stated_use(now, key, out);
    }

    /// An account's checkpoint can't be read: it is tried again.
    pub fn checkpoint_not_read(&mut self, now: Time, key: &AccountKey) {
        if let Some(account) = self.accounts.get_mut(key) {
            account.checkpoints.busy = false;
            account.checkpoints.failing = true;
            account.checkpoints.not_before = now + RETRY_AFTER;
        }
    }

    /// What became of the checkpoint of an account that was to be written.
    pub fn checkpoint_written(
        &mut self,
        now: Time,
        key: &AccountKey,
        written: Result<(), NotStored>,
        out: &mut Outbox,
    ) {
        let Some(account) = self.accounts.get_mut(key) else { return };
        let checkpoints = &mut account.checkpoints;
        checkpoints.busy = false;
        checkpoints.failing = written == Err(NotStored::Failed);
        checkpoints.stored |= written.is_ok();
        let event = match written {
            Ok(()) => {
                checkpoints.highest = checkpoints.highest.saturating_add(1);
                checkpoints.number = Some(checkpoints.highest);
                Event::Checkpointed
            }
            Err(why) => {
                checkpoints.not_before = now + RETRY_AFTER;
                if why == NotStored::Conflict {
                    checkpoints.number = None;
                }
                Event::CheckpointFailed
            }
        };
        self.handle_event(now, Some(key.clone()), event, out);
    }
}

#[cfg(test)]
mod tests;
