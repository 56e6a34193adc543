//! A 429 of the provider causes a pause, not a crash: nobody sees it, and the call completes.

use std::collections::BTreeMap;
use std::time::Duration;

use counting_provider::{Force, Verdict};
use quotakeeper_proxy::Event;
use quotakeeper_proxy::record::Why;
use quotakeeper_wire::message::AccountUpdate;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{client, limiter, world};

fn force(times: u64) -> Force {
    let requests = Some(times);
    Force { retry_after: Some("1".to_owned()), requests, ..Force::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_rejected_twice_completes_and_the_pause_is_reported() {
    let (provider, url) = world::provider().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let mut events = proxy.subscribe();

    provider.force(force(2)).unwrap();
    let got =
        client::send(proxy.base_url_addr(), client::request("POST", "/demo/anything", r#"{"kept":"body"}"#))
            .await;
    assert_eq!(got.status, 200, "{}", got.text());

    let verdicts: Vec<_> = provider.log("key").iter().map(|entry| entry.verdict).collect();
    assert_eq!(verdicts, [Verdict::Forced, Verdict::Forced, Verdict::Ok]);
    assert_eq!(proxy.stats().forced, 2);
    let (mut paused, mut records) = (0, Vec::new());
    world::until("the call is told", || proxy.stats().ended == 1).await;
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Quota { quota, update: AccountUpdate::Paused { .. } } => {
                assert_eq!(&*quota, "gtm/demo");
                paused += 1;
            }
            Event::Call(record) => records.push(record),
            _ => {}
        }
    }
    assert!(paused >= 1);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].attempts, 3);
    assert!(matches!(&records[0].why, Why::Rejected(_)), "{:?}", records[0].why);
    assert_eq!(records[0].sent_bytes, 3 * 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_rejection_reaches_the_client_unchanged() {
    let (provider, url) = world::provider().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);

    let body = json!({"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}});
    let headers = BTreeMap::from([("x-request-id".to_owned(), "req_1".to_owned())]);
    let forced = Force { body: Some(body.clone()), headers, requests: Some(2), ..Force::default() };
    provider.force(forced).unwrap();
    // The second asks whether it is so.
    for sent in 1..=2 {
        let got = client::send(
            proxy.base_url_addr(),
            client::request("POST", "/openai/v1/chat/completions", r#"{"model":"gpt-4o","messages":[]}"#),
        )
        .await;
        assert_eq!(got.status, 429);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&got.body).unwrap(), body);
        assert_eq!(got.header("x-request-id"), Some("req_1"));
        assert_eq!(got.header("x-quotakeeper-reason"), None);
        assert_eq!(provider.log("key").len(), sent);
    }

    // The next call is told at once that waiting does not help.
    let next = client::send(
        proxy.base_url_addr(),
        client::request("POST", "/openai/v1/chat/completions", r#"{"model":"gpt-4o","messages":[]}"#),
    )
    .await;
    assert_eq!(next.status, 403, "{}", next.text());
    assert_eq!(next.header("x-quotakeeper-reason"), Some("ProviderStopped"));
    assert_eq!(next.header("retry-after"), None);
    assert_eq!(next.header("x-should-retry"), Some("false"));
    assert!(next.text().contains("the provider said: insufficient_quota"), "{}", next.text());
    assert_eq!(provider.log("key").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_out_of_patience_gets_a_429_that_quotes_the_provider() {
    let (provider, url) = world::provider().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);

    provider
        .force(Force { retry_after: Some("30".to_owned()), for_millis: Some(60_000), ..Force::default() })
        .unwrap();
    let mut request = client::request("GET", "/demo/anything", "");
    request.headers_mut().insert("x-quotakeeper-patience", "15".parse().unwrap());
    let got = client::send(proxy.base_url_addr(), request).await;
    assert_eq!(got.status, 429, "{}", got.text());
    let reason = got.header("x-quotakeeper-reason").unwrap();
    assert!(["WaitTooLong", "WaitExceeded"].contains(&reason), "{reason}");
    assert!(got.text().contains("the provider said: status 429"), "{}", got.text());
    let wait: u64 = got.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(proxy.stats().waiting == 0 && Duration::from_secs(wait) > Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_without_its_body_still_pauses() {
    let (listener, url) = world::socket().await;
    // Rejects the first call by a head and a part of a body, and holds the connection; answers the others.
    let asked = tokio::spawn(async move {
        let mut held = Vec::new();
        for attempt in 1.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"[]}") {
                assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
            }
            let rejection = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"error\":";
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let said: &[u8] = if attempt == 1 { rejection } else { answer };
            socket.write_all(said).await.unwrap();
            held.push(socket);
            if attempt == 2 {
                return held.len();
            }
        }
        0
    });
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let mut events = proxy.subscribe();
    let request =
        client::request("POST", "/openai/v1/chat/completions", r#"{"model":"gpt-4o","messages":[]}"#);
    let got = client::send(proxy.base_url_addr(), request).await;
    assert_eq!((got.status.as_u16(), got.text()), (200, "ok"));
    assert_eq!(asked.await.unwrap(), 2);
    assert_eq!(proxy.stats().forced, 1);
    let mut paused = 0;
    while let Ok(event) = events.try_recv() {
        paused += usize::from(matches!(event, Event::Quota { update: AccountUpdate::Paused { .. }, .. }));
    }
    assert!(paused >= 1, "the others were not told");
}
