//! What each provider's no means: its class, what it affects, how long it lasts.

use std::time::Duration;

use quotakeeper_dialects::profile::{Class, RejectedCalls};
use quotakeeper_dialects::{CallShape, Profile, Scope, Verdict};

use crate::answers::{headers, now, profile, read, test_profiles};

/// Class, scope, seconds to wait.
type No = (Class, Scope, Option<u64>);

fn verdict(profile: &Profile, status: u16, lines: &[&str], body: &str) -> Option<No> {
    match read(profile, status, lines, body).verdict {
        Verdict::Accepted => None,
        Verdict::Rejected { class, scope, wait, .. } => Some((class, scope, wait.map(|wait| wait.as_secs()))),
    }
}

fn reason(provider: &str, status: u16, lines: &[&str], body: &str) -> String {
    match read(&profile(provider), status, lines, body).verdict {
        Verdict::Rejected { reason, .. } => reason,
        Verdict::Accepted => panic!("{status} was taken for accepted"),
    }
}

fn limit(name: &str) -> Scope {
    Scope::Limit(name.to_owned())
}

/// An answer of a provider, and what it means.
struct Case {
    provider: &'static str,
    status: u16,
    headers: &'static [&'static str],
    body: &'static str,
    means: Option<No>,
}

fn check(provider: &'static str, cases: Vec<(u16, &'static [&'static str], &'static str, Option<No>)>) {
    for (status, headers, body, means) in cases {
        let case = Case { provider, status, headers, body, means };
        let found = verdict(&profile(case.provider), case.status, case.headers, case.body);
        assert_eq!(found, case.means, "{} {} {:?} {}", case.provider, case.status, case.headers, case.body);
    }
}

#[test]
fn openai() {
    let spent = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    let requests = r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again in 120ms.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;
    let tokens = r#"{"error":{"message":"Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000","type":"tokens","code":"rate_limit_exceeded"}}"#;
    let daily = r#"{"error":{"message":"Rate limit reached for gpt-4o on requests per day (RPD): Limit 200","type":"requests","code":"rate_limit_exceeded"}}"#;
    let large = r#"{"error":{"message":"Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 34000.","type":"tokens","code":"rate_limit_exceeded"}}"#;
    let used_up = &[
        "x-ratelimit-limit-requests: 500",
        "x-ratelimit-remaining-requests: 0",
        "x-ratelimit-reset-requests: 50s",
    ];
    check(
        "openai",
        vec![
            (429, &["retry-after: 3"], spent, Some((Class::Terminal, Scope::Account, None))),
            (
                429,
                &["retry-after-ms: 2000", "retry-after: 3"],
                requests,
                Some((Class::Quota, limit("requests"), Some(2))),
            ),
            // Not told: the limit's own reset, here the first of 500 units of a minute.
            (429, used_up, requests, Some((Class::Quota, limit("requests"), Some(0)))),
            (429, &[], requests, Some((Class::Quota, limit("requests"), Some(10)))),
            (429, &["retry-after: 20"], tokens, Some((Class::Quota, limit("tokens"), Some(20)))),
            (429, &["retry-after: 9000"], daily, Some((Class::Quota, Scope::Model, Some(9000)))),
            (429, &["retry-after: 3"], large, Some((Class::Oversize, Scope::Model, None))),
            (429, &["retry-after: 3"], "slow down", Some((Class::Quota, Scope::Model, Some(3)))),
            (503, &[], "{}", Some((Class::Capacity, Scope::Model, Some(5)))),
            (500, &["retry-after: 3"], spent, None),
            (400, &[], requests, None),
            (401, &[], "{}", None),
            (200, &[], requests, None),
        ],
    );
    assert_eq!(reason("openai", 429, &[], requests), "rate_limit_exceeded");
    assert_eq!(reason("openai", 429, &[], "<html>"), "status 429");
}

#[test]
fn anthropic() {
    let limited = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed the rate limit"}}"#;
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let credit = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#;
    let wrong =
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages: field required"}}"#;
    check(
        "anthropic",
        vec![
            (429, &["retry-after: 12"], limited, Some((Class::Quota, Scope::Model, Some(12)))),
            // The spend cap says no time.
            (429, &[], limited, Some((Class::Terminal, Scope::Account, None))),
            // Somebody on the way, not Anthropic.
            (429, &[], "<html>Too many requests</html>", Some((Class::Quota, Scope::Model, Some(10)))),
            (529, &[], overloaded, Some((Class::Capacity, Scope::Provider, Some(5)))),
            (529, &["retry-after: 30"], overloaded, Some((Class::Capacity, Scope::Provider, Some(30)))),
            (413, &[], "{}", Some((Class::Oversize, Scope::Model, None))),
            (400, &[], credit, Some((Class::Terminal, Scope::Account, None))),
            (400, &[], wrong, None),
            (500, &[], "{}", None),
        ],
    );
    assert_eq!(reason("anthropic", 529, &[], overloaded), "overloaded_error");
}

