//! Which hello is the newest of a proxy: one of an older connection may be held up on its way and come
//! after that of a newer one. Believed, it would take back grants that have been written since.

use std::collections::BTreeMap;

use quotakeeper_engine::event::SessionId;
use quotakeeper_engine::time::Stamp;

use crate::message::{ProxyMessage, ToLimiter};

/// The newest hello of each proxy. One for all connections of a limiter; it ends with its process, as they do.
#[derive(Clone, Debug, Default)]
pub struct NewestHellos {
    said: BTreeMap<SessionId, Stamp>,
}

impl NewestHellos {
    /// Whether a message may be given to its connection's [`super::Session`]. `false`: it is a hello that was
    /// overtaken by another of the same proxy; close its connection and leave everything else as it is.
    pub fn admit(&mut self, message: &ToLimiter) -> bool {
        let ProxyMessage::Hello(hello) = &message.body else {
            return true;
        };
        let newest = self.said.entry(hello.session).or_insert(message.stamp);
        let admitted = message.stamp >= *newest;
        *newest = message.stamp.max(*newest);
        admitted
    }

    /// The proxy's pod is dead: its number is not used again.
    pub fn forget(&mut self, session: SessionId) {
        self.said.remove(&session);
    }
}
