//! How one more call of a session's workload would fare.

use std::time::Duration;

use quotakeeper_engine::event::{CallClass, Fingerprint};
use quotakeeper_engine::time::Time;
use quotakeeper_wire::message::{AccountIndex, ProxyMessage};

use super::{ConnectionId, LimiterState, Outbox};
use crate::blame::Blame;

/// The looks of a connection that are answered within [`ROW`]; more get no answer.
const MOST: u32 = 64;
const ROW: Duration = Duration::from_secs(1);

/// A look of a proxy.
#[derive(Clone, Debug)]
pub(super) struct Look {
    account: AccountIndex,
    number: u64,
    class: CallClass,
}

impl Look {
    pub(super) fn of(message: &ProxyMessage) -> Option<Look> {
        let ProxyMessage::Look { account, look, class } = message else { return None };
        Some(Look { account: *account, number: *look, class: class.clone() })
    }
}

/// How often a connection has looked lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looks {
    since: Time,
    count: u32,
}

impl Looks {
    /// Whether one more is answered.
    fn admit(&mut self, now: Time) -> bool {
        if now.since(self.since) >= ROW {
            *self = Looks { since: now, count: 0 };
        }
        self.count += 1;
        self.count <= MOST
    }
}

impl LimiterState {
    /// Answers a look, unless its connection looks too often or nothing of the account is in force.
    pub(super) fn answer_look(
        &mut self,
        now: Time,
        connection: ConnectionId,
        look: Look,
        out: &mut Outbox,
    ) -> Option<()> {
        let entry = self.connections.get_mut(&connection)?;
        if !entry.looks.admit(now) {
            return None;
        }
        let Look { account: index, number, mut class } = look;
        let key = entry.accounts.get(index.0 as usize)?.clone()?;
        let consumer = entry.session.consumer().into();
        let pod = entry.pod.clone();
        let account = self.accounts.get_mut(&key)?;
        class.allocation =
            pod.and_then(|pod| account.compiled.allocation_of(&pod.namespace, &pod.labels).cloned());
        let blame = Blame::on(&key);
        let outlook = account.engine.outlook(now, &consumer, &class.into(), Fingerprint::default());
        drop(blame);
        let document = serde_json::to_string(&outlook).ok()?;
        let entry = self.connections.get(&connection)?;
        out.messages.push((connection, entry.session.outlook(index, number, document)));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_without_end_is_answered_now_and_then() {
        let (mut looks, mut answered) = (Looks::default(), 0);
        for millis in 0..2_000 {
            let now = Time(3_600_000_000_000) + Duration::from_millis(millis);
            answered += u32::from(looks.admit(now));
        }
        assert_eq!(answered, 2 * MOST);
    }
}
