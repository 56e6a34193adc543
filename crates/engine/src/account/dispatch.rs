//! Who is granted next, and when to look again.
//!
//! Lanes that are open are served in the order of their heads' turns until none is open any more.
//! A grant never opens a lane, so each lane is asked until it is closed, and not again.

use super::calls::Refusal;
use super::{CallState, Engine, Grant};
use crate::callers::{Caller, PauseKey};
use crate::clock::stale_at;
use crate::config::Mode;
use crate::cost::NumberedCosts;
use crate::event::{Action, Attempt, Pulse, RefusalReason};
use crate::mutant::{self, Mutant};
use crate::pause::Pause;
use crate::queue::{CallKey, Head, LaneId};
use crate::time::Time;

/// A call whose turn it is, if its lane is open.
#[derive(Clone, Copy, Debug)]
struct Turn {
    lane: LaneId,
    head: Head,
    pulse: Pulse,
}

/// Why a call is not granted now.
#[derive(Debug)]
enum Obstacle {
    /// It may be granted then at the earliest. [`Time::NEVER`]: when the ledger has charged it ahead, or a checkpoint
    /// is stored that covers it.
    Until(Time),
    /// No more in time.
    Refused(Refusal),
}

impl Turn {
    /// Those of the allocation whose turn it is go first; of these the turns that started first; of one consumer's, the
    /// one whose call comes first in its flow.
    fn is_before(&self, other: &Turn) -> bool {
        let order = |turn: &Turn| (turn.head.place, turn.head.tag, turn.head.order);
        order(self) < order(other)
    }
}

impl Engine {
    /// Grants everything that may be granted now, and sets the next wake.
    pub(super) fn dispatch(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.end_patience(now, actions);
        self.ask_about_figures(now, None, actions);
        self.release_held(now);
        let mut wake = self.deadlines.first().map_or(Time::NEVER, |(at, _)| at);
        let mut open = std::mem::take(&mut self.open_lanes);
        open.extend_from_slice(self.queue.lanes());
        while self.may_grant(now) {
            let Some(turn) = self.next_turn(now, &mut open) else {
                break;
            };
            match self.obstacle(now, turn) {
                None => self.grant(now, turn, actions),
                Some(Obstacle::Refused(refusal)) => self.refuse(now, turn.head.call, refusal, actions),
                Some(Obstacle::Until(until)) => {
                    wake = wake.min(until);
                    open.retain(|other| *other != turn.lane);
                }
            }
        }
        open.clear();
        self.open_lanes = open;
        wake = wake.min(self.holds_end(now)).min(self.figures_are_asked_from(now));
        self.lanes.release_kept();
        self.durability.release_kept();
        self.wake = (wake < Time::NEVER).then_some(wake);
    }

    /// The lease is valid, and the ledger has charged ahead.
    fn may_grant(&self, now: Time) -> bool {
        let lease = now < self.lease || mutant::active(Mutant::NoLease);
        lease && self.durability.allows_grants(now)
    }

    /// What keeps the call from being granted now. Of what it waits for at other limits some is kept for it where it may
    /// be of any model.
    fn obstacle(&mut self, now: Time, turn: Turn) -> Option<Obstacle> {
        let lane = turn.lane;
        let usual = self.lanes.costs_of_each(lane);
        let costs = usual.unwrap_or_else(|| self.renewed_costs(turn.head.call));
        let paused = self.waits_in_a_pause(now, lane);
        let charged_ahead = self.durability.covers(self.lanes.draws(lane, &costs), !paused);
        let until = match charged_ahead.then(|| self.blocked_until(now, lane, &costs)) {
            Some(Some(until)) => until,
            Some(None) => {
                return (!self.checkpoint_covers(lane, &costs)).then_some(Obstacle::Until(Time::NEVER));
            }
            None => Time::NEVER,
        };
        if charged_ahead && let Some(refusal) = self.refusal_by_budget(now, turn.head.call, until, &costs) {
            return Some(Obstacle::Refused(refusal));
        }
        let keeps = self.lanes.may_be_of_any_model(lane) || costs.tokens.is_some();
        if keeps && !mutant::active(Mutant::NothingKept) && !paused {
            let kept = self.lanes.keep_room(lane, &costs, !charged_ahead);
            // For a session that is heard no longer nothing is kept.
            let heard = if kept { stale_at(turn.pulse, self.config.validity) } else { Time::NEVER };
            return Some(Obstacle::Until(until.min(heard)));
        }
        Some(Obstacle::Until(until))
    }

    /// Whose turn is next among the open lanes. Heads whose session has no recent heartbeat stand aside
    /// until it has; lanes without a head are no longer open.
    fn next_turn(&mut self, now: Time, open: &mut Vec<LaneId>) -> Option<Turn> {
        let mut first: Option<Turn> = None;
        let some_are_held = self.pauses_single_callers();
        open.retain(|lane| {
            while let Some(head) = self.queue.head(*lane) {
                let Some(pulse) = self.fresh_pulse(now, head.call.session) else {
                    self.park(head.call);
                    continue;
                };
                if some_are_held && self.hold_if_paused(now, head.call) {
                    continue;
                }
                let turn = Turn { lane: *lane, head, pulse };
                if first.is_none_or(|first| turn.is_before(&first)) {
                    first = Some(turn);
                }
                return true;
            }
            false
        });
        first
    }

