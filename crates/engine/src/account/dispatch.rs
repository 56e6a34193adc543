//! Who is granted next, and when to look again.
//!
//! Lanes that are open are served in the order of their heads' turns until none is open any more.
//! A grant never opens a lane, so each lane is asked until it is closed, and not again.

use super::{CallState, Charge, Engine, Grant};
use crate::config::Mode;
use crate::event::{Action, Attempt, Pulse};
use crate::mutant::{self, Mutant};
use crate::queue::{CallKey, LaneId, Place};
use crate::time::Time;
use crate::units::Origin;
use crate::window_counter::guarded;

impl Engine {
    /// Grants everything that may be granted now, and sets the next wake.
    pub(super) fn dispatch(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.end_patience(now, actions);
        let mut wake = self.deadlines.first().map_or(Time::NEVER, |(at, _)| at);
        self.kept_room = false;
        let mut open: Vec<LaneId> = self.queue.lanes().collect();
        while self.may_grant(now) {
            let Some((tag, lane)) = self.next_turn(now, &mut open) else {
                break;
            };
            if let Some(until) = self.blocked_until(now, lane) {
                if self.lanes.may_be_of_any_model(lane) && self.paused_until(now, lane).is_none() {
                    self.lanes.keep_room(&self.config, lane);
                    self.kept_room = true;
                }
                wake = wake.min(until);
                open.retain(|other| *other != lane);
                continue;
            }
            self.grant_head(now, (tag, lane), actions);
        }
        self.lanes.release_kept();
        self.wake = (wake < Time::NEVER).then_some(wake);
    }

    /// The lease is valid, and the ledger has charged ahead.
    fn may_grant(&self, now: Time) -> bool {
        let lease = now < self.lease || mutant::active(Mutant::NoLease);
        let durable = self.ahead.is_none_or(|ahead| ahead.left > 0 && now <= ahead.horizon);
        lease && durable
    }

    /// The open lane whose head's turn started first; of one consumer's lanes, the one whose head
    /// comes first in its flow. Heads whose session was not heard lately stand aside until it is;
    /// lanes without a head are no longer open.
    fn next_turn(&mut self, now: Time, open: &mut Vec<LaneId>) -> Option<(u64, LaneId)> {
        let mut first = None;
        open.retain(|lane| {
            while let Some((tag, place, key)) = self.queue.head(*lane) {
                if self.fresh_pulse(now, key.0).is_none() {
                    self.park(place, key);
                    continue;
                }
                if first.is_none_or(|(lowest, order, _)| (tag, place.order) < (lowest, order)) {
                    first = Some((tag, place.order, *lane));
                }
                return true;
            }
            false
        });
        first.map(|(tag, _, lane)| (tag, lane))
    }

    fn park(&mut self, place: Place, key: CallKey) {
        self.queue.remove(place);
        if let Some(call) = self.calls.get_mut(&key) {
            call.state = CallState::Waiting { place, parked: true };
        }
        self.sessions.entry(key.0).or_default().parked.push(key);
    }

    /// When a call of the lane may be granted at the earliest; `None`: now.
    pub(super) fn blocked_until(&mut self, now: Time, lane: LaneId) -> Option<Time> {
        if self.config.mode == Mode::Disabled {
            return None;
        }
        self.paused_until(now, lane).max(self.lanes.blocked_until(lane, now))
    }

    /// When pauses let a call of the lane through at the earliest; `None`: now.
    pub(super) fn paused_until(&self, now: Time, lane: LaneId) -> Option<Time> {
        let config = self.config.pause;
        self.pauses
            .iter()
            .filter(|(scope, _)| self.lanes.covers(&self.config, lane, scope))
            .filter_map(|(_, pause)| pause.blocked_until(now, &config))
            .max()
    }

    fn grant_head(&mut self, now: Time, (_, lane): (u64, LaneId), actions: &mut Vec<Action>) {
        let Some((_, place, key)) = self.queue.head(lane) else {
            return;
        };
        let Some(pulse) = self.fresh_pulse(now, key.0) else {
            return;
        };
        self.queue.take(place);
        self.lanes.call_leaves(lane);
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        call.wanted.attempts += 1;
        let attempt = Attempt { session: key.0, call: key.1, number: call.wanted.attempts };
        let units = charge(&mut self.lanes, &self.config, lane, attempt, now, pulse);
        call.state = CallState::Granted(Grant { at: now, units, answered: false });
        self.set_alarm(key, now + self.config.pause.max_call);
        for (scope, pause) in &mut self.pauses {
            if self.lanes.covers(&self.config, lane, scope) {
                pause.granted(now, attempt);
            }
        }
        if let Some(ahead) = &mut self.ahead {
            ahead.left -= 1;
        }
        self.granted_since_snapshot += 1;
        self.totals.granted += 1;
        actions.push(Action::Grant { attempt, echo: pulse.stamp });
    }

    /// Probes and calls of a ramp that were unanswered for long enough count as accepted.
    fn end_patience(&mut self, now: Time, actions: &mut Vec<Action>) {
        let config = self.config.pause;
        let over: Vec<Attempt> =
            self.pauses.values().flat_map(|pause| pause.patience_ended(now, &config)).collect();
        for attempt in over {
            self.accepted(now, attempt, actions);
        }
    }

    /// Whether a lane's provider refuses until a person acts.
    pub(super) fn stopped(&self, now: Time, lane: LaneId) -> bool {
        self.pauses.iter().any(|(scope, pause)| {
            pause.stopped && now < pause.until && self.lanes.covers(&self.config, lane, scope)
        })
    }
}

/// One all-or-nothing vector: a unit at each limit that covers the lane. Each is counted by
/// S = K(echo) + (D + J)(1 + ρ), or never.
fn charge(
    lanes: &mut super::Lanes,
    config: &crate::config::AccountConfig,
    lane: LaneId,
    attempt: Attempt,
    now: Time,
    pulse: Pulse,
) -> Vec<Charge> {
    let mut charges = Vec::with_capacity(lanes.meters_of(lane).len());
    for place in 0..lanes.meters_of(lane).len() {
        let id = lanes.meters_of(lane)[place];
        let settles = pulse.latest + guarded(config.validity + lanes.delivery(config, id));
        if let Some(counter) = lanes.window(id) {
            counter.advance(now);
            let unit = counter.charge(now, settles, Origin::Call);
            charges.push(Charge { counter: id, unit, logged: counter.logged(), charged: counter.charged() });
        } else {
            lanes.hold_slot(id, attempt, now);
        }
    }
    charges
}