#[test]
fn hubspot() {
    let rolling = r#"{"status":"error","message":"You have reached your ten_secondly_rolling limit.","errorType":"RATE_LIMIT","correlationId":"c","policyName":"TEN_SECONDLY_ROLLING"}"#;
    let daily = r#"{"status":"error","errorType":"RATE_LIMIT","policyName":"DAILY"}"#;
    let search = r#"{"status":"error","errorType":"RATE_LIMIT","policyName":"SECONDLY"}"#;
    check(
        "hubspot",
        vec![
            (429, &[], rolling, Some((Class::Quota, limit("ten-seconds"), Some(10)))),
            (429, &["Retry-After: 4"], rolling, Some((Class::Quota, limit("ten-seconds"), Some(4)))),
            (429, &[], daily, Some((Class::Quota, limit("daily"), Some(3600)))),
            (429, &["Retry-After: 36000"], daily, Some((Class::Quota, limit("daily"), Some(36_000)))),
            (429, &[], search, Some((Class::Quota, Scope::Endpoint, Some(1)))),
            (429, &["Retry-After: 8"], "", Some((Class::Quota, Scope::Account, Some(8)))),
            (423, &[], "{}", Some((Class::Lock, Scope::Endpoint, Some(2)))),
            (477, &["Retry-After: 90000"], "{}", Some((Class::Capacity, Scope::Account, Some(86_400)))),
            (403, &[], rolling, None),
        ],
    );
    assert_eq!(reason("hubspot", 429, &[], rolling), "TEN_SECONDLY_ROLLING");
}

