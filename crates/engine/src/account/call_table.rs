//! The calls that are not over, by session and number.

use foldhash::HashMap;

use super::{Call, CallState, Grant, Wanted};
use crate::event::{CallId, SessionId};
use crate::queue::CallKey;

/// Calls by their keys, and those of each session until that is gone: one without calls has more in a moment. A table
/// moves its entries about, so it has pointers to them.
#[derive(Debug, Default)]
pub(super) struct CallTable {
    calls: HashMap<CallKey, Listed>,
    by_session: HashMap<SessionId, Vec<CallId>>,
}

#[derive(Debug)]
struct Listed {
    call: Box<Call>,
    /// Its place among the calls of its session.
    place: usize,
}

impl CallTable {
    pub(super) fn get(&self, key: &CallKey) -> Option<&Call> {
        self.calls.get(key).map(|listed| &*listed.call)
    }

    pub(super) fn get_mut(&mut self, key: &CallKey) -> Option<&mut Call> {
        self.calls.get_mut(key).map(|listed| &mut *listed.call)
    }

    /// Returns whether it is new.
    pub(super) fn insert(&mut self, key: CallKey, call: Call) -> bool {
        if let Some(known) = self.get_mut(&key) {
            *known = call;
            return false;
        }
        let of_session = self.by_session.entry(key.session).or_default();
        let place = of_session.len();
        of_session.push(key.call);
        self.calls.insert(key, Listed { call: Box::new(call), place });
        true
    }

    pub(super) fn remove(&mut self, key: &CallKey) -> Option<Box<Call>> {
        let Listed { call, place } = self.calls.remove(key)?;
        if let Some(of_session) = self.by_session.get_mut(&key.session) {
            of_session.swap_remove(place);
            if let Some(moved) = of_session.get(place)
                && let Some(moved) = self.calls.get_mut(&CallKey { call: *moved, ..*key })
            {
                moved.place = place;
            }
        }
        Some(call)
    }

    /// Those that hold a grant, by session and number.
    pub(super) fn granted(&self) -> impl Iterator<Item = (CallKey, &Call, &Grant)> {
        self.in_order(|call| match &call.state {
            CallState::Granted(grant) => Some((call, grant)),
            CallState::Waiting { .. } => None,
        })
        .map(|(key, (call, grant))| (key, call, grant))
    }

    /// Those that wait, by session and number.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (CallKey, &Wanted)> {
        self.in_order(|call| matches!(call.state, CallState::Waiting { .. }).then_some(&call.wanted))
    }

    /// What is chosen of them, by session and number.
    fn in_order<'t, T: 't>(
        &'t self,
        choose: impl Fn(&'t Call) -> Option<T>,
    ) -> impl Iterator<Item = (CallKey, T)> {
        let chosen = self.calls.iter().filter_map(|(key, listed)| Some((*key, choose(&listed.call)?)));
        let mut chosen: Vec<_> = chosen.collect();
        chosen.sort_unstable_by_key(|(key, _)| *key);
        chosen.into_iter()
    }

    /// All of them, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().map(|listed| &*listed.call)
    }

    /// All of them to change, in no order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Call> {
        self.calls.values_mut().map(|listed| &mut *listed.call)
    }

    /// Those of a session, by number.
    pub(super) fn of_session(&self, session: SessionId) -> impl Iterator<Item = (CallKey, &Call)> {
        let mut calls = self.by_session.get(&session).cloned().unwrap_or_default();
        calls.sort_unstable();
        let keys = calls.into_iter().map(move |call| CallKey { session, call });
        keys.filter_map(|key| Some((key, self.get(&key)?)))
    }

    /// Forgets sessions without calls that are not `known`.
    pub(super) fn forget_sessions(&mut self, known: impl Fn(&SessionId) -> bool) {
        self.by_session.retain(|session, calls| !calls.is_empty() || known(session));
    }

    /// A session is gone, with its calls.
    pub(super) fn forget_session(&mut self, session: SessionId) {
        if self.by_session.get(&session).is_some_and(Vec::is_empty) {
            self.by_session.remove(&session);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Engine;
    use super::*;
    use crate::cost::Demand;
    use crate::event::{Action, Ask, Event, Fingerprint, Pulse};
    use crate::time::{Stamp, Time};
    use crate::tokens::CallEnd;

    /// A session asks for a call, makes it, and is gone.
    fn comes_and_goes(engine: &mut Engine, session: SessionId, now: Time) {
        let mut actions = Vec::new();
        let ask = Ask {
            session,
            call: CallId(1),
            consumer: "gtm/Job/a".into(),
            demand: Demand::default(),
            credential: Fingerprint::default(),
            patience: None,
            waited: Default::default(),
            attempts: 0,
        };
        let pulse = Pulse { stamp: Stamp(now.0), latest: now };
        for event in [Event::Lease(Time::NEVER), Event::Heartbeat { session, pulse }, Event::Ask(ask)] {
            engine.handle(now, event, &mut actions);
        }
        let Some(Action::Grant { attempt, .. }) = actions.pop() else { panic!("no grant") };
        engine.handle(now, Event::Done { attempt, end: CallEnd::Seen, usage: None }, &mut actions);
        engine.handle(now, Event::Disconnected(session), &mut actions);
    }

    #[test]
    fn sessions_that_are_gone_are_forgotten() {
        let config = r#"{"mode": "Enforce", "onExceeded": "Queue", "validity": {"secs": 1, "nanos": 0}, "limits": [],
            "queue": {"maxWait": {"secs": 60, "nanos": 0}, "maxCalls": 10},
            "pause": {"fallback": {"secs": 1, "nanos": 0}, "cap": {"secs": 60, "nanos": 0},
                "probePatience": {"secs": 30, "nanos": 0}, "maxCall": {"secs": 5, "nanos": 0}}}"#;
        let now = Time(1_000_000_000);
        let mut engine = Engine::new(serde_json::from_str(config).unwrap(), now);
        (0..10).for_each(|session| comes_and_goes(&mut engine, SessionId(session), now));
        engine.handle(now, Event::PodDeleted(SessionId(0)), &mut Vec::new());
        assert_eq!(engine.calls.by_session.len(), 9);
        engine.snapshot(now);
        assert_eq!(engine.calls.by_session.len(), 0);
        comes_and_goes(&mut engine, SessionId(0), now);
        engine.snapshot(now);
        engine.handle(now, Event::PodDeleted(SessionId(0)), &mut Vec::new());
        assert_eq!(engine.calls.by_session.len(), 0);
    }
}
