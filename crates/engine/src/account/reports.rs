//! What became of grants, and what rejections do to the calls that follow.

use std::time::Duration;

use super::{Call, CallState, Charge, Engine};
use crate::event::{Action, Attempt, Observation, RefusalReason, Rejection, RejectionClass, Scope};
use crate::pause::{Pause, Progress};
use crate::queue::CallKey;
use crate::time::Time;
use crate::window_counter::{Reported, guarded};

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
        let charges = std::mem::take(&mut grant.units);
        for Charge { counter, unit, .. } in charges {
            if let Some(counter) = self.lanes.window(counter) {
                counter.advance(now);
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
        let mut charges = std::mem::take(&mut grant.units);
        let mut late = false;
        for charge in &mut charges {
            let delivery = guarded(self.lanes.delivery(&self.config, charge.counter));
            let Some(counter) = self.lanes.window(charge.counter) else {
                continue;
            };
            counter.advance(now);
            if let Reported::Late(unit) = counter.written(now, charge.unit, latest + delivery) {
                late = true;
                charge.unit = unit;
            }
        }
        self.totals.breaches += u64::from(late);
        if let Some(grant) = self.grant_of(attempt) {
            grant.units = charges;
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
        let charges = grant.units.clone();
        for Charge { counter, unit, .. } in charges {
            if let Some(counter) = self.lanes.window(counter) {
                counter.advance(now);
                counter.counted_by(now, unit, latest);
            }
        }
        true
    }

    pub(super) fn first_byte(
        &mut self,
        now: Time,
        attempt: Attempt,
        latest: Time,
        observations: &[Observation],
        actions: &mut Vec<Action>,
    ) {
        if self.counted(now, attempt, latest) {
            self.observe(now, attempt, observations);
            self.accepted(now, attempt, actions);
        }
    }

    /// An answer that is no rejection moves pauses on.
    pub(super) fn accepted(&mut self, now: Time, attempt: Attempt, actions: &mut Vec<Action>) {
        self.pauses.retain(|scope, pause| match pause.accepted(attempt) {
            Progress::None => true,
            Progress::Over => false,
            Progress::Opened => {
                let paused_for = now.since(pause.since);
                actions.push(Action::Resumed { scope: scope.clone(), paused_for });
                true
            }
        });
    }

    pub(super) fn rejected(
        &mut self,
        now: Time,
        attempt: Attempt,
        latest: Time,
        observations: &[Observation],
        (rejection, again): (Rejection, bool),
        actions: &mut Vec<Action>,
    ) {
        let Some(grant) = self.grant_of(attempt) else {
            return;
        };
        // Where a hello could not tell when it was granted: before its answer.
        let granted = grant.at.min(latest);
        self.counted(now, attempt, latest);
        self.observe(now, attempt, observations);
        if matches!(rejection.class, RejectionClass::Quota | RejectionClass::Concurrency) {
            self.totals.rejected += 1;
        }
        let scope = self.scope_or_account(rejection.scope);
        // A probe that asked for several scopes has its answer for the others too.
        for (other, pause) in &mut self.pauses {
            if *other != scope {
                pause.withdrawn(attempt);
            }
        }
        // The provider's time runs from its answer, which may have been long on its way to here.
        let on_its_way = now.since(latest);
        let wait = rejection.wait.filter(|wait| !wait.is_zero());
        let wait = wait.map(|wait| wait.saturating_sub(on_its_way));
        self.close(now, granted, &scope, rejection.class, wait, rejection.reason, actions);
        self.finish(now, attempt, again && rejection.class != RejectionClass::Terminal, actions);
    }

    /// A limit that the account does not have cannot be paused alone.
    fn scope_or_account(&self, scope: Scope) -> Scope {
        match &scope {
            Scope::Limit(name) if !self.config.limits.iter().any(|limit| limit.name == *name) => {
                Scope::Account
            }
            _ => scope,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what a rejection says, taken apart")]
    fn close(
        &mut self,
        now: Time,
        granted: Time,
        scope: &Scope,
        class: RejectionClass,
        wait: Option<Duration>,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let config = self.config.pause;
        let news = match self.pauses.get_mut(scope) {
            Some(pause) => pause.rejected(now, granted, class, wait, &config),
            None => {
                let pause = Pause::closed(now, class, wait, reason.clone(), &config);
                self.pauses.insert(scope.clone(), pause);
                true
            }
        };
        let Some(pause) = self.pauses.get_mut(scope).filter(|_| news) else {
            return;
        };
        pause.reason.clone_from(&reason);
        actions.push(Action::Paused { scope: scope.clone(), until: pause.until, reason });
        if class == RejectionClass::Terminal {
            self.refuse_all(now, actions);
        }
    }

    /// Refuses what waits for a provider that has stopped.
    fn refuse_all(&mut self, now: Time, actions: &mut Vec<Action>) {
        let stopped: Vec<CallKey> = self
            .calls
            .iter()
            .filter(|(_, call)| {
                matches!(call.state, CallState::Waiting { .. }) && self.stopped(now, call.wanted.lane)
            })
            .map(|(key, _)| *key)
            .collect();
        for key in stopped {
            self.refuse(key, RefusalReason::ProviderStopped, None, actions);
        }
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
        }
        self.finish(now, attempt, false, actions);
    }

    /// Ends an attempt: the call is over, or at the head of its flow until its deadline.
    fn finish(&mut self, now: Time, attempt: Attempt, again: bool, actions: &mut Vec<Action>) {
        self.free_slots(now, attempt);
        let key = (attempt.session, attempt.call);
        let Some(Call { wanted, .. }) = self.end(key) else {
            return;
        };
        if !again {
            return;
        }
        let refusal = if self.stopped(now, wanted.lane) {
            Some((RefusalReason::ProviderStopped, None))
        } else if wanted.deadline <= now {
            let wait = self.forecast(now, wanted.lane, &wanted.consumer);
            Some((RefusalReason::WaitExceeded, Some(wait)))
        } else {
            None
        };
        match refusal {
            None => self.insert_waiting(key, wanted, true),
            Some((reason, retry_after)) => {
                self.totals.refused += 1;
                actions.push(Action::Refuse { session: key.0, call: key.1, reason, retry_after });
            }
        }
    }

    pub(super) fn free_slots(&mut self, now: Time, attempt: Attempt) {
        if let Some(call) = self.calls.get(&(attempt.session, attempt.call)) {
            self.lanes.free_slots(call.wanted.lane, attempt, now);
        }
    }

    pub(super) fn pause_by_hand(
        &mut self,
        now: Time,
        scope: Scope,
        length: Duration,
        actions: &mut Vec<Action>,
    ) {
        let pause = Pause::by_hand(now, length);
        let (until, reason) = (pause.until, pause.reason.clone());
        self.pauses.insert(scope.clone(), pause);
        actions.push(Action::Paused { scope, until, reason });
    }

    pub(super) fn resume_by_hand(&mut self, now: Time, scope: &Scope, actions: &mut Vec<Action>) {
        if let Some(pause) = self.pauses.remove(scope) {
            actions.push(Action::Resumed { scope: scope.clone(), paused_for: now.since(pause.since) });
        }
    }
}
