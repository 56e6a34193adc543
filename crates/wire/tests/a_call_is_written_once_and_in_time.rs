//! A grant is written at most once, never after echo + D, never for an older limiter.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use quotakeeper_engine::event::{CallClass, CallId, SessionId};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::CallEnd;
use quotakeeper_wire::message::{
    AccountIndex, Ending, Epoch, GrantRef, LimiterMessage, Progress, ProxyMessage, Report, ToProxy,
};
use quotakeeper_wire::proxy::{AskError, Identity, SENT_AFTER, Session, SessionEvent};

const ACCOUNT: AccountIndex = AccountIndex(0);
const DECIDED: Time = Time(5);
const D: Duration = Duration::from_secs(2);

fn ms(at: u64) -> Stamp {
    Stamp(at * 1_000_000)
}

fn identity(max_calls: usize) -> Identity {
    Identity {
        session: SessionId(7),
        consumer: "batch/enrich".into(),
        quotas: vec!["demo/one".into()],
        max_calls,
    }
}

/// A session that has sent its hello at 0 and was welcomed by `epoch`.
fn greeted(epoch: u64) -> Session {
    let mut session = Session::new(identity(100));
    greet(&mut session, ms(0), epoch);
    session
}

fn greet(session: &mut Session, now: Stamp, epoch: u64) -> quotakeeper_wire::message::Hello {
    session.connected();
    let first = session.next_message(now).unwrap();
    let ProxyMessage::Hello(hello) = first.body else {
        panic!("the first message must be a hello, not {first:?}");
    };
    let welcome =
        LimiterMessage::Welcome { validity: D, heartbeat: Duration::from_millis(500), fingerprint_key: None };
    assert_eq!(session.receive(now, from(epoch, welcome)), None);
    hello
}

fn from(epoch: u64, body: LimiterMessage) -> ToProxy {
    ToProxy { epoch: Epoch(epoch), body }
}

fn grant(epoch: u64, call: CallId, attempt: u32, echo: Stamp) -> ToProxy {
    from(epoch, LimiterMessage::Grant { account: ACCOUNT, call, attempt, echo, granted: DECIDED })
}

fn ask(session: &mut Session, now: Stamp) -> CallId {
    session.ask(now, ACCOUNT, CallClass::default(), None).unwrap()
}

fn drain(session: &mut Session, now: Stamp) -> Vec<ProxyMessage> {
    std::iter::from_fn(|| session.next_message(now).map(|message| message.body)).collect()
}

fn reports(messages: &[ProxyMessage]) -> Vec<&Report> {
    messages
        .iter()
        .filter_map(|message| match message {
            ProxyMessage::Report { report, .. } => Some(report),
            _ => None,
        })
        .collect()
}

#[test]
fn a_grant_may_be_written_once() {
    let mut session = greeted(1);
    let call = ask(&mut session, ms(1));
    assert!(!session.may_write(ms(1), call));
    let notice = session.receive(ms(2), grant(1, call, 1, ms(1)));
    assert_eq!(notice, Some(SessionEvent::Granted { call }));
    assert!(session.may_write(ms(3), call));
    assert!(!session.may_write(ms(3), call));
}

#[test]
fn a_grant_is_valid_until_its_echo_plus_d_and_no_nanosecond_longer() {
    let mut session = greeted(1);
    let call = ask(&mut session, ms(1));
    session.receive(ms(2), grant(1, call, 1, ms(1)));
    assert!(session.clone().may_write(ms(2001), call));
    drain(&mut session, ms(2));
    assert!(!session.may_write(Stamp(ms(2001).0 + 1), call));
    let sent = drain(&mut session, ms(2002));
    assert_eq!(reports(&sent), [&Report::Unused { again: true }]);
    // It waits again and can be granted again.
    let notice = session.receive(ms(2003), grant(1, call, 2, ms(2002)));
    assert_eq!(notice, Some(SessionEvent::Granted { call }));
    assert!(session.may_write(ms(2004), call));
}

#[test]
fn a_newer_limiter_voids_the_grants_of_the_older() {
    let mut session = greeted(1);
    let (held, late) = (ask(&mut session, ms(1)), ask(&mut session, ms(1)));
    session.receive(ms(2), grant(1, held, 1, ms(1)));
    let hello = greet(&mut session, ms(10), 2);
    let reported = GrantRef { attempt: 1, epoch: Epoch(1), granted: DECIDED };
    assert_eq!(hello.calls[0].progress, Progress::Granted(reported));
    assert!(!session.may_write(ms(11), held));
    assert_eq!(session.receive(ms(11), grant(1, late, 1, ms(10))), None);
    assert!(!session.may_write(ms(11), late));
    assert_eq!(session.counters().stale, 1);
}

