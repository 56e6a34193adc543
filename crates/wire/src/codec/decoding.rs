//! Decodes messages from their protobuf form. The head of the .proto describes what happens to unknown
//! parts.

use std::time::Duration;

use quotakeeper_engine::event::{
    CallClass, CallId, Fingerprint, Observation, RefusalReason, Rejection, RejectionClass, Scope, Selector,
    SessionId,
};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};

use super::bounds::{
    MOST_CAPABILITIES, MOST_OBSERVATIONS, MOST_PRODUCED, check_count, document, name, reason,
};
use super::generated as pb;
use super::{DecodeError, NEWEST, OLDEST};
use crate::limiter::{MOST_CALLS, MOST_ENDED, MOST_QUOTAS};
use crate::message::{
    AccountIndex, AccountState, AccountUpdate, CallDetails, EndedAttempt, Ending, Epoch, FingerprintKey,
    GrantRef, Hello, LimiterMessage, LiveCall, Notice, NoticeKind, Produced, Progress, ProxyMessage, Report,
    ToLimiter, ToProxy,
};
use crate::name::QuotaName;

pub(super) fn to_limiter(message: pb::ToLimiter) -> Result<ToLimiter, DecodeError> {
    use pb::to_limiter::Body;
    let body = match message.body {
        Some(Body::Hello(message)) => ProxyMessage::Hello(hello(message)?),
        // An unknown body is still a sign of life.
        Some(Body::Heartbeat(heartbeat)) => {
            check_count("answers that grew", heartbeat.produced.len(), MOST_PRODUCED)?;
            ProxyMessage::Heartbeat { produced: heartbeat.produced.into_iter().map(produced).collect() }
        }
        None => ProxyMessage::ALIVE,
        Some(Body::Ask(ask)) => ProxyMessage::Ask {
            account: AccountIndex(ask.account),
            call: CallId(ask.call),
            details: details(ask.class, ask.size, ask.credits, ask.credential)?,
            patience: ask.patience.map(Duration::from_nanos),
        },
        Some(Body::Cancel(cancel)) => {
            ProxyMessage::Cancel { account: AccountIndex(cancel.account), call: CallId(cancel.call) }
        }
        Some(Body::Report(report)) => ProxyMessage::Report {
            account: AccountIndex(report.account),
            call: CallId(report.call),
            attempt: report.attempt,
            report: outcome(report.outcome)?,
        },
        Some(Body::Notice(notice)) => ProxyMessage::Notice {
            account: AccountIndex(notice.account),
            notice: Notice { kind: notice_kind(notice.kind()), detail: reason(notice.detail)? },
        },
        Some(Body::Look(look)) => ProxyMessage::Look {
            account: AccountIndex(look.account),
            look: look.look,
            class: class(look.class)?,
        },
    };
    Ok(ToLimiter { stamp: Stamp(message.stamp), body })
}

pub(super) fn to_proxy(message: pb::ToProxy) -> Result<Option<ToProxy>, DecodeError> {
    use pb::to_proxy::Body;
    let Some(body) = message.body else { return Ok(None) };
    let body = match body {
        Body::Welcome(welcome) => {
            if !(OLDEST..=NEWEST).contains(&welcome.version) {
                return Err(DecodeError::StrangeVersion(welcome.version));
            }
            LimiterMessage::Welcome {
                validity: Duration::from_nanos(welcome.validity),
                heartbeat: Duration::from_nanos(welcome.heartbeat),
                fingerprint_key: welcome.fingerprint_key.try_into().ok().map(FingerprintKey),
            }
        }
        Body::Account(account) => {
            use pb::account::State;
            let state = match account.state {
                Some(State::Document(text)) => AccountState::InForce { document: document(text)? },
                Some(State::Absent(text)) => AccountState::Absent { reason: reason(text)? },
                None => return Ok(None),
            };
            update(account.account, AccountUpdate::State(state))
        }
        Body::Grant(grant) => LimiterMessage::Grant {
            account: AccountIndex(grant.account),
            call: CallId(grant.call),
            attempt: grant.attempt,
            echo: Stamp(grant.echo),
            granted: Time(grant.granted),
        },
        Body::Refuse(refuse) => LimiterMessage::Refuse {
            account: AccountIndex(refuse.account),
            call: CallId(refuse.call),
            reason: refusal(refuse.reason()),
            retry_after: refuse.retry_after.map(Duration::from_nanos),
            words: refuse.words.map(reason).transpose()?,
        },
        Body::Paused(paused) => {
            let Some(scope) = scope(paused.scope)? else { return Ok(None) };
            let remaining = Duration::from_nanos(paused.remaining);
            let reason = reason(paused.reason)?;
            update(paused.account, AccountUpdate::Paused { scope, remaining, reason })
        }
        Body::Resumed(resumed) => {
            let Some(scope) = scope(resumed.scope)? else { return Ok(None) };
            let paused_for = Duration::from_nanos(resumed.paused_for);
            update(resumed.account, AccountUpdate::Resumed { scope, paused_for })
        }
        Body::Outlook(outlook) => LimiterMessage::Outlook {
            account: AccountIndex(outlook.account),
            look: outlook.look,
            document: document(outlook.document)?,
        },
    };
    Ok(Some(ToProxy { epoch: Epoch(message.epoch), body }))
}

