//! The checkpoints of accounts with long windows: when they are read, when they are written, and what follows.
//!
//! Whoever drives a [`LimiterState`] reads and writes them, by compare and swap, and reports what became of it. Until
//! an account's checkpoint has been read nothing is written, and nothing of its long windows is granted.

use std::time::Duration;

use quotakeeper_engine::Engine;
use quotakeeper_engine::event::{CheckpointRead, Event};
use quotakeeper_engine::time::Time;
use quotakeeper_wire::name::AccountKey;
use quotakeeper_wire::status::{CheckpointReport, PastUse};

use super::{LimiterState, Outbox};
use crate::checkpoint::StoredCheckpoint;
use crate::mutant::{self, Mutant};

/// The pause after a checkpoint that could not be read or written.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// So many failures in a row are reported: an API server that restarts answers sooner.
const REPORTED: u32 = 3;

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
pub enum FoundCheckpoint {
    /// Nothing.
    Nothing,
    /// Something that is no checkpoint of the account: it counts as lost.
    Unreadable,
    /// A checkpoint.
    Stored {
        /// What was stored.
        stored: StoredCheckpoint,
        /// For how long it has been stored, at least.
        age: Duration,
    },
}

/// Why a checkpoint is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// It was refused, or nobody knows: it is tried again. Why, as a sentence without its end.
    Failed(String),
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
    /// The highest that was to be written here: it may be stored although nobody has said so.
    tried: u64,
    /// What is under way.
    under_way: Option<UnderWay>,
    not_before: Time,
    /// A later limiter writes them.
    superseded: bool,
    /// This limiter has stored one.
    stored: bool,
    /// How often in a row a task has failed …
    failures: u32,
    /// … and why the last of them has.
    problem: Option<String>,
    /// What was used before is not known, because the newest was missing or rolled back.
    lost: bool,
    /// What was used before is known from one.
    began: bool,
}

/// A task that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnderWay {
    Read,
    /// The checkpoint of this number is being written.
    Write(u64),
}

impl AccountCheckpoints {
    /// Whether something has to be read or written, once its time has come.
    fn is_due(&self, engine: &Engine) -> bool {
        let idle = self.under_way.is_none() && !self.superseded && engine.needs_checkpoints();
        idle && (self.number.is_none() || engine.checkpoint_is_wanted())
    }

    fn failed(&mut self, why: String) {
        (self.failures, self.problem) = (self.failures.saturating_add(1), Some(why));
    }

    fn succeeded(&mut self) {
        (self.failures, self.problem) = (0, None);
    }

    /// What people and the quota's status are told of them.
    pub(super) fn report(&self) -> Option<CheckpointReport> {
        let Self { highest: number, lost, began, .. } = *self;
        let failing = self.failures >= REPORTED;
        let problem = self.problem.clone().filter(|_| failing);
        (number > 0 || failing).then_some(CheckpointReport { number, failing, problem, lost, began })
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
                None => {
                    checkpoints.under_way = Some(UnderWay::Read);
                    CheckpointTask::Read(key)
                }
                Some(last) => {
                    let number = last.saturating_add(1);
                    checkpoints.under_way = Some(UnderWay::Write(number));
                    checkpoints.tried = number;
                    let checkpoint = engine.checkpoint(now);
                    CheckpointTask::Write(StoredCheckpoint { account: key, quota, number, epoch, checkpoint })
                }
            };
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

