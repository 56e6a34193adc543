//! Watches that pauses are kept: after a rejection is processed no call of its scope is granted
//! until the provider's time, then one, then more only when that one was not rejected.

use std::collections::BTreeMap;

use quotakeeper_engine::config::{AccountConfig, PauseConfig};
use quotakeeper_engine::event::{
    Action, Attempt, CallClass, CallId, Event, GrantProgress, RejectionClass, ResumedGrant, Scope, SessionId,
};
use quotakeeper_engine::time::Time;

use crate::history::History;
use crate::provider::in_scope;

/// What one limiter has heard of pauses, and of calls that they hold.
#[derive(Debug)]
pub(crate) struct PauseWatch {
    config: PauseConfig,
    shapes: BTreeMap<(u64, u64), CallClass>,
    closed: BTreeMap<Scope, Closed>,
}

#[derive(Debug)]
struct Closed {
    until: Time,
    probe: Option<(Attempt, Time)>,
}

impl PauseWatch {
    pub(crate) fn new(config: &AccountConfig) -> PauseWatch {
        PauseWatch { config: config.pause, shapes: BTreeMap::new(), closed: BTreeMap::new() }
    }

    /// The limiter processes an event.
    pub(crate) fn hears(&mut self, now: Time, event: &Event) {
        match event {
            Event::Ask(ask) => {
                // A call that is asked for again has lost its grant.
                self.withdraw(ask.session, ask.call);
                self.shapes.insert((ask.session.0, ask.call.0), ask.demand.class.clone());
            }
            Event::Cancel { session, call } => {
                self.withdraw(*session, *call);
                self.shapes.remove(&(session.0, call.0));
            }
            Event::ResumeGrant(ResumedGrant { attempt, demand, progress, .. }) => {
                self.shapes.insert((attempt.session.0, attempt.call.0), demand.class.clone());
                if matches!(progress, GrantProgress::Answered { .. }) {
                    self.answered(*attempt);
                }
            }
            Event::Rejected { attempt, latest, rejection, .. }
                if rejection.class == RejectionClass::Quota =>
            {
                self.answered(*attempt);
                // Without a time nothing can be held against the engine's own.
                let Some(wait) = rejection.wait else {
                    return;
                };
                let until = *latest + wait.min(self.config.cap);
                // Told again by a hello, after its time: old news closes nothing.
                if until <= now {
                    return;
                }
                let entry = self.closed.entry(rejection.scope.clone());
                let closed = entry.or_insert(Closed { until: now, probe: None });
                closed.until = closed.until.max(until);
                closed.probe = None;
            }
            Event::FirstByte { attempt, .. } => self.answered(*attempt),
            Event::Unused { attempt, .. } | Event::Done(attempt) => {
                self.withdraw(attempt.session, attempt.call);
                if matches!(event, Event::Done(_)) {
                    self.shapes.remove(&(attempt.session.0, attempt.call.0));
                }
            }
            Event::PodDeleted(session) => self.shapes.retain(|(of, _), _| *of != session.0),
            _ => {}
        }
    }

    /// What this call has asked is answered.
    fn answered(&mut self, attempt: Attempt) {
        self.closed.retain(|_, closed| closed.probe.is_none_or(|(probe, _)| probe != attempt));
    }

    /// The call asks nothing of the provider any more.
    fn withdraw(&mut self, session: SessionId, call: CallId) {
        for closed in self.closed.values_mut() {
            closed.probe = closed.probe.filter(|(probe, _)| (probe.session, probe.call) != (session, call));
        }
    }

    /// The engine wants something done.
    pub(crate) fn sees(&mut self, now: Time, action: &Action, history: &mut History) {
        let Action::Grant { attempt, .. } = action else {
            return;
        };
        let patience = self.config.probe_patience;
        self.closed.retain(|_, closed| closed.probe.is_none_or(|(_, since)| since + patience > now));
        let class = self.shapes.get(&(attempt.session.0, attempt.call.0));
        for (scope, closed) in &mut self.closed {
            if !class.is_some_and(|class| in_scope(scope, class)) {
                continue;
            }
            if now < closed.until {
                history.problem("a call was granted while its scope was paused");
            } else if closed.probe.is_some() {
                history.problem("a second probe was sent before the first was answered");
            }
            closed.probe = Some((*attempt, now));
        }
    }
}