fn notice_kind(kind: pb::NoticeKind) -> NoticeKind {
    match kind {
        pb::NoticeKind::UnreadableRequest => NoticeKind::UnreadableRequest,
        pb::NoticeKind::DistrustedCa => NoticeKind::DistrustedCa,
        pb::NoticeKind::NoCalls => NoticeKind::NoCalls,
        pb::NoticeKind::UnknownCost => NoticeKind::UnknownCost,
        pb::NoticeKind::AnotherOrganization => NoticeKind::AnotherOrganization,
        pb::NoticeKind::Unspecified => NoticeKind::Unknown,
    }
}

fn update(account: u32, update: AccountUpdate) -> LimiterMessage {
    LimiterMessage::Account { account: AccountIndex(account), update }
}

fn grant(attempt: u32, epoch: u64, granted: u64) -> GrantRef {
    GrantRef { attempt, epoch: Epoch(epoch), granted: Time(granted) }
}

fn hello(message: pb::Hello) -> Result<Hello, DecodeError> {
    let (min, max) = (message.min, message.max);
    // The version first: it decides how the rest is decoded.
    if max < OLDEST || min > NEWEST {
        return Err(DecodeError::NoCommonVersion { min, max });
    }
    check_count("capabilities", message.capabilities.len(), MOST_CAPABILITIES)?;
    check_count("quotas", message.quotas.len(), MOST_QUOTAS)?;
    check_count("ended attempts", message.ended.len(), MOST_ENDED)?;
    check_count("calls", message.calls.len(), MOST_CALLS)?;
    let quota = |quota: String| name("a quota", quota).map(QuotaName::from);
    Ok(Hello {
        session: SessionId(message.session),
        consumer: name("a consumer", message.consumer)?.into(),
        quotas: message.quotas.into_iter().map(quota).collect::<Result<_, _>>()?,
        newest: Epoch(message.newest),
        ended: message.ended.into_iter().map(ended).collect::<Result<_, _>>()?,
        calls: message.calls.into_iter().map(live).collect::<Result<_, _>>()?,
    })
}

fn ended(attempt: pb::EndedAttempt) -> Result<EndedAttempt, DecodeError> {
    use pb::ended_attempt::Ending as Pb;
    let ending = match attempt.ending.ok_or(DecodeError::Unknown("the ending of an attempt"))? {
        Pb::Unused(_) => Ending::Unused,
        Pb::Sent(sent) => Ending::Sent { written: Stamp(sent.written) },
        Pb::Answered(answered) => Ending::Answered {
            at: Stamp(answered.at),
            end: end(answered.complete),
            usage: answered.usage.map(usage),
        },
        Pb::Rejected(rejected) => Ending::Rejected {
            at: Stamp(rejected.at),
            observations: observations(rejected.observations)?,
            rejection: rejection(rejected.rejection)?,
        },
    };
    Ok(EndedAttempt {
        account: AccountIndex(attempt.account),
        call: CallId(attempt.call),
        grant: grant(attempt.attempt, attempt.epoch, attempt.granted),
        details: details(attempt.class, attempt.size, attempt.credits, attempt.credential)?,
        ending,
    })
}

fn live(call: pb::LiveCall) -> Result<LiveCall, DecodeError> {
    use pb::live_call::Progress as Pb;
    let progress = match call.progress.ok_or(DecodeError::Unknown("the progress of a call"))? {
        Pb::Waiting(waiting) => Progress::Waiting {
            attempts: waiting.attempts,
            waited: Duration::from_nanos(waiting.waited),
            patience: waiting.patience.map(Duration::from_nanos),
        },
        Pb::Granted(held) => Progress::Granted(grant(held.attempt, held.epoch, held.granted)),
        Pb::Sent(sent) => Progress::Sent {
            grant: grant(sent.attempt, sent.epoch, sent.granted),
            written: Stamp(sent.written),
        },
        Pb::Answered(answered) => Progress::Answered {
            grant: grant(answered.attempt, answered.epoch, answered.granted),
            at: Stamp(answered.at),
        },
    };
    Ok(LiveCall {
        account: AccountIndex(call.account),
        call: CallId(call.call),
        details: details(call.class, call.size, call.credits, call.credential)?,
        progress,
    })
}

