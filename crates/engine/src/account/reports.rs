//! What became of grants: not written, written, answered, over.

use super::calls::{Refusal, Refused};
use super::{Call, CallState, Charge, Engine};
use crate::callers::PauseKey;
use crate::cost::Costs;
use crate::event::{Action, Attempt, Observation, RefusalReason};
use crate::mutant::{self, Mutant};
use crate::pause::Progress;
use crate::time::Time;
use crate::window_counter::{Granted, Reported};

/// An answer that has begun, whatever it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    pub(super) attempt: Attempt,
    /// K(f), f read after its first byte.
    pub(super) latest: Time,
    /// What its headers say.
    pub(super) observations: &'a [Observation],
}

impl Engine {
    /// A grant that was not written: refunded, and the call over or waiting once more.
    pub(super) fn unused(&mut self, now: Time, attempt: Attempt, again: bool, actions: &mut Vec<Action>) {
        if self.grant_of(attempt).is_none() {
            return;
        }
        self.totals.unused += 1;
        self.take_back(now, attempt);
        self.finish(now, attempt, again, actions);
    }

    /// Refunds what a grant has charged.
    pub(super) fn take_back(&mut self, now: Time, attempt: Attempt) {
        for pause in self.pauses.values_mut() {
            pause.withdrawn(attempt);
        }
        let Some(grant) = self.grant_of(attempt) else {
            return;
        };
        let charges = std::mem::take(&mut grant.charges);
        if let Some(running) = grant.running.take() {
            self.estimates.ended(running, None, None, now);
        }
        for Charge { counter, unit, .. } in charges {
            if let Some((_, counter)) = self.lanes.entry_mut(counter).and_then(|entry| entry.charges_at(now))
            {
                counter.refund(unit);
            }
        }
        self.free_slots(now, attempt);
    }

    pub(super) fn sent(&mut self, now: Time, attempt: Attempt, latest: Time) {
        let Some(grant) = self.grant_of(attempt) else {
            return;
        };
        if grant.answered {
            return;
        }
        let mut charges = std::mem::take(&mut grant.charges);
        let Some(costs) = self.calls.get(&attempt.key()).map(|call| call.wanted.costs) else {
            return;
        };
        let mut late = false;
        for charge in &mut charges {
            let Some(entry) = self.lanes.entry_mut(charge.counter) else {
                continue;
            };
            if entry.limit.settling().is_some() {
                continue;
            }
            let cost = entry.cost(&costs);
            let Some((limit, counter)) = entry.charges_at(now) else {
                continue;
            };
            let bound = latest + limit.counted_after_write;
            let granted = Granted { key: charge.unit, cost, settles: charge.settles };
            if let Reported::Late(unit) = counter.written(now, granted, bound) {
                late = true;
                charge.unit = unit;
            }
        }
        self.totals.breaches += u64::from(late);
        if let Some(grant) = self.grant_of(attempt) {
            grant.charges = charges;
        }
    }

    /// The provider has counted the call. Returns whether the report was news.
    pub(super) fn counted(&mut self, now: Time, attempt: Attempt, latest: Time) -> bool {
        let Some(grant) = self.grant_of(attempt) else {
            return false;
        };
        if std::mem::replace(&mut grant.answered, true) {
            return false;
        }
        let charges = std::mem::take(&mut grant.charges);
        for Charge { counter, unit, .. } in &charges {
            let at_once = mutant::active(Mutant::SettledAtFirstByte);
            let Some(entry) = self.lanes.entry_mut(*counter) else { continue };
            let Some((limit, window)) = entry.charges_at(now) else { continue };
            window.first_answered();
            if limit.settling().is_none() || at_once {
                window.counted_by(now, *unit, latest);
            }
        }
        if let Some(grant) = self.grant_of(attempt) {
            grant.charges = charges;
        }
        self.count_for_workload(now, attempt);
        true
    }

    pub(super) fn first_byte(&mut self, now: Time, answer: Answer<'_>, actions: &mut Vec<Action>) {
        if self.counted(now, answer.attempt, answer.latest) {
            self.observe(now, answer, actions);
            self.contradict(answer.attempt);
            self.accepted(now, answer.attempt, actions);
            self.accepted_at_caps(now, answer.attempt);
        }
    }

    fn accepted_at_caps(&mut self, now: Time, attempt: Attempt) {
        if self.caps.is_empty() {
            return;
        }
        let Some(granted) = self.grant_of(attempt).map(|grant| grant.at) else { return };
        for cap in self.caps.values_mut() {
            cap.accepted(now, attempt, granted);
        }
    }

