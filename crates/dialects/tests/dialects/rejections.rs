//! What each provider's no means: its class, what it affects, how long it lasts.

use std::fs;
use std::time::Duration;

use quotakeeper_dialects::profile::{Class, RejectedCalls, ScopeKind};
use quotakeeper_dialects::{Head, Profile, Scope, Verdict};

use serde::Deserialize;

use crate::answers::{headers, names_in, profile, read, read_of, test_profiles};

/// Class, scope, seconds to wait.
type No = (Class, Scope, Option<u64>);

fn verdict(profile: &Profile, status: u16, lines: &[&str], body: &str) -> Option<No> {
    match read(profile, status, lines, body).verdict {
        Verdict::Accepted => None,
        Verdict::Rejected { class, scope, wait, .. } => Some((class, scope, wait.map(|wait| wait.as_secs()))),
    }
}

fn limit(name: &str) -> Scope {
    Scope::Limit(name.to_owned())
}

/// An answer of a provider, and what it means: an item of `tests/answers/PROVIDER.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    status: u16,
    /// The endpoint of the call.
    endpoint: Option<String>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    body: String,
    /// Absent: the call was accepted, or failed for another reason than a limit.
    means: Option<Meaning>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Meaning {
    class: Class,
    scope: ScopeKind,
    limit: Option<String>,
    /// Scope `Endpoint`: the affected one, where it is not the call's.
    endpoint: Option<String>,
    /// Absent: the answer gives no time and the profile has none.
    wait_seconds: Option<f64>,
    /// Absent: not checked.
    reason: Option<String>,
    shared_with: Option<String>,
}

impl Answer {
    fn check(&self, provider: &str) {
        let lines: Vec<&str> = self.headers.iter().map(String::as_str).collect();
        let verdict =
            read_of(&profile(provider), self.endpoint.as_deref(), self.status, &lines, &self.body).verdict;
        let (class, scope, shared_with, wait, reason) = match (&self.means, verdict) {
            (None, Verdict::Accepted) => return,
            (Some(_), Verdict::Rejected { class, scope, shared_with, wait, reason }) => {
                (class, scope, shared_with, wait, reason)
            }
            (_, verdict) => panic!("{provider}: {self:?} is read as {verdict:?}"),
        };
        let means = self.means.as_ref().unwrap();
        assert_eq!((class, scope), (means.class, means.scope()), "{provider}: {self:?}");
        assert_eq!(wait, means.wait_seconds.map(Duration::from_secs_f64), "{provider}: {self:?}");
        assert_eq!(shared_with, means.shared_with, "{provider}: {self:?}");
        assert!(means.reason.iter().all(|wanted| *wanted == reason), "{provider}: {self:?}: {reason}");
    }
}

impl Meaning {
    fn scope(&self) -> Scope {
        match self.scope {
            ScopeKind::Limit => Scope::Limit(self.limit.clone().unwrap()),
            ScopeKind::Endpoint => match &self.endpoint {
                Some(endpoint) => Scope::OtherEndpoint(endpoint.clone()),
                None => Scope::Endpoint,
            },
            ScopeKind::Model => Scope::Model,
            ScopeKind::Account => Scope::Account,
            ScopeKind::Provider => Scope::Provider,
        }
    }
}

#[test]
fn every_recorded_answer_means_what_is_written_beside_it() {
    let providers = names_in("answers");
    assert!(providers.iter().any(|name| name == "openai"), "{providers:?}");
    for provider in providers {
        let file = format!("{}/tests/answers/{provider}.yaml", env!("CARGO_MANIFEST_DIR"));
        let answers: Vec<Answer> = serde_yaml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        assert!(!answers.is_empty(), "{provider}");
        answers.iter().for_each(|answer| answer.check(&provider));
    }
}

#[test]
fn what_can_never_succeed_is_not_retried() {
    assert!(!Class::Oversize.is_retried() && !Class::Terminal.is_retried());
    assert!(!Class::Partial.is_retried() && Class::Partial.has_wait(), "a part was processed");
    assert!(
        [Class::Quota, Class::Concurrency, Class::Capacity, Class::Lock]
            .iter()
            .all(|class| class.is_retried())
    );
}

