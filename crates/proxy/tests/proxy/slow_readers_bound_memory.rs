//! A slow client slows its provider down: what the proxy holds of a stream is bounded, whatever its length.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::Client;
use crate::{client, limiter, world};

/// What the stream would be if anyone read it.
const STREAM: u64 = 512 * 1024 * 1024;
/// Socket buffers of the system on both sides and our own; 10 MB were seen, most of it the system's.
const BOUND: u64 = 64 * 1024 * 1024;
const PART: usize = 64 * 1024;

/// Streams HTTP/1.1 chunks as fast as they are taken; tells how much was.
fn http1_stream(listener: TcpListener) -> Arc<AtomicU64> {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        assert_ne!(socket.read(&mut head).await.unwrap(), 0);
        let begin =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(begin).await.unwrap();
        let mut chunk = format!("{PART:x}\r\n").into_bytes();
        chunk.resize(chunk.len() + PART, b'x');
        chunk.extend(b"\r\n");
        while counter.load(Ordering::SeqCst) < STREAM {
            if socket.write_all(&chunk).await.is_err() {
                return;
            }
            counter.fetch_add(PART as u64, Ordering::SeqCst);
        }
    });
    taken
}

/// The same by HTTP/2.
fn http2_stream(listener: TcpListener) -> Arc<AtomicU64> {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(request) = connection.accept().await {
            let (_, mut respond) = request.unwrap();
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
                while counter.load(Ordering::SeqCst) < STREAM {
                    stream.reserve_capacity(PART);
                    let room = futures_util::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                    let Some(Ok(room)) = room else { return };
                    let part = Bytes::from(vec![b'x'; room.min(PART)]);
                    let length = part.len() as u64;
                    if stream.send_data(part, false).is_err() {
                        return;
                    }
                    counter.fetch_add(length, Ordering::SeqCst);
                }
            });
        }
    });
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_stops_the_provider() {
    for http2 in [false, true] {
        let (listener, url) = world::socket().await;
        let quota = world::plenty();
        let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
        let (proxy, peer) = world::start(settings).await;
        limiter::engine(peer, vec![quota]);
        let taken = if http2 { http2_stream(listener) } else { http1_stream(listener) };

        let address = proxy.base_url_addr();
        let mut client = match http2 {
            true => Client::http2(address).await,
            false => Client::http1(address).await,
        };
        let path = if http2 { "http://127.0.0.1:15801/demo/anything" } else { "/demo/anything" };
        let answer = client.begin(client::request("GET", path, "")).await.unwrap();
        let mut body = answer.into_body();
        let mut read = body.frame().await.unwrap().unwrap().into_data().unwrap().len() as u64;

        // Nothing is read until nothing more is taken.
        let mut last = u64::MAX;
        while last != taken.load(Ordering::SeqCst) {
            last = taken.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        println!("HTTP/2 {http2}: {last} bytes were taken ahead of a client that does not read");
        assert!(last < BOUND, "{last} bytes");

        // It goes on when the client does.
        while read < last + 8 * PART as u64 {
            read += body.frame().await.unwrap().unwrap().into_data().unwrap().len() as u64;
        }
        assert!(taken.load(Ordering::SeqCst) > last);
        drop(body);
        drop(client);
        world::until("the call is over", || proxy.stats().client_gone == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one_as_the_provider_sends_them() {
    let (provider, url) = world::provider().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let rules = counting_provider::Rules { stream_millis: Some(100), ..Default::default() };
    provider.set_rules("key", rules).unwrap();
    let ask = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let mut client = Client::http1(proxy.base_url_addr()).await;
    let answer = client.begin(client::request("POST", "/openai/v1/chat/completions", ask)).await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let mut body = answer.into_body();
    let mut text = Vec::new();
    let mut frames = 0;
    while let Some(frame) = body.frame().await {
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
        frames += 1;
    }
    let text = String::from_utf8(text).unwrap();
    let events = text.matches("data: ").count();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(events > 3 && frames > events / 2, "{events} events came in {frames} pieces");
    world::until("it is answered", || proxy.stats().ended == 1).await;
    assert_eq!((proxy.stats().failed, proxy.stats().client_gone), (0, 0));
}