#[test]
fn a_grant_that_was_decided_for_a_lost_connection_is_not_used() {
    let mut session = greeted(1);
    let call = ask(&mut session, ms(1));
    drain(&mut session, ms(1));
    session.disconnected();
    let hello = greet(&mut session, ms(10), 1);
    assert!(matches!(hello.calls[0].progress, Progress::Waiting { attempts: 0, .. }));
    // By the hello the call holds nothing, so the limiter may have granted it again.
    assert_eq!(session.receive(ms(11), grant(1, call, 1, ms(1))), None);
    assert_eq!(session.receive(ms(12), grant(1, call, 2, ms(10))), Some(SessionEvent::Granted { call }));
}

#[test]
fn a_grant_for_a_client_that_hung_up_is_returned() {
    let mut session = greeted(1);
    let call = ask(&mut session, ms(1));
    session.cancel(ms(2), call);
    drain(&mut session, ms(2));
    assert_eq!(session.receive(ms(3), grant(1, call, 1, ms(1))), None);
    let sent = drain(&mut session, ms(3));
    assert_eq!(reports(&sent), [&Report::Unused { again: false }]);
    assert!(session.is_empty());
}

#[test]
fn sent_is_reported_only_when_the_response_is_slow() {
    let mut session = greeted(1);
    let (quick, slow) = (ask(&mut session, ms(1)), ask(&mut session, ms(1)));
    drain(&mut session, ms(1));
    for call in [quick, slow] {
        session.receive(ms(2), grant(1, call, 1, ms(1)));
        assert!(session.may_write(ms(2), call));
        session.wrote(ms(3), call);
    }
    session.first_byte(ms(20), quick, Vec::new());
    drain(&mut session, ms(20));
    assert_eq!(session.next_wake(), Some(ms(3) + SENT_AFTER));
    session.wake(ms(3) + SENT_AFTER);
    let sent = drain(&mut session, ms(53));
    assert_eq!(reports(&sent), [&Report::Sent { written: ms(3) }]);
}

#[test]
fn a_write_after_the_validity_is_reported_even_if_the_response_came_at_once() {
    let mut session = greeted(1);
    let call = ask(&mut session, ms(1));
    session.receive(ms(2), grant(1, call, 1, ms(1)));
    drain(&mut session, ms(2));
    assert!(session.may_write(ms(3), call));
    session.wrote(ms(5000), call);
    session.first_byte(ms(5001), call, Vec::new());
    let sent = drain(&mut session, ms(5001));
    assert!(matches!(
        reports(&sent)[..],
        [Report::Sent { written }, Report::FirstByte { .. }] if *written == ms(5000)
    ));
    assert_eq!(session.counters().late_writes, 1);
}

#[test]
fn a_silent_proxy_sends_heartbeats() {
    let mut session = greeted(1);
    assert_eq!(session.next_wake(), Some(ms(500)));
    session.wake(ms(499));
    assert_eq!(drain(&mut session, ms(499)), []);
    session.wake(ms(500));
    assert_eq!(drain(&mut session, ms(500)), [ProxyMessage::ALIVE]);
    assert_eq!(session.next_wake(), Some(ms(1000)));
}

#[test]
fn the_last_report_is_repeated_until_an_echo_proves_that_it_arrived() {
    let mut session = greeted(1);
    let (first, second) = (ask(&mut session, ms(1)), ask(&mut session, ms(1)));
    session.receive(ms(2), grant(1, first, 1, ms(1)));
    assert!(session.may_write(ms(2), first));
    session.wrote(ms(3), first);
    session.done(ms(4), first, CallEnd::Lost, None);
    drain(&mut session, ms(4));
    session.disconnected();
    let hello = greet(&mut session, ms(10), 1);
    assert_eq!(hello.ended.len(), 1);
    assert_eq!(hello.ended[0].ending, Ending::Sent { written: ms(3) });
    assert_eq!(hello.calls.len(), 1);
    // An echo younger than that hello, by more than a ledger's commit, settles it.
    session.receive(ms(1020), grant(1, second, 1, ms(1010)));
    session.disconnected();
    assert_eq!(greet(&mut session, ms(1030), 1).ended, []);
}

#[test]
fn a_proxy_with_too_many_calls_refuses_more() {
    let mut session = Session::new(identity(1));
    ask(&mut session, ms(1));
    let refused = session.ask(ms(1), ACCOUNT, CallClass::default(), None);
    assert_eq!(refused, Err(AskError::TooManyCalls { max: 1 }));
    let unknown = session.ask(ms(1), AccountIndex(1), CallClass::default(), None);
    assert_eq!(unknown, Err(AskError::UnknownAccount(1)));
}
