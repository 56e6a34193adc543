//! The newest hello of each proxy. A hello of an older connection may be delayed and arrive after that of a
//! newer one. If it were accepted, grants that were written since would be revoked.

use std::collections::BTreeMap;

use quotakeeper_engine::event::SessionId;
use quotakeeper_engine::time::Stamp;

use crate::message::{ProxyMessage, ToLimiter};

/// The newest hello of each proxy. One for all connections of a limiter; it ends with its process, as they do.
#[derive(Clone, Debug, Default)]
pub struct NewestHellos {
    stamps: BTreeMap<SessionId, Stamp>,
}

impl NewestHellos {
    /// Whether a message may be passed to its connection's [`super::Session`]. `false`: it is a hello that was
    /// overtaken by another of the same proxy; close its connection and change nothing else.
    pub fn admit(&mut self, message: &ToLimiter) -> bool {
        let ProxyMessage::Hello(hello) = &message.body else {
            return true;
        };
        let newest = self.stamps.entry(hello.session).or_insert(message.stamp);
        let admitted = message.stamp >= *newest;
        *newest = message.stamp.max(*newest);
        admitted
    }

    /// How many proxies are remembered.
    pub fn len(&self) -> usize {
        self.stamps.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.stamps.is_empty()
    }

    /// The proxy's pod was deleted: its session number is not used again.
    pub fn forget(&mut self, session: SessionId) {
        self.stamps.remove(&session);
    }
}
