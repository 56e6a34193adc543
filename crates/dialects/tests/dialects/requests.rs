//! What a request calls, and which counts it draws on.

use http::Method;
use quotakeeper_dialects::profile::{Credential, Limit, ServiceTier};
use quotakeeper_dialects::request::{BodyFacts, Measure};
use quotakeeper_dialects::{CallShape, Profile, json};

use crate::answers::{headers, profile};

fn model(profile: &Profile, path: &str, body: &str) -> Option<String> {
    profile
        .describe(&Method::POST, path, &facts(profile, path, &[], body.as_bytes(), body.len().max(1)))
        .model
}

/// What a body says that arrives in pieces of `piece` bytes.
fn facts(profile: &Profile, path: &str, lines: &[&str], body: &[u8], piece: usize) -> BodyFacts {
    let Some(mut reader) = profile.body_reader(&Method::POST, path, &headers(lines), Measure::Nothing) else {
        return BodyFacts::default();
    };
    body.chunks(piece).for_each(|piece| reader.push(piece));
    reader.finish()
}

#[test]
fn a_model_is_found_in_the_body_wherever_it_stands() {
    let openai = profile("openai");
    let found = |body: &str| model(&openai, "/v1/chat/completions", body);
    assert_eq!(found(r#"{"model":"gpt-4o","messages":[]}"#).as_deref(), Some("gpt-4o"));
    assert_eq!(
        found(r#"{"messages":[{"model":"no","content":"\"model\":\"no\""}],"model":"gpt-4o"}"#).as_deref(),
        Some("gpt-4o")
    );
    // A prefix: what came before the break counts.
    assert_eq!(found(r#"{"model":"gpt-4o","messages":[{"role":"us"#).as_deref(), Some("gpt-4o"));
    assert_eq!(found(r#"{"messages":[{"role":"user"}],"mod"#), None);
    assert_eq!(found(r#"{"model":"gpt-4"#), None);
    for nothing in
        ["", "{}", "null", "[]", "model=gpt-4o", r#"{"model":null}"#, r#"{"model":""}"#, r#"{"model":{}}"#]
    {
        assert_eq!(found(nothing), None, "{nothing}");
    }
    let endless = format!(r#"{{"model":"{}"}}"#, "a".repeat(300));
    assert_eq!(found(&endless), None, "no name is that long");
    assert_eq!(openai.describe(&Method::POST, "/v1/chat/completions", &BodyFacts::default()).model, None);
    assert!(profile("hubspot").body_reader(&Method::POST, "/", &headers(&[]), Measure::Nothing).is_none());
}

#[test]
fn a_model_is_found_behind_megabytes_of_messages() {
    let openai = profile("openai");
    let image = "A".repeat(3 << 20);
    let body =
        format!(r#"{{"messages":[{{"content":"data:image/png;base64,{image}"}}],"model":"gpt-4o-mini"}}"#);
    for piece in [1000, 65_536, body.len()] {
        let said = facts(&openai, "/v1/chat/completions", &[], body.as_bytes(), piece);
        assert_eq!(
            said,
            BodyFacts { model: Some("gpt-4o-mini".to_owned()), whole: true, ..BodyFacts::default() },
            "pieces of {piece}"
        );
    }
}

#[test]
fn the_last_of_members_of_the_same_name_counts() {
    let openai = profile("openai");
    let found = |body: &str| model(&openai, "/v1/chat/completions", body);
    assert_eq!(found(r#"{"model":"gpt-4o","model":"gpt-5"}"#).as_deref(), Some("gpt-5"));
    assert_eq!(found(r#"{"model":"gpt-4o","model":null}"#), None);
    assert_eq!(found(r#"{"model":"gpt-4o","model":{"model":"gpt-5"}}"#), None);
}

#[test]
fn a_model_is_found_in_any_field_of_a_form() {
    let openai = profile("openai");
    let path = "/v1/audio/transcriptions";
    let form = ["content-type: multipart/form-data; boundary=\"b o\""];
    let file = "--b o\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\nContent-Type: audio/mpeg\r\n\r\n\r\n--b\r\n--b x model\r\n\r\n";
    let tricky = "--b o  \r\ncontent-disposition: form-data; name=\"model\"; filename=\"a.bin\"\r\n\r\nno\r\n--b o\r\n\r\nno headers\r\n";
    let field = "--b o\r\nCONTENT-DISPOSITION: form-data; name=model\r\n\r\nwhisper-1\r\n";
    let empty = "--b o\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n\r\n";
    for parts in [[file, tricky, empty, field], [field, empty, file, tricky]] {
        let whole = format!("{}--b o--\r\nepilogue", parts.concat());
        for piece in [1, 2, 7, 4096] {
            let said = facts(&openai, path, &form, whole.as_bytes(), piece);
            assert_eq!(said.model.as_deref(), Some("whisper-1"), "pieces of {piece}");
            assert!(said.whole);
        }
    }
    let cut = format!("{field}{file}");
    let said = facts(&openai, path, &form, cut.as_bytes(), 10);
    assert_eq!(said, BodyFacts { model: Some("whisper-1".to_owned()), ..BodyFacts::default() });
    let other = facts(&openai, path, &["content-type: text/plain"], cut.as_bytes(), 10);
    assert_eq!(other, BodyFacts::default());
}

#[test]
fn a_stream_and_the_largest_answer_are_found_wherever_they_stand() {
    let openai = profile("openai");
    let image = "A".repeat(3 << 20);
    for (body, stream, most) in [
        (format!(r#"{{"stream":true,"messages":["{image}"],"max_tokens":512}}"#), true, Some(512)),
        (
            format!(r#"{{"max_completion_tokens":99,"max_tokens":7,"input":"{image}","stream":true}}"#),
            true,
            Some(99),
        ),
        (r#"{"stream":"true","max_output_tokens":4096.5}"#.to_owned(), true, None),
        (r#"{"stream":false,"max_output_tokens":null}"#.to_owned(), false, None),
        (r#"{"messages":[{"stream":true,"max_tokens":5}],"max_tokens":-1}"#.to_owned(), false, None),
    ] {
        let said = facts(&openai, "/v1/responses", &[], body.as_bytes(), 65_536);
        assert_eq!((said.stream, said.max_output_tokens), (stream, most), "{}", &body[..body.len().min(80)]);
    }
    let form = ["content-type: multipart/form-data; boundary=b"];
    let body = "--b\r\nContent-Disposition: form-data; name=stream\r\n\r\ntrue\r\n--b--";
    assert!(facts(&openai, "/v1/audio/transcriptions", &form, body.as_bytes(), 9).stream);
}

#[test]
fn a_model_is_found_in_the_path() {
    let gemini = profile("gemini");
    let found = |path: &str| model(&gemini, path, r#"{"model":"no"}"#);
    assert_eq!(
        found("/v1beta/models/gemini-2.5-pro:generateContent?alt=sse").as_deref(),
        Some("gemini-2.5-pro")
    );
    assert_eq!(found("/v1beta/models/gemini-2.5-pro").as_deref(), Some("gemini-2.5-pro"));
    assert_eq!(found("/v1beta/models/"), None);
    assert_eq!(found("/v1beta/models"), None);
    assert_eq!(found("/v1beta/files?x=/models/y"), None);
}

#[test]
fn endpoints_are_matched_by_method_and_segments() {
    let hubspot = profile("hubspot");
    let endpoint =
        |method: Method, path: &str| hubspot.describe(&method, path, &BodyFacts::default()).endpoint;
    for path in [
        "/crm/v3/objects/contacts/search",
        "/crm/v3/objects/contacts/search/",
        "/crm/v3/objects/contacts/search?archived=false",
        "/crm/objects/2026-03/contacts/search",
    ] {
        assert_eq!(endpoint(Method::POST, path).as_deref(), Some("search"), "{path}");
    }
    for path in [
        "/crm/v3/objects/contacts",
        "/crm/v3/objects//search",
        "/crm/v3/objects/a/b/search",
        "/crm/v3/objects/contacts/search/more",
        "/CRM/v3/objects/contacts/search",
        "crm/v3/objects/contacts/search",
        "",
    ] {
        assert_eq!(endpoint(Method::POST, path), None, "{path}");
    }
    assert_eq!(endpoint(Method::GET, "/crm/v3/objects/contacts/search"), None);
}

fn draws(profile: &Profile, tier: &str, method: Method, path: &str) -> Vec<(String, String)> {
    let shape = profile.describe(&method, path, &BodyFacts::default());
    let limits = &profile.tier(tier).unwrap().limits;
    limits.iter().filter_map(|limit| Some((limit.name.clone(), profile.partition(limit, &shape)?))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn hubspots_search_has_its_own_bucket_besides_the_accounts() {
    let hubspot = profile("hubspot");
    let search = draws(&hubspot, "pro", Method::POST, "/crm/v3/objects/contacts/search");
    assert_eq!(search, pairs(&[("ten-seconds", ""), ("daily", ""), ("search", "")]));
    let get = draws(&hubspot, "pro", Method::GET, "/crm/v3/objects/contacts/1");
    assert_eq!(get, pairs(&[("ten-seconds", ""), ("daily", "")]));
}

#[test]
fn lists_uploads_and_polls_draw_on_no_models_limits() {
    let none: &[(&str, &str)] = &[];
    for (name, method, path) in [
        ("openai", Method::GET, "/v1/models?limit=5"),
        ("openai", Method::POST, "/v1/files"),
        ("openai", Method::GET, "/v1/batches/batch_1"),
        ("anthropic", Method::GET, "/v1/models"),
        ("anthropic", Method::POST, "/v1/messages/batches"),
        ("anthropic", Method::GET, "/v1/messages/batches/msgbatch_1/results"),
        ("anthropic", Method::POST, "/v1/messages/count_tokens"),
    ] {
        let provider = profile(name);
        assert!(provider.body_reader(&method, path, &headers(&[]), Measure::Nothing).is_none(), "{path}");
        assert_eq!(draws(&provider, "tier-1", method, path), pairs(none), "{path}");
    }
    let messages = draws(&profile("anthropic"), "tier-1", Method::POST, "/v1/messages");
    assert_eq!(messages.len(), 3);
}

#[test]
fn slacks_methods_are_counted_apart() {
    let slack = profile("slack");
    let of = |path: &str| draws(&slack, "default", Method::POST, path);
    assert_eq!(of("/api/conversations.list"), pairs(&[("method", "conversations-list")]));
    assert_eq!(of("/api/users.info"), pairs(&[("method", "users-info")]));
    assert_eq!(of("/api/chat.postMessage"), pairs(&[("method", "chat-post-message"), ("posting", "")]));
    assert_eq!(of("/api/auth.test"), pairs(&[("method", "")]));
}

#[test]
fn a_limit_for_some_models_covers_those_and_the_unknown() {
    let openai = profile("openai");
    let limit = |models: &[&str]| Limit {
        models: models.iter().map(|model| (*model).to_owned()).collect(),
        ..Limit::default()
    };
    let covered = |models: &[&str], model: Option<&str>| {
        let shape = CallShape { model: model.map(str::to_owned), ..CallShape::default() };
        openai.partition(&limit(models), &shape).is_some()
    };
    assert!(covered(&["gpt-4o-mini"], Some("gpt-4o-mini")));
    assert!(covered(&["gpt-4o-mini"], Some("gpt-4o-mini-2024-07-18")), "of the same class");
    assert!(covered(&["o3*"], Some("o3-pro")));
    assert!(!covered(&["gpt-4o-mini"], Some("gpt-4o")));
    assert!(covered(&["gpt-4o-mini"], None), "counted too often is safe");
    assert!(covered(&[], Some("anything")));
}

#[test]
fn the_secret_of_a_request_is_found_and_its_headers_are_known() {
    let secret = |provider: &str, lines: &[&str]| {
        let headers = headers(lines);
        profile(provider).credential(&headers).map(|secret| String::from_utf8(secret.to_vec()).unwrap())
    };
    assert_eq!(secret("openai", &["Authorization: Bearer sk-1"]).as_deref(), Some("sk-1"));
    assert_eq!(secret("openai", &["Authorization: bearer   sk-1"]).as_deref(), Some("sk-1"));
    assert_eq!(secret("openai", &["Authorization: Basic abc"]), None);
    assert_eq!(secret("openai", &["Authorization: Bearer"]), None);
    assert_eq!(secret("openai", &["Authorization: Bearersk-1"]), None);
    assert_eq!(secret("anthropic", &["x-api-key: sk-ant"]).as_deref(), Some("sk-ant"));
    assert_eq!(secret("anthropic", &["Authorization: Bearer token"]).as_deref(), Some("token"));
    assert_eq!(secret("anthropic", &[]), None);

    let own = Credential { header: "X-Own-Key".to_owned(), scheme: None };
    let named = Profile { credentials: vec![own], ..Profile::default() };
    assert_eq!(named.credential(&headers(&["x-own-key: sk-own"])), Some(&b"sk-own"[..]));
}

#[test]
fn hosts_are_matched_whole_or_by_suffix() {
    let salesforce = profile("salesforce");
    assert!(salesforce.serves("acme.my.salesforce.com"));
    assert!(salesforce.serves("ACME.My.Salesforce.com."));
    assert!(!salesforce.serves("my.salesforce.com") && !salesforce.serves(".my.salesforce.com"));
    assert!(!salesforce.serves("acme.my.salesforce.com.evil.example"));
    assert!(profile("openai").serves("API.openai.com") && !profile("openai").serves("openai.com"));
}

#[test]
fn a_pointer_finds_values_of_every_kind() {
    let text = br#"{"a":{"b":[10,{"c":true},"x"],"d/e":"slash","f~g":1.5},"n":null}"#;
    let one = |pointer: &str| json::first(text, pointer);
    assert_eq!(one("/a/b/0").as_deref(), Some("10"));
    assert_eq!(one("/a/b/1/c").as_deref(), Some("true"));
    assert_eq!(one("/a/d~1e").as_deref(), Some("slash"));
    assert_eq!(one("/a/f~0g").as_deref(), Some("1.5"));
    assert_eq!(json::all(text, "/a/b/*"), ["10", "x"]);
    assert_eq!(json::all(text, "/*/b/*"), ["10", "x"]);
    for nowhere in ["/n", "/a", "/a/b", "/a/b/9", "/z", "a", "", "/"] {
        assert_eq!(one(nowhere), None, "`{nowhere}`");
    }
    assert_eq!(json::first(br#""text""#, "").as_deref(), Some("text"));
    let many = format!("[{}]", vec!["1"; 1000].join(","));
    assert_eq!(json::all(many.as_bytes(), "/*").len(), 64, "bounded");
    let deep = "[".repeat(100_000);
    assert_eq!(json::all(deep.as_bytes(), "/*"), Vec::<String>::new());
}

#[test]
fn a_tier_of_service_that_is_counted_apart_has_counts_of_its_own() {
    let mut openai = profile("openai");
    let limit = openai.tiers[0].limit("requests").unwrap().clone();
    let counted = |profile: &Profile, path: &str, body: &str| {
        let said = facts(profile, path, &[], body.as_bytes(), 7);
        profile.partition(&limit, &profile.describe(&Method::POST, path, &said)).unwrap()
    };
    let (path, flex) =
        ("/v1/responses", r#"{"service_tier":"flex","input":"hi","model":"gpt-4o-2024-08-06"}"#);
    assert_eq!(counted(&openai, path, flex), "gpt-4o", "nothing says that flex has limits of its own");
    let tier = ServiceTier { body: "/service_tier".to_owned(), counted_apart: vec!["flex".to_owned()] };
    openai.model.as_mut().unwrap().service_tier = Some(tier.clone());
    assert_eq!(openai.validate(), Ok(()));
    assert_eq!(counted(&openai, path, flex), "gpt-4o (flex)");
    for other in [r#"{"model":"gpt-4o","service_tier":"auto"}"#, r#"{"model":"gpt-4o"}"#] {
        assert_eq!(counted(&openai, path, other), "gpt-4o");
    }
    let some = Limit { models: vec!["gpt-4o".to_owned()], ..limit.clone() };
    let shape = openai.describe(&Method::POST, path, &facts(&openai, path, &[], flex.as_bytes(), 9));
    assert!(openai.partition(&some, &shape).is_some(), "a limit of some models covers their tiers");
    assert_eq!(openai.counted_names("gpt-4o"), ["gpt-4o", "gpt-4o (flex)"]);
    // Also where the path names the model.
    let mut gemini = profile("gemini");
    gemini.model.as_mut().unwrap().service_tier = Some(tier);
    let path = "/v1beta/models/gemini-2.5-pro:generateContent";
    assert_eq!(counted(&gemini, path, r#"{"service_tier":"flex"}"#), "gemini-2.5-pro (flex)");
    assert_eq!(counted(&gemini, path, "{}"), "gemini-2.5-pro");
}
