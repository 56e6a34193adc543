//! One message of each kind, the same in every run: their bytes are recorded.

use std::time::Duration;

use crate::messages::REASONS;
use quotakeeper_engine::event::{
    CallClass, CallId, Fingerprint, Observation, RefusalReason, Rejection, RejectionClass, Scope, Selector,
    SessionId,
};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};
use quotakeeper_wire::message::{
    AccountIndex, AccountState, AccountUpdate, CallDetails, EndedAttempt, Ending, Epoch, FingerprintKey,
    GrantRef, Hello, LimiterMessage, LiveCall, Notice, NoticeKind, Produced, Progress, ProxyMessage, Report,
    ToLimiter, ToProxy,
};

/// A rejection with everything in it.
pub fn a_rejection(class: RejectionClass, scope: Scope) -> Rejection {
    Rejection {
        shared_with: None,
        organization: None,
        class,
        scope,
        wait: Some(Duration::from_millis(7_500)),
        reason: "TEN_SECONDLY_ROLLING – zehn Sekunden".to_owned(),
    }
}

fn some_observations() -> Vec<Observation> {
    vec![
        Observation { limit: "requests".to_owned(), hard: Some(100), remaining: Some(0), ends_in: None },
        Observation { limit: "tokens".to_owned(), hard: None, remaining: Some(39_512), ends_in: None },
        Observation { limit: "daily".to_owned(), hard: Some(u64::MAX), remaining: None, ends_in: None },
    ]
}

fn a_shape() -> CallClass {
    CallClass { endpoint: Some("chat".to_owned()), model: Some("gpt-4o".to_owned()), allocation: None }
}

fn a_sized_call() -> CallDetails {
    let size = CallSize { text_bytes: 4_096, max_output: Some(1_024), choices: 2, ..CallSize::default() };
    CallDetails {
        class: a_shape(),
        size: Some(size),
        credits: 0,
        credential: Fingerprint(0xc0ff_ee00_0000_0001),
    }
}

fn a_call_with_media() -> CallDetails {
    let size = a_sized_call().size.map(|size| CallSize { media_tokens: 765, stored_input: true, ..size });
    CallDetails { size, ..a_sized_call() }
}

fn some_progress() -> Produced {
    Produced { account: AccountIndex(1), call: CallId(5), attempt: 2, output: 350 }
}

fn some_usage() -> TokenUsage {
    TokenUsage { input: 1_200, cached: 1_000, cache_write: 100, output: 350, exact: true, credits: None }
}

/// A hello of before costs, with everything in it.
pub fn a_hello() -> Hello {
    let (account, call, granted) = (AccountIndex(1), CallId(9), Time(8_000_000_017));
    let (epoch, attempt) = (Epoch(4), 2);
    let (written, at) = (Stamp(77_000_000_001), Stamp(77_050_000_001));
    let grant = GrantRef { attempt, epoch, granted };
    let ended =
        |call, ending| EndedAttempt { account, call: CallId(call), grant, details: a_shape().into(), ending };
    let live =
        |call, progress| LiveCall { account, call: CallId(call), details: CallDetails::default(), progress };
    let rejection = a_rejection(RejectionClass::Quota, Scope::limit("requests"));
    Hello {
        session: SessionId(0xfeed_0000_0000_0001),
        consumer: "sales/Deployment/enrich".into(),
        quotas: vec!["hubspot/sales/crm".into(), "openai/org-1".into()],
        newest: epoch,
        ended: vec![
            ended(1, Ending::Unused),
            ended(2, Ending::Sent { written }),
            ended(3, Ending::Answered { at, end: CallEnd::Lost, usage: None }),
            ended(4, Ending::Rejected { at, observations: some_observations(), rejection }),
        ],
        calls: vec![
            live(
                5,
                Progress::Waiting {
                    attempts: 3,
                    waited: Duration::from_millis(1_250),
                    patience: Some(Duration::from_secs(600)),
                },
            ),
            live(6, Progress::Granted(grant)),
            live(7, Progress::Sent { grant, written }),
            live(call.0, Progress::Answered { grant, at }),
        ],
    }
}

