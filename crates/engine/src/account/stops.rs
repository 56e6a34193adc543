//! Credentials that the provider refuses until a person acts. A refusal stops the calls that carry the same credential;
//! everyone is stopped only when another credential, of another workload, is refused too, so that one revoked key stops
//! no other, and one pod's word no other workload.

use super::Engine;
use super::rejections::Closing;
use crate::callers::PauseKey;
use crate::event::{Action, Attempt, Callers, Fingerprint, Scope};
use crate::mutant::{self, Mutant};
use crate::pause::Pause;
use crate::time::Time;

impl Engine {
    /// The provider refuses a call until a person acts.
    pub(super) fn refused_until_a_person_acts(
        &mut self,
        now: Time,
        scope: &Scope,
        closing: Closing,
        actions: &mut Vec<Action>,
    ) {
        let callers = match closing.credential {
            // Not known: all calls of the workload count as carrying the same.
            Fingerprint(0) => Callers::Workload(closing.by.clone()),
            known => Callers::Credential(known),
        };
        let own = PauseKey { scope: scope.clone(), callers };
        let (by, organization, reason) = (closing.by.clone(), closing.organization, closing.reason.clone());
        if !self.close(now, own.clone(), closing, actions) {
            return;
        }
        if let Some(pause) = self.pauses.get_mut(&own) {
            pause.of_organization(organization);
            pause.heard_by(&by);
        }
        let all = PauseKey::all(scope);
        if self.pauses.get(&all).is_some_and(|pause| pause.stopped() && pause.is_closed()) {
            self.share_probe(&own);
        } else if self.another_is_refused(&own) {
            let stop = Pause::stop(now, reason.clone());
            let (scope, until) = (scope.clone(), stop.until);
            self.pauses.insert(all, stop);
            if self.tellings.admit(now) {
                actions.push(Action::Paused { scope, callers: Callers::All, until, reason });
            }
            self.share_probe(&own);
        }
        self.refuse_stopped(now, actions);
    }

    /// Pauses of the credentials of a scope.
    fn credentials_of(&mut self, scope: &Scope) -> impl Iterator<Item = (&PauseKey, &mut Pause)> {
        let ours = move |key: &PauseKey| key.scope == *scope && !key.callers.is_all();
        self.pauses.iter_mut().filter(move |(key, pause)| ours(key) && pause.is_refused())
    }

    fn another_is_refused(&self, own: &PauseKey) -> bool {
        let Some(pause) = self.pauses.get(own) else { return false };
        let other = |key: &PauseKey| key.scope == own.scope && !key.callers.is_all() && key != own;
        let heard = |known: &Pause| known.agrees(pause) && self.are_two_witnesses(known, pause);
        self.pauses.iter().any(|(key, known)| other(key) && heard(known))
    }

    /// Whether two workloads have heard the refusals, or there is but one.
    fn are_two_witnesses(&self, one: &Pause, other: &Pause) -> bool {
        match (one.heard(), other.heard()) {
            (Some(one), Some(other)) => {
                one != other || self.queue.knows_only(one) || mutant::active(Mutant::OneWorkloadStops)
            }
            // Of a time before this engine that is not known.
            _ => true,
        }
    }

    /// Everyone is stopped: the credentials that were refused ask by one probe, the one of this credential.
    fn share_probe(&mut self, own: &PauseKey) {
        let stop = self.pauses.get(&PauseKey::all(&own.scope)).map(|pause| pause.until);
        let Some(until) = self.pauses.get(own).map(|pause| pause.until).max(stop) else { return };
        for (_, pause) in self.credentials_of(&own.scope) {
            pause.share_probe(until);
        }
    }

    /// A call was accepted: credentials other than its own that were refused have their refusals for themselves.
    pub(super) fn contradict(&mut self, attempt: Attempt) {
        if self.pauses.is_empty() {
            return;
        }
        let Some(call) = self.calls.get(&attempt.key()) else { return };
        for (key, pause) in &mut self.pauses {
            let other = !key.callers.cover(call.wanted.caller());
            if other && pause.is_refused() && self.lanes.covers(call.wanted.lane, &key.scope) {
                pause.contradict();
            }
        }
    }

    /// These were stopped and are open again. Where one of them is a credential that everyone was stopped with, the
    /// others ask at once: what they were refused for is over.
    pub(super) fn ask_all_again(&mut self, now: Time, reopened: &[PauseKey]) {
        for all in reopened.iter().filter(|key| key.callers.is_all()) {
            if reopened.iter().any(|key| key.scope == all.scope && !key.callers.is_all()) {
                self.credentials_of(&all.scope).for_each(|(_, pause)| pause.probe_now(now));
            }
        }
    }

    /// Refuses what waits for a provider that has stopped.
    fn refuse_stopped(&mut self, now: Time, actions: &mut Vec<Action>) {
        let stopped = self
            .calls
            .waiting()
            .filter_map(|(key, wanted)| Some((key, self.stopped(now, wanted.lane, wanted.caller())?)));
        for (key, refusal) in stopped.collect::<Vec<_>>() {
            self.refuse(now, key, refusal, actions);
        }
    }
}
