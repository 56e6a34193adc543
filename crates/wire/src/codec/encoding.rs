//! Messages into their protobuf form.

use std::time::Duration;

use quotakeeper_engine::event::{
    CallClass, Observation, RefusalReason, Rejection, RejectionClass, Scope, Selector,
};
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};

use super::bounds::{MOST_DOCUMENT, MOST_OBSERVATIONS, cut_name, cut_reason};
use super::generated as pb;
use super::{NEWEST, OLDEST};
use crate::message::{
    AccountState, AccountUpdate, EndedAttempt, Ending, GrantRef, Hello, LimiterMessage, LiveCall, NoticeKind,
    Produced, Progress, ProxyMessage, Report, ToLimiter, ToProxy,
};

pub(super) fn to_limiter(message: ToLimiter) -> pb::ToLimiter {
    use pb::to_limiter::Body;
    let body = match message.body {
        ProxyMessage::Hello(message) => Body::Hello(hello(message)),
        ProxyMessage::Heartbeat { produced: of } => {
            Body::Heartbeat(pb::Heartbeat { produced: of.into_iter().map(produced).collect() })
        }
        ProxyMessage::Ask { account, call, details, patience } => Body::Ask(pb::Ask {
            account: account.0,
            call: call.0,
            size: details.size.map(size),
            credits: details.credits,
            credential: details.credential.0,
            class: class(details.class),
            patience: patience.map(nanos),
        }),
        ProxyMessage::Cancel { account, call } => {
            Body::Cancel(pb::Cancel { account: account.0, call: call.0 })
        }
        ProxyMessage::Report { account, call, attempt, report } => Body::Report(pb::Report {
            account: account.0,
            call: call.0,
            attempt,
            outcome: Some(outcome(report)),
        }),
        ProxyMessage::Notice { account, notice } => Body::Notice(pb::Notice {
            account: account.0,
            kind: notice_kind(notice.kind).into(),
            detail: cut_reason(notice.detail),
        }),
        ProxyMessage::Look { account, look, class: of } => {
            Body::Look(pb::Look { account: account.0, look, class: class(of) })
        }
    };
    pb::ToLimiter { stamp: message.stamp.0, body: Some(body) }
}

pub(super) fn to_proxy(message: ToProxy) -> pb::ToProxy {
    use pb::to_proxy::Body;
    let body = match message.body {
        LimiterMessage::Welcome { validity, heartbeat, fingerprint_key } => Body::Welcome(pb::Welcome {
            validity: nanos(validity),
            heartbeat: nanos(heartbeat),
            version: NEWEST,
            capabilities: Vec::new(),
            fingerprint_key: fingerprint_key.map(|key| key.0.to_vec()).unwrap_or_default(),
        }),
        LimiterMessage::Account { account, update: of } => update(account.0, of),
        LimiterMessage::Grant { account, call, attempt, echo, granted } => Body::Grant(pb::Grant {
            account: account.0,
            call: call.0,
            attempt,
            echo: echo.0,
            granted: granted.0,
        }),
        LimiterMessage::Refuse { account, call, reason, retry_after, words } => Body::Refuse(pb::Refuse {
            account: account.0,
            call: call.0,
            reason: refusal(reason).into(),
            retry_after: retry_after.map(nanos),
            words: words.map(cut_reason),
        }),
        LimiterMessage::Outlook { account, look, document } => {
            Body::Outlook(pb::Outlook { account: account.0, look, document })
        }
    };
    pb::ToProxy { epoch: message.epoch.0, body: Some(body) }
}

fn notice_kind(kind: NoticeKind) -> pb::NoticeKind {
    match kind {
        NoticeKind::UnreadableRequest => pb::NoticeKind::UnreadableRequest,
        NoticeKind::DistrustedCa => pb::NoticeKind::DistrustedCa,
        NoticeKind::NoCalls => pb::NoticeKind::NoCalls,
        NoticeKind::UnknownCost => pb::NoticeKind::UnknownCost,
        NoticeKind::AnotherOrganization => pb::NoticeKind::AnotherOrganization,
        NoticeKind::Unknown => pb::NoticeKind::Unspecified,
    }
}

