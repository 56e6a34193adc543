//! The messages that are still to be sent, in order, and when a heartbeat is due.

use std::collections::VecDeque;
use std::time::Duration;

use quotakeeper_engine::time::Stamp;

use crate::message::ProxyMessage;

#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing {
    waiting: VecDeque<ProxyMessage>,
    last_sent: Option<Stamp>,
}

impl Outgoing {
    pub(super) fn push(&mut self, body: ProxyMessage) {
        self.waiting.push_back(body);
    }

    pub(super) fn pop(&mut self) -> Option<ProxyMessage> {
        self.waiting.pop_front()
    }

    /// A message leaves.
    pub(super) fn sent(&mut self, now: Stamp) {
        self.last_sent = Some(now);
    }

    /// The connection is another, or none.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.last_sent = None;
    }

    /// Until when no message need be sent, on a connection that has begun with a hello.
    pub(super) fn silent_until(&self, heartbeat: Duration) -> Option<Stamp> {
        self.last_sent.map(|sent| sent + heartbeat)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