fn outcome(outcome: Option<pb::report::Outcome>) -> Result<Report, DecodeError> {
    use pb::report::Outcome;
    Ok(match outcome.ok_or(DecodeError::Unknown("the outcome of a report"))? {
        Outcome::Unused(unused) => Report::Unused { again: unused.again },
        Outcome::Sent(sent) => Report::Sent { written: Stamp(sent.written) },
        Outcome::FirstByte(first) => {
            Report::FirstByte { at: Stamp(first.at), observations: observations(first.observations)? }
        }
        Outcome::Rejected(rejected) => Report::Rejected {
            at: Stamp(rejected.at),
            observations: observations(rejected.observations)?,
            rejection: rejection(rejected.rejection)?,
            again: rejected.again,
        },
        Outcome::Done(done) => Report::Done { end: end(done.complete), usage: done.usage.map(usage) },
    })
}

fn details(
    of: Option<pb::CallClass>,
    size: Option<pb::CallSize>,
    credits: u64,
    credential: u64,
) -> Result<CallDetails, DecodeError> {
    let size = size.map(|size| {
        let pb::CallSize { text_bytes, media_tokens, max_output, choices, stored_input } = size;
        CallSize { text_bytes, media_tokens, max_output, choices, stored_input }
    });
    Ok(CallDetails { class: class(of)?, size, credits, credential: Fingerprint(credential) })
}

fn produced(produced: pb::Produced) -> Produced {
    let pb::Produced { account, call, attempt, output } = produced;
    Produced { account: AccountIndex(account), call: CallId(call), attempt, output }
}

fn end(complete: bool) -> CallEnd {
    if complete { CallEnd::Seen } else { CallEnd::Lost }
}

fn usage(usage: pb::Usage) -> TokenUsage {
    let pb::Usage { input, cached, cache_write, output, exact, credits } = usage;
    TokenUsage { input, cached, cache_write, output, exact, credits }
}

fn class(class: Option<pb::CallClass>) -> Result<CallClass, DecodeError> {
    let pb::CallClass { endpoint, model } = class.unwrap_or_default();
    let endpoint = endpoint.map(|text| name("an endpoint", text)).transpose()?;
    let model = model.map(|text| name("a model", text)).transpose()?;
    Ok(CallClass { endpoint, model, allocation: None })
}

fn observations(seen: Vec<pb::Observation>) -> Result<Vec<Observation>, DecodeError> {
    check_count("observations of one answer", seen.len(), MOST_OBSERVATIONS)?;
    let observation = |seen: pb::Observation| {
        let limit = name("a limit", seen.limit)?;
        let ends_in = seen.ends_in.map(Duration::from_nanos);
        Ok(Observation { limit, hard: seen.hard, remaining: seen.remaining, ends_in })
    };
    seen.into_iter().map(observation).collect()
}

fn rejection(rejection: Option<pb::Rejection>) -> Result<Rejection, DecodeError> {
    let rejection = rejection.unwrap_or_default();
    let class = match rejection.class() {
        pb::RejectionClass::Quota | pb::RejectionClass::Unspecified => RejectionClass::Quota,
        pb::RejectionClass::Concurrency => RejectionClass::Concurrency,
        pb::RejectionClass::Capacity => RejectionClass::Capacity,
        pb::RejectionClass::Terminal => RejectionClass::Terminal,
    };
    Ok(Rejection {
        class,
        scope: scope(rejection.scope)?.unwrap_or_default(),
        wait: rejection.wait.map(Duration::from_nanos),
        reason: reason(rejection.reason)?,
        shared_with: rejection.shared_with.map(|text| name("a model", text)).transpose()?,
        organization: (rejection.organization != 0).then_some(Fingerprint(rejection.organization)),
    })
}

/// `None`: of a kind that this version does not know.
fn scope(scope: Option<pb::Scope>) -> Result<Option<Scope>, DecodeError> {
    use pb::scope::Of;
    let Some(pb::Scope { of: Some(of), in_endpoint, in_model }) = scope else { return Ok(None) };
    let mut scope = match of {
        Of::Account(_) => Scope::account(),
        Of::Limit(text) => Scope::limit(name("a limit", text)?),
        Of::Endpoint(text) => Scope::endpoint(name("an endpoint", text)?),
        Of::Model(text) => Scope::model(name("a model", text)?),
    };
    if let Some(text) = in_endpoint {
        scope.endpoint = Selector::from(name("an endpoint", text)?);
    }
    if let Some(text) = in_model {
        scope.model = Selector::from(name("a model", text)?);
    }
    Ok(Some(scope))
}

fn refusal(reason: pb::RefusalReason) -> RefusalReason {
    match reason {
        pb::RefusalReason::WaitTooLong => RefusalReason::WaitTooLong,
        pb::RefusalReason::WaitExceeded => RefusalReason::WaitExceeded,
        pb::RefusalReason::QueueFull => RefusalReason::QueueFull,
        pb::RefusalReason::QuotaExceeded | pb::RefusalReason::Unspecified => RefusalReason::QuotaExceeded,
        pb::RefusalReason::NeverFits => RefusalReason::NeverFits,
        pb::RefusalReason::ProviderStopped => RefusalReason::ProviderStopped,
        pb::RefusalReason::BudgetExhausted => RefusalReason::BudgetExhausted,
    }
}
