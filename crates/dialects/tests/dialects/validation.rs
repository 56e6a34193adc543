//! What is refused in a profile, and that the refusal says where and what to write instead.

use quotakeeper_dialects::Profile;
use serde_json::{Value, json};

/// A small profile that is acceptable, with the value at `pointer` replaced, or added to its object.
fn with(pointer: &str, value: Value) -> Profile {
    let mut profile = json!({
        "hosts": ["api.example.com"],
        "baseUrl": {"upstream": "https://api.example.com", "variables": [{"name": "EXAMPLE_URL"}]},
        "credentials": [{"header": "x-api-key"}],
        "endpoints": [{"name": "search", "paths": ["/v1/search"]}],
        "model": {"body": "/model"},
        "tiers": [{"name": "free", "limits": [
            {"name": "requests", "unit": "Requests", "amount": 10, "windowSeconds": 60},
            {"name": "at-once", "unit": "ConcurrentRequests", "amount": 5},
            {"name": "tokens", "unit": "TotalTokens", "amount": 500, "windowSeconds": 60}
        ]}],
        "models": [{"names": ["m"], "prices": {"input": "0.15", "output": "0.60"}}],
        "prices": {"asOf": "2026-11", "source": "https://example.com/pricing"},
        "headers": [{"limit": "requests", "hard": "x-limit"}],
        "rejections": [{"statuses": [429], "class": "Quota"}],
        "retry": {}
    });
    if !pointer.is_empty() {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match profile.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            object => object[key] = value,
        }
    }
    serde_json::from_value(profile).unwrap()
}

#[test]
fn a_small_profile_is_acceptable() {
    assert_eq!(with("", Value::Null).validate(), Ok(()));
}

#[test]
fn plain_http_is_for_the_cluster_the_machine_and_their_network() {
    for upstream in [
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "http://10.1.2.3",
        "http://[fd00::1]",
        "http://localhost:1",
        "http://model",
        "http://model.gtm.svc:8000",
        "http://model.gtm.svc.cluster.local",
        "http://model.internal",
    ] {
        assert_eq!(with("/baseUrl/upstream", json!(upstream)).validate(), Ok(()), "{upstream}");
    }
}

