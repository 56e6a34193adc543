//! Routing, credentials and the figures in headers.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::counting::CountedAs;

fn state(name: &str, count: u64, window_millis: u64, remaining: u64) -> (Limit, LimitState) {
    let limit = Limit::new(name, count, window_millis, CountedAs::Sliding);
    (limit, LimitState { used: count - remaining, remaining, next_in: 0, full_in: 1_500_000_000 })
}

#[test]
fn the_host_selects_the_dialect_and_otherwise_the_path() {
    let go = |host, method, path| route(Some(host), &method, path);
    let found = |dialect, operation| Route { dialect, operation: Some(operation) };
    let post = Method::POST;
    assert_eq!(
        go("API.OpenAI.com:443", post.clone(), "/v1/responses"),
        found(Dialect::Openai, Operation::Responses)
    );
    assert_eq!(
        go("localhost:80", post.clone(), "/v1/messages"),
        found(Dialect::Anthropic, Operation::Messages)
    );
    assert_eq!(go("127.0.0.1", Method::GET, "/anything/x"), found(Dialect::Demo, Operation::Anything));
    let contact = go("api.hubapi.com", Method::GET, "/crm/v3/objects/contacts/17");
    assert_eq!(contact, found(Dialect::Hubspot, Operation::Contact("17".into())));
    let search = go("api.hubapi.com", post.clone(), "/crm/v3/objects/contacts/search");
    assert_eq!((search.endpoint(), contact.endpoint()), (Some("search"), None));
    // A provider's host has that provider's paths only.
    assert_eq!(go("api.openai.com", post, "/v1/messages").operation, None);
    assert_eq!(go("api.demo.example", Method::GET, "/anythingelse").operation, None);
    assert_eq!(go("api.openai.com", Method::DELETE, "/v1/models").operation, None);
}

#[test]
fn the_credential_is_the_bearer_token_or_anthropics_key() {
    let mut headers = HeaderMap::new();
    assert_eq!(Dialect::Openai.credential(&headers), None);
    headers.insert("x-api-key", "key".parse().unwrap());
    assert_eq!(Dialect::Openai.credential(&headers), None);
    assert_eq!(Dialect::Anthropic.credential(&headers).as_deref(), Some("key"));
    headers.insert("authorization", "bearer token".parse().unwrap());
    assert_eq!(Dialect::Openai.credential(&headers).as_deref(), Some("token"));
    headers.insert("authorization", "Basic token".parse().unwrap());
    assert_eq!(Dialect::Openai.credential(&headers), None);
}

#[test]
fn each_provider_writes_its_own_headers() {
    let states = [state("burst", 100, 10_000, 97), state("daily", 1_000, 86_400_000, 900)];
    let wall = Timestamp::UNIX_EPOCH;
    let headers = |dialect: Dialect, endpoint| -> std::collections::BTreeMap<_, _> {
        dialect.headers("key", endpoint, &states, 1, wall).into_iter().collect()
    };
    let openai = headers(Dialect::Openai, None);
    assert_eq!(openai["x-ratelimit-limit-requests"], "100");
    assert_eq!(openai["x-ratelimit-remaining-requests"], "97");
    assert_eq!(openai["x-ratelimit-reset-requests"], "1.5s");
    let anthropic = headers(Dialect::Anthropic, None);
    assert_eq!(anthropic["anthropic-ratelimit-requests-remaining"], "97");
    assert_eq!(anthropic["anthropic-ratelimit-requests-reset"], "1970-01-01T00:00:02Z");
    let hubspot = headers(Dialect::Hubspot, None);
    assert_eq!(hubspot["x-hubspot-ratelimit-interval-milliseconds"], "10000");
    assert_eq!(hubspot["x-hubspot-ratelimit-remaining"], "97");
    assert_eq!(hubspot["x-hubspot-ratelimit-daily-remaining"], "900");
    assert!(headers(Dialect::Hubspot, Some("search")).keys().all(|name| !name.contains("ratelimit")));
    let demo = headers(Dialect::Demo, None);
    assert_eq!(demo["ratelimit-policy"], r#""burst";q=100;w=10, "daily";q=1000;w=86400"#);
    assert_eq!(demo["ratelimit"], r#""burst";r=97;t=2, "daily";r=900;t=2"#);
}

#[test]
fn an_organisation_belongs_to_one_account_and_hides_the_credential() {
    let organizations = ["sk-one", "sk-two"].map(organization);
    assert_ne!(organizations[0], organizations[1]);
    assert_eq!(organizations[0], organization("sk-one"));
    assert!(!organizations[0].contains("one"));
}

#[test]
fn a_buckets_size_is_not_revealed() {
    let (limit, _) = state("requests", 60, 60_000, 60);
    let bucket = Limit { counted_as: CountedAs::Bucket, bucket: Some(2), ..limit };
    let empty = LimitState { used: 2, remaining: 0, next_in: 1, full_in: 1 };
    let headers: std::collections::BTreeMap<_, _> = Dialect::Openai
        .headers("key", None, &[(bucket, empty)], 1, Timestamp::UNIX_EPOCH)
        .into_iter()
        .collect();
    assert_eq!(headers["x-ratelimit-limit-requests"], "60");
    assert_eq!(headers["x-ratelimit-remaining-requests"], "58");
}