    fn park(&mut self, key: CallKey) {
        if let Some(call) = self.calls.get_mut(&key)
            && let CallState::Waiting { position, parked } = &mut call.state
        {
            self.queue.remove(*position);
            *parked = true;
        }
        self.sessions.entry(key.session).or_default().parked.push(key);
    }

    /// When a call of these costs may be granted at the earliest; `None`: now.
    fn blocked_until(&mut self, now: Time, lane: LaneId, costs: &NumberedCosts) -> Option<Time> {
        if self.config.mode == Mode::Disabled {
            return None;
        }
        let (paused, limited) = (self.paused_until(now, lane), self.lanes.blocked_until(lane, costs, now));
        // Last: where all else lets the call through, it may be the one more that is tried.
        paused.max(limited).or_else(|| self.capped_until(now, lane))
    }

    /// Whether a pause holds calls of the lane, which keep nothing meanwhile.
    fn waits_in_a_pause(&self, now: Time, lane: LaneId) -> bool {
        self.paused_until(now, lane).is_some() && !mutant::active(Mutant::KeptBehindPause)
    }

    /// When pauses of everyone let a call of the lane through at the earliest; `None`: now.
    pub(super) fn paused_until(&self, now: Time, lane: LaneId) -> Option<Time> {
        if self.pauses.is_empty() {
            return None;
        }
        let config = self.config.pause;
        self.pauses
            .iter()
            .filter(|(key, _)| key.callers.is_all() && self.lanes.covers(lane, &key.scope))
            .filter_map(|(_, pause)| pause.blocked_until(now, &config))
            .max()
    }

    /// When the provider's concurrency lets a call of the lane through at the earliest; `None`: now.
    fn capped_until(&mut self, now: Time, lane: LaneId) -> Option<Time> {
        let covering = self.caps.iter_mut().filter(|(scope, _)| self.lanes.covers(lane, scope));
        covering.filter_map(|(_, cap)| cap.blocked_until(now)).max()
    }

    fn grant(&mut self, now: Time, turn: Turn, actions: &mut Vec<Action>) {
        let Turn { lane, head: Head { call: key, .. }, pulse } = turn;
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let costs = &call.wanted.costs;
        let mut turns = None;
        if let CallState::Waiting { position, .. } = call.state {
            if self.lanes.corrects_turns(lane, costs) {
                // What such calls use may have become known since it came.
                turns = Some(self.lanes.turns(lane, costs));
                self.queue.expect_use(position);
            }
            self.queue.take(position, turns.unwrap_or(position.turns()));
            self.queue.waits_no_longer(position);
        }
        self.queue.call_begins(self.lanes.group(lane), &call.wanted.consumer);
        let waited = now.since(call.wanted.asked);
        call.wanted.attempts += 1;
        let attempt = key.attempt(call.wanted.attempts);
        for (paused, pause) in &mut self.pauses {
            if self.lanes.covers(lane, &paused.scope) && paused.callers.cover(call.wanted.caller()) {
                pause.granted(now, attempt);
            }
        }
        self.lanes.call_leaves(lane, costs);
        let charges = self.lanes.charge(lane, attempt, costs, now, pulse.latest);
        self.durability.call_granted(self.lanes.draws(lane, costs));
        let running = call.wanted.estimate.map(|estimate| self.estimates.began(estimate.key, now));
        self.checkpoints.wanted |= self.lanes.cover_is_low(lane);
        call.state = CallState::Granted(Grant { at: now, charges, answered: false, told: 0, running, turns });
        call.alarm = now + self.lanes.longest_call(lane);
        let alarm = call.alarm;
        self.ring_at(key, alarm);
        for (scope, cap) in &mut self.caps {
            if self.lanes.covers(lane, scope) {
                cap.granted(now, attempt);
            }
        }
        self.totals.granted += 1;
        self.wait_times.add(waited);
        actions.push(Action::Grant { attempt, echo: pulse.stamp });
    }

    /// Probes and calls of a ramp that were unanswered for long enough count as accepted.
    fn end_patience(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.pauses.is_empty() {
            return;
        }
        let config = self.config.pause;
        let over: Vec<Attempt> =
            self.pauses.values().flat_map(|pause| pause.patience_ended(now, &config)).collect();
        for attempt in over {
            self.accepted(now, attempt, actions);
        }
    }

    /// The refusal of a caller's calls of a lane while their provider refuses until a person acts, in its own words.
    pub(super) fn stopped(&self, now: Time, lane: LaneId, caller: Caller<'_>) -> Option<Refusal> {
        let stops = |pause: &Pause| pause.stopped() && now < pause.until;
        let covers = |key: &PauseKey| key.callers.cover(caller) && self.lanes.covers(lane, &key.scope);
        let (_, pause) = self.pauses.iter().find(|(key, pause)| stops(pause) && covers(key))?;
        let words = Some(pause.reason.clone());
        Some(Refusal { words, ..Refusal::from(RefusalReason::ProviderStopped) })
    }
}
