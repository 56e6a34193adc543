//! What checkpoints have of an account's counters, and what these may grant because of it.

use std::sync::Arc;
use std::time::Duration;

use super::{Entry, InitialState, Lanes, Limit};
use crate::checkpoint::{Checkpoint, CheckpointedCount, CheckpointedLimit, LimitIdentity};
use crate::cost::Costs;
use crate::queue::LaneId;
use crate::time::Time;
use crate::window_counter::{LONG, Taken, WindowCounter};

/// What a checkpoint has of a model: of one that it does not name, nothing was granted.
pub(super) fn count_of(found: &CheckpointedLimit, model: Option<&str>) -> CheckpointedCount {
    let count = found.counts.iter().find(|count| count.model.as_deref() == model);
    count.cloned().unwrap_or_default()
}

impl Limit {
    /// Whether checkpoints have it: its window is so long that nobody waits for it to pass.
    fn is_checkpointed(&self) -> bool {
        self.counts_a_window() && self.config.window >= LONG && !self.is_maximum()
    }

    /// What checkpoints know it by.
    pub(super) fn identity(&self) -> LimitIdentity {
        LimitIdentity::of(&self.config, self.holds_for.allocation().cloned())
    }

    /// Others may have used it since the checkpoint: one call goes first, unless calls may be under way for long.
    pub(super) fn ask_first(&self, counter: &mut WindowCounter) {
        if self.settling().is_none() {
            counter.ask_first();
        }
    }
}

impl Entry {
    /// It is a copy, of which no checkpoint has anything.
    pub(super) fn close_cover(&mut self, now: Time) {
        if let Some((_, counter)) = self.window_mut() {
            counter.close_cover(now);
        }
    }
}

impl Lanes {
    pub(super) fn requires_cover(&self, limit: &Limit) -> bool {
        self.checkpoints && limit.is_checkpointed()
    }

    /// Whether all that is counted of a limit is only assumed of a predecessor, for want of a checkpoint. Nothing was granted
    /// of it since, unless this engine has stored one. The ledger does without it: who begins from that is to read the
    /// checkpoint too.
    pub(in crate::account) fn waits_for_checkpoint(&self, limit: &Limit) -> bool {
        let start = self.starts.get(&limit.config.name).unwrap_or(&self.start);
        self.requires_cover(limit) && matches!(start, InitialState::Predecessor(_))
    }

    /// Whether checkpoints cover what some limit grants.
    pub(in crate::account) fn has_covers(&self) -> bool {
        self.limits.iter().any(|limit| self.requires_cover(limit))
    }

    /// From now on long windows grant what checkpoints cover.
    pub(in crate::account) fn require_checkpoints(&mut self, now: Time) {
        self.checkpoints = true;
        self.require_covers(now);
    }

    /// Closes what no checkpoint has, of the limits in force.
    pub(super) fn require_covers(&mut self, now: Time) {
        if !self.checkpoints {
            return;
        }
        for entry in self.counters.values_mut() {
            let Some((limit, counter)) = entry.window_mut() else { continue };
            match limit.is_checkpointed() {
                true => counter.require_cover(limit.identity(), now),
                false => counter.drop_cover(),
            }
        }
    }

    /// Whether a call of these costs may be granted as far as checkpoints are concerned.
    pub(in crate::account) fn covers_call(&mut self, lane: LaneId, costs: &Costs) -> bool {
        let mut covered = true;
        if self.checkpoints {
            self.each_entry(lane, |entry| {
                let cost = entry.cost(costs);
                covered &= entry.window_mut().is_none_or(|(_, counter)| counter.covers(cost));
            });
        }
        covered
    }

    /// Whether a checkpoint is wanted before what covers the lane's calls is used up.
    pub(in crate::account) fn cover_is_low(&self, lane: LaneId) -> bool {
        let low = |entry: &Entry| entry.counter().window().is_some_and(WindowCounter::cover_is_low);
        self.checkpoints && self.entries_of(lane).any(low)
    }

    /// The same of all calls.
    pub(in crate::account) fn some_cover_is_low(&self) -> bool {
        let low = |entry: &Entry| entry.counter().window().is_some_and(WindowCounter::cover_is_low);
        self.checkpoints && self.entries().any(|(_, entry)| low(entry))
    }

    /// What a checkpoint keeps, with blocks that should last for `horizon`.
    pub(in crate::account) fn checkpoint(&mut self, now: Time, horizon: Duration) -> Checkpoint {
        let limits = self.limits.iter().filter(|limit| limit.is_checkpointed()).cloned();
        let limits: Vec<Arc<Limit>> = limits.collect();
        let mut checkpoint = Checkpoint::default();
        for limit in limits {
            let mut counts = Vec::new();
            for entry in self.counters.values_mut().filter(|entry| entry.limit.place == limit.place) {
                let model = entry.model.clone();
                let Some((_, counter)) = entry.window_at(now) else { continue };
                counts.push(CheckpointedCount { model, ..counter.checkpoint(now, horizon) });
            }
            let (name, identity) = (limit.config.name.clone(), limit.identity());
            checkpoint.limits.push(CheckpointedLimit { name, identity, counts });
        }
        checkpoint
    }

    /// Begins with a checkpoint that was stored `age` ago and whose block may be granted until then, as far as nothing
    /// better is known.
    pub(in crate::account) fn begin_with(
        &mut self,
        now: Time,
        checkpoint: &Checkpoint,
        age: Duration,
        granted_until: Time,
    ) {
        for limit in self.unknown_limits() {
            let Some(found) = checkpoint.limit(&limit.config.name, &limit.identity()) else { continue };
            let (found, taken) = (
                Arc::new(found.clone()),
                Taken { age, arrived: limit.settles(granted_until, granted_until) },
            );
            let start = self.starts.get(&limit.config.name);
            let again = matches!(start, Some(InitialState::Checkpoint { .. }));
            for entry in self.counters.values_mut().filter(|entry| entry.limit.place == limit.place) {
                let count = count_of(&found, entry.model.as_deref());
                let Some((_, counter)) = entry.window_mut() else { continue };
                if again {
                    counter.forget_checkpoint();
                }
                counter.begin_with(now, &count, taken);
                limit.ask_first(counter);
            }
            self.start_limit(&limit.config.name, InitialState::Checkpoint { limit: found, taken });
        }
    }

    /// Nothing is known of what was granted before, as far as nothing better is.
    pub(in crate::account) fn begin_without_checkpoint(&mut self, now: Time) {
        for limit in self.unknown_limits() {
            for entry in self.counters.values_mut().filter(|entry| entry.limit.place == limit.place) {
                if let Some((_, counter)) = entry.window_mut() {
                    counter.begin_unknown(now, limit.settles(now, now));
                }
            }
            self.start_limit(&limit.config.name, InitialState::UnknownPast { since: now });
        }
    }

    /// Limits that checkpoints have and whose past is not known otherwise.
    fn unknown_limits(&self) -> Vec<Arc<Limit>> {
        let unknown =
            |limit: &&Arc<Limit>| limit.is_checkpointed() && !self.past_is_known(&limit.config.name);
        self.limits.iter().filter(unknown).cloned().collect()
    }

    /// Tells each counter that checkpoints cover.
    pub(in crate::account) fn each_covered(&mut self, tell: impl Fn(&mut WindowCounter)) {
        let windows = self.counters.values_mut().filter_map(|entry| Some(entry.window_mut()?.1));
        windows.for_each(tell);
    }
}
