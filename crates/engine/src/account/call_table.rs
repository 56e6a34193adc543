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
