//! Any messages of a proxy in any order lead to an error with a remedy, or to events in a valid order;
//! never a panic, never an event for an account that is not its own.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;
use quotakeeper_engine::event::{
    Action, CallId, Callers, Event, RefusalReason, Rejection, RejectionClass, Scope, SessionId,
};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::CallEnd;
use quotakeeper_wire::limiter::{Greeting, NewestHellos, Session, Violation};
use quotakeeper_wire::message::{
    AccountIndex, AccountUpdate, CallDetails, EndedAttempt, Ending, Epoch, GrantRef, Hello, LimiterMessage,
    LiveCall, Notice, NoticeKind, Progress, ProxyMessage, Report, ToLimiter,
};

const GREETING: Greeting = Greeting {
    epoch: Epoch(3),
    validity: Duration::from_secs(2),
    heartbeat: Duration::from_millis(500),
    fingerprint_key: None,
};

fn stamp() -> impl Strategy<Value = Stamp> {
    prop_oneof![
        8 => (0u64..20_000_000_000).prop_map(Stamp),
        1 => any::<u64>().prop_map(Stamp),
    ]
}

fn account() -> impl Strategy<Value = AccountIndex> {
    prop_oneof![9 => 0u32..2, 1 => any::<u32>()].prop_map(AccountIndex)
}

fn attempt() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 1u32..4, 1 => any::<u32>()]
}

