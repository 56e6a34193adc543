//! Waiting calls that a pause of their workload or credential holds: they stand aside, so that they hold up no
//! other call of their lane.

use super::{Call, CallState, Engine};
use crate::callers::{Caller, PauseKey};
use crate::config::Mode;
use crate::event::{Callers, Fingerprint};
use crate::queue::{CallKey, LaneId};
use crate::time::Time;

/// Whether all calls so far have carried the same credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OnlyCredential {
    #[default]
    Unknown,
    One(Fingerprint),
    Several,
}

impl OnlyCredential {
    pub(super) fn seen(&mut self, credential: Fingerprint) {
        *self = match *self {
            OnlyCredential::Unknown => OnlyCredential::One(credential),
            OnlyCredential::One(known) if known == credential => *self,
            _ => OnlyCredential::Several,
        };
    }
}

impl Engine {
    /// The pause of this workload or credential that holds a call of the lane the longest.
    fn holding(&self, now: Time, lane: LaneId, caller: Caller<'_>) -> Option<(&PauseKey, Time)> {
        let config = self.config.pause;
        if self.pauses.is_empty() || self.config.mode == Mode::Disabled {
            return None;
        }
        let covering = self.pauses.iter().filter(|(key, _)| {
            !key.callers.is_all() && key.callers.cover(caller) && self.lanes.covers(lane, &key.scope)
        });
        let holding = covering.filter_map(|(key, pause)| Some((key, pause.blocked_until(now, &config)?)));
        holding.max_by_key(|(_, until)| *until)
    }

    /// Until when a pause of its workload or credential holds a call of the lane; `None`: none does.
    pub(super) fn held_until(&self, now: Time, lane: LaneId, caller: Caller<'_>) -> Option<Time> {
        self.holding(now, lane, caller).map(|(_, until)| until)
    }

    /// Whether there are pauses of single workloads or credentials: mostly there are none, and no call is looked up.
    pub(super) fn pauses_single_callers(&self) -> bool {
        self.pauses.keys().any(|key| !key.callers.is_all())
    }

    /// Takes a call out of the queue that a pause of its workload or credential holds. Returns whether it does.
    pub(super) fn hold_if_paused(&mut self, now: Time, key: CallKey) -> bool {
        let Some(call) = self.calls.get(&key) else { return false };
        let Some((pause, _)) = self.holding(now, call.wanted.lane, call.wanted.caller()) else {
            return false;
        };
        let pause = pause.clone();
        if let Some(Call { state: CallState::Waiting { position, parked }, .. }) = self.calls.get_mut(&key) {
            self.queue.remove(*position);
            *parked = true;
        }
        self.held.entry(pause).or_default().push(key);
        true
    }

    /// Lets as many calls stand where they stood as their pauses let through.
    pub(super) fn release_held(&mut self, now: Time) {
        if self.held.is_empty() {
            return;
        }
        let config = self.config.pause;
        let disabled = self.config.mode == Mode::Disabled;
        let mut released = Vec::new();
        self.held.retain(|key, calls| {
            let room = self.pauses.get(key).filter(|_| !disabled).map(|pause| pause.room(now, &config));
            // What has left meanwhile takes no room.
            let waits = |key: &CallKey| {
                let call = self.calls.get(key);
                call.is_some_and(|call| matches!(call.state, CallState::Waiting { parked: true, .. }))
            };
            if room.is_none_or(|room| room > 0) {
                calls.retain(waits);
                released.extend(calls.drain(..room.unwrap_or(usize::MAX).min(calls.len())));
            }
            !calls.is_empty()
        });
        for key in released {
            if let Some(Call { state: CallState::Waiting { position, parked }, .. }) =
                self.calls.get_mut(&key)
                && std::mem::replace(parked, false)
            {
                self.queue.put(*position, key);
            }
        }
    }

    /// When the first of the pauses ends that hold calls.
    pub(super) fn holds_end(&self, now: Time) -> Time {
        let config = self.config.pause;
        let pauses = self.held.keys().filter_map(|key| self.pauses.get(key));
        pauses.filter_map(|pause| pause.blocked_until(now, &config)).min().unwrap_or(Time::NEVER)
    }

    /// Whose calls a pause holds, for people: a workload or credential that is the only one is everyone.
    pub(super) fn told_callers(&self, callers: &Callers) -> Callers {
        let alone = match callers {
            Callers::All => true,
            Callers::Workload(consumer) => self.queue.knows_only(consumer),
            Callers::Credential(credential) => self.only_credential == OnlyCredential::One(*credential),
        };
        if alone { Callers::All } else { callers.clone() }
    }
}
