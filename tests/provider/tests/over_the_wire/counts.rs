//! What is counted, told and rejected, on every wire and by every provider.

use counting_provider::{Dialect, Ended, Limit, Options, Protocol, RuleBook, Verdict, start};
use serde_json::json;

use crate::client::*;

#[tokio::test]
async fn every_protocol_is_counted_and_gets_headers() {
    let provider = provider().await;
    for wire in WIRES {
        let key = format!("sk-{wire:?}");
        provider.set_rules(&key, limits(vec![sliding(3, HOUR)])).unwrap();
        let mut client = Client::connect(&provider, wire, "api.openai.com").await;
        let mut seen = Vec::new();
        for _ in 0..5 {
            let answer = client.send(chat(&key, "gpt-4o")).await.unwrap();
            assert_eq!(answer.header("x-ratelimit-limit-requests"), "3");
            assert!(!answer.header("date").is_empty());
            seen.push((answer.status.as_u16(), answer.header("x-ratelimit-remaining-requests").to_owned()));
        }
        let expected = [(200, "2"), (200, "1"), (200, "0"), (429, "0"), (429, "0")];
        assert_eq!(seen, expected.map(|(status, left)| (status, left.to_owned())), "{wire:?}");

        let log = until(&provider, &key, |log| log.iter().all(|entry| entry.ended == Ended::Finished)).await;
        let protocol = if matches!(wire, Wire::H1 | Wire::TlsH1) { Protocol::H1 } else { Protocol::H2 };
        assert!(
            log.iter().all(|entry| entry.protocol == protocol && entry.model.as_deref() == Some("gpt-4o"))
        );
        assert!(log.iter().all(|entry| entry.connection == log[0].connection), "one connection carried all");
        // OpenAI counts what it rejects.
        let counts: Vec<u64> = log.iter().map(|entry| entry.counts["requests"]).collect();
        assert_eq!(counts, [1, 2, 3, 4, 5]);
        let summary = provider.summary(&key);
        assert_eq!((summary.totals.ok, summary.totals.over, summary.totals.all()), (3, 2, 5));
        assert_eq!((summary.limits[0].largest_sliding, summary.limits[0].over), (3, 2));
    }
}

#[tokio::test]
async fn hundreds_of_connections_at_once_get_exactly_what_is_there() {
    let provider = provider().await;
    provider.set_rules("crowd", limits(vec![sliding(250, HOUR)])).unwrap();
    let mut clients = Vec::new();
    for index in 0..400 {
        clients.push(Client::connect(&provider, WIRES[index % 2], "api.demo.example").await);
    }
    let calls: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move { client.send(demo("crowd")).await.unwrap().status.as_u16() })
        })
        .collect();
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap());
    }
    let of = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((of(200), of(429)), (250, 150));
    assert_eq!(provider.summary("crowd").limits[0].largest_sliding, 250);
    let connections: std::collections::BTreeSet<u64> =
        provider.log("crowd").iter().map(|entry| entry.connection).collect();
    assert_eq!(connections.len(), 400);
}

#[tokio::test]
async fn each_provider_has_its_own_rejections() {
    let provider = provider().await;
    for key in ["openai", "anthropic", "hubspot", "demo"] {
        provider.set_rules(key, limits(vec![sliding(1, HOUR)])).unwrap();
    }
    let mut client = Client::connect(&provider, Wire::H1, "localhost").await;
    let message = json!({"model": "claude", "max_tokens": 9, "messages": []});
    let anthropic = || post("api.anthropic.com", "/v1/messages", "anthropic", &message);
    let hubspot = || get("api.hubapi.com", "/crm/v3/objects/contacts/1", "hubspot");

    assert_eq!(client.send(chat("openai", "m")).await.unwrap().status, 200);
    let answer = client.send(chat("openai", "m")).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (429, &json!("rate_limit_exceeded"))
    );
    assert_eq!(answer.json()["error"]["type"], "requests");
    // The rejected call counts as well: both must leave, the second an hour from now at the latest.
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((3_000..=3_600).contains(&seconds), "{seconds}");
    assert!(answer.header("openai-organization").starts_with("org-"));

    assert_eq!(client.send(anthropic()).await.unwrap().status, 200);
    let answer = client.send(anthropic()).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert_eq!(answer.header("anthropic-ratelimit-requests-remaining"), "0");
    assert!(!answer.header("retry-after").is_empty());

    assert_eq!(client.send(hubspot()).await.unwrap().status, 200);
    let answer = client.send(hubspot()).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["policyName"]), (429, &json!("TEN_SECONDLY_ROLLING")));
    assert_eq!(answer.header("x-hubspot-ratelimit-remaining"), "0");
    assert_eq!(answer.header("retry-after"), "");

    assert_eq!(client.send(demo("demo")).await.unwrap().status, 200);
    let answer = client.send(demo("demo")).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["limit"]), (429, &json!("requests")));
    assert_eq!(answer.header("ratelimit-policy"), "\"requests\";q=1;w=3600");
    assert!(answer.header("ratelimit").starts_with("\"requests\";r=0;t=3"));
    assert!(!answer.header("retry-after").is_empty());
}

