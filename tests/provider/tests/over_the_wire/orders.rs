//! Orders of the control port: forced answers, going down, resetting.

use std::time::Duration;

use counting_provider::{Ended, Force, Rules, Verdict};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::*;

/// Asks the control port; panics where it refuses.
async fn order(client: &mut Client, path: &str, body: Value) {
    let answer = client.send(post("control", path, "none", &body)).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"done": true})), "{path}");
}

#[tokio::test]
async fn a_forced_429_is_given_as_often_as_ordered_and_not_charged() {
    let provider = provider().await;
    let mut control = Client::plain(provider.control().unwrap()).await;
    let mut client = Client::connect(&provider, Wire::TlsH1, "api.hubapi.com").await;
    let call = || get("api.hubapi.com", "/crm/v3/objects/contacts", "key");
    let forced = json!({"account": "key", "status": 429, "retryAfter": "8", "headers": {"x-why": "test"}, "requests": 2});
    order(&mut control, "/force", forced).await;
    for _ in 0..2 {
        let answer = client.send(call()).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after"), answer.header("x-why")),
            (429, "8", "test")
        );
        assert_eq!(answer.json()["errorType"], "RATE_LIMIT");
        assert_eq!(answer.header("x-hubspot-ratelimit-remaining"), "100");
    }
    let answer = client.send(call()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("x-hubspot-ratelimit-remaining")), (200, "99"));
    let totals = provider.summary("key").totals;
    assert_eq!((totals.forced, totals.ok, totals.over), (2, 1, 0));
}

#[tokio::test]
async fn a_provider_that_is_closed_for_a_time_opens_again() {
    let provider = provider().await;
    let mut client = Client::connect(&provider, Wire::H2, "api.openai.com").await;
    let closed = Force { retry_after: Some("1".into()), for_millis: Some(300), ..Force::default() };
    provider.force(closed).unwrap();
    let mut refused = 0;
    while client.send(chat("key", "m")).await.unwrap().status == 429 {
        refused += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = provider.log("key");
    assert_eq!(log.len(), refused + 1);
    assert_eq!(log.last().unwrap().verdict, Verdict::Ok);
    let forced = log.iter().filter(|entry| entry.verdict == Verdict::Forced).count();
    assert_eq!(forced, refused);
}

#[tokio::test]
async fn one_model_can_be_closed_while_another_flows() {
    let provider = provider().await;
    let mut client = Client::connect(&provider, Wire::H1, "api.openai.com").await;
    let closed = Force { model: Some("big".into()), status: 503, for_millis: Some(HOUR), ..Force::default() };
    provider.force(Force { body: Some(json!("busy")), ..closed }).unwrap();
    let answer = client.send(chat("key", "big")).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (503, "busy"));
    assert_eq!(client.send(chat("key", "small")).await.unwrap().status, 200);
    provider.reset(None);
    assert_eq!(client.send(chat("key", "big")).await.unwrap().status, 200);
    assert_eq!(provider.whole_log().len(), 1);
}

#[tokio::test]
async fn going_down_cuts_streams_and_leaves_calls_without_an_answer() {
    let provider = provider().await;
    let mut control = Client::plain(provider.control().unwrap()).await;
    for wire in WIRES {
        let (stream, key) = (format!("stream-{wire:?}"), format!("key-{wire:?}"));
        provider.set_rules(&stream, Rules { stream_millis: Some(HOUR), ..Rules::default() }).unwrap();
        let body = json!({"model": "m", "messages": [], "stream": true});
        let mut open = Client::connect(&provider, wire, "api.openai.com").await;
        let request = post("api.openai.com", "/v1/chat/completions", &stream, &body);
        let running = open.begin(request).await.unwrap();

        order(&mut control, "/down", json!({"forMillis": HOUR})).await;
        assert!(running.into_body().collect().await.is_err(), "{wire:?}: the stream must break off");
        until(&provider, &stream, |log| log[0].ended == Ended::CutOff).await;
        let mut client = Client::connect(&provider, wire, "api.openai.com").await;
        assert!(client.send(chat(&key, "m")).await.is_err(), "{wire:?}: no answer may come");
        let log =
            until(&provider, &key, |log| log.first().is_some_and(|entry| entry.ended == Ended::CutOff)).await;
        assert_eq!((log[0].verdict, log[0].status, log[0].counts.len()), (Verdict::Down, None, 0));

        order(&mut control, "/down", json!({"forMillis": 0})).await;
        let mut client = Client::connect(&provider, wire, "api.openai.com").await;
        assert_eq!(client.send(chat(&key, "m")).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn invalid_orders_are_refused_with_a_reason() {
    let provider = provider().await;
    let mut control = Client::plain(provider.control().unwrap()).await;
    let limit = json!({"name": "l", "count": 0, "windowMillis": 1, "countedAs": "Sliding"});
    for (path, body, word) in [
        ("/rules", json!({"account": "key", "limits": [limit]}), "count is 0"),
        ("/rules", json!({"limits": []}), "account"),
        ("/slow", json!({"account": "key", "answerMilis": 1}), "answerMilis"),
        ("/force", json!({"status": 99}), "99"),
        ("/down", json!({}), "forMillis"),
        ("/nothing", json!({}), "--help"),
    ] {
        let answer = control.send(post("control", path, "none", &body)).await.unwrap();
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && message.contains(word), "{path}: {message}");
    }
    assert_eq!(control.send(get("control", "/summary", "none")).await.unwrap().status, 400);
}
