//! Limits of tokens: charged in four ways, told in headers and rejections, counted after hang-ups.

use counting_provider::{
    AfterHangUp, AmountSummary, ArrivalOutput, Charged, CountedAs, Limit, Provider, Rules, TokenCounting,
    Unit, Verdict,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::*;

const OPENAI: &str = "api.openai.com";
const ANTHROPIC: &str = "api.anthropic.com";

fn tokens(unit: Unit, count: u64, charged: Charged) -> Limit {
    let counting = TokenCounting { charged, ..TokenCounting::default() };
    Limit { unit, tokens: Some(counting), ..Limit::new("tokens", count, HOUR, CountedAs::Sliding) }
}

fn chat_that(play: &str, max_tokens: u64, stream: bool) -> http::Request<String> {
    let content = format!("[play {play}]");
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens, "stream": stream, "stream_options": {"include_usage": true}});
    post(OPENAI, "/v1/chat/completions", "key", &body)
}

/// The only limit of tokens.
fn amounts(provider: &Provider) -> AmountSummary {
    let summary = provider.summary("key");
    assert_eq!(summary.amounts.len(), 1);
    summary.amounts.into_iter().next().unwrap()
}

/// Waits until no answer is being produced.
async fn all_produced(provider: &Provider) {
    until(provider, "key", |log| log.iter().filter_map(|entry| entry.tokens).all(|tokens| tokens.over)).await;
}

