//! What calls cost in a provider's own units, as requests and answers say.

use http::{Method, StatusCode};
use quotakeeper_dialects::request::Measure;
use quotakeeper_dialects::usage::ToldCost;
use quotakeeper_dialects::{Head, Profile};
use serde_json::{Value, json};

use crate::answers::{headers, profile, read_of};

fn provider(credits: Value) -> Profile {
    let profile = json!({
        "hosts": ["api.example.com"],
        "endpoints": [
            {"name": "enrich", "paths": ["/enrich"]},
            {"name": "bulk", "paths": ["/bulk"], "apart": true},
            {"name": "query", "paths": ["/graphql"]}
        ],
        "credits": credits,
        "tiers": [{"name": "default", "limits": [
            {"name": "credits", "unit": "Credits", "amount": 5000, "windowSeconds": 60}
        ]}]
    });
    serde_json::from_value(profile).unwrap()
}

fn costs() -> Value {
    json!([
        {"endpoint": "enrich", "each": 5},
        {"endpoint": "bulk", "each": 2, "times": "/details", "otherwise": 10},
        {"endpoint": "query", "each": 100, "told": {
            "at": ["/extensions/cost/actualQueryCost", "/extensions/cost/requestedQueryCost"], "header": "x-credits"
        }}
    ])
}

/// The credits of a call with this body, read in pieces of so many bytes.
fn cost(path: &str, body: &str, piece: usize) -> u64 {
    let profile = provider(costs());
    assert_eq!(profile.validate(), Ok(()));
    let facts = match profile.body_reader(&Method::POST, path, &headers(&[]), Measure::Credits) {
        Some(mut reader) => {
            body.as_bytes().chunks(piece).for_each(|piece| reader.push(piece));
            reader.finish()
        }
        None => Default::default(),
    };
    let endpoint = profile.describe(&Method::POST, path, &facts).endpoint;
    profile.credits(endpoint.as_deref(), path, facts.times.filter(|_| facts.whole))
}