#[test]
fn rejected_calls_count_unless_the_profile_says_otherwise() {
    assert_eq!(profile("marketo").rejected_calls(), RejectedCalls::NotCounted);
    assert_eq!(profile("openai").rejected_calls(), RejectedCalls::Counted);
}

#[test]
fn an_overloaded_providers_word_not_to_retry_is_handed_on() {
    let enrich = profile("enrich");
    let reading = read(&enrich, 429, &["x-should-retry: false"], "");
    assert_eq!(reading.retry_advice, Some(false));
    assert!(matches!(
        reading.verdict,
        Verdict::Rejected { class: Class::Capacity, scope: Scope::Provider, .. }
    ));
    assert_eq!(read(&enrich, 429, &["x-should-retry: true"], "").retry_advice, Some(true));
    assert_eq!(read(&enrich, 429, &["x-should-retry: maybe"], "").retry_advice, None);
}

#[test]
fn without_rules_the_standards_hold() {
    let plain = Profile::default();
    let means = |status: u16, lines: &[&str]| verdict(&plain, status, lines, "");
    assert_eq!(means(429, &["Retry-After: 3"]), Some((Class::Quota, Scope::Account, Some(3))));
    assert_eq!(means(429, &[]), Some((Class::Quota, Scope::Account, None)));
    assert_eq!(means(503, &["Retry-After: 3"]), Some((Class::Capacity, Scope::Provider, Some(3))));
    assert_eq!(means(503, &[]), None, "any 503 may be the application's own");
    assert_eq!(means(200, &["Retry-After: 3"]), None);
}

#[test]
fn a_body_is_asked_for_only_where_it_makes_a_difference() {
    let asks = |provider: &str, status: u16, lines: &[&str]| {
        let (status, headers) = (status.try_into().unwrap(), headers(lines));
        profile(provider).needs_body(Head { status, headers: &headers, endpoint: None })
    };
    assert!(asks("openai", 429, &[]));
    assert!(!asks("openai", 200, &[]));
    assert!(!asks("openai", 500, &[]));
    assert!(!asks("demo", 429, &["content-type: application/problem+json", "retry-after: 4"]));
    assert!(asks("demo", 429, &["content-type: text/plain", "retry-after: 4"]), "it may be a CDN's");
    assert!(asks("demo", 429, &[]), "the message may name the wait");
    assert!(asks("marketo", 200, &["content-type: application/json"]));
    assert!(
        !asks("marketo", 200, &["content-type: text/event-stream; charset=utf-8"]),
        "a stream is passed on"
    );
    assert!(asks("openai", 429, &["content-type: text/event-stream"]), "a refusal is no stream");
    // Decided by a header, before a rule that looks into the body.
    assert!(!asks("github", 403, &["retry-after: 4"]));
    assert!(asks("github", 403, &[]));
}

#[test]
fn a_body_that_breaks_off_is_read_as_far_as_it_goes() {
    let hubspot = profile("hubspot");
    let whole = r#"{"policyName":"DAILY","message":"a long text that goes on and on"#;
    assert_eq!(verdict(&hubspot, 429, &[], whole), Some((Class::Quota, limit("daily"), Some(3600))));
    assert_eq!(
        verdict(&hubspot, 429, &[], r#"{"policyName":"DAI"#),
        Some((Class::Quota, Scope::Account, Some(10)))
    );
}

#[test]
fn the_charged_organisation_is_the_one_that_the_answer_names() {
    let organization = |provider: &str, lines: &[&str]| read(&profile(provider), 200, lines, "").organization;
    assert_eq!(organization("openai", &["openai-organization: org-9f2c"]).as_deref(), Some("org-9f2c"));
    assert_eq!(organization("anthropic", &["anthropic-organization-id: 1-2"]).as_deref(), Some("1-2"));
    assert_eq!(organization("openai", &["openai-organization:  "]), None);
    assert_eq!(organization("demo", &["openai-organization: org-9f2c"]), None);
}

#[test]
fn the_test_profiles_are_acceptable() {
    for name in test_profiles() {
        assert_eq!(profile(&name).validate(), Ok(()), "{name}");
    }
}