#[test]
fn demo() {
    check(
        "demo",
        vec![
            (429, &["Retry-After: 8"], "", Some((Class::Quota, limit("requests"), Some(8)))),
            (
                429,
                &[r#"RateLimit: "requests";r=0;t=33"#],
                "",
                Some((Class::Quota, limit("requests"), Some(33))),
            ),
            (429, &[], "", Some((Class::Quota, limit("requests"), Some(10)))),
            (503, &[], "", Some((Class::Capacity, Scope::Provider, Some(5)))),
        ],
    );
}

#[test]
fn groq_says_oversize_with_a_time_and_is_not_asked_again() {
    check(
        "groq",
        vec![
            (413, &["retry-after: 6"], "{}", Some((Class::Oversize, Scope::Model, None))),
            (498, &[], "{}", Some((Class::Capacity, Scope::Model, Some(5)))),
            // Inherited from OpenAI's.
            (
                429,
                &["retry-after: 6"],
                r#"{"error":{"type":"tokens"}}"#,
                Some((Class::Quota, limit("tokens"), Some(6))),
            ),
        ],
    );
    assert!(!Class::Oversize.is_retried() && !Class::Terminal.is_retried());
    assert!(
        [Class::Quota, Class::Concurrency, Class::Capacity, Class::Lock]
            .iter()
            .all(|class| class.is_retried())
    );
}

#[test]
fn githubs_403_is_a_limit_only_where_it_says_so() {
    let secondary = r#"{"message":"You have exceeded a secondary rate limit. Please wait a few minutes."}"#;
    let used_up = &[
        "x-ratelimit-resource: core",
        "x-ratelimit-limit: 5000",
        "x-ratelimit-remaining: 0",
        "x-ratelimit-reset: 1791209700",
    ];
    check(
        "github",
        vec![
            (403, &["x-ratelimit-remaining: 4000"], r#"{"message":"Resource not accessible"}"#, None),
            (403, &["retry-after: 90"], secondary, Some((Class::Quota, Scope::Account, Some(90)))),
            (403, used_up, "{}", Some((Class::Quota, limit("core"), Some(900)))),
            (
                403,
                &["x-ratelimit-remaining: 4000"],
                secondary,
                Some((Class::Quota, Scope::Account, Some(60))),
            ),
            (429, &[], secondary, Some((Class::Quota, Scope::Account, Some(60)))),
        ],
    );
}

#[test]
fn linear_says_no_with_400() {
    let limited = r#"{"errors":[{"message":"x","extensions":{"code":"RATELIMITED","type":"ratelimited"}}]}"#;
    let invalid = r#"{"errors":[{"extensions":{"code":"INPUT_ERROR"}}]}"#;
    let used_up = &[
        "x-ratelimit-complexity-limit: 250000",
        "x-ratelimit-complexity-remaining: 0",
        "x-ratelimit-complexity-reset: 1791212400000",
    ];
    check(
        "linear",
        vec![
            (400, &[], limited, Some((Class::Quota, Scope::Account, Some(5)))),
            // An hour to the full bucket of 250,000: its next unit is there at once.
            (400, used_up, limited, Some((Class::Quota, Scope::Account, Some(0)))),
            (400, &[], invalid, None),
            (400, &[], "", None),
        ],
    );
}

#[test]
fn marketo_says_no_with_200_and_does_not_charge_for_it() {
    let no = |code: &str| {
        format!(r#"{{"requestId":"a","success":false,"errors":[{{"code":"{code}","message":"x"}}]}}"#)
    };
    let marketo = profile("marketo");
    let means = |body: &str| verdict(&marketo, 200, &["content-type: application/json"], body);
    assert_eq!(means(&no("606")), Some((Class::Quota, limit("requests"), Some(20))));
    assert_eq!(means(&no("607")), Some((Class::Quota, limit("daily"), Some(3600))));
    assert_eq!(means(&no("615")), Some((Class::Concurrency, limit("concurrent"), Some(1))));
    assert_eq!(means(&no("1003")), None);
    assert_eq!(means(r#"{"success":true,"result":[{"code":"606"}]}"#), None);
    assert_eq!(marketo.rejected_calls(), RejectedCalls::NotCounted);
    assert_eq!(profile("openai").rejected_calls(), RejectedCalls::Counted);
}

#[test]
fn airtable_silences_the_base_for_thirty_seconds() {
    check(
        "airtable",
        vec![
            (429, &[], "", Some((Class::Quota, limit("base"), Some(30)))),
            (429, &["Retry-After: 1"], "", Some((Class::Quota, limit("base"), Some(30)))),
            (429, &["Retry-After: 40"], "", Some((Class::Quota, limit("base"), Some(40)))),
        ],
    );
}

#[test]
fn stripe_tells_a_lock_and_a_crowd_from_a_rate() {
    let lock = r#"{"error":{"code":"lock_timeout","type":"invalid_request_error"}}"#;
    check(
        "stripe",
        vec![
            (429, &[], lock, Some((Class::Lock, Scope::Endpoint, Some(1)))),
            (
                429,
                &["Stripe-Rate-Limited-Reason: endpoint-concurrency"],
                "{}",
                Some((Class::Concurrency, limit("concurrent"), Some(1))),
            ),
            (
                429,
                &["Stripe-Rate-Limited-Reason: global-rate"],
                "{}",
                Some((Class::Quota, limit("requests"), Some(1))),
            ),
        ],
    );
    assert_eq!(reason("stripe", 429, &["Stripe-Rate-Limited-Reason: global-rate"], "{}"), "global-rate");
}

#[test]
fn salesforce_shopify_and_slack() {
    let spent = r#"[{"message":"TotalRequests Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]"#;
    let denied = r#"[{"message":"no","errorCode":"INSUFFICIENT_ACCESS"}]"#;
    let throttled = r#"{"data":null,"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{}}}"#;
    check(
        "salesforce",
        vec![(403, &[], spent, Some((Class::Quota, limit("daily"), Some(600)))), (403, &[], denied, None)],
    );
    check(
        "shopify",
        vec![
            (429, &["Retry-After: 2.0"], "", Some((Class::Quota, limit("rest"), Some(2)))),
            (200, &[], throttled, Some((Class::Quota, Scope::Account, Some(1)))),
            (200, &[], r#"{"data":{"shop":{}}}"#, None),
        ],
    );
    check("slack", vec![(429, &["Retry-After: 30"], "", Some((Class::Quota, Scope::Endpoint, Some(30))))]);
}

#[test]
fn google_tells_the_wait_in_the_body() {
    let minute = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[
        {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel"}]},
        {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3.5s"}]}}"#;
    let day = r#"{"error":{"details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}}"#;
    let gemini = profile("gemini");
    let Verdict::Rejected { wait, reason, .. } = read(&gemini, 429, &[], minute).verdict else {
        panic!("accepted")
    };
    assert_eq!((wait, reason.as_str()), (Some(Duration::from_millis(3500)), "RESOURCE_EXHAUSTED"));
    check(
        "gemini",
        vec![
            (429, &[], day, Some((Class::Quota, limit("daily"), Some(3600)))),
            (429, &[], "{}", Some((Class::Quota, Scope::Model, Some(15)))),
        ],
    );
}

#[test]
fn a_no_far_below_the_advertised_rate_is_one_of_concurrency() {
    check(
        "enrich",
        vec![
            (
                429,
                &["ratelimit-limit: 20000", "ratelimit-remaining: 19995"],
                "",
                Some((Class::Concurrency, limit("concurrent"), Some(1))),
            ),
            (
                429,
                &["ratelimit-limit: 20000", "ratelimit-remaining: 0", "ratelimit-reset: 12"],
                "",
                Some((Class::Quota, limit("requests"), Some(12))),
            ),
        ],
    );
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
fn a_call_without_model_or_endpoint_is_the_accounts() {
    let plain = CallShape::default();
    let of = |provider: &str| {
        let headers = headers(&["Retry-After: 3"]);
        profile(provider).read(429.try_into().unwrap(), &headers, None, &plain, now()).verdict
    };
    for provider in ["openai", "slack"] {
        assert!(matches!(of(provider), Verdict::Rejected { scope: Scope::Account, .. }), "{provider}");
    }
}

#[test]
fn a_body_is_asked_for_only_where_a_rule_looks_into_it() {
    let asks = |provider: &str, status: u16, lines: &[&str]| {
        profile(provider).needs_body(status.try_into().unwrap(), &headers(lines))
    };
    assert!(asks("openai", 429, &[]));
    assert!(!asks("openai", 200, &[]));
    assert!(!asks("openai", 500, &[]));
    assert!(!asks("demo", 429, &[]));
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
    assert_eq!(test_profiles().len(), 13);
    for name in test_profiles() {
        assert_eq!(profile(&name).validate(), Ok(()), "{name}");
    }
}
