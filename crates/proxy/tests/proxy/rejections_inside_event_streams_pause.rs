//! A provider may answer 200 with an event stream and reject the call in an event: before any output that is like a 429,
//! after it the client gets what came, and the others pause.

use std::collections::BTreeMap;
use std::io::Write;

use counting_provider::{Force, Provider, Verdict};
use flate2::Compression;
use flate2::write::GzEncoder;
use quotakeeper_proxy::{Event, Proxy};
use quotakeeper_wire::message::AccountUpdate;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast::Receiver;

use crate::client::Got;
use crate::{client, limiter, world};

const CREATED: &str =
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n";
const DELTA: &str =
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n";
const FAILED: &str = "event: response.failed\r\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 30000, Requested 9000. Please try again in 1.5s.\"}}}\r\n\r\n";
const BARE: &str = "data: {\"error\":{\"message\":\"rate limited, please try again in 1.5s\",\"code\":\"rate_limit_exceeded\"}}\n\n";
const RESPONSES: &str = "/openai/v1/responses";
const BODY: &str = r#"{"input":"hi","stream":true,"model":"gpt-4o"}"#;

struct Scene {
    provider: Provider,
    proxy: Proxy,
    events: Receiver<Event>,
}

async fn scene(name: &str) -> Scene {
    let (provider, url) = world::provider().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account(name, Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let events = proxy.subscribe();
    Scene { provider, proxy, events }
}

fn stream(text: &str) -> Force {
    let headers =
        BTreeMap::from([("content-type".to_owned(), "text/event-stream; charset=utf-8".to_owned())]);
    Force { status: 200, headers, body: Some(Value::String(text.to_owned())), ..Force::default() }
}

impl Scene {
    async fn call(&self) -> Got {
        client::send(self.proxy.base_url_addr(), client::request("POST", RESPONSES, BODY)).await
    }

    fn pauses(&mut self) -> usize {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        events
            .filter(|event| matches!(event, Event::Quota { update: AccountUpdate::Paused { .. }, .. }))
            .count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_event_that_rejects_is_a_429() {
    for rejection in [format!("{CREATED}{FAILED}"), BARE.to_owned()] {
        let mut scene = scene("openai").await;
        scene.provider.force(stream(&rejection)).unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let request = client::request("POST", RESPONSES, BODY);
            calls.spawn(client::send(scene.proxy.base_url_addr(), request));
        }
        for got in calls.join_all().await {
            assert_eq!(got.status, 200);
            assert!(got.text().contains("response.completed"), "{}", got.text());
        }
        let log = scene.provider.log("key");
        let count = |verdict| log.iter().filter(|entry| entry.verdict == verdict).count();
        assert_eq!((count(Verdict::Ok), count(Verdict::Forced)), (5, 1));
        assert_eq!((scene.proxy.stats().forced, scene.pauses()), (1, 1));
    }
}

/// The request says that a stream comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_event_without_its_content_type_is_read_too() {
    let scene = scene("openai").await;
    let mut rejection = stream(&format!("{CREATED}{FAILED}"));
    rejection.headers = BTreeMap::from([("content-type".to_owned(), "application/octet-stream".to_owned())]);
    scene.provider.force(rejection).unwrap();
    assert!(scene.call().await.text().contains("response.completed"));
    let verdicts: Vec<Verdict> = scene.provider.log("key").iter().map(|entry| entry.verdict).collect();
    assert_eq!(verdicts, [Verdict::Forced, Verdict::Ok]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_after_output_reaches_the_client_and_pauses_the_others() {
    let mut scene = scene("openai").await;
    let text = format!("{CREATED}{DELTA}{FAILED}");
    scene.provider.force(stream(&text)).unwrap();
    let got = scene.call().await;
    assert_eq!((got.status.as_u16(), got.text()), (200, text.as_str()));
    // The first event about the quota is the pause.
    loop {
        if let Event::Quota { update: AccountUpdate::Paused { .. }, .. } = scene.events.recv().await.unwrap()
        {
            break;
        }
    }
    assert!(scene.call().await.text().contains("response.completed"));
    assert_eq!(scene.provider.log("key").len(), 2);
    assert_eq!(scene.proxy.stats().forced, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overload_in_the_first_event_is_tried_once_more() {
    let scene = scene("anthropic").await;
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\"}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n";
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    scene.provider.force(stream(&format!("{start}{error}"))).unwrap();
    let body = r#"{"max_tokens":9,"messages":[],"stream":true,"model":"claude-haiku-4-5"}"#;
    let request = client::request("POST", "/anthropic/v1/messages", body);
    let got = client::send(scene.proxy.base_url_addr(), request).await;
    assert!(got.text().contains("message_stop"), "{}", got.text());
    assert_eq!(scene.provider.log("key").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn framing_and_coding_make_no_difference() {
    let (listener, url) = world::socket().await;
    // The first answers come in pieces, one of them compressed, and their connections stay open.
    tokio::spawn(async move {
        let rejection = format!("{CREATED}{FAILED}");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(rejection.as_bytes()).unwrap();
        gzip.flush().unwrap();
        let compressed = gzip.get_ref().clone();
        let mut held = Vec::new();
        for attempt in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(BODY.as_bytes()) {
                assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
            }
            let coding = if attempt == 1 { "content-encoding: gzip\r\n" } else { "" };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{coding}transfer-encoding: chunked\r\n\r\n"
            );
            socket.write_all(head.as_bytes()).await.unwrap();
            let body: &[u8] = match attempt {
                0 => rejection.as_bytes(),
                1 => &compressed,
                _ => DELTA.as_bytes(),
            };
            for piece in body.chunks(7) {
                let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                socket.write_all(&chunk).await.unwrap();
            }
            if attempt == 2 {
                socket.write_all(b"0\r\n\r\n").await.unwrap();
            }
            held.push(socket);
        }
    });
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let got = client::send(proxy.base_url_addr(), client::request("POST", RESPONSES, BODY)).await;
    assert_eq!((got.status.as_u16(), got.text()), (200, DELTA));
    assert_eq!(proxy.stats().forced, 2);
}