fn call() -> impl Strategy<Value = CallId> {
    prop_oneof![9 => 0u64..8, 1 => any::<u64>()].prop_map(CallId)
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn rejection() -> Rejection {
    Rejection {
        shared_with: None,
        organization: None,
        class: RejectionClass::Quota,
        scope: Scope::account(),
        wait: Some(Duration::MAX),
        reason: String::new(),
    }
}

fn report() -> impl Strategy<Value = Report> {
    prop_oneof![
        any::<bool>().prop_map(|again| Report::Unused { again }),
        stamp().prop_map(|written| Report::Sent { written }),
        stamp().prop_map(|at| Report::FirstByte { at, observations: Vec::new() }),
        (stamp(), any::<bool>()).prop_map(|(at, again)| Report::Rejected {
            at,
            observations: Vec::new(),
            rejection: rejection(),
            again,
        }),
        Just(Report::Done { end: CallEnd::Lost, usage: None }),
    ]
}

fn live() -> impl Strategy<Value = LiveCall> {
    let progress = prop_oneof![
        (attempt(), duration(), proptest::option::of(duration()))
            .prop_map(|(attempts, waited, patience)| Progress::Waiting { attempts, waited, patience }),
        grant().prop_map(Progress::Granted),
        (grant(), stamp()).prop_map(|(grant, written)| Progress::Sent { grant, written }),
        (grant(), stamp()).prop_map(|(grant, at)| Progress::Answered { grant, at }),
    ];
    (account(), call(), progress).prop_map(|(account, call, progress)| LiveCall {
        account,
        call,
        details: CallDetails::default(),
        progress,
    })
}

fn ended() -> impl Strategy<Value = EndedAttempt> {
    let ending = prop_oneof![
        Just(Ending::Unused),
        stamp().prop_map(|written| Ending::Sent { written }),
        stamp().prop_map(|at| Ending::Answered { at, end: CallEnd::Seen, usage: None }),
        stamp().prop_map(|at| Ending::Rejected { at, observations: Vec::new(), rejection: rejection() }),
    ];
    (account(), call(), grant(), ending).prop_map(|(account, call, grant, ending)| EndedAttempt {
        account,
        call,
        grant,
        details: CallDetails::default(),
        ending,
    })
}

fn grant() -> impl Strategy<Value = GrantRef> {
    attempt().prop_map(|attempt| GrantRef { attempt, epoch: Epoch(1), granted: Time(3) })
}

fn hello() -> impl Strategy<Value = ProxyMessage> {
    (0usize..4, 0u64..5, proptest::collection::vec(ended(), 0..3), proptest::collection::vec(live(), 0..5))
        .prop_map(|(accounts, newest, ended, calls)| {
            ProxyMessage::Hello(Hello {
                session: SessionId(9),
                consumer: "team/job".into(),
                quotas: (0..accounts).map(|n| format!("demo/{n}").into()).collect(),
                newest: Epoch(newest),
                ended,
                calls,
            })
        })
}

fn body() -> impl Strategy<Value = ProxyMessage> {
    prop_oneof![
        1 => hello(),
        1 => Just(ProxyMessage::ALIVE),
        3 => (account(), call(), proptest::option::of(duration())).prop_map(
            |(account, call, patience)| ProxyMessage::Ask {
                account,
                call,
                details: CallDetails::default(),
                patience,
            }
        ),
        2 => (account(), call()).prop_map(|(account, call)| ProxyMessage::Cancel { account, call }),
        1 => (account(), "[a-z]{0,9}").prop_map(|(account, detail)| ProxyMessage::Notice {
            account,
            notice: Notice { kind: NoticeKind::UnreadableRequest, detail },
        }),
        5 => (account(), call(), attempt(), report()).prop_map(
            |(account, call, attempt, report)| ProxyMessage::Report {
                account,
                call,
                attempt,
                report,
            }
        ),
    ]
}

fn message(body: impl Strategy<Value = ProxyMessage>) -> impl Strategy<Value = ToLimiter> {
    (stamp(), body).prop_map(|(stamp, body)| ToLimiter { stamp, body })
}

fn check(session: &mut Session, now: Time, message: ToLimiter) -> Result<(), TestCaseError> {
    let begun = session.id().is_some();
    let is_hello = matches!(message.body, ProxyMessage::Hello(_));
    let mut events = Vec::new();
    match session.receive(now, message, &mut events) {
        Err(violation) => {
            prop_assert!(events.is_empty());
            // A sentence, and what to do.
            let sentence = violation.to_string();
            prop_assert!(sentence.contains("; "), "{sentence}");
            if is_hello && begun {
                prop_assert_eq!(violation, Violation::SecondHello);
            }
            if !is_hello && !begun {
                prop_assert_eq!(violation, Violation::NoHello);
            }
        }
        Ok(reply) => {
            prop_assert_eq!(reply.is_some(), is_hello);
            prop_assert_eq!(is_hello, !begun);
            let accounts = session.quotas().len();
            for (place, (account, event)) in events.iter().enumerate() {
                prop_assert!((account.0 as usize) < accounts);
                let alive = matches!(event, Event::Heartbeat { .. });
                prop_assert_eq!(alive, place < accounts, "signs of life come first");
                let (Event::Sent { latest, .. }
                | Event::FirstByte { latest, .. }
                | Event::Rejected { latest, .. }) = event
                else {
                    continue;
                };
                prop_assert!(*latest <= now, "nothing has happened in the future");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn nothing_panics(
        first in message(hello()),
        rest in proptest::collection::vec((0u64..5_000_000_000, message(body())), 0..30),
    ) {
        let mut session = Session::new(GREETING);
        let mut now = Time(20_000_000_000);
        check(&mut session, now, first)?;
        for (passed, message) in rest {
            now += Duration::from_nanos(passed);
            check(&mut session, now, message)?;
        }
    }
}

#[test]
fn a_limiter_learns_that_a_newer_one_has_succeeded_it() {
    let mut session = Session::new(GREETING);
    let body = ProxyMessage::Hello(Hello {
        session: SessionId(9),
        consumer: "team/job".into(),
        quotas: vec!["demo/0".into()],
        newest: Epoch(4),
        ended: Vec::new(),
        calls: Vec::new(),
    });
    let message = ToLimiter { stamp: Stamp(1), body };
    let received = session.receive(Time(5), message, &mut Vec::new());
    assert_eq!(received, Err(Violation::NewerLimiter { received: 4, ours: 3 }));
}

#[test]
fn a_hello_that_was_overtaken_by_a_newer_one_is_not_admitted() {
    let hello = |stamp| ToLimiter {
        stamp: Stamp(stamp),
        body: ProxyMessage::Hello(Hello {
            session: SessionId(9),
            consumer: "team/job".into(),
            quotas: Vec::new(),
            newest: Epoch(0),
            ended: Vec::new(),
            calls: Vec::new(),
        }),
    };
    let mut newest = NewestHellos::default();
    assert!(newest.admit(&hello(10)));
    assert!(newest.admit(&hello(30)));
    assert!(!newest.admit(&hello(20)));
    assert!(newest.admit(&ToLimiter { stamp: Stamp(25), body: ProxyMessage::ALIVE }));
}

#[test]
fn a_session_sends_only_its_own_messages() {
    let mut session = Session::new(GREETING);
    let body = ProxyMessage::Hello(Hello {
        session: SessionId(9),
        consumer: "team/job".into(),
        quotas: vec!["demo/0".into()],
        newest: Epoch(3),
        ended: Vec::new(),
        calls: Vec::new(),
    });
    let message = ToLimiter { stamp: Stamp(1), body };
    session.receive(Time(5), message, &mut Vec::new()).unwrap();
    let refuse = |session| Action::Refuse {
        session: SessionId(session),
        call: CallId(1),
        reason: RefusalReason::QueueFull,
        retry_after: None,
        words: None,
    };
    let account = AccountIndex(0);
    assert!(session.send(Time(6), account, &refuse(8)).is_none());
    assert!(session.send(Time(6), account, &refuse(9)).is_some());
    assert!(session.send(Time(6), AccountIndex(1), &refuse(9)).is_none());
    // A pause is sent as a duration, because the two clocks are not comparable.
    let paused = |callers| Action::Paused {
        scope: Scope::account(),
        callers,
        until: Time(106),
        reason: "429".to_owned(),
    };
    let of_another = paused(Callers::Workload("another".into()));
    assert!(session.send(Time(6), account, &of_another).is_none(), "it does not concern this proxy");
    let paused = paused(Callers::All);
    let sent = session.send(Time(6), account, &paused).unwrap();
    assert!(matches!(
        sent.body,
        LimiterMessage::Account { update: AccountUpdate::Paused { remaining, .. }, .. }
            if remaining == Duration::from_nanos(100)
    ));
}
