//! Heartbeats say how far answers have grown: what rose since the last, and all of it to a limiter that has just been
//! connected.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use quotakeeper_engine::event::{CallClass, CallId, SessionId};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::{CallEnd, TokenUsage};
use quotakeeper_wire::message::{
    AccountIndex, Ending, Epoch, LimiterMessage, Produced, ProxyMessage, Report, ToProxy,
};
use quotakeeper_wire::proxy::{Identity, Session};

const ACCOUNT: AccountIndex = AccountIndex(0);
const HEARTBEAT: u64 = 500;

fn ms(at: u64) -> Stamp {
    Stamp(at * 1_000_000)
}

fn say(session: &mut Session, now: Stamp, body: LimiterMessage) {
    session.receive(now, ToProxy { epoch: Epoch(1), body });
}

fn greet(session: &mut Session, now: Stamp) {
    session.connected();
    session.next_message(now).unwrap();
    let (validity, heartbeat) = (Duration::from_secs(3600), Duration::from_millis(HEARTBEAT));
    say(session, now, LimiterMessage::Welcome { validity, heartbeat, fingerprint_key: None });
}

/// A session with this many calls whose answers have begun.
fn answered(calls: usize) -> (Session, Vec<CallId>) {
    let identity = Identity {
        session: SessionId(7),
        consumer: "batch/enrich".into(),
        quotas: vec!["demo/one".into()],
        max_calls: calls,
    };
    let mut session = Session::new(identity);
    greet(&mut session, ms(0));
    let begin = |_| {
        let call = session.ask(ms(0), ACCOUNT, CallClass::default(), None).unwrap();
        let granted = Time(5);
        say(
            &mut session,
            ms(0),
            LimiterMessage::Grant { account: ACCOUNT, call, attempt: 1, echo: ms(0), granted },
        );
        assert!(session.may_write(ms(0), call));
        session.first_byte(ms(0), call, Vec::new());
        call
    };
    let calls: Vec<CallId> = (0..calls).map(begin).collect();
    heard(&mut session, ms(0));
    (session, calls)
}

fn heard(session: &mut Session, now: Stamp) -> Vec<ProxyMessage> {
    std::iter::from_fn(|| session.next_message(now)).map(|message| message.body).collect()
}

fn told(session: &mut Session, now: Stamp) -> Vec<Vec<(CallId, u64)>> {
    session.wake(now);
    let grown = |message| match message {
        ProxyMessage::Heartbeat { produced } => {
            Some(produced.into_iter().map(|Produced { call, output, .. }| (call, output)).collect())
        }
        _ => None,
    };
    heard(session, now).into_iter().filter_map(grown).collect()
}

#[test]
fn only_what_rose_is_told_and_no_more_often_than_heartbeats() {
    let (mut session, calls) = answered(2);
    assert_eq!(told(&mut session, ms(500)), [vec![]], "alive");
    session.produced(calls[0], 40);
    session.produced(calls[0], 30);
    session.produced(CallId(99), 7);
    assert_eq!(told(&mut session, ms(999)), [vec![(calls[0], 40)]], "the first at once");
    session.produced(calls[0], 40);
    session.produced(calls[1], 1);
    assert!(session.next_wake() <= Some(ms(1499)));
    assert!(told(&mut session, ms(1498)).is_empty());
    assert_eq!(told(&mut session, ms(1499)), [vec![(calls[1], 1)]]);
    assert_eq!(told(&mut session, ms(1999)), [vec![]]);
    session.produced(calls[1], 2);
    session.done(ms(2000), calls[1], CallEnd::Seen, None);
    heard(&mut session, ms(2000));
    assert_eq!(told(&mut session, ms(2600)), [vec![]], "its report says more");
}

#[test]
fn progress_does_not_wait_for_silence() {
    let (mut session, calls) = answered(1);
    for at in (500..5000).step_by(100) {
        session.produced(calls[0], at);
        // Something else leaves all the time.
        session.notice(
            ACCOUNT,
            quotakeeper_wire::message::Notice {
                kind: quotakeeper_wire::message::NoticeKind::NoCalls,
                detail: String::new(),
            },
        );
        let said = told(&mut session, ms(at));
        assert_eq!(said.len(), usize::from(at % HEARTBEAT == 0), "at {at}");
    }
}

#[test]
fn a_heartbeat_holds_no_more_than_a_limiter_takes() {
    let (mut session, calls) = answered(2500);
    calls.iter().for_each(|call| session.produced(*call, 9));
    let lengths: Vec<usize> = told(&mut session, ms(500)).iter().map(Vec::len).collect();
    assert_eq!(lengths, [1024, 1024, 452]);
}

#[test]
fn a_limiter_that_comes_back_hears_all_of_it() {
    let (mut session, calls) = answered(2);
    calls.iter().for_each(|call| session.produced(*call, 5));
    told(&mut session, ms(500));
    session.disconnected();
    greet(&mut session, ms(600));
    assert_eq!(told(&mut session, ms(700)), [vec![(calls[0], 5), (calls[1], 5)]]);
}

#[test]
fn a_hello_repeats_what_an_answer_has_used() {
    let (mut session, calls) = answered(1);
    let usage = Some(TokenUsage { input: 7, output: 9, exact: true, ..TokenUsage::default() });
    session.done(ms(10), calls[0], CallEnd::Seen, usage);
    let Some(ProxyMessage::Report { report, .. }) = heard(&mut session, ms(10)).pop() else { panic!() };
    assert_eq!(report, Report::Done { end: CallEnd::Seen, usage });
    session.disconnected();
    session.connected();
    let Some(ProxyMessage::Hello(hello)) = session.next_message(ms(20)).map(|message| message.body) else {
        panic!()
    };
    assert_eq!(hello.ended[0].ending, Ending::Answered { at: ms(0), end: CallEnd::Seen, usage });
}
