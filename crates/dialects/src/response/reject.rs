//! Which rejection an answer is.

use http::header::{CONTENT_TYPE, RETRY_AFTER};

use super::answer::{Answer, by_head, may_be_an_intermediarys};
use super::{Head, Scope, Verdict, printable, unnamed_reason};
use crate::profile::{Class, HeaderCondition, Profile, Rejection, ScopeKind};

/// Longest name of a model that a message names, in bytes.
const MAX_MODEL: usize = 256;

pub(super) fn verdict(profile: &Profile, answer: &Answer<'_>) -> Verdict {
    let implied = implied();
    let mut rejections = profile.rejections.iter().chain(&implied);
    let Some(mut rejection) = rejections.find(|rejection| answer.matches(rejection)) else {
        return match answer.is_an_intermediarys() {
            true => rejected(&of_an_intermediary(), answer),
            false => Verdict::Accepted,
        };
    };
    // What a rule has recognised in the body is the API's own.
    let of_an_intermediary = of_an_intermediary();
    if rejection.body.is_empty() && answer.is_an_intermediarys() {
        rejection = &of_an_intermediary;
    }
    rejected(rejection, answer)
}

fn rejected(rejection: &Rejection, answer: &Answer<'_>) -> Verdict {
    Verdict::Rejected {
        class: rejection.class,
        scope: scope(rejection),
        shared_with: shared_with(rejection, answer),
        wait: rejection.class.has_wait().then(|| answer.wait(rejection)).flatten(),
        reason: reason(rejection, answer),
    }
}

pub(super) fn needs_body(profile: &Profile, head: Head<'_>) -> bool {
    let Head { status, headers, .. } = head;
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let stream = content_type.to_ascii_lowercase().starts_with(b"text/event-stream");
    if stream && status.is_success() {
        return false;
    }
    if may_be_an_intermediarys(head) {
        return true;
    }
    // The first whose head fits decides, or has to look into the body first; later ones need no look of their own.
    let implied = implied();
    let mut rejections = profile.rejections.iter().chain(&implied);
    let candidate = rejections.find(|rejection| by_head(rejection, head));
    candidate.is_some_and(|rejection| {
        let wait_in_body = match rejection.wait.is_empty() {
            true => rejection.class.has_wait() && !headers.contains_key(RETRY_AFTER),
            false => rejection.wait.iter().any(|source| source.body.is_some()),
        };
        // A rule that depends on more than the head may be followed by one that looks into the body.
        let undecided = !rejection.body.is_empty() || !rejection.exhausted.is_empty();
        undecided || rejection.reason_body.is_some() || rejection.shared_with.is_some() || wait_in_body
    })
}

/// The rules after the profile's own: 429 (RFC 6585), and 503 with Retry-After (RFC 9110, 15.6.4).
fn implied() -> [Rejection; 2] {
    let overloaded = HeaderCondition { name: RETRY_AFTER.as_str().to_owned(), ..HeaderCondition::default() };
    [
        Rejection { statuses: vec![429], class: Class::Quota, ..Rejection::default() },
        Rejection {
            statuses: vec![503],
            headers: vec![overloaded],
            class: Class::Capacity,
            scope: Some(ScopeKind::Provider),
            ..Rejection::default()
        },
    ]
}

/// A CDN that turns calls away before they reach the API says nothing of quotas: a moment later they may pass.
fn of_an_intermediary() -> Rejection {
    Rejection {
        class: Class::Capacity,
        scope: Some(ScopeKind::Provider),
        cooldown_seconds: Some(2),
        ..Rejection::default()
    }
}

fn scope(rejection: &Rejection) -> Scope {
    match (rejection.scope.unwrap_or_default(), &rejection.limit) {
        (ScopeKind::Limit, Some(limit)) => Scope::Limit(limit.clone()),
        (ScopeKind::Endpoint, _) => match &rejection.endpoint {
            Some(endpoint) => Scope::OtherEndpoint(endpoint.clone()),
            None => Scope::Endpoint,
        },
        (ScopeKind::Model, _) => Scope::Model,
        (ScopeKind::Provider, _) => Scope::Provider,
        (ScopeKind::Limit | ScopeKind::Account, _) => Scope::Account,
    }
}

/// The model that the message names as the one whose limit is used up.
fn shared_with(rejection: &Rejection, answer: &Answer<'_>) -> Option<String> {
    let place = rejection.shared_with.as_ref()?;
    answer.values(&place.body).iter().find_map(|text| {
        let (_, rest) = text.split_once(&place.after)?;
        let (name, _) = rest.split_once(&place.until)?;
        let plain =
            !name.is_empty() && name.len() <= MAX_MODEL && name.bytes().all(|byte| byte.is_ascii_graphic());
        plain.then(|| name.to_owned())
    })
}

fn reason(rejection: &Rejection, answer: &Answer<'_>) -> String {
    let in_header =
        || answer.head.headers.get(rejection.reason_header.as_deref()?)?.to_str().ok().and_then(printable);
    let in_body = || printable(answer.values(rejection.reason_body.as_deref()?).first()?);
    in_header().or_else(in_body).unwrap_or_else(|| unnamed_reason(answer.head.status))
}
