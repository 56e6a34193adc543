//! Streams: their events, their pace, and clients that leave in the middle.

use std::time::{Duration, Instant};

use counting_provider::{Ended, Rules, Verdict};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::*;

fn chat_stream(key: &str, include_usage: bool) -> http::Request<String> {
    let body = json!({
        "model": "gpt-4o", "messages": [], "stream": true, "stream_options": {"include_usage": include_usage},
    });
    post("api.openai.com", "/v1/chat/completions", key, &body)
}

/// The events' data; panics where a line is none of an event stream's.
fn events(body: &str) -> Vec<String> {
    let data = |event: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        assert!(event.lines().all(|line| line.starts_with("data: ") || line.starts_with("event: ")));
        line.to_owned()
    };
    body.split_terminator("\n\n").map(data).collect()
}

#[tokio::test]
async fn openai_streams_words_and_usage_only_when_asked() {
    let provider = provider().await;
    for wire in WIRES {
        let mut client = Client::connect(&provider, wire, "api.openai.com").await;
        let whole = client.send(chat("key", "gpt-4o")).await.unwrap().json();
        let text = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        for include_usage in [true, false] {
            let answer = client.send(chat_stream("key", include_usage)).await.unwrap();
            assert!(answer.header("content-type").starts_with("text/event-stream"));
            let mut events = events(&answer.body);
            assert_eq!(events.pop().unwrap(), "[DONE]");
            let mut chunks: Vec<Value> =
                events.iter().map(|data| serde_json::from_str(data).unwrap()).collect();
            if include_usage {
                let last = chunks.pop().unwrap();
                assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(8)));
                assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()));
            } else {
                assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
            }
            let words: String =
                chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
            assert_eq!(words, text);
            assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
        }
    }
}

#[tokio::test]
async fn anthropics_usage_is_cumulative() {
    let provider = provider().await;
    let mut client = Client::connect(&provider, Wire::TlsH2, "api.anthropic.com").await;
    let body = json!({"model": "claude", "max_tokens": 100, "messages": [], "stream": true});
    let answer = client.send(post("api.anthropic.com", "/v1/messages", "key", &body)).await.unwrap();
    let events: Vec<Value> =
        events(&answer.body).iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("message_start", "message_stop"));
    let deltas: Vec<&Value> = events.iter().filter(|event| event["type"] == "message_delta").collect();
    let outputs: Vec<u64> =
        deltas.iter().map(|delta| delta["usage"]["output_tokens"].as_u64().unwrap()).collect();
    assert_eq!(outputs, [4, 8]);
    assert_eq!(deltas[1]["delta"]["stop_reason"], "end_turn");
}

#[tokio::test]
async fn a_hang_up_is_logged_with_what_was_sent() {
    let provider = provider().await;
    for wire in WIRES {
        // The second chunk would come in an hour.
        let key = format!("stream-{wire:?}");
        provider.set_rules(&key, Rules { stream_millis: Some(HOUR), ..Rules::default() }).unwrap();
        let mut client = Client::connect(&provider, wire, "api.openai.com").await;
        let mut answer = client.begin(chat_stream(&key, false)).await.unwrap();
        let first = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(provider.log(&key)[0].ended, Ended::Running);
        drop((answer, client));
        let log = until(&provider, &key, |log| log[0].ended == Ended::HungUp).await;
        assert_eq!((log[0].bytes_out, log[0].status), (first.len() as u64, Some(200)));

        // The answer's head would come in an hour.
        let key = format!("slow-{wire:?}");
        provider.set_rules(&key, Rules { answer_millis: Some(HOUR), ..Rules::default() }).unwrap();
        let mut client = Client::connect(&provider, wire, "api.openai.com").await;
        let call = tokio::spawn(async move { client.send(chat(&key, "m")).await });
        let key = format!("slow-{wire:?}");
        until(&provider, &key, |log| log.len() == 1).await;
        call.abort();
        let log = until(&provider, &key, |log| log[0].ended == Ended::HungUp).await;
        assert_eq!((log[0].bytes_out, log[0].status, log[0].verdict), (0, None, Verdict::Ok));
    }
}

#[tokio::test]
async fn slow_answers_are_not_early_and_rejections_do_not_wait() {
    let provider = provider().await;
    let mut rules = limits(vec![sliding(1, HOUR)]);
    (rules.answer_millis, rules.stream_millis) = (Some(200), Some(20));
    provider.set_rules("key", rules).unwrap();
    let mut client = Client::connect(&provider, Wire::H2, "api.openai.com").await;
    let asked = Instant::now();
    let answer = client.begin(chat_stream("key", false)).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(200));
    let chunks =
        events(std::str::from_utf8(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()).len();
    assert!(asked.elapsed() >= Duration::from_millis(200 + 20 * (chunks as u64 - 1)));
    provider.set_rules("key", Rules { answer_millis: Some(HOUR), ..Rules::default() }).unwrap();
    assert_eq!(client.send(chat("key", "m")).await.unwrap().status, 429);
}
