//! What the limiter has yet to be told, in order, and when a heartbeat is due.

use std::collections::VecDeque;
use std::time::Duration;

use quotakeeper_engine::time::Stamp;

use crate::message::ProxySays;

#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing {
    waiting: VecDeque<ProxySays>,
    last_said: Option<Stamp>,
}

impl Outgoing {
    pub(super) fn push(&mut self, body: ProxySays) {
        self.waiting.push_back(body);
    }

    pub(super) fn pop(&mut self) -> Option<ProxySays> {
        self.waiting.pop_front()
    }

    /// A message leaves.
    pub(super) fn said(&mut self, now: Stamp) {
        self.last_said = Some(now);
    }

    /// The connection is another, or none.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.last_said = None;
    }

    /// Until when nothing need be said, on a connection that has said hello.
    pub(super) fn silent_until(&self, heartbeat: Duration) -> Option<Stamp> {
        self.last_said.map(|said| said + heartbeat)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