fn update(account: u32, update: AccountUpdate) -> pb::to_proxy::Body {
    use pb::to_proxy::Body;
    match update {
        AccountUpdate::State(of) => Body::Account(pb::Account { account, state: Some(state(of)) }),
        AccountUpdate::Paused { scope: of, remaining, reason } => Body::Paused(pb::Paused {
            account,
            scope: Some(scope(of)),
            remaining: nanos(remaining),
            reason: cut_reason(reason),
        }),
        AccountUpdate::Resumed { scope: of, paused_for } => {
            Body::Resumed(pb::Resumed { account, scope: Some(scope(of)), paused_for: nanos(paused_for) })
        }
    }
}

fn state(state: AccountState) -> pb::account::State {
    use pb::account::State;
    match state {
        AccountState::InForce { document } if document.len() <= MOST_DOCUMENT => State::Document(document),
        AccountState::InForce { document } => State::Absent(format!(
            "its configuration has {} bytes, more than {MOST_DOCUMENT}; shorten the provider's profile",
            document.len()
        )),
        AccountState::Absent { reason } => State::Absent(cut_reason(reason)),
    }
}

fn hello(message: Hello) -> pb::Hello {
    pb::Hello {
        min: OLDEST,
        max: NEWEST,
        capabilities: Vec::new(),
        session: message.session.0,
        consumer: cut_name(message.consumer.to_string()),
        quotas: message.quotas.iter().map(|quota| cut_name(quota.to_string())).collect(),
        newest: message.newest.0,
        ended: message.ended.into_iter().map(ended).collect(),
        calls: message.calls.into_iter().map(live).collect(),
    }
}

fn ended(attempt: EndedAttempt) -> pb::EndedAttempt {
    use pb::ended_attempt::{Answered, Ending as Pb, Rejected, Sent, Unused};
    let ending = match attempt.ending {
        Ending::Unused => Pb::Unused(Unused {}),
        Ending::Sent { written } => Pb::Sent(Sent { written: written.0 }),
        Ending::Answered { at, end, usage: of } => {
            Pb::Answered(Answered { at: at.0, usage: of.map(usage), complete: end == CallEnd::Seen })
        }
        Ending::Rejected { at, observations: of, rejection: no } => Pb::Rejected(Rejected {
            at: at.0,
            observations: observations(of),
            rejection: Some(rejection(no)),
        }),
    };
    pb::EndedAttempt {
        account: attempt.account.0,
        call: attempt.call.0,
        attempt: attempt.grant.attempt,
        epoch: attempt.grant.epoch.0,
        granted: attempt.grant.granted.0,
        size: attempt.details.size.map(size),
        credits: attempt.details.credits,
        credential: attempt.details.credential.0,
        class: class(attempt.details.class),
        ending: Some(ending),
    }
}

fn live(call: LiveCall) -> pb::LiveCall {
    use pb::live_call::{Answered, Granted, Progress as Pb, Sent, Waiting};
    let progress = match call.progress {
        Progress::Waiting { attempts, waited, patience } => {
            Pb::Waiting(Waiting { attempts, waited: nanos(waited), patience: patience.map(nanos) })
        }
        Progress::Granted(GrantRef { attempt, epoch, granted }) => {
            Pb::Granted(Granted { attempt, epoch: epoch.0, granted: granted.0 })
        }
        Progress::Sent { grant: GrantRef { attempt, epoch, granted }, written } => {
            Pb::Sent(Sent { attempt, epoch: epoch.0, granted: granted.0, written: written.0 })
        }
        Progress::Answered { grant: GrantRef { attempt, epoch, granted }, at } => {
            Pb::Answered(Answered { attempt, epoch: epoch.0, granted: granted.0, at: at.0 })
        }
    };
    pb::LiveCall {
        account: call.account.0,
        call: call.call.0,
        size: call.details.size.map(size),
        credits: call.details.credits,
        credential: call.details.credential.0,
        class: class(call.details.class),
        progress: Some(progress),
    }
}

