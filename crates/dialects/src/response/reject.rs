//! Which rejection an answer is, and the wait that it names.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::{Observation, Scope, Verdict, printable};
use crate::instant::offset;
use crate::json;
use crate::profile::{
    BodyCondition, Class, HeaderCondition, Profile, Rejection, ScopeKind, TimeFormat, WaitSource,
};

/// Longest wait of a rejection that names no maximum.
const MAXIMUM: Duration = Duration::from_secs(60 * 60);
/// How much of a body is searched as text, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What a response is to a rejection: all that conditions and waits are read from.
struct Answer<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    body: Option<&'a [u8]>,
    observations: &'a [Observation],
    now: Timestamp,
}

pub(super) fn verdict(
    profile: &Profile,
    status: StatusCode,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    observations: &[Observation],
    now: Timestamp,
) -> Verdict {
    let answer = Answer { status, headers, body, observations, now };
    let implied = implied();
    let mut rejections = profile.rejections.iter().chain(&implied);
    let Some(rejection) = rejections.find(|rejection| answer.matches(rejection)) else {
        return Verdict::Accepted;
    };
    Verdict::Rejected {
        class: rejection.class,
        scope: scope(rejection),
        wait: rejection.class.is_retried().then(|| answer.wait(rejection)).flatten(),
        reason: answer.reason(rejection),
    }
}

pub(super) fn needs_body(profile: &Profile, status: StatusCode, headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let stream = content_type.to_ascii_lowercase().starts_with(b"text/event-stream");
    if stream && status.is_success() {
        return false;
    }
    // The first whose head fits decides, or has to look into the body first; later ones need no look of their own.
    let candidate = profile.rejections.iter().find(|rejection| by_head(rejection, status, headers));
    candidate.is_some_and(|rejection| {
        let wait_in_body = rejection.wait.iter().any(|source| source.body.is_some());
        !rejection.body.is_empty() || rejection.reason_body.is_some() || wait_in_body
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

/// Whether status and headers fit, whatever the body.
fn by_head(rejection: &Rejection, status: StatusCode, headers: &HeaderMap) -> bool {
    rejection.statuses.contains(&status.as_u16())
        && rejection.headers.iter().all(|wanted| wanted.holds(headers))
}

fn scope(rejection: &Rejection) -> Scope {
    match (rejection.scope.unwrap_or_default(), &rejection.limit) {
        (ScopeKind::Limit, Some(limit)) => Scope::Limit(limit.clone()),
        (ScopeKind::Endpoint, _) => Scope::Endpoint,
        (ScopeKind::Model, _) => Scope::Model,
        (ScopeKind::Provider, _) => Scope::Provider,
        (ScopeKind::Limit | ScopeKind::Account, _) => Scope::Account,
    }
}

impl Answer<'_> {
    fn matches(&self, rejection: &Rejection) -> bool {
        by_head(rejection, self.status, self.headers)
            && rejection.body.iter().all(|wanted| self.body_fits(wanted))
    }

    fn body_fits(&self, wanted: &BodyCondition) -> bool {
        let Some(body) = self.body else { return false };
        let values: Vec<Cow<str>> = match &wanted.at {
            Some(pointer) => json::all(body, pointer).into_iter().map(Cow::from).collect(),
            None => vec![String::from_utf8_lossy(&body[..body.len().min(MAX_BODY)])],
        };
        values.iter().any(|value| {
            let equal = wanted.equals.is_empty() || wanted.equals.iter().any(|wanted| wanted == value);
            let lower = value.to_lowercase();
            let within = wanted.contains.is_empty()
                || wanted.contains.iter().any(|part| lower.contains(&part.to_lowercase()));
            equal && within
        })
    }

    fn reason(&self, rejection: &Rejection) -> String {
        let in_header =
            || self.headers.get(rejection.reason_header.as_deref()?)?.to_str().ok().and_then(printable);
        let in_body = || printable(&json::first(self.body?, rejection.reason_body.as_deref()?)?);
        in_header().or_else(in_body).unwrap_or_else(|| format!("status {}", self.status.as_u16()))
    }

    fn wait(&self, rejection: &Rejection) -> Option<Duration> {
        let seconds = |field: Option<u32>| field.map(|seconds| Duration::from_secs(seconds.into()));
        let minimum = seconds(rejection.minimum_seconds);
        let maximum = seconds(rejection.maximum_seconds).unwrap_or(MAXIMUM);
        let wait = self.named_wait(rejection).or(seconds(rejection.cooldown_seconds)).or(minimum)?;
        Some(wait.max(minimum.unwrap_or_default()).min(maximum))
    }

    fn named_wait(&self, rejection: &Rejection) -> Option<Duration> {
        if rejection.wait.is_empty() {
            self.header("retry-after-ms", TimeFormat::DeltaMillis)
                .or_else(|| self.header(RETRY_AFTER.as_str(), TimeFormat::RetryAfter))
                .or_else(|| self.reset_of(rejection.limit.as_deref()?))
        } else {
            rejection.wait.iter().find_map(|source| self.source(source))
        }
    }

    fn source(&self, source: &WaitSource) -> Option<Duration> {
        let format = source.format.unwrap_or(TimeFormat::RetryAfter);
        if let Some(name) = &source.header {
            self.header(name, format)
        } else if let Some(pointer) = &source.body {
            let texts = json::all(self.body?, pointer);
            texts.iter().filter_map(|text| self.ahead(format, text)).max()
        } else {
            self.reset_of(source.reset_of.as_deref()?)
        }
    }

    /// The longest of the header's lines that can be read.
    fn header(&self, name: &str, format: TimeFormat) -> Option<Duration> {
        let lines = self.headers.get_all(name).iter();
        lines.filter_map(|line| self.ahead(format, line.to_str().ok()?)).max()
    }

    fn ahead(&self, format: TimeFormat, text: &str) -> Option<Duration> {
        Duration::try_from(offset(format, text, self.now)?).ok()
    }

    fn reset_of(&self, limit: &str) -> Option<Duration> {
        self.observations
            .iter()
            .filter(|seen| seen.limit == limit)
            .filter_map(Observation::exhausted_for)
            .max()
    }
}
