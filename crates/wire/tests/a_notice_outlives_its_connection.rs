//! What a workload's author should know reaches every limiter that the proxy connects to, each kind once.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use quotakeeper_engine::event::SessionId;
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_wire::limiter::{Greeting, Session as LimiterSession};
use quotakeeper_wire::message::{AccountIndex, Epoch, Notice, NoticeKind};
use quotakeeper_wire::proxy::{Identity, Session};

const ACCOUNT: AccountIndex = AccountIndex(1);

fn unreadable(detail: &str) -> Notice {
    Notice { kind: NoticeKind::UnreadableRequest, detail: detail.to_owned() }
}

/// Sends all that is due, over a new connection, and returns what the limiter then knows of the account.
fn exchange(session: &mut Session, limiter: &mut LimiterSession, at: u64) -> Vec<(NoticeKind, String)> {
    while let Some(message) = session.next_message(Stamp(at)) {
        if let Some(reply) = limiter.receive(Time(at), message, &mut Vec::new()).unwrap() {
            session.receive(Stamp(at), reply);
        }
    }
    limiter.notices(ACCOUNT).map(|(kind, detail)| (kind, detail.to_owned())).collect()
}

fn limiter(epoch: u64) -> LimiterSession {
    LimiterSession::new(Greeting {
        epoch: Epoch(epoch),
        validity: Duration::from_secs(2),
        heartbeat: Duration::from_millis(500),
        fingerprint_key: None,
    })
}

#[test]
fn the_first_of_a_kind_is_repeated_to_each_limiter() {
    let quotas = vec!["demo/one".into(), "demo/two".into()];
    let consumer = "batch/enrich".into();
    let mut session = Session::new(Identity { session: SessionId(7), consumer, quotas, max_calls: 9 });
    session.notice(ACCOUNT, unreadable("before the first connection"));
    session.connected();
    let known = [(NoticeKind::UnreadableRequest, "before the first connection".to_owned())];
    let mut first = limiter(1);
    assert_eq!(exchange(&mut session, &mut first, 10), known);
    assert_eq!(first.notices(AccountIndex(0)).count(), 0, "it is about the other account");

    session.notice(ACCOUNT, unreadable("again"));
    assert_eq!(session.next_message(Stamp(11)), None, "it has been reported");

    session.disconnected();
    session.connected();
    assert_eq!(exchange(&mut session, &mut limiter(2), 20), known);
}

#[test]
fn a_notice_of_an_account_that_the_session_does_not_have_is_dropped() {
    let identity = Identity {
        session: SessionId(7),
        consumer: "batch/enrich".into(),
        quotas: vec!["demo/one".into()],
        max_calls: 9,
    };
    let mut session = Session::new(identity);
    session.connected();
    let mut limiter = limiter(1);
    exchange(&mut session, &mut limiter, 10);
    session.notice(ACCOUNT, unreadable("of nobody"));
    assert_eq!(session.next_message(Stamp(11)), None);
}
