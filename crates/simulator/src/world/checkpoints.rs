//! The API server's copy of the account's checkpoint: written by compare and swap, answered late or not at all, deleted
//! and rolled back.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::checkpoint::{CheckpointedPart, DrawnBy};
use quotakeeper_engine::time::Time;
use quotakeeper_limiter_core::{CheckpointTask, FoundCheckpoint, NotStored, StoredCheckpoint};

use super::{Happening, World};
use crate::account::KEY;
use crate::clock::Moment;

/// How long a limiter waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the API server's dates may be wrong by.
const SKEW: Duration = Duration::from_secs(3);
/// How much older than the newest a backup is at least.
const BACKUP_AGE: Duration = Duration::from_secs(60);
/// How long it takes at most until the account's document tells of a checkpoint.
const TOLD_WITHIN: Duration = Duration::from_secs(12);

/// What the API server has.
#[derive(Debug, Default)]
pub(super) struct CheckpointServer {
    stored: Option<(StoredCheckpoint, Moment)>,
    /// Counts the changes.
    version: u64,
    /// Which version each limiter has read or written last.
    known: BTreeMap<usize, u64>,
    /// All that were stored, and when.
    backups: Vec<(StoredCheckpoint, Moment)>,
    /// The number that the account's document tells.
    pub(super) told: Option<u64>,
}

/// A request on its way to the API server.
#[derive(Debug)]
pub(crate) struct CheckpointRequest {
    limiter: usize,
    task: CheckpointTask,
    /// The version that it replaces.
    replaces: u64,
    /// Somebody waits for the answer still.
    awaited: bool,
}

/// What a limiter learns of a request.
#[derive(Debug)]
pub(crate) enum CheckpointAnswer {
    Read(FoundCheckpoint),
    NotRead,
    Written(Result<(), NotStored>),
}

impl CheckpointServer {
    fn change(&mut self, stored: Option<(StoredCheckpoint, Moment)>) {
        self.stored = stored;
        self.version += 1;
    }

    /// Whether whoever finds this begins with use that is only assumed, and so with a call that asks the provider: the
    /// document tells of a later checkpoint, or this one has such use itself.
    fn has_one_ask(&self, found: &FoundCheckpoint) -> bool {
        let number = match found {
            FoundCheckpoint::Stored { stored, .. } => stored.number,
            FoundCheckpoint::Nothing | FoundCheckpoint::Unreadable => 0,
        };
        self.told.is_some_and(|told| number < told) || assumes(found)
    }

    fn serve(&mut self, request: &CheckpointRequest, now: Moment) -> CheckpointAnswer {
        match &request.task {
            CheckpointTask::Read(_) => {
                self.known.insert(request.limiter, self.version);
                CheckpointAnswer::Read(match self.stored.clone() {
                    Some((stored, at)) => {
                        FoundCheckpoint::Stored { stored, age: now.since(at).saturating_sub(SKEW) }
                    }
                    None => FoundCheckpoint::Nothing,
                })
            }
            CheckpointTask::Write(_) if request.replaces != self.version => {
                CheckpointAnswer::Written(Err(NotStored::Conflict))
            }
            CheckpointTask::Write(checkpoint) => {
                self.change(Some((checkpoint.clone(), now)));
                self.backups.push((checkpoint.clone(), now));
                if request.awaited {
                    self.known.insert(request.limiter, self.version);
                }
                CheckpointAnswer::Written(Ok(()))
            }
        }
    }
}

fn assumes(found: &FoundCheckpoint) -> bool {
    let FoundCheckpoint::Stored { stored, age } = found else { return false };
    let mut counts = stored.checkpoint.limits.iter().flat_map(|limit| &limit.counts);
    let assumed =
        |part: &CheckpointedPart| part.by == DrawnBy::Assumed && Duration::from_secs(part.leaves_in) > *age;
    counts.any(|count| count.counted.iter().any(assumed))
}