fn outcome(report: Report) -> pb::report::Outcome {
    use pb::report::{Done, FirstByte, Outcome, Rejected, Sent, Unused};
    match report {
        Report::Unused { again } => Outcome::Unused(Unused { again }),
        Report::Sent { written } => Outcome::Sent(Sent { written: written.0 }),
        Report::FirstByte { at, observations: of } => {
            Outcome::FirstByte(FirstByte { at: at.0, observations: observations(of) })
        }
        Report::Rejected { at, observations: of, rejection: no, again } => Outcome::Rejected(Rejected {
            at: at.0,
            observations: observations(of),
            rejection: Some(rejection(no)),
            again,
        }),
        Report::Done { end, usage: of } => {
            Outcome::Done(Done { usage: of.map(usage), complete: end == CallEnd::Seen })
        }
    }
}

fn size(size: CallSize) -> pb::CallSize {
    let CallSize { text_bytes, media_tokens, max_output, choices, stored_input } = size;
    pb::CallSize { text_bytes, media_tokens, max_output, choices, stored_input }
}

fn produced(produced: Produced) -> pb::Produced {
    let Produced { account, call, attempt, output } = produced;
    pb::Produced { account: account.0, call: call.0, attempt, output }
}

fn usage(usage: TokenUsage) -> pb::Usage {
    let TokenUsage { input, cached, cache_write, output, exact, credits } = usage;
    pb::Usage { input, cached, cache_write, output, exact, credits }
}

fn class(class: CallClass) -> Option<pb::CallClass> {
    let CallClass { endpoint, model, .. } = class;
    // Most calls of an account without partitions name neither.
    if endpoint.is_none() && model.is_none() {
        return None;
    }
    Some(pb::CallClass { endpoint: endpoint.map(cut_name), model: model.map(cut_name) })
}

fn observations(observations: Vec<Observation>) -> Vec<pb::Observation> {
    let observation = |seen: Observation| pb::Observation {
        limit: cut_name(seen.limit),
        hard: seen.hard,
        remaining: seen.remaining,
        ends_in: seen.ends_in.map(nanos),
    };
    observations.into_iter().take(MOST_OBSERVATIONS).map(observation).collect()
}

fn rejection(rejection: Rejection) -> pb::Rejection {
    let class = match rejection.class {
        RejectionClass::Quota => pb::RejectionClass::Quota,
        RejectionClass::Concurrency => pb::RejectionClass::Concurrency,
        RejectionClass::Capacity => pb::RejectionClass::Capacity,
        RejectionClass::Terminal => pb::RejectionClass::Terminal,
    };
    pb::Rejection {
        class: class.into(),
        scope: Some(scope(rejection.scope)),
        wait: rejection.wait.map(nanos),
        reason: cut_reason(rejection.reason),
        shared_with: rejection.shared_with.map(cut_name),
        organization: rejection.organization.map_or(0, |organization| organization.0),
    }
}

fn scope(scope: Scope) -> pb::Scope {
    use pb::scope::{Of, Whole};
    let Scope { limit, endpoint, model } = scope;
    // The first of its parts as every version knows it, and the rest of them beside it.
    let (mut in_endpoint, mut in_model) = (selector(endpoint), selector(model));
    let of = if let Some(name) = limit {
        Of::Limit(cut_name(name))
    } else if let Some(name) = in_endpoint.take_if(|name| !name.is_empty()) {
        Of::Endpoint(name)
    } else if let Some(name) = in_model.take_if(|name| !name.is_empty()) {
        Of::Model(name)
    } else {
        Of::Account(Whole {})
    };
    pb::Scope { of: Some(of), in_endpoint, in_model }
}

fn selector(selector: Selector) -> Option<String> {
    selector.text().map(|name| cut_name(name.to_owned()))
}

fn refusal(reason: RefusalReason) -> pb::RefusalReason {
    match reason {
        RefusalReason::WaitTooLong => pb::RefusalReason::WaitTooLong,
        RefusalReason::WaitExceeded => pb::RefusalReason::WaitExceeded,
        RefusalReason::QueueFull => pb::RefusalReason::QueueFull,
        RefusalReason::QuotaExceeded => pb::RefusalReason::QuotaExceeded,
        RefusalReason::NeverFits => pb::RefusalReason::NeverFits,
        RefusalReason::ProviderStopped => pb::RefusalReason::ProviderStopped,
        RefusalReason::BudgetExhausted => pb::RefusalReason::BudgetExhausted,
    }
}

/// In nanoseconds; longer than 584 years becomes the longest that fits.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