#[tokio::test]
async fn each_way_of_charging_counts_what_it_says() {
    let ways = [
        (Charged::Arrival, true, 313 + 14, 327),
        (Charged::Settled, true, 120 + 50, 327),
        (Charged::Produced, true, 120 + 50, 170),
        (Charged::End, false, 120 + 50, 170),
    ];
    for (charged, stream, used, most) in ways {
        let provider = provider().await;
        provider.set_rules("key", limits(vec![tokens(Unit::TotalTokens, 100_000, charged)])).unwrap();
        let mut client = Client::connect(&provider, Wire::H1, OPENAI).await;
        let answer = client.send(chat_that("input=120 output=50", 313, stream)).await.unwrap();
        assert!(answer.body.contains(r#""completion_tokens":50"#), "{}", answer.body);
        all_produced(&provider).await;
        let amounts = amounts(&provider);
        let peak = (amounts.peak_percent * 1_000.0).round() as u64;
        assert_eq!((amounts.used, peak), (used, most), "{charged:?}");
    }
}

#[tokio::test]
async fn a_call_that_does_not_fit_is_rejected_in_openais_words() {
    let provider = provider().await;
    let minute = Limit { window_millis: 60_000, ..tokens(Unit::TotalTokens, 1_000, Charged::Arrival) };
    provider.set_rules("key", limits(vec![minute])).unwrap();
    let mut client = Client::connect(&provider, Wire::H1, OPENAI).await;
    let first = client.send(chat_that("output=1", 700, false)).await.unwrap();
    let estimate = 712;
    assert_eq!(first.header("x-ratelimit-limit-tokens"), "1000");
    assert_eq!(first.header("x-ratelimit-remaining-tokens"), (1_000 - estimate).to_string());
    assert!(first.header("x-ratelimit-reset-tokens").ends_with('s'));
    let over = client.send(chat_that("output=1", 400, false)).await.unwrap();
    assert_eq!(over.status, 429);
    let error = &over.json()["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!("tokens"), &json!("rate_limit_exceeded")));
    let message = error["message"].as_str().unwrap();
    assert!(
        message
            .contains("on tokens per min (TPM): Limit 1000, Used 712, Requested 412. Please try again in ")
    );
    assert!(!over.header("retry-after").is_empty());
    let large = client.send(chat_that("output=1", 2_000, false)).await.unwrap();
    let message = large.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Request too large for gpt-4o"), "{message}");
    assert!(message.contains("Limit 1000, Requested 2012."), "{message}");
    assert_eq!((large.status.as_u16(), large.header("retry-after")), (429, ""));
    let amounts = amounts(&provider);
    assert_eq!((amounts.over, amounts.used, provider.summary("key").totals.over), (2, estimate, 2));
}

#[tokio::test]
async fn the_larger_of_estimate_and_bound_is_charged_where_a_limit_says_so() {
    let provider = provider().await;
    let counting = TokenCounting { output: ArrivalOutput::Max, ..TokenCounting::default() };
    let limit = Limit { tokens: Some(counting), ..tokens(Unit::TotalTokens, 1_000, Charged::Arrival) };
    provider.set_rules("key", limits(vec![limit])).unwrap();
    let mut client = Client::connect(&provider, Wire::H1, OPENAI).await;
    client.send(chat_that("output=1", 700, false)).await.unwrap();
    assert_eq!(amounts(&provider).used, 700);
}

#[tokio::test]
async fn running_streams_exceed_a_limit_without_a_rejection() {
    let provider = provider().await;
    provider.set_rules("key", limits(vec![tokens(Unit::OutputTokens, 100, Charged::Produced)])).unwrap();
    let mut client = Client::connect(&provider, Wire::H1, OPENAI).await;
    assert_eq!(client.send(chat_that("output=90", 4_096, true)).await.unwrap().status, 200);
    all_produced(&provider).await;
    assert_eq!(client.send(chat_that("output=300", 4_096, true)).await.unwrap().status, 200);
    all_produced(&provider).await;
    assert_eq!(client.send(chat_that("output=1", 4_096, true)).await.unwrap().status, 429);
    let amounts = amounts(&provider);
    assert_eq!((amounts.used, amounts.peak_percent, amounts.over), (390, 390.0, 1));
}

#[tokio::test]
async fn anthropic_tells_input_and_output_in_thousands() {
    let provider = provider().await;
    let input = Limit { name: "input".to_owned(), ..tokens(Unit::InputTokens, 40_000, Charged::Settled) };
    let output = Limit { name: "output".to_owned(), ..tokens(Unit::OutputTokens, 8_000, Charged::Produced) };
    provider.set_rules("key", limits(vec![input, output])).unwrap();
    let mut client = Client::connect(&provider, Wire::H1, ANTHROPIC).await;
    let message = |play: &str, stream: bool| {
        let messages = json!([{"role": "user", "content": format!("[play {play}]")}]);
        let body = json!({"model": "claude", "max_tokens": 9_000, "messages": messages, "stream": stream});
        post(ANTHROPIC, "/v1/messages", "key", &body)
    };
    let answer = client.send(message("input=1700 cached=1000 write=100 output=8600", false)).await.unwrap();
    let usage = &answer.json()["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["cache_read_input_tokens"], &usage["cache_creation_input_tokens"]),
        (&json!(600), &json!(1_000), &json!(100))
    );
    assert_eq!(usage["output_tokens"], 8_600);
    all_produced(&provider).await;
    let over = client.send(message("output=10", true)).await.unwrap();
    assert_eq!(over.status, 429);
    assert_eq!(over.header("anthropic-ratelimit-input-tokens-remaining"), "38000");
    assert_eq!(over.header("anthropic-ratelimit-input-tokens-limit"), "40000");
    assert_eq!(over.header("anthropic-ratelimit-output-tokens-remaining"), "0");
    assert!(over.header("anthropic-ratelimit-output-tokens-reset").ends_with('Z'));
    let error = over.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(error.contains("rate limit of 8,000 output tokens per minute"), "{error}");
}

#[tokio::test]
async fn a_hang_up_ends_an_answer_only_where_the_provider_stops() {
    for (after_hang_up, produced) in [(AfterHangUp::GoesOn, 400..401), (AfterHangUp::Stops, 1..399)] {
        let provider = provider().await;
        let rules = Rules {
            limits: Some(vec![tokens(Unit::OutputTokens, 100_000, Charged::Produced)]),
            stream_millis: Some(2),
            after_hang_up: Some(after_hang_up),
            ..Rules::default()
        };
        provider.set_rules("key", rules).unwrap();
        let mut client = Client::connect(&provider, Wire::H1, OPENAI).await;
        let mut answer = client.begin(chat_that("output=400", 4_096, true)).await.unwrap();
        answer.body_mut().frame().await.unwrap().unwrap();
        until(&provider, "key", |log| log[0].tokens.is_some_and(|tokens| tokens.produced > 0)).await;
        drop((answer, client));
        all_produced(&provider).await;
        let tokens = provider.log("key")[0].tokens.unwrap();
        assert!(produced.contains(&tokens.produced), "{after_hang_up:?}: {tokens:?}");
        assert_eq!(amounts(&provider).used, tokens.produced);
    }
}

#[tokio::test]
async fn embeddings_responses_and_choices_tell_their_usage() {
    let provider = provider().await;
    provider.set_rules("key", limits(vec![tokens(Unit::TotalTokens, 100_000, Charged::End)])).unwrap();
    let mut client = Client::connect(&provider, Wire::H1, OPENAI).await;
    let body = json!({"model": "text-embedding-3-small", "input": ["a", "[play input=30]"]});
    let answer = client.send(post(OPENAI, "/v1/embeddings", "key", &body)).await.unwrap().json();
    assert_eq!((answer["data"].as_array().unwrap().len(), &answer["usage"]["total_tokens"]), (2, &json!(30)));
    let play = "input=40 cached=10 reasoning=20 output=50";
    let body = json!({"model": "o4-mini", "input": format!("[play {play}]"), "stream": true});
    let answer = client.send(post(OPENAI, "/v1/responses", "key", &body)).await.unwrap();
    let last = answer.body.rsplit("data: ").next().unwrap();
    let usage = serde_json::from_str::<Value>(last).unwrap()["response"]["usage"].clone();
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(40), &json!(50)));
    assert_eq!(usage["input_tokens_details"]["cached_tokens"], 10);
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 20);
    let body = json!({"model": "gpt-4o", "n": 3, "messages": ["[play input=10 output=5]"]});
    let answer = client.send(post(OPENAI, "/v1/chat/completions", "key", &body)).await.unwrap().json();
    assert_eq!(
        (answer["choices"].as_array().unwrap().len(), &answer["usage"]["completion_tokens"]),
        (3, &json!(15))
    );
    all_produced(&provider).await;
    assert_eq!(amounts(&provider).used, 30 + 40 + 50 + 10 + 15);
}

#[tokio::test]
async fn limits_that_change_keep_what_has_been_used() {
    let provider = provider().await;
    let mut client = Client::connect(&provider, Wire::H1, OPENAI).await;
    provider.set_rules("key", limits(vec![tokens(Unit::TotalTokens, 100_000, Charged::Settled)])).unwrap();
    client.send(chat_that("input=120 output=50", 313, false)).await.unwrap();
    all_produced(&provider).await;
    provider.set_rules("key", limits(vec![tokens(Unit::TotalTokens, 170, Charged::Settled)])).unwrap();
    assert_eq!(amounts(&provider).used, 170);
    let over = client.send(chat_that("output=1", 1, false)).await.unwrap();
    assert_eq!((over.status.as_u16(), provider.log("key")[1].verdict), (429, Verdict::Over));
}
