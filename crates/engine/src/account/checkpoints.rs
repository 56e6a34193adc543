//! What of an account's long windows is stored beside the ledger, where the loss of the ledger does not reach.

use std::time::Duration;

use super::Engine;
use crate::checkpoint::Checkpoint;
use crate::config::Mode;
use crate::cost::Costs;
use crate::event::CheckpointRead;
use crate::queue::LaneId;
use crate::time::Time;
use crate::window_counter::WindowCounter;

/// How long the first block lasts after a start; the next twice as long …
const FIRST_HORIZON: Duration = Duration::from_secs(60);
/// … up to this.
const LONGEST_HORIZON: Duration = Duration::from_secs(600);

/// The checkpoints of an engine.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Something has to be stored.
    pub(super) wanted: bool,
    /// One was taken whose fate is not known yet.
    under_way: bool,
    /// One has been stored: what this engine has granted is in none before it.
    pub(super) stored: bool,
    /// How long the newest block should last.
    horizon: Duration,
}

impl Engine {
    /// From now on calls that draw on a long window are granted only as far as a checkpoint covers them.
    pub fn require_checkpoints(&mut self, now: Time) {
        self.lanes.require_checkpoints(now);
    }

    /// Whether it has long windows, and what they grant is to be covered by checkpoints.
    pub fn needs_checkpoints(&self) -> bool {
        self.lanes.has_covers()
    }

    /// Whether [`Engine::checkpoint`] has something to be stored now.
    pub fn checkpoint_is_wanted(&self) -> bool {
        self.checkpoints.wanted && !self.checkpoints.under_way
    }

    /// What has to be stored. Tell [`crate::event::Event::Checkpointed`] when it is, or
    /// [`crate::event::Event::CheckpointFailed`].
    pub fn checkpoint(&mut self, now: Time) -> Checkpoint {
        let horizon = match self.checkpoints.stored {
            false => FIRST_HORIZON,
            true => (self.checkpoints.horizon * 2).min(LONGEST_HORIZON),
        };
        self.checkpoints.horizon = horizon;
        self.take_checkpoint(now, horizon)
    }

    /// The last of an engine that grants nothing any more: it holds nothing ahead.
    pub fn last_checkpoint(&mut self, now: Time) -> Checkpoint {
        self.take_checkpoint(now, Duration::ZERO)
    }

    fn take_checkpoint(&mut self, now: Time, horizon: Duration) -> Checkpoint {
        self.checkpoints.wanted = false;
        self.checkpoints.under_way = true;
        self.lanes.checkpoint(now, horizon)
    }

    /// Whether a call of these costs may be granted as far as checkpoints are concerned.
    pub(super) fn checkpoint_covers(&mut self, lane: LaneId, costs: &Costs) -> bool {
        let covered = self.config.mode == Mode::Disabled || self.lanes.covers_call(lane, costs);
        self.checkpoints.wanted |= !covered;
        covered
    }

    /// More is known of past use than the newest checkpoint has.
    pub(super) fn past_is_better_known(&mut self) {
        self.durability.past_learned();
        self.checkpoints.wanted |= self.checkpoints.stored;
    }

    pub(super) fn checkpoint_read(&mut self, now: Time, read: CheckpointRead) {
        if self.checkpoints.stored && read != CheckpointRead::RolledBack {
            return;
        }
        match read {
            CheckpointRead::Found { checkpoint, age, granted_until } => {
                self.lanes.begin_with(now, &checkpoint, age, granted_until.max(now));
            }
            CheckpointRead::Lost | CheckpointRead::RolledBack => self.lanes.begin_without_checkpoint(now),
            CheckpointRead::None => {}
        }
        self.past_is_better_known();
    }

    pub(super) fn checkpoint_stored(&mut self) {
        self.lanes.each_covered(WindowCounter::cover_stored);
        self.checkpoints.under_way = false;
        self.checkpoints.stored = true;
        self.checkpoints.wanted |= self.lanes.some_cover_is_low();
    }

    pub(super) fn checkpoint_failed(&mut self) {
        self.lanes.each_covered(WindowCounter::cover_failed);
        self.checkpoints.under_way = false;
        self.checkpoints.wanted = true;
    }
}
