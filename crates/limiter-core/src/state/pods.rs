//! The pods of sessions, and their deletion.

use quotakeeper_engine::event::Event;
use quotakeeper_engine::time::Time;
use quotakeeper_wire::limiter::SessionEnd;
use quotakeeper_wire::message::Hello;

use super::{ConnectionId, LimiterState, Outbox};

impl LimiterState {
    /// Checks that a pod may send this hello.
    pub(super) fn check_pod(&self, connection: ConnectionId, hello: &Hello) -> Result<(), SessionEnd> {
        let Some(entry) = self.connections.get(&connection) else { return Ok(()) };
        let uid = entry.pod.as_ref().map(|pod| &pod.uid);
        if self.owners.get(&hello.session).is_some_and(|owner| owner.as_ref() != uid) {
            let reason =
                "the session's number is another pod's; restart the pod, so that its proxy draws another";
            return Err(SessionEnd::NotAdmitted(reason.to_owned()));
        }
        let Some(namespace) = entry.namespace() else { return Ok(()) };
        let own = hello.consumer.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'));
        if !own {
            return Err(SessionEnd::NotAdmitted(format!(
                "the consumer {:?} is not of the pod's namespace {namespace}; restart the pod, so that Quotakeeper injects it again",
                hello.consumer
            )));
        }
        Ok(())
    }

    /// A pod was deleted: its sessions end and its slots are free. What it may have sent stays charged.
    pub fn pod_deleted(&mut self, now: Time, uid: &str, out: &mut Outbox) {
        self.recovered.pod_deleted(uid);
        let owned = self.owners.iter().filter(|(_, owner)| owner.as_deref() == Some(uid));
        let sessions: Vec<_> = owned.map(|(session, _)| *session).collect();
        for session in sessions {
            if let Some(connection) = self.current.get(&session).copied() {
                self.end(now, connection, SessionEnd::NotAdmitted("the pod was deleted".to_owned()), out);
            }
            self.owners.remove(&session);
            self.hellos.forget(session);
            for key in self.accounts.keys().cloned().collect::<Vec<_>>() {
                self.handle_event(now, Some(key), Event::PodDeleted(session), out);
            }
        }
    }
}