#[test]
fn each_mistake_is_told_at_its_field() {
    let limit = |more: Value| {
        let mut limit = json!({"name": "requests", "unit": "Requests", "amount": 10, "windowSeconds": 60});
        limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        limit
    };
    let rejection = |more: Value| {
        let mut rejection = json!({"statuses": [429], "class": "Quota"});
        rejection.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rejection
    };
    let (first_limit, first_rejection) = ("/tiers/0/limits/0", "/rejections/0");
    let cases = [
        ("/hosts/0", json!("https://api.example.com"), "hosts[0]", "without scheme"),
        ("/hosts/0", json!("api.example.com:443"), "hosts[0]", "without scheme, port"),
        ("/hosts/0", json!("api.*.com"), "hosts[0]", "host name"),
        ("/hosts/0", json!("*.com"), "hosts[0]", "top-level domain"),
        ("/baseUrl/upstream", json!("http://api.example.com"), "baseUrl.upstream", "unencrypted"),
        ("/baseUrl/upstream", json!("http://203.0.113.7:80"), "baseUrl.upstream", "write https://"),
        ("/baseUrl/upstream", json!("https://api.example.com/v1"), "baseUrl.upstream", "without a path"),
        ("/baseUrl/upstream", json!("ftp://api.example.com"), "baseUrl.upstream", "scheme and host"),
        ("/baseUrl/upstream", json!("https://user:pw@api.example.com"), "baseUrl.upstream", "origin"),
        ("/baseUrl/variables", json!([]), "baseUrl.variables", "at least one variable"),
        (
            "/baseUrl/variables/0",
            json!({"name": "BASE-URL"}),
            "baseUrl.variables[0].name",
            "letters, digits and `_`",
        ),
        (
            "/baseUrl/variables/0",
            json!({"name": "A", "path": "v1"}),
            "baseUrl.variables[0].path",
            "begin it with `/`",
        ),
        ("/credentials/0/header", json!("x api key"), "credentials[0].header", "not a header name"),
        ("/organizationHeaders", json!([""]), "organizationHeaders[0]", "not a header name"),
        ("/endpoints/0/paths", json!([]), "endpoints[0].paths", "at least one path"),
        ("/endpoints/0/paths/0", json!("/v1/sea*"), "endpoints[0].paths[0]", "whole segment"),
        ("/endpoints/0/methods", json!(["post"]), "endpoints[0].methods[0]", "capitals"),
        ("/endpoints/0/name", json!("Search"), "endpoints[0].name", "small letters"),
        ("/model", json!({}), "model", "set `body` or `pathAfter`"),
        ("/model/body", json!("model"), "model.body", "JSON pointer"),
        ("/model/pathUntil", json!(":"), "model.pathUntil", "set `pathAfter` too"),
        (
            "/model/classes",
            json!([{"name": "a", "models": ["*-mini"]}]),
            "model.classes[0].models[0]",
            "at its end only",
        ),
        ("/tiers", json!([]), "tiers", "named `default`"),
        ("/tiers/0/name", json!("tier 1"), "tiers[0].name", "such as `tier-1`"),
        ("/tiers/0/limits/1/name", json!("requests"), "tiers[0].limits", "there twice"),
        (first_limit, limit(json!({"amount": 0})), "tiers[0].limits[0].amount", "write 1 to"),
        (first_limit, limit(json!({"amount": u64::MAX})), "tiers[0].limits[0].amount", "out of range"),
        (
            first_limit,
            limit(json!({"windowSeconds": null})),
            "tiers[0].limits[0].windowSeconds",
            "is missing",
        ),
        (first_limit, limit(json!({"windowSeconds": 0})), "tiers[0].limits[0].windowSeconds", "out of range"),
        (first_limit, limit(json!({"burst": 11})), "tiers[0].limits[0].burst", "the limit's amount, 10"),
        (first_limit, limit(json!({"deliveryMillis": 0})), "tiers[0].limits[0].deliveryMillis", "1 to 60000"),
        (first_limit, limit(json!({"endpoint": "find"})), "tiers[0].limits[0].endpoint", "does not exist"),
        ("/tiers/0/limits/1/windowSeconds", json!(60), "tiers[0].limits[1].windowSeconds", "remove it"),
        (first_limit, limit(json!({"period": "Day"})), "tiers[0].limits[0].windowSeconds", "remove one"),
        (
            first_limit,
            limit(json!({"windowSeconds": null, "period": "Day", "timeZone": "Mars/Olympus"})),
            "tiers[0].limits[0].timeZone",
            "IANA name",
        ),
        (first_limit, limit(json!({"timeZone": "UTC"})), "tiers[0].limits[0].timeZone", "without `period`"),
        ("/tiers/0/limits/1/period", json!("Day"), "tiers[0].limits[1].period", "remove it"),
        (
            first_limit,
            limit(json!({"charged": "Settled"})),
            "tiers[0].limits[0].charged",
            "no meaning for unit Requests",
        ),
        (first_limit, limit(json!({"formula": {}})), "tiers[0].limits[0].formula", "remove it"),
        (first_limit, limit(json!({"weights": {}})), "tiers[0].limits[0].weights", "remove it"),
        ("/tiers/0/limits/2/charged", json!("AtArrival"), "tiers[0].limits[2].formula", "is missing"),
        (
            "/tiers/0/limits/2/formula",
            json!({"bytesPerToken": 0}),
            "tiers[0].limits[2].formula.bytesPerToken",
            "1 to 100",
        ),
        ("/tiers/0/limits/2/weights", json!({"output": 1001}), "tiers[0].limits[2].weights", "0 to 1000"),
        (
            "/tiers/0/limits/2/weights",
            json!({"input": 0, "cached": 0, "cacheWrite": 0, "output": 0}),
            "tiers[0].limits[2].weights",
            "nothing is counted",
        ),
        (
            first_limit,
            limit(json!({"unit": "Dollars", "amount": 10_000_001})),
            "tiers[0].limits[0].amount",
            "whole dollars",
        ),
        ("/models/0/names", json!([]), "models[0].names", "at least one model"),
        ("/models/0/names", json!(["m*"]), "models[0].names[0]", "is of no class"),
        ("/models/0/prices/input", json!("1,5"), "models[0].prices.input", "at most six places"),
        ("/models/0/prices/output", json!("-1"), "models[0].prices.output", "is no price"),
        ("/models/0/prices/cached", json!("0.1234567"), "models[0].prices.cached", "at most six places"),
        ("/prices", Value::Null, "prices", "from when and where"),
        ("/headers/0/limit", json!("request"), "headers[0].limit", "no tier has a limit `request`"),
        ("/headers/0", json!({"limit": "requests"}), "headers[0]", "set `hard` or `remaining`"),
        ("/headers/0/reset", json!("x-reset"), "headers[0].resetFormat", "is missing"),
        ("/headers/0/resetFormat", json!("StarDate"), "headers[0].resetFormat", "not known to this version"),
        ("/headers/0/format", json!("Quantum"), "headers[0].format", "not known to this version"),
        ("/headers/0/format", json!("UsedOfLimit"), "headers[0].header", "name the response header"),
        (
            "/headers/0",
            json!({"limit": "requests", "remaining": "a", "used": "b"}),
            "headers[0].used",
            "`hard`",
        ),
        (first_rejection, rejection(json!({"statuses": []})), "rejections[0].statuses", "at least one"),
        (first_rejection, rejection(json!({"statuses": [1000]})), "rejections[0].statuses[0]", "100 to 599"),
        (first_rejection, rejection(json!({"statuses": [200]})), "rejections[0]", "every success"),
        (first_rejection, rejection(json!({"scope": "Limit"})), "rejections[0].limit", "name the limit"),
        (
            first_rejection,
            rejection(json!({"scope": "Limit", "limit": "x"})),
            "rejections[0].limit",
            "no tier has",
        ),
        (
            first_rejection,
            rejection(json!({"body": [{}]})),
            "rejections[0].body[0]",
            "set `at` or `contains`",
        ),
        (
            first_rejection,
            rejection(json!({"body": [{"equals": ["x"]}]})),
            "rejections[0].body[0].equals",
            "set `at`",
        ),
        (
            first_rejection,
            rejection(json!({"body": [{"at": "error"}]})),
            "rejections[0].body[0].at",
            "JSON pointer",
        ),
        (first_rejection, rejection(json!({"wait": [{}]})), "rejections[0].wait[0]", "exactly one"),
        (
            first_rejection,
            rejection(json!({"wait": [{"header": "a", "body": "/b"}]})),
            "rejections[0].wait[0]",
            "exactly one",
        ),
        (
            first_rejection,
            rejection(json!({"wait": [{"resetOf": "x"}]})),
            "rejections[0].wait[0].resetOf",
            "no tier has",
        ),
        (
            first_rejection,
            rejection(json!({"minimumSeconds": 7200})),
            "rejections[0].maximumSeconds",
            "at least 7200",
        ),
        (first_rejection, rejection(json!({"reasonBody": "x"})), "rejections[0].reasonBody", "JSON pointer"),
        ("/retry/methods", json!(["GE T"]), "retry.methods[0]", "not a method"),
        ("/retry/idempotencyHeader", json!("a b"), "retry.idempotencyHeader", "not a header name"),
    ];
    for (pointer, value, field, remedy) in cases {
        let problems = with(pointer, value.clone()).validate().expect_err(pointer);
        let told = problems.iter().any(|problem| problem.field == field && problem.message.contains(remedy));
        assert!(told, "{pointer} = {value}: wanted `{remedy}` at {field}, got {problems:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut profile = with("/hosts/0", json!("a b"));
    profile.tiers[0].limits[0].amount = 0;
    let problems = profile.validate().unwrap_err();
    assert_eq!(problems.len(), 2);
    assert_eq!(
        problems[1].to_string(),
        "tiers[0].limits[0].amount: 0 is out of range; write 1 to 1000000000000000"
    );
}

#[test]
fn dollars_need_prices() {
    let mut profile = with("/models", json!([{"names": ["m"]}]));
    profile.tiers[0].limits[0].unit = quotakeeper_dialects::profile::Unit::Dollars;
    let problems = profile.validate().unwrap_err();
    assert_eq!(problems[0].field, "tiers[0].limits[0].unit");
    assert!(problems[0].message.contains("need the prices of models"), "{problems:?}");
}

#[test]
fn references_wait_for_what_is_inherited() {
    let mut derived = with("/headers/0/limit", json!("tokens"));
    derived.extends = Some("openai".to_owned());
    derived.tiers.clear();
    derived.model = None;
    assert_eq!(derived.validate(), Ok(()));
}
