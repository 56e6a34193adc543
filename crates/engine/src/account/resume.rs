//! Proxies that come back with calls of the time before: before their connection was lost, or the
//! limiter.

use super::lanes::InitialState;
use super::{Call, CallState, Engine, Grant, Named, Wanted};
use crate::event::{Action, Attempt, GrantProgress, ResumedGrant, SessionId};
use crate::queue::CallKey;
use crate::time::Time;

/// What is held already for a grant that this engine does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeldFor {
    /// The reserve of the commit that it was made after.
    Reserve,
    /// A slot, and of limits that hold the most that a call can use a part of what is assumed of a predecessor.
    Predecessor,
    /// All that is assumed of a predecessor, which may have counted it as it ended: its end gives nothing back.
    Past,
    /// Nothing more: it was in the ledger, and is over there.
    Nobody,
}

impl Engine {
    /// A call that its proxy holds a grant for, from before its connection was lost.
    pub(super) fn resume_grant(&mut self, now: Time, grant: &ResumedGrant, actions: &mut Vec<Action>) {
        let attempt = grant.attempt;
        let session = self.sessions.entry(attempt.session).or_default();
        let came_before = session.returned;
        if !came_before {
            session.named.insert(attempt.key(), Named::Holds(attempt.number));
            self.end_older(now, attempt);
        }
        if self.grant_of(attempt).is_none() {
            let known = came_before || self.calls.get(&attempt.key()).is_some();
            let held_for = self.held_for(grant, known);
            if !known {
                self.insert_resumed(now, grant, held_for);
            }
            if held_for != HeldFor::Reserve {
                return;
            }
        }
        match grant.progress {
            GrantProgress::Granted => {}
            GrantProgress::Sent { latest } => self.sent(now, attempt, latest),
            GrantProgress::Answered { latest } => {
                if self.counted(now, attempt, latest) {
                    self.accepted(now, attempt, actions);
                }
            }
        }
    }

    /// A session that holds a grant of a call is done with those that the call had before, though it may no
    /// longer report how they ended.
    fn end_older(&mut self, now: Time, attempt: Attempt) {
        let key = attempt.key();
        let Some(call) = self.calls.get(&key) else { return };
        let number = call.wanted.attempts;
        if matches!(call.state, CallState::Granted(_)) && number < attempt.number {
            self.free_slots(now, key.attempt(number));
            self.end(key);
        }
    }

    /// The reserve stands for what was granted after the commit, and for nothing else: a call that was in the
    /// ledger and has ended must not use it up, nor a slot that is assumed to be given away after the commit.
    fn held_for(&self, grant: &ResumedGrant, known: bool) -> HeldFor {
        let awaited = self.recovery.awaits(grant.attempt.session);
        if !known && awaited && self.recovery.is_after_commit(grant.granted) {
            HeldFor::Reserve
        } else if self.recovery.is_from_ledger() {
            HeldFor::Nobody
        } else if grant.over {
            HeldFor::Past
        } else {
            HeldFor::Predecessor
        }
    }

    fn insert_resumed(&mut self, now: Time, grant: &ResumedGrant, held_for: HeldFor) {
        let attempt = grant.attempt;
        let lane = self.lane_of(&grant.demand.class, now);
        let (costs, estimate) = self.costs_of(&grant.consumer, &grant.demand);
        match held_for {
            HeldFor::Nobody => self.lanes.hold_slots(lane, attempt, &costs, now),
            HeldFor::Reserve | HeldFor::Predecessor => self.lanes.claim_slots(lane, attempt, &costs, now),
            HeldFor::Past => {}
        }
        let charges = match held_for {
            HeldFor::Reserve => self.lanes.claim_units(lane, &costs, now),
            HeldFor::Predecessor => self.lanes.claim_of_predecessor(lane, &costs, now),
            HeldFor::Past | HeldFor::Nobody => Vec::new(),
        };
        let wanted = Wanted {
            consumer: grant.consumer.clone(),
            lane,
            credential: grant.credential,
            costs: self.costs_numbers.number(costs),
            estimate,
            asked: now,
            deadline: now + self.config.queue.max_wait,
            attempts: attempt.number,
        };
        let alarm = now + self.lanes.longest_call(lane);
        let at = grant.granted.map_or(now, |granted| granted.min(now));
        let running = estimate.map(|estimate| self.estimates.began(estimate.key, at));
        let state = CallState::Granted(Grant { at, charges, answered: false, told: 0, running, turns: None });
        self.insert(attempt.key(), Call { wanted, alarm, state });
    }

    /// Slots that nobody has named are free.
    pub(super) fn predecessor_named(&mut self, now: Time) {
        if !self.recovery.predecessor_named() {
            return;
        }
        for counter in self.lanes.counters().filter(|counter| !counter.is_a_window()) {
            counter.release_reserve(now);
        }
        self.durability.past_learned();
    }

    /// The session has named all of its calls: those that it did not name are over, and grants that
    /// are not the one it named. When all sessions of the time before have, the rest of the reserve
    /// was never granted.
    pub(super) fn resume_done(&mut self, now: Time, session: SessionId) {
        let entry = self.sessions.entry(session).or_default();
        entry.returned = true;
        let named = std::mem::take(&mut entry.named);
        let over = |(key, call): &(CallKey, &Call)| match named.get(key) {
            None => true,
            Some(Named::Waits) => false,
            // A later grant was lost, and its call given up: only the earlier one's end is reported.
            Some(Named::Holds(number)) => call.wanted.attempts != *number,
        };
        let over: Vec<_> = self.calls_of(session).filter(over).map(|(key, _)| key).collect();
        for key in over {
            if let Some(call) = self.calls.get(&key) {
                self.free_slots(now, key.attempt(call.wanted.attempts));
            }
            self.end(key);
        }
        if self.recovery.session_reconciled(session) {
            for counter in self.lanes.counters() {
                counter.release_reserve(now);
            }
            self.lanes.set_start(InitialState::Fresh);
            // The next one would hold what is released here as if it had been granted.
            self.durability.past_learned();
        }
    }
}
