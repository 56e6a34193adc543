//! What rejections, and people, do to the calls that follow.

use std::time::Duration;

use super::Engine;
use super::reports::Answer;
use crate::callers::PauseKey;
use crate::concurrency_cap::ConcurrencyCap;
use crate::event::{Action, Attempt, Callers, Fingerprint, Rejection, RejectionClass, Scope};
use crate::name::Consumer;
use crate::pause::Pause;
use crate::time::Time;

/// The most pauses of single workloads and credentials; beyond it the one whose last rejection is the oldest is
/// forgotten, and what it holds is as good as never rejected.
const MOST_SINGLE: usize = 256;
/// The most pauses of everyone's calls, and the most scopes whose concurrency is learned: proxies name their scopes.
/// Beyond it the whole account is paused, which is stricter, and no other scope's concurrency is learned.
const MOST_SCOPES: usize = 64;

/// Why a scope is closed.
#[derive(Clone)]
pub(super) struct Closing {
    pub(super) attempt: Attempt,
    /// The workload of the rejected call.
    pub(super) by: Consumer,
    pub(super) credential: Fingerprint,
    pub(super) organization: Option<Fingerprint>,
    /// When the rejected call was granted.
    pub(super) granted: Time,
    pub(super) class: RejectionClass,
    /// What is left of the provider's time.
    pub(super) wait: Option<Duration>,
    pub(super) reason: String,
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
        let charges = grant.charges.clone();
        // Where a hello could not tell when it was granted: before its answer.
        let granted = grant.at.min(latest);
        self.counted(now, attempt, latest);
        self.observe(now, answer, actions);
        self.settle_rejected(now, attempt, latest);
        let class = rejection.class;
        self.count_rejection(class);
        let Some(call) = self.calls.get(&attempt.key()) else { return };
        let costs = call.wanted.costs;
        let too_large = class == RejectionClass::Quota
            && self.enforces()
            && self.lanes.rejected_alone(&charges, &costs, &rejection.scope, now);
        let (lane, by, credential) = (call.wanted.lane, call.wanted.consumer.clone(), call.wanted.credential);
        if let Some(limit) = &rejection.shared_with
            && self.lanes.share(lane, limit, now)
        {
            self.share_copied();
            self.durability.past_learned();
        }
        let scope = self.lanes.counted_scope(lane, rejection.scope);
        let scope = self.with_room_for_pause(now, scope);
        // The provider's time runs from its answer, which may have been long on its way to here.
        let on_its_way = now.since(latest);
        let wait = rejection.wait.filter(|wait| !wait.is_zero());
        let wait = wait.map(|wait| wait.saturating_sub(on_its_way));
        if class != RejectionClass::Concurrency || !self.lower_cap(now, &scope, attempt, granted) {
            let (organization, reason) = (rejection.organization, rejection.reason);
            let closing = Closing { attempt, by, credential, organization, granted, class, wait, reason };
            // Of a call without a model, or where too many models share limits, that one is not yet paused with it.
            let shared = rejection.shared_with.map(|other| self.lanes.named(other));
            if let Some(model) = shared.filter(|model| !scope.model.is_any() && scope.model != *model) {
                let shared = self.with_room_for_pause(now, Scope { model, ..scope.clone() });
                self.close_scope(now, &shared, closing.clone(), actions);
            }
            self.close_scope(now, &scope, closing, actions);
        }
        // A probe that asked for several pauses has its answer for the others too.
        for pause in self.pauses.values_mut() {
            pause.withdrawn(attempt);
        }
        self.finish(now, attempt, again && class != RejectionClass::Terminal, actions);
        if too_large {
            self.refuse_too_large(now, actions);
        }
    }

    fn count_rejection(&mut self, class: RejectionClass) {
        let totals = &mut self.totals;
        match class {
            RejectionClass::Quota => totals.rejected += 1,
            RejectionClass::Concurrency => {
                totals.rejected += 1;
                totals.rejected_for_concurrency += 1;
            }
            RejectionClass::Capacity => totals.rejected_for_capacity += 1,
            RejectionClass::Terminal => totals.rejected_terminally += 1,
        }
    }

    fn close_scope(&mut self, now: Time, scope: &Scope, closing: Closing, actions: &mut Vec<Action>) {
        match closing.class {
            RejectionClass::Terminal => self.refused_until_a_person_acts(now, scope, closing, actions),
            _ => self.pause(now, scope, closing, actions),
        }
    }

    /// The call was one too many of its scope at the same time. Returns whether that helps: there are others, whose
    /// end makes room.
    fn lower_cap(&mut self, now: Time, scope: &Scope, attempt: Attempt, granted: Time) -> bool {
        if !self.caps.contains_key(scope) {
            if self.caps.len() >= MOST_SCOPES {
                return false;
            }
            let cap = ConcurrencyCap::new(self.under_way(scope), self.config.longest_call());
            self.caps.insert(scope.clone(), cap);
        }
        self.caps.get_mut(scope).is_some_and(|cap| cap.rejected(now, attempt, granted))
    }

    /// The calls of a scope that hold a grant, and since when.
    pub(super) fn under_way(&self, scope: &Scope) -> impl Iterator<Item = (Attempt, Time)> {
        let covered = self.calls.granted().filter(|(_, call, _)| self.lanes.covers(call.wanted.lane, scope));
        covered.map(|(key, call, grant)| (key.attempt(call.wanted.attempts), grant.at))
    }

    /// Closes a scope for these callers, or prolongs their pause. Returns whether the rejection is news.
    pub(super) fn close(
        &mut self,
        now: Time,
        key: PauseKey,
        closing: Closing,
        actions: &mut Vec<Action>,
    ) -> bool {
        let config = self.config.pause;
        let Closing { granted, class, wait, reason, .. } = closing;
        let news = match self.pauses.get_mut(&key) {
            Some(pause) => pause.rejected(now, granted, class, wait, &config),
            None => {
                self.forget_oldest(&key);
                let pause = Pause::closed(now, class, wait, reason.clone(), &config);
                self.pauses.insert(key.clone(), pause);
                true
            }
        };
        if let Some(pause) = self.pauses.get_mut(&key).filter(|_| news) {
            pause.reason.clone_from(&reason);
            let (PauseKey { scope, callers }, until) = (key, pause.until);
            let stopped = pause.stopped();
            if self.tellings.admit(now) {
                actions.push(Action::Paused { scope, callers, until, reason });
            }
            // Of a stop the waiting calls are refused in the provider's words.
            if !stopped {
                self.renew_forecasts(now, actions);
            }
        }
        news
    }

    /// The scope to pause where a rejection names this one: itself, or the account where so many are paused already
    /// that there is no room for another. Makes room by forgetting a pause whose time has come.
    fn with_room_for_pause(&mut self, now: Time, scope: Scope) -> Scope {
        let all = |key: &PauseKey| key.callers.is_all();
        let known = self.pauses.contains_key(&PauseKey::all(&scope));
        if known || self.pauses.keys().filter(|key| all(key)).count() < MOST_SCOPES {
            return scope;
        }
        let over = |pause: &Pause| pause.until <= now && !pause.stopped();
        let ended = self.pauses.iter().filter(|(key, pause)| all(key) && over(pause));
        let first = ended.min_by_key(|(_, pause)| pause.until).map(|(key, _)| key.clone());
        match first {
            Some(first) => {
                self.pauses.remove(&first);
                scope
            }
            None => Scope::account(),
        }
    }

    /// Makes room for a pause of a single workload or credential.
    fn forget_oldest(&mut self, new: &PauseKey) {
        let single = |key: &PauseKey| !key.callers.is_all();
        if !single(new) || self.pauses.keys().filter(|key| single(key)).count() < MOST_SINGLE {
            return;
        }
        let known = self.pauses.iter().filter(|(key, _)| single(key));
        let oldest = known.min_by_key(|(_, pause)| pause.closed_at).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.pauses.remove(&oldest);
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
        self.pauses.insert(PauseKey::all(&scope), pause);
        actions.push(Action::Paused { scope, callers: Callers::All, until, reason });
    }

    pub(super) fn resume_by_hand(&mut self, now: Time, scope: &Scope, actions: &mut Vec<Action>) {
        self.pauses.retain(|key, pause| {
            let ends = key.scope == *scope;
            if ends && !pause.only_asks() {
                let PauseKey { scope, callers } = key.clone();
                actions.push(Action::Resumed { scope, callers, paused_for: now.since(pause.since) });
            }
            !ends
        });
    }
}
