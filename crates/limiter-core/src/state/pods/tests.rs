//! What one pod can make a limiter remember.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quotakeeper_engine::event::SessionId;
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_wire::account::Admitted;
use quotakeeper_wire::limiter::{PodIdentity, SessionEnd};
use quotakeeper_wire::message::{Epoch, Hello, ProxyMessage, ToLimiter};

use super::MOST_SESSIONS;
use crate::state::{Configuration, ConnectionId, LimiterState, Outbox, Start};

const NOW: Time = Time(100_000_000_000_000);

fn limiter() -> LimiterState {
    let start = Start {
        configuration: Configuration::default(),
        epoch: Epoch(1),
        ledger: None,
        lost_accounts: BTreeMap::new(),
        wall: Timestamp::UNIX_EPOCH,
        fingerprint_key: None,
    };
    LimiterState::new(start, NOW)
}

fn pod(uid: &str) -> PodIdentity {
    PodIdentity {
        namespace: "gtm".to_owned(),
        pod: uid.to_owned(),
        uid: uid.to_owned(),
        service_account: "runner".to_owned(),
        consumer: "gtm/Job/enrich".into(),
        labels: BTreeMap::new(),
    }
}

/// A proxy of this pod begins a session; why it is refused, if it is.
fn begin(limiter: &mut LimiterState, uid: &str, session: u64) -> Option<SessionEnd> {
    let (connection, mut out) = (ConnectionId(session), Outbox::default());
    limiter.connect(NOW, connection, Some(pod(uid)));
    let body = ProxyMessage::Hello(Hello {
        session: SessionId(session),
        consumer: "gtm/Job/enrich".into(),
        quotas: vec!["gtm/crm".into()],
        newest: Epoch(0),
        ended: Vec::new(),
        calls: Vec::new(),
    });
    limiter.receive(NOW, connection, ToLimiter { stamp: Stamp(1), body }, &mut out);
    out.ended.pop().map(|(_, why)| why)
}

fn leave(limiter: &mut LimiterState, session: u64) {
    limiter.disconnect(NOW, ConnectionId(session), &mut Outbox::default());
}

#[test]
fn a_pod_that_begins_sessions_without_end_is_remembered_by_a_few() {
    let mut limiter = limiter();
    assert_eq!(begin(&mut limiter, "other", 1_000_000), None);
    for session in 0..10_000 {
        assert_eq!(begin(&mut limiter, "one", session), None, "as after a restart of its container");
        leave(&mut limiter, session);
    }
    assert_eq!(limiter.owners.len(), MOST_SESSIONS + 1);
    assert_eq!(limiter.hellos.len(), MOST_SESSIONS + 1);
    limiter.pod_deleted(NOW, "one", &mut Outbox::default());
    assert_eq!((limiter.owners.len(), limiter.sessions_of.len(), limiter.hellos.len()), (1, 1, 1));
}

#[test]
fn sessions_that_are_connected_are_not_forgotten() {
    let mut limiter = limiter();
    for session in 0..MOST_SESSIONS as u64 {
        assert_eq!(begin(&mut limiter, "one", session), None);
    }
    let refused = begin(&mut limiter, "one", 100);
    assert!(matches!(refused, Some(SessionEnd::NotAdmitted(why)) if why.contains("8 sessions")));
    assert_eq!(begin(&mut limiter, "two", 101), None, "another pod has its own");
    leave(&mut limiter, 3);
    assert_eq!(begin(&mut limiter, "one", 102), None, "in the place of the one that left");
    assert_eq!(begin(&mut limiter, "one", 0), None, "a known one connects again");
}

#[test]
fn pods_are_awaited_until_each_has_come_or_is_gone() {
    let mut limiter = limiter();
    let awaited = |limiter: &LimiterState| limiter.awaited_pods.as_ref().map(|pods| pods.len());
    assert_eq!(begin(&mut limiter, "one", 1), None);
    assert_eq!(awaited(&limiter), None, "nobody knows which there are");
    let pods = ["two", "three"].map(|uid| (uid.to_owned(), "team".to_owned()));
    limiter.await_pods(NOW, pods.into(), &mut Outbox::default());
    assert_eq!(begin(&mut limiter, "one", 2), None);
    assert_eq!(awaited(&limiter), Some(2));
    assert_eq!(begin(&mut limiter, "two", 3), None);
    assert_eq!(awaited(&limiter), Some(1));
    limiter.pod_deleted(NOW, "three", &mut Outbox::default());
    assert_eq!(awaited(&limiter), Some(0));
}

/// A pod of a tenant that may not draw on the account, and that never comes.
#[test]
fn only_pods_that_an_account_admits_are_awaited() {
    let mut limiter = limiter();
    let admitted = Admitted::Namespaces(["team".to_owned()].into());
    assert!(!limiter.awaits_none_of(&admitted), "nobody knows which there are");
    let pods = [("one", "team"), ("two", "strangers")];
    let pods = pods.map(|(uid, namespace)| (uid.to_owned(), namespace.to_owned()));
    limiter.await_pods(NOW, pods.into(), &mut Outbox::default());
    assert!(!limiter.awaits_none_of(&admitted));
    limiter.pod_has_come(NOW, "one", &mut Outbox::default());
    assert!(limiter.awaits_none_of(&admitted));
    assert!(!limiter.awaits_none_of(&Admitted::Everyone));
}
