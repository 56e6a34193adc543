//! Every message there is, at random.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
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
use quotakeeper_wire::name::QuotaName;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ -~]{1,40}", "\\PC{1,20}"]
}

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<u64>().prop_map(Stamp)
}

fn time() -> impl Strategy<Value = Time> {
    any::<u64>().prop_map(Time)
}

fn account() -> impl Strategy<Value = AccountIndex> {
    any::<u32>().prop_map(AccountIndex)
}

fn call() -> impl Strategy<Value = CallId> {
    any::<u64>().prop_map(CallId)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    any::<u64>().prop_map(Epoch)
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn class() -> impl Strategy<Value = CallClass> {
    (option::of(text()), option::of(text())).prop_map(|(endpoint, model)| CallClass {
        endpoint,
        model,
        allocation: None,
    })
}

fn observations() -> impl Strategy<Value = Vec<Observation>> {
    let observation = (text(), any::<Option<u64>>(), any::<Option<u64>>(), option::of(duration()))
        .prop_map(|(limit, hard, remaining, ends_in)| Observation { limit, hard, remaining, ends_in });
    vec(observation, 0..4)
}

fn scope() -> impl Strategy<Value = Scope> {
    let selector =
        || prop_oneof![Just(Selector::Any), Just(Selector::Unnamed), text().prop_map(Selector::from)];
    (option::of(text()), selector(), selector()).prop_map(|(limit, endpoint, model)| Scope {
        limit,
        endpoint,
        model,
    })
}

fn rejection() -> impl Strategy<Value = Rejection> {
    let class = prop_oneof![
        Just(RejectionClass::Quota),
        Just(RejectionClass::Concurrency),
        Just(RejectionClass::Capacity),
        Just(RejectionClass::Terminal),
    ];
    // 0 stands for none.
    let organization = option::of((1..=u64::MAX).prop_map(Fingerprint));
    (class, scope(), option::of(text()), option::of(duration()), text(), organization).prop_map(
        |(class, scope, shared_with, wait, reason, organization)| Rejection {
            class,
            scope,
            shared_with,
            wait,
            reason,
            organization,
        },
    )
}

fn report() -> impl Strategy<Value = Report> {
    prop_oneof![
        any::<bool>().prop_map(|again| Report::Unused { again }),
        stamp().prop_map(|written| Report::Sent { written }),
        (stamp(), observations()).prop_map(|(at, observations)| Report::FirstByte { at, observations }),
        (stamp(), observations(), rejection(), any::<bool>()).prop_map(
            |(at, observations, rejection, again)| Report::Rejected { at, observations, rejection, again }
        ),
        (end(), option::of(usage())).prop_map(|(end, usage)| Report::Done { end, usage }),
    ]
}

fn details() -> impl Strategy<Value = CallDetails> {
    let size = (any::<u64>(), any::<u64>(), option::of(any::<u64>()), any::<u32>(), any::<bool>()).prop_map(
        |(text_bytes, media_tokens, max_output, choices, stored_input)| CallSize {
            text_bytes,
            media_tokens,
            max_output,
            choices,
            stored_input,
        },
    );
    (class(), option::of(size), any::<u64>(), any::<u64>()).prop_map(|(class, size, credits, credential)| {
        CallDetails { class, size, credits, credential: Fingerprint(credential) }
    })
}

fn notice() -> impl Strategy<Value = Notice> {
    let kind = prop_oneof![
        Just(NoticeKind::UnreadableRequest),
        Just(NoticeKind::DistrustedCa),
        Just(NoticeKind::NoCalls),
        Just(NoticeKind::UnknownCost),
        Just(NoticeKind::AnotherOrganization),
        Just(NoticeKind::Unknown),
    ];
    (kind, text()).prop_map(|(kind, detail)| Notice { kind, detail })
}

fn produced() -> impl Strategy<Value = Produced> {
    (0..8u32, any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(account, call, attempt, output)| {
        Produced { account: AccountIndex(account), call: CallId(call), attempt, output }
    })
}

fn end() -> impl Strategy<Value = CallEnd> {
    prop_oneof![Just(CallEnd::Seen), Just(CallEnd::Lost)]
}

fn usage() -> impl Strategy<Value = TokenUsage> {
    (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>(), option::of(any::<u64>()))
        .prop_map(|(input, cached, cache_write, output, exact, credits)| TokenUsage {
            input,
            cached,
            cache_write,
            output,
            exact,
            credits,
        })
}

fn ended() -> impl Strategy<Value = EndedAttempt> {
    let ending =
        prop_oneof![
            Just(Ending::Unused),
            stamp().prop_map(|written| Ending::Sent { written }),
            (stamp(), end(), option::of(usage())).prop_map(|(at, end, usage)| Ending::Answered {
                at,
                end,
                usage
            }),
            (stamp(), observations(), rejection())
                .prop_map(|(at, observations, rejection)| Ending::Rejected { at, observations, rejection }),
        ];
    (account(), call(), grant(), details(), ending).prop_map(|(account, call, grant, details, ending)| {
        EndedAttempt { account, call, grant, details, ending }
    })
}

fn grant() -> impl Strategy<Value = GrantRef> {
    (any::<u32>(), epoch(), time()).prop_map(|(attempt, epoch, granted)| GrantRef { attempt, epoch, granted })
}

fn live() -> impl Strategy<Value = LiveCall> {
    let progress = prop_oneof![
        (any::<u32>(), duration(), option::of(duration()))
            .prop_map(|(attempts, waited, patience)| Progress::Waiting { attempts, waited, patience }),
        grant().prop_map(Progress::Granted),
        (grant(), stamp()).prop_map(|(grant, written)| Progress::Sent { grant, written }),
        (grant(), stamp()).prop_map(|(grant, at)| Progress::Answered { grant, at }),
    ];
    (account(), call(), details(), progress).prop_map(|(account, call, details, progress)| LiveCall {
        account,
        call,
        details,
        progress,
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    let quotas = vec(text().prop_map(QuotaName::from), 0..4);
    let lists = (quotas, vec(ended(), 0..4), vec(live(), 0..4));
    (any::<u64>(), text(), epoch(), lists).prop_map(|(session, consumer, newest, (quotas, ended, calls))| {
        Hello { session: SessionId(session), consumer: consumer.into(), quotas, newest, ended, calls }
    })
}

pub fn to_limiter() -> impl Strategy<Value = ToLimiter> {
    let body = prop_oneof![
        hello().prop_map(ProxyMessage::Hello),
        vec(produced(), 0..4).prop_map(|produced| ProxyMessage::Heartbeat { produced }),
        (account(), call(), details(), option::of(duration())).prop_map(
            |(account, call, details, patience)| { ProxyMessage::Ask { account, call, details, patience } }
        ),
        (account(), call()).prop_map(|(account, call)| ProxyMessage::Cancel { account, call }),
        (account(), call(), any::<u32>(), report()).prop_map(|(account, call, attempt, report)| {
            ProxyMessage::Report { account, call, attempt, report }
        }),
        (account(), notice()).prop_map(|(account, notice)| ProxyMessage::Notice { account, notice }),
        (account(), any::<u64>(), details()).prop_map(|(account, look, details)| ProxyMessage::Look {
            account,
            look,
            class: details.class
        }),
    ];
    (stamp(), body).prop_map(|(stamp, body)| ToLimiter { stamp, body })
}

pub fn to_proxy() -> impl Strategy<Value = ToProxy> {
    let reason = prop::sample::select(REASONS);
    let body = prop_oneof![
        (duration(), duration(), option::of(any::<[u8; 32]>())).prop_map(|(validity, heartbeat, key)| {
            LimiterMessage::Welcome { validity, heartbeat, fingerprint_key: key.map(FingerprintKey) }
        }),
        (account(), call(), any::<u32>(), stamp(), time()).prop_map(
            |(account, call, attempt, echo, granted)| LimiterMessage::Grant {
                account,
                call,
                attempt,
                echo,
                granted
            }
        ),
        (account(), call(), reason, option::of(duration()), option::of(text())).prop_map(
            |(account, call, reason, retry_after, words)| LimiterMessage::Refuse {
                account,
                call,
                reason,
                retry_after,
                words
            }
        ),
        (account(), update()).prop_map(|(account, update)| LimiterMessage::Account { account, update }),
        (account(), any::<u64>(), text()).prop_map(|(account, look, document)| LimiterMessage::Outlook {
            account,
            look,
            document
        }),
    ];
    (epoch(), body).prop_map(|(epoch, body)| ToProxy { epoch, body })
}

fn update() -> impl Strategy<Value = AccountUpdate> {
    prop_oneof![
        text().prop_map(|document| AccountUpdate::State(AccountState::InForce { document })),
        text().prop_map(|reason| AccountUpdate::State(AccountState::Absent { reason })),
        (scope(), duration(), text()).prop_map(|(scope, remaining, reason)| AccountUpdate::Paused {
            scope,
            remaining,
            reason
        }),
        (scope(), duration()).prop_map(|(scope, paused_for)| AccountUpdate::Resumed { scope, paused_for }),
    ]
}

pub const REASONS: &[RefusalReason] = &[
    RefusalReason::WaitTooLong,
    RefusalReason::WaitExceeded,
    RefusalReason::QueueFull,
    RefusalReason::QuotaExceeded,
    RefusalReason::NeverFits,
    RefusalReason::ProviderStopped,
    RefusalReason::BudgetExhausted,
];