#[tokio::test]
async fn hubspot_counts_searches_separately_without_headers() {
    let provider = provider().await;
    let limit = |name: &str, count, endpoint: Option<&str>, window| Limit {
        name: name.into(),
        endpoint: endpoint.map(str::to_owned),
        ..sliding(count, window)
    };
    let all = vec![
        limit("burst", 2, None, HOUR),
        limit("search", 1, Some("search"), 1_000_000),
        limit("daily", 9, Some("*"), 24 * HOUR),
    ];
    provider.set_rules("hub", limits(all)).unwrap();
    let mut client = Client::connect(&provider, Wire::TlsH2, "api.hubapi.com").await;
    let search = || post("api.hubapi.com", "/crm/v3/objects/contacts/search", "hub", &json!({"limit": 3}));
    let first = client.send(search()).await.unwrap();
    assert_eq!((first.status.as_u16(), first.json()["results"].as_array().unwrap().len()), (200, 3));
    assert!(first.headers.keys().all(|name| !name.as_str().contains("ratelimit")));
    assert_eq!(client.send(search()).await.unwrap().status, 429);
    let page = client
        .send(get("api.hubapi.com", "/crm/v3/objects/contacts?limit=5&after=995", "hub"))
        .await
        .unwrap();
    assert_eq!(page.json()["results"][4]["id"], "1000");
    assert!(page.json().get("paging").is_none(), "the last page has no next one");
    assert_eq!(page.header("x-hubspot-ratelimit-remaining"), "1");
    assert_eq!(page.header("x-hubspot-ratelimit-daily-remaining"), "7");
    let log = provider.log("hub");
    assert_eq!(log[1].exceeded.as_deref(), Some("search"));
    assert_eq!(log[0].endpoint.as_deref(), Some("search"));
}

#[tokio::test]
async fn calls_without_an_account_are_not_counted() {
    let provider = provider().await;
    let mut client = Client::connect(&provider, Wire::H2, "localhost").await;
    let mut nobody = chat("", "m");
    nobody.headers_mut().remove("authorization");
    assert_eq!(client.send(nobody).await.unwrap().json()["error"]["code"], "invalid_api_key");
    let incomplete = post("api.openai.com", "/v1/chat/completions", "key", &json!({"model": "m"}));
    assert_eq!(client.send(chat("key", "m")).await.unwrap().status, 200);
    assert_eq!(client.send(incomplete).await.unwrap().status, 400);
    assert_eq!(client.send(get("api.openai.com", "/v1/nothing", "key")).await.unwrap().status, 404);
    let elsewhere = get("api.hubapi.com", "/crm/v3/objects/contacts", "key");
    let refused = client.send(elsewhere).await.unwrap();
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["category"]),
        (401, &json!("INVALID_AUTHENTICATION"))
    );
    let verdicts: Vec<Verdict> = provider.whole_log().iter().map(|entry| entry.verdict).collect();
    let expected =
        [Verdict::Unauthorized, Verdict::Ok, Verdict::Invalid, Verdict::Invalid, Verdict::Unauthorized];
    assert_eq!(verdicts, expected);
    assert_eq!(provider.summary("key").limits[0].windows, [1]);
    assert_eq!(provider.accounts(), [("key".to_owned(), Dialect::Openai, 4)]);
}

#[tokio::test]
async fn a_rules_file_applies_from_the_first_call() {
    let text =
        "providers: {demo: {limits: [{name: all, count: 1, windowMillis: 3600000, countedAs: Sliding}]}}";
    let rules = RuleBook::parse(text).unwrap();
    let provider = start(Options { rules, ..Options::default() }).await.unwrap();
    let mut client = Client::connect(&provider, Wire::H1, "api.demo.example").await;
    for key in ["one", "two"] {
        let first = client.send(demo(key)).await.unwrap();
        let second = client.send(demo(key)).await.unwrap();
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 429));
    }
}
