//! The pods of sessions, and their deletion.

use std::collections::BTreeMap;

use quotakeeper_engine::event::{Event, SessionId};
use quotakeeper_engine::time::Time;
use quotakeeper_wire::account::Admitted;
use quotakeeper_wire::limiter::SessionEnd;
use quotakeeper_wire::message::Hello;

use super::{ConnectionId, LimiterState, Outbox};

/// The most sessions of a pod that are remembered. A proxy begins another with each start of its container.
pub const MOST_SESSIONS: usize = 8;

impl LimiterState {
    /// Makes room for a session of the connection's pod that is not known yet: the oldest of its sessions without a
    /// connection is over, as if its pod had been deleted.
    pub(super) fn with_room_for_session(
        &mut self,
        now: Time,
        connection: ConnectionId,
        session: SessionId,
        out: &mut Outbox,
    ) -> Result<(), SessionEnd> {
        if self.owners.contains_key(&session) {
            return Ok(());
        }
        let pod = self.connections.get(&connection).and_then(|entry| entry.pod.as_ref());
        let Some(known) = pod.and_then(|pod| self.sessions_of.get(&pod.uid)) else { return Ok(()) };
        if known.len() < MOST_SESSIONS {
            return Ok(());
        }
        match known.iter().copied().find(|session| !self.current.contains_key(session)) {
            Some(oldest) => {
                self.session_over(now, oldest, out);
                Ok(())
            }
            None => Err(SessionEnd::NotAdmitted(format!(
                "the pod has {MOST_SESSIONS} sessions already; one proxy has one"
            ))),
        }
    }

    /// Remembers whose session it is.
    pub(super) fn own(&mut self, session: SessionId, uid: Option<String>) {
        if let Some(uid) = &uid {
            let sessions = self.sessions_of.entry(uid.clone()).or_default();
            if !sessions.contains(&session) {
                sessions.push(session);
            }
        }
        self.owners.insert(session, uid);
    }

    /// No message of a session comes any more: its slots are free. What it may have sent stays charged.
    fn session_over(&mut self, now: Time, session: SessionId, out: &mut Outbox) {
        if let Some(uid) = self.owners.remove(&session).flatten()
            && let Some(sessions) = self.sessions_of.get_mut(&uid)
        {
            sessions.retain(|known| *known != session);
            if sessions.is_empty() {
                self.sessions_of.remove(&uid);
            }
        }
        self.hellos.forget(session);
        for key in self.accounts.keys().cloned().collect::<Vec<_>>() {
            self.handle_event(now, Some(key), Event::PodDeleted(session), out);
        }
    }

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

    /// The limiter before may have granted these pods calls that no ledger has: all that there are, their namespaces by UID.
    /// What those that an account admits have not named when each of them has come or is gone is over. Pods that it
    /// does not admit any more are not awaited, though their last calls may be under way.
    pub fn await_pods(&mut self, now: Time, pods: BTreeMap<String, String>, out: &mut Outbox) {
        self.awaited_pods = Some(pods);
        self.fewer_are_awaited(now, out);
    }

    /// The pod has named all of its calls, or there is none that it could name.
    pub(super) fn pod_has_come(&mut self, now: Time, uid: &str, out: &mut Outbox) {
        if self.awaited_pods.as_mut().is_some_and(|awaited| awaited.remove(uid).is_some()) {
            self.fewer_are_awaited(now, out);
        }
    }

    fn fewer_are_awaited(&mut self, now: Time, out: &mut Outbox) {
        let named =
            self.accounts.iter().filter(|(_, account)| self.awaits_none_of(&account.compiled.admitted));
        for key in named.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.handle_event(now, Some(key), Event::PredecessorNamed, out);
        }
    }

    /// Whether it is known that each pod that an account admits has named its calls.
    pub(super) fn awaits_none_of(&self, admitted: &Admitted) -> bool {
        let is_named =
            |pods: &BTreeMap<String, String>| !pods.values().any(|namespace| admitted.admits(namespace));
        self.awaited_pods.as_ref().is_some_and(is_named)
    }

    /// A pod was deleted: its sessions end and its slots are free. What it may have sent stays charged.
    pub fn pod_deleted(&mut self, now: Time, uid: &str, out: &mut Outbox) {
        self.recovered.pod_deleted(uid);
        for session in self.sessions_of.get(uid).cloned().unwrap_or_default() {
            if let Some(connection) = self.current.get(&session).copied() {
                self.end(now, connection, SessionEnd::NotAdmitted("the pod was deleted".to_owned()), out);
            }
            self.session_over(now, session, out);
        }
        self.pod_has_come(now, uid, out);
    }
}

#[cfg(test)]
mod tests;