impl World {
    /// Sends what a limiter wants to have read or written.
    pub(super) fn checkpoints_begin(&mut self, limiter: usize, now: Time) {
        let Some(faults) = self.scenario.checkpoints else { return };
        for task in self.limiters[limiter].state.due_checkpoints(now) {
            let random = &mut self.chances.disk;
            let way = match random.chance(faults.late) {
                true => random.within(PATIENCE, Duration::from_secs(90)),
                false => random.within(Duration::from_millis(2), Duration::from_millis(60)),
            };
            let (awaited, fails) = (way < PATIENCE, random.chance(faults.fails));
            let answer = match &task {
                CheckpointTask::Read(_) => CheckpointAnswer::NotRead,
                CheckpointTask::Write(_) => CheckpointAnswer::Written(Err(NotStored::Failed("late".into()))),
            };
            if !awaited || fails {
                self.after(way.min(PATIENCE), Happening::CheckpointAnswered(limiter, Box::new(answer)));
            }
            if !fails {
                let replaces = self.checkpoints.known.get(&limiter).copied().unwrap_or(u64::MAX);
                let request = CheckpointRequest { limiter, task, replaces, awaited };
                self.after(way, Happening::CheckpointArrives(Box::new(request)));
            }
        }
    }

    /// At the API server.
    pub(super) fn checkpoint_arrives(&mut self, request: &CheckpointRequest) {
        let before = self.checkpoints.version;
        let answer = self.checkpoints.serve(request, self.now);
        if self.checkpoints.version != before {
            let told = self.chances.disk.within(Duration::from_millis(500), TOLD_WITHIN);
            let number = self.checkpoints.stored.as_ref().map_or(0, |(stored, _)| stored.number);
            self.after(told, Happening::CheckpointTold(number));
        }
        if request.awaited {
            let back = self.chances.disk.within(Duration::from_millis(2), Duration::from_millis(20));
            self.after(back, Happening::CheckpointAnswered(request.limiter, Box::new(answer)));
        }
    }

    pub(super) fn checkpoint_answered(&mut self, limiter: usize, answer: Box<CheckpointAnswer>) {
        if !self.limiters[limiter].up {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::CheckpointAnswered(limiter, answer));
        }
        if let CheckpointAnswer::Read(found) = &*answer
            && self.checkpoints.has_one_ask(found)
        {
            self.history.asking_calls += 1;
        }
        let key = KEY.into();
        self.drive(limiter, |state, now, out| match *answer {
            CheckpointAnswer::Read(found) => state.checkpoint_read(now, &key, found, out),
            CheckpointAnswer::NotRead => state.checkpoint_not_read(now, &key, "no answer".to_owned()),
            CheckpointAnswer::Written(written) => state.checkpoint_written(now, &key, written, out),
        });
    }

    /// The operator has seen the number of a checkpoint in the limiter's report, and writes the account's document.
    pub(super) fn checkpoint_told(&mut self, number: u64) {
        self.checkpoints.told = self.checkpoints.told.max(Some(number));
        let limiter = self.active;
        if self.limiters[limiter].up && self.limiter_stands_still(limiter).is_none() {
            let configuration = vec![self.compiled()].into();
            self.drive(limiter, |state, now, out| state.configure(now, configuration, out));
        }
    }

    /// A ledger is lost, and perhaps somebody has deleted the checkpoint or restored an older one meanwhile.
    pub(super) fn checkpoint_may_go(&mut self) {
        let Some(faults) = self.scenario.checkpoints else { return };
        let (now, random) = (self.now, &mut self.chances.disk);
        let (deleted, rolled_back) = (random.chance(faults.deleted), random.chance(faults.rolled_back));
        let old = |(_, at): &&(StoredCheckpoint, Moment)| now.since(*at) > BACKUP_AGE;
        let old: Vec<_> = self.checkpoints.backups.iter().filter(old).cloned().collect();
        if deleted {
            self.checkpoints.change(None);
        } else if rolled_back && !old.is_empty() {
            let (backup, _) = random.pick(&old).clone();
            // A restored object is dated anew.
            self.checkpoints.change(Some((backup, now)));
        }
    }
}
