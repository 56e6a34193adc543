//! What rejections, and people, do to the calls that follow.

use std::time::Duration;

use super::reports::Answer;
use super::{CallState, Engine};
use crate::concurrency_cap::ConcurrencyCap;
use crate::event::{Action, Attempt, Rejection, RejectionClass, Scope, Selector};
use crate::pause::Pause;
use crate::time::Time;

/// Why a scope is closed.
#[derive(Clone)]
struct Closing {
    /// When the rejected call was granted.
    granted: Time,
    class: RejectionClass,
    /// What is left of the provider's time.
    wait: Option<Duration>,
    reason: String,
}

impl Engine {
    pub(super) fn rejected(
        &mut self,
        now: Time,
        answer: Answer<'_>,
        rejection: Rejection,
        again: bool,
        actions: &mut Vec<Action>,
    ) {
        let Answer { attempt, latest, .. } = answer;
        let Some(grant) = self.grant_of(attempt) else {
            return;
        };
        // Where a hello could not tell when it was granted: before its answer.
        let granted = grant.at.min(latest);
        self.counted(now, attempt, latest);
        self.observe(now, answer);
        let class = rejection.class;
        if matches!(class, RejectionClass::Quota | RejectionClass::Concurrency) {
            self.totals.rejected += 1;
        }
        let Some(call) = self.calls.get(&attempt.key()) else { return };
        let scope = self.lanes.counted_scope(call.wanted.lane, rejection.scope);
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
        if class != RejectionClass::Concurrency || !self.lower_cap(now, &scope, attempt, granted) {
            let closing = Closing { granted, class, wait, reason: rejection.reason };
            if let Some(other) = rejection.shared_with.filter(|_| !scope.model.is_any()) {
                let shared = Scope { model: Selector::from(other), ..scope.clone() };
                self.close(now, &shared, closing.clone(), actions);
            }
            self.close(now, &scope, closing, actions);
        }
        self.finish(now, attempt, again && class != RejectionClass::Terminal, actions);
    }

    /// The call was one too many of its scope at the same time. Returns whether that helps: there are others, whose
    /// end makes room.
    fn lower_cap(&mut self, now: Time, scope: &Scope, attempt: Attempt, granted: Time) -> bool {
        if !self.caps.contains_key(scope) {
            let under_way = self.calls.iter().filter_map(|(key, call)| match &call.state {
                CallState::Granted(grant) if self.lanes.covers(call.wanted.lane, scope) => {
                    Some((key.attempt(call.wanted.attempts), grant.at))
                }
                _ => None,
            });
            let cap = ConcurrencyCap::new(under_way, self.config.pause.max_call);
            self.caps.insert(scope.clone(), cap);
        }
        self.caps.get_mut(scope).is_some_and(|cap| cap.rejected(now, attempt, granted))
    }

    fn close(&mut self, now: Time, scope: &Scope, closing: Closing, actions: &mut Vec<Action>) {
        let config = self.config.pause;
        let Closing { granted, class, wait, reason } = closing;
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
        if pause.stopped() {
            self.refuse_all(now, actions);
        }
    }

    /// Refuses what waits for a provider that has stopped.
    fn refuse_all(&mut self, now: Time, actions: &mut Vec<Action>) {
        let waiting = self.calls.iter().filter(|(_, call)| matches!(call.state, CallState::Waiting { .. }));
        let stopped = waiting.filter_map(|(key, call)| Some((*key, self.stopped(now, call.wanted.lane)?)));
        for (key, refusal) in stopped.collect::<Vec<_>>() {
            self.refuse(key, refusal, actions);
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