/// One message to a limiter of each kind, by name.
pub fn samples_to_limiter() -> Vec<(&'static str, ToLimiter)> {
    let (account, call, attempt) = (AccountIndex(1), CallId(300), 2);
    let at = Stamp(77_000_000_000);
    let report = |report| ProxyMessage::Report { account, call, attempt, report };
    let rejected = |class, scope, again| {
        report(Report::Rejected {
            at,
            observations: some_observations(),
            rejection: a_rejection(class, scope),
            again,
        })
    };
    let (endpoint, model) = (Scope::endpoint("search"), Scope::model("gpt-4o"));
    let bodies = vec![
        ("hello", ProxyMessage::Hello(a_hello())),
        ("heartbeat", ProxyMessage::ALIVE),
        ("heartbeat_with_progress", ProxyMessage::Heartbeat { produced: vec![some_progress()] }),
        (
            "ask",
            ProxyMessage::Ask {
                account,
                call,
                details: a_shape().into(),
                patience: Some(Duration::from_secs(30)),
            },
        ),
        ("ask_bare", ProxyMessage::Ask { account, call, details: CallDetails::default(), patience: None }),
        ("ask_sized", ProxyMessage::Ask { account, call, details: a_sized_call(), patience: None }),
        ("ask_with_media", ProxyMessage::Ask { account, call, details: a_call_with_media(), patience: None }),
        ("cancel", ProxyMessage::Cancel { account, call }),
        ("notice", ProxyMessage::Notice { account, notice: a_notice() }),
        ("notice_of_an_unknown_cost", ProxyMessage::Notice { account, notice: an_unknown_cost() }),
        ("look", ProxyMessage::Look { account, look: 7, class: a_shape() }),
        ("unused", report(Report::Unused { again: false })),
        ("unused_again", report(Report::Unused { again: true })),
        ("sent", report(Report::Sent { written: at })),
        ("first_byte", report(Report::FirstByte { at, observations: some_observations() })),
        ("rejected_quota", rejected(RejectionClass::Quota, Scope::account(), true)),
        ("rejected_concurrency", rejected(RejectionClass::Concurrency, endpoint, true)),
        ("rejected_capacity", rejected(RejectionClass::Capacity, model, false)),
        ("rejected_terminal", rejected(RejectionClass::Terminal, Scope::limit("spend"), false)),
        (
            "rejected_of_organization",
            report(Report::Rejected {
                at,
                observations: Vec::new(),
                rejection: Rejection {
                    organization: Some(Fingerprint(0x0123_4567_89ab_cdef)),
                    ..a_rejection(RejectionClass::Terminal, Scope::account())
                },
                again: false,
            }),
        ),
        (
            "rejected_shared",
            report(Report::Rejected {
                at,
                observations: Vec::new(),
                rejection: Rejection {
                    shared_with: Some("gpt-5.6-sol".to_owned()),
                    ..a_rejection(
                        RejectionClass::Quota,
                        Scope { model: Selector::Unnamed, ..Scope::limit("tokens") },
                    )
                },
                again: true,
            }),
        ),
        ("done", report(Report::Done { end: CallEnd::Lost, usage: None })),
        ("done_with_usage", report(Report::Done { end: CallEnd::Lost, usage: Some(some_usage()) })),
        ("done_complete", report(Report::Done { end: CallEnd::Seen, usage: Some(some_usage()) })),
    ];
    let stamp = Stamp(77_100_000_000);
    bodies.into_iter().map(|(name, body)| (name, ToLimiter { stamp, body })).collect()
}

/// One message to a proxy of each kind, by name.
pub fn samples_to_proxy() -> Vec<(String, ToProxy)> {
    let (account, call) = (AccountIndex(1), CallId(300));
    let mut bodies = vec![
        (
            "welcome".to_owned(),
            LimiterMessage::Welcome {
                validity: Duration::from_secs(2),
                heartbeat: Duration::from_millis(500),
                fingerprint_key: None,
            },
        ),
        (
            "welcome_with_key".to_owned(),
            LimiterMessage::Welcome {
                validity: Duration::from_secs(2),
                heartbeat: Duration::from_millis(500),
                fingerprint_key: Some(FingerprintKey([0xa5; 32])),
            },
        ),
        (
            "account_in_force".to_owned(),
            LimiterMessage::Account {
                account,
                update: AccountUpdate::State(AccountState::InForce {
                    document: r#"{"format":1}"#.to_owned(),
                }),
            },
        ),
        (
            "account_absent".to_owned(),
            LimiterMessage::Account {
                account,
                update: AccountUpdate::State(AccountState::Absent {
                    reason: "quota gtm/openai does not exist".to_owned(),
                }),
            },
        ),
        (
            "grant".to_owned(),
            LimiterMessage::Grant {
                account,
                call,
                attempt: 2,
                echo: Stamp(77_000_000_000),
                granted: Time(8_000_000_017),
            },
        ),
        (
            "paused".to_owned(),
            LimiterMessage::Account {
                account,
                update: AccountUpdate::Paused {
                    scope: Scope::limit("requests"),
                    remaining: Duration::from_secs(8),
                    reason: "429 Retry-After: 8".to_owned(),
                },
            },
        ),
        (
            "resumed".to_owned(),
            LimiterMessage::Account {
                account,
                update: AccountUpdate::Resumed {
                    scope: Scope::account(),
                    paused_for: Duration::from_millis(8_031),
                },
            },
        ),
    ];
    let document = r#"{"limits":[]}"#.to_owned();
    bodies.push(("outlook".to_owned(), LimiterMessage::Outlook { account, look: 7, document }));
    for &reason in REASONS {
        let retry_after = (reason != RefusalReason::NeverFits).then_some(Duration::from_secs(12));
        let refuse = LimiterMessage::Refuse { account, call, reason, retry_after, words: None };
        bodies.push((format!("refuse_{reason:?}"), refuse));
    }
    let words = Some("insufficient_quota".to_owned());
    let reason = RefusalReason::ProviderStopped;
    let refuse = LimiterMessage::Refuse { account, call, reason, retry_after: None, words };
    bodies.push(("refuse_with_words".to_owned(), refuse));
    let scope = Scope { model: Selector::from("gpt-4o".to_owned()), ..Scope::limit("requests") };
    let update = AccountUpdate::Resumed { scope, paused_for: Duration::from_millis(8_031) };
    bodies.push(("resumed_limit_of_a_model".to_owned(), LimiterMessage::Account { account, update }));
    bodies.into_iter().map(|(name, body)| (name, ToProxy { epoch: Epoch(4), body })).collect()
}

fn an_unknown_cost() -> Notice {
    let detail = "POST /v1/messages: its answer does not say what it has cost".to_owned();
    Notice { kind: NoticeKind::UnknownCost, detail }
}

fn a_notice() -> Notice {
    Notice { kind: NoticeKind::UnreadableRequest, detail: "POST /v1/responses: UnknownEncoding".to_owned() }
}
