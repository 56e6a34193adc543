//! The calls that are not over, by session and number.

use std::collections::BTreeMap;

use super::Call;
use crate::event::{CallId, SessionId};
use crate::queue::CallKey;

/// Calls by their keys. A tree moves its entries about, so it has pointers to them.
#[derive(Debug, Default)]
pub(super) struct CallTable(BTreeMap<CallKey, Box<Call>>);

impl CallTable {
    pub(super) fn get(&self, key: &CallKey) -> Option<&Call> {
        self.0.get(key).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: &CallKey) -> Option<&mut Call> {
        self.0.get_mut(key).map(Box::as_mut)
    }

    /// Returns whether it is new.
    pub(super) fn insert(&mut self, key: CallKey, call: Call) -> bool {
        self.0.insert(key, Box::new(call)).is_none()
    }

    pub(super) fn remove(&mut self, key: &CallKey) -> Option<Box<Call>> {
        self.0.remove(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CallKey, &Call)> {
        self.0.iter().map(|(key, call)| (key, call.as_ref()))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Call> {
        self.0.values().map(Box::as_ref)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Call> {
        self.0.values_mut().map(Box::as_mut)
    }

    /// Those of a session.
    pub(super) fn of_session(&self, session: SessionId) -> impl Iterator<Item = (CallKey, &Call)> {
        let key = |call| CallKey { session, call };
        let all = key(CallId(0))..=key(CallId(u64::MAX));
        self.0.range(all).map(|(key, call)| (*key, call.as_ref()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