    /// An answer that is no rejection moves pauses on.
    pub(super) fn accepted(&mut self, now: Time, attempt: Attempt, actions: &mut Vec<Action>) {
        if self.pauses.is_empty() {
            return;
        }
        let mut reopened = Vec::new();
        let tellings = &mut self.tellings;
        self.pauses.retain(|key, pause| {
            let stopped = pause.stopped();
            match pause.accepted(attempt) {
                Progress::None => true,
                Progress::Over => false,
                Progress::Opened => {
                    let PauseKey { scope, callers } = key.clone();
                    let paused_for = now.since(pause.since);
                    if tellings.admit(now) {
                        actions.push(Action::Resumed { scope, callers, paused_for });
                    }
                    reopened.extend(stopped.then(|| key.clone()));
                    true
                }
            }
        });
        self.ask_all_again(now, &reopened);
    }

    /// What the call has really drawn is known.
    pub(super) fn settled(&mut self, now: Time, attempt: Attempt, usage: Costs) {
        let Some(call) = self.calls.get_mut(&attempt.key()) else { return };
        let CallState::Granted(grant) = &call.state else { return };
        if call.wanted.attempts != attempt.number {
            return;
        }
        for Charge { counter, unit, .. } in &grant.charges {
            let Some(entry) = self.lanes.entry_mut(*counter) else { continue };
            let Some((limit, window)) = entry.charges_at(now) else { continue };
            if limit.config.tokens.is_none() {
                let (charged, cost) = (limit.cost(&call.wanted.costs), limit.cost(&usage));
                window.settle_up(now, *unit, charged, cost);
            }
        }
        let known = *call.wanted.costs;
        let known = Costs { requests: usage.requests, credits: usage.credits, ..known };
        call.wanted.costs = self.costs_numbers.number(known);
        self.durability.past_learned();
    }

    pub(super) fn done(&mut self, now: Time, attempt: Attempt, actions: &mut Vec<Action>) {
        let Some(grant) = self.grant_of(attempt) else {
            return;
        };
        if !grant.answered {
            // It ended without an answer. Whether the provider counted it is not known, and the
            // probe that it may have been has learned nothing.
            for pause in self.pauses.values_mut() {
                pause.withdrawn(attempt);
            }
            self.count_for_workload(now, attempt);
        }
        self.finish(now, attempt, false, actions);
    }

    fn count_for_workload(&mut self, now: Time, attempt: Attempt) {
        if let Some(call) = self.calls.get(&attempt.key()) {
            let model = self.lanes.class_of(call.wanted.lane).model.as_deref();
            self.usage_by_workload.counted(now, &call.wanted.consumer, model);
        }
    }

    /// Ends an attempt: the call is over, or at the head of its flow until its deadline.
    pub(super) fn finish(&mut self, now: Time, attempt: Attempt, again: bool, actions: &mut Vec<Action>) {
        self.free_slots(now, attempt);
        let key = attempt.key();
        let Some(call) = self.end(key).filter(|_| again) else {
            return;
        };
        let Call { wanted, .. } = *call;
        if let Some(stopped) = self.stopped(now, wanted.lane, wanted.caller()) {
            self.count_refusal(now, Refused::of(key, &wanted), stopped, actions);
            return;
        }
        if let Some(too_large) = self.never_fits(wanted.lane, &wanted.costs, now).filter(|_| self.enforces())
        {
            self.count_refusal(now, Refused::of(key, &wanted), Refusal::too_large(&too_large), actions);
            return;
        }
        // It goes first in its flow, but not before a pause is over that it may have caused itself.
        let wait = self.wait_behind(now, (wanted.lane, wanted.caller()), &wanted.costs, 0);
        if wanted.deadline <= now {
            let refusal = Refusal::until(RefusalReason::WaitExceeded, wait);
            self.count_refusal(now, Refused::of(key, &wanted), refusal, actions);
        } else if self.enforces() && !self.waits_however_long() && wanted.deadline < now + wait {
            let allowed = wanted.deadline.since(now);
            let refusal = self.too_long(now, (wanted.lane, wanted.caller()), &wanted.costs, allowed);
            self.count_refusal(now, Refused::of(key, &wanted), refusal, actions);
        } else {
            self.insert_waiting(key, wanted, true);
        }
    }

    pub(super) fn free_slots(&mut self, now: Time, attempt: Attempt) {
        if let Some(call) = self.calls.get(&attempt.key()) {
            self.lanes.free_slots(call.wanted.lane, attempt, now);
        }
        for cap in self.caps.values_mut() {
            cap.ended(now, attempt);
        }
    }
}