#[test]
fn a_request_says_what_its_call_costs() {
    let cases = [
        ("/enrich", r#"{"details": [1, 2, 3]}"#, 5),
        ("/bulk", r#"{"details": [{"a": [1, 2]}, {"b": {}}, []]}"#, 6),
        ("/bulk", r#"{"details": 7}"#, 14),
        ("/bulk", r#"{"details": "7"}"#, 14),
        ("/bulk", r#"{"details": 0}"#, 0),
        ("/bulk", r#"{"details": 18446744073709551615}"#, u64::MAX),
        // Nothing that can be counted: what the profile says otherwise.
        ("/bulk", r#"{"details": []}"#, 20),
        ("/bulk", r#"{"details": -7}"#, 20),
        ("/bulk", r#"{"details": 1.5}"#, 20),
        ("/bulk", r#"{"details": 18446744073709551616}"#, 20),
        ("/bulk", r#"{"details": null}"#, 20),
        ("/bulk", r#"{"other": [1]}"#, 20),
        ("/bulk", r#"{"details": [1, 2"#, 20),
        ("/bulk", "", 20),
        ("/bulk", "details=3", 20),
        ("/graphql", r#"{"query": "{shop}"}"#, 100),
        ("/other", "{}", 0),
    ];
    for (path, body, credits) in cases {
        for piece in [1, 7, 4096] {
            assert_eq!(cost(path, body, piece), credits, "{path} {body} by {piece}");
        }
    }
}

/// The table of developers.salesloft.com/docs/platform/api-basics/rate-limits.
#[test]
fn a_deep_page_of_salesloft_costs_more() {
    let salesloft = profile("salesloft");
    let cost = |path: &str| salesloft.credits(None, path, None);
    for (query, credits) in [
        ("", 1),
        ("?page=1", 1),
        ("?page=100", 1),
        ("?per_page=100&page=101", 3),
        ("?page=150", 3),
        ("?page=151&sort_by=updated_at", 8),
        ("?page=250", 8),
        ("?page=251", 10),
        ("?page=500", 10),
        ("?page=501", 30),
        ("?page=99999999999999999999", 30),
        ("?page=", 30),
        ("?page", 30),
        ("?page=2&page=501", 30),
        ("?per_page=501&pages=501", 1),
    ] {
        assert_eq!(cost(&format!("/v2/people.json{query}")), credits, "{query}");
    }
    assert_eq!(told_by(&salesloft, None, &["x-ratelimit-endpoint-cost: 3"], ""), Some(ToldCost::Credits(3)));
}

/// Of ten people that are asked for, those that are found cost a credit each.
#[test]
fn apollo_charges_what_it_has_found() {
    let apollo = profile("apollo");
    let path = "/api/v1/people/bulk_match";
    let mut reader = apollo.body_reader(&Method::POST, path, &headers(&[]), Measure::Credits).unwrap();
    reader.push(br#"{"details": [{"email": "a@example.com"}, {"email": "b@example.com"}, {"id": "7"}]}"#);
    let facts = reader.finish();
    let endpoint = apollo.describe(&Method::POST, path, &facts).endpoint;
    assert_eq!(apollo.credits(endpoint.as_deref(), path, facts.times), 3);
    let json = "content-type: application/json";
    let answer = r#"{"status":"success","total_requested_enrichments":3,"unique_enriched_records":2,"missing_records":1,"credits_consumed":2}"#;
    assert_eq!(told_by(&apollo, endpoint.as_deref(), &[json], answer), Some(ToldCost::Credits(2)));
    assert_eq!(apollo.credits(Some("people-match"), "/api/v1/people/match", None), 1);
    assert_eq!(apollo.credits(None, "/api/v1/mixed_people/api_search", None), 0);
}

#[test]
fn shopify_tells_points_and_their_bucket_in_the_body() {
    let shopify = profile("shopify");
    let path = "/admin/api/2026-10/graphql.json";
    let endpoint = shopify.describe(&Method::POST, path, &Default::default()).endpoint;
    assert_eq!(shopify.credits(endpoint.as_deref(), path, None), 1000);
    let json = ["content-type: application/json; charset=utf-8"];
    let answer = r#"{"data":{"shop":{"name":"x"}},"extensions":{"cost":{"requestedQueryCost":101,"actualQueryCost":46,
        "throttleStatus":{"maximumAvailable":2000.0,"currentlyAvailable":1954,"restoreRate":100.0}}}}"#;
    assert_eq!(told_by(&shopify, endpoint.as_deref(), &json, answer), Some(ToldCost::Credits(46)));
    let points = |answer: &str| {
        let observations = read_of(&shopify, endpoint.as_deref(), 200, &json, answer).observations;
        observations.into_iter().map(|seen| (seen.limit, seen.hard, seen.remaining)).collect::<Vec<_>>()
    };
    assert_eq!(points(answer), [("points".to_owned(), Some(2000), Some(1954))]);
    for wrong in ["-1", "\"many\"", "1e300", "null"] {
        let answer = answer.replace("1954", wrong);
        assert_eq!(points(&answer), [("points".to_owned(), Some(2000), None)], "{wrong}");
    }
    assert_eq!(points(r#"{"data":{}}"#), []);
}

/// What an answer of a provider tells.
fn told_by(profile: &Profile, endpoint: Option<&str>, fields: &[&str], body: &str) -> Option<ToldCost> {
    let headers = headers(fields);
    let head = Head { status: StatusCode::OK, headers: &headers, endpoint };
    let mut reader = profile.usage_reader(head, "/", false)?;
    reader.push(body.as_bytes());
    Some(reader.finish().credits)
}

/// What the answer to a query tells.
fn told(fields: &[&str], body: &str) -> Option<ToldCost> {
    let (profile, headers) = (provider(costs()), headers(fields));
    let head = Head { status: StatusCode::OK, headers: &headers, endpoint: Some("query") };
    let mut reader = profile.usage_reader(head, "/graphql", false)?;
    body.as_bytes().chunks(3).for_each(|piece| reader.push(piece));
    Some(reader.finish().credits)
}

#[test]
fn an_answer_says_what_its_call_has_cost() {
    let json = "content-type: application/json";
    let cost = |actual: &str| {
        told(&[json], &format!(r#"{{"extensions":{{"cost":{{"actualQueryCost":{actual}}}}}}}"#)).unwrap()
    };
    // The example of shopify.dev/docs/api/usage/limits#graphql-admin-api-rate-limits.
    let shopify = r#"{"data":{"shop":{"name":"x"}},"extensions":{"cost":{"requestedQueryCost":101,"actualQueryCost":46,
        "throttleStatus":{"maximumAvailable":1000.0,"currentlyAvailable":954,"restoreRate":50.0}}}}"#;
    assert_eq!(told(&[json], shopify), Some(ToldCost::Credits(46)));
    assert_eq!(cost("46"), ToldCost::Credits(46));
    assert_eq!(cost("0"), ToldCost::Credits(0));
    assert_eq!(cost("\"12\""), ToldCost::Credits(12));
    assert_eq!(cost("1.2"), ToldCost::Credits(2), "never less than it says");
    for wrong in ["-1", "1e300", "\"many\"", "true", "\"NaN\""] {
        assert_eq!(cost(wrong), ToldCost::Unreadable, "{wrong}");
    }
    assert_eq!(cost("null"), ToldCost::Absent);
    assert_eq!(told(&[json], "[]"), Some(ToldCost::Absent));
    // A throttled query names what it would have cost.
    let throttled = r#"{"extensions":{"cost":{"requestedQueryCost":202,"actualQueryCost":null}}}"#;
    assert_eq!(told(&[json], throttled), Some(ToldCost::Credits(202)));

    assert_eq!(told(&["content-type: text/csv", "x-credits: 9"], "a,b"), Some(ToldCost::Credits(9)));
    assert_eq!(told(&[json, "x-credits: 9"], "{}"), Some(ToldCost::Credits(9)));
    assert_eq!(told(&[json, "x-credits: 9"], shopify), Some(ToldCost::Credits(46)));
    assert_eq!(told(&["content-type: text/csv"], "a,b"), None);
}

#[test]
fn a_mistake_in_a_cost_is_told_at_its_field() {
    let cases = [
        (json!({"endpoint": "enrch"}), "credits[0].endpoint", "`enrch` does not exist"),
        (json!({"times": "details", "otherwise": 1}), "credits[0].times", "pointer"),
        (json!({"times": "/details"}), "credits[0].otherwise", "the API's default"),
        (json!({"otherwise": 3}), "credits[0].otherwise", "with `times` alone"),
        (
            json!({"dearer": {"parameter": "", "steps": [{"from": 1, "each": 2}]}}),
            "credits[0].dearer.parameter",
            "`page`",
        ),
        (json!({"dearer": {"parameter": "page", "steps": []}}), "credits[0].dearer.steps", "is empty"),
        (
            json!({"dearer": {"parameter": "page", "steps": [{"from": 9, "each": 2}, {"from": 9, "each": 3}]}}),
            "credits[0].dearer.steps",
            "the lowest `from` first",
        ),
        (json!({"told": {}}), "credits[0].told", "names no place"),
        (json!({"told": {"at": ["cost"]}}), "credits[0].told.at[0]", "pointer"),
        (json!({"told": {"header": "x credits"}}), "credits[0].told.header", "header"),
    ];
    for (cost, field, part) in cases {
        let problems = provider(json!([cost])).validate().unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].field == field && problems[0].message.contains(part), "{problems:?}");
    }
    let problems = provider(json!([{"each": 1}, {"endpoint": "enrich", "each": 5}])).validate().unwrap_err();
    assert_eq!(problems[0].field, "credits[1].endpoint", "{problems:?}");
}