    /// An account's checkpoint has been read, or nothing was found in its place. One that is older than the account's
    /// document tells was rolled back, and is as good as lost.
    pub fn checkpoint_read(&mut self, now: Time, key: &AccountKey, found: FoundCheckpoint, out: &mut Outbox) {
        let (epoch, granted_until) = (self.greeting.epoch.0, self.others_grant_until(now));
        let Some(account) = self.accounts.get_mut(key) else { return };
        let (told, checkpoints) = (account.compiled.checkpoint.unwrap_or(0), &mut account.checkpoints);
        let number = match &found {
            FoundCheckpoint::Stored { stored, .. } => stored.number,
            FoundCheckpoint::Nothing | FoundCheckpoint::Unreadable => 0,
        };
        checkpoints.highest = checkpoints.highest.max(number).max(told);
        checkpoints.number = Some(checkpoints.highest);
        checkpoints.under_way = None;
        checkpoints.succeeded();
        let read = match found {
            FoundCheckpoint::Stored { stored, .. } if stored.epoch > epoch => {
                checkpoints.superseded = true;
                return;
            }
            // This limiter's own: what it has granted since is known.
            FoundCheckpoint::Stored { stored, .. } if stored.epoch == epoch => return,
            FoundCheckpoint::Stored { stored, age }
                if number >= told || mutant::active(Mutant::NumberIgnored) =>
            {
                CheckpointRead::Found { checkpoint: stored.checkpoint, age, granted_until }
            }
            FoundCheckpoint::Stored { .. } | FoundCheckpoint::Unreadable => CheckpointRead::Lost,
            FoundCheckpoint::Nothing if told > 0 => CheckpointRead::Lost,
            FoundCheckpoint::Nothing => CheckpointRead::None,
        };
        self.begin_with_checkpoint(now, key, read, out);
    }

    /// Has the engine begin with what was found of the checkpoint, unless it knows better: by its ledger, or because
    /// it has stored one itself.
    fn begin_with_checkpoint(&mut self, now: Time, key: &AccountKey, read: CheckpointRead, out: &mut Outbox) {
        let Some(account) = self.accounts.get_mut(key) else { return };
        let known = account.past == PastUse::Recorded;
        let needed = !known && (!account.checkpoints.stored || read == CheckpointRead::RolledBack);
        if needed && read != CheckpointRead::None {
            account.checkpoints.began = matches!(read, CheckpointRead::Found { .. });
            account.checkpoints.lost = !account.checkpoints.began;
            // What was stated is to be applied to what the checkpoint has.
            account.stated.clear();
        }
        self.handle_event(now, Some(key.clone()), Event::CheckpointRead(read), out);
        self.apply_stated_use(now, key, out);
    }

    /// The account's document may tell of a later checkpoint than this limiter has found: then that was rolled back.
    pub(super) fn checkpoint_told(&mut self, now: Time, key: &AccountKey, out: &mut Outbox) {
        let Some(account) = self.accounts.get_mut(key) else { return };
        let (told, checkpoints) = (account.compiled.checkpoint.unwrap_or(0), &mut account.checkpoints);
        let highest = checkpoints.highest.max(checkpoints.tried);
        if checkpoints.number.is_none() || checkpoints.superseded || told <= highest {
            return;
        }
        (checkpoints.number, checkpoints.highest) = (Some(told), told);
        self.begin_with_checkpoint(now, key, CheckpointRead::RolledBack, out);
    }

    /// An account's checkpoint can't be read, for this reason: it is tried again.
    pub fn checkpoint_not_read(&mut self, now: Time, key: &AccountKey, why: String) {
        if let Some(account) = self.accounts.get_mut(key) {
            account.checkpoints.under_way = None;
            account.checkpoints.failed(why);
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
        let under_way = checkpoints.under_way.take();
        let event = match written {
            Ok(()) => {
                checkpoints.succeeded();
                checkpoints.stored = true;
                if let Some(UnderWay::Write(number)) = under_way {
                    checkpoints.highest = checkpoints.highest.max(number);
                }
                checkpoints.number = Some(checkpoints.highest);
                Event::Checkpointed
            }
            Err(why) => {
                checkpoints.not_before = now + RETRY_AFTER;
                match why {
                    NotStored::Conflict => checkpoints.number = None,
                    NotStored::Failed(why) => checkpoints.failed(why),
                }
                Event::CheckpointFailed
            }
        };
        self.handle_event(now, Some(key.clone()), event, out);
    }
}

#[cfg(test)]
mod tests;
