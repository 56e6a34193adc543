//! Calls beyond the quota wait their turn: none fails, and the provider never counts one too many.

use std::time::Duration;

use counting_provider::Verdict;
use quotakeeper_proxy::Event;
use quotakeeper_proxy::record::{Outcome, Why};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{client, limiter, world};

const WINDOW: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn twenty_five_calls_at_ten_per_window_all_succeed() {
    let (provider, url) = world::provider().await;
    world::set_limit(&provider, 10, WINDOW);
    let quota = world::engine(vec![world::limit(10, WINDOW)]);
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    let limiter = limiter::engine(peer, vec![quota]);
    let mut events = proxy.subscribe();

    let address = proxy.base_url_addr();
    let calls: Vec<_> = (0..25)
        .map(|number| {
            let path = format!("/demo/anything/{number}?secret=1");
            tokio::spawn(async move { client::get(address, &path).await.status.as_u16() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }

    let stats = proxy.stats();
    assert_eq!((stats.calls, stats.sent, stats.refused, stats.waiting), (25, 25, 0, 0));
    let mut queued = 0;
    while let Ok(event) = events.try_recv() {
        if let Event::Call(record) = event {
            assert_eq!((record.outcome, record.status), (Outcome::Answered, Some(200)));
            assert!(!record.path.contains('?'));
            queued += u32::from(record.why == Why::Queue);
        }
    }
    assert!(queued >= 15, "{queued} calls say that they waited in the queue");
    let metrics = proxy.metrics_text();
    assert!(metrics.contains(r#"quotakeeper_proxy_calls_total{quota="gtm/demo",decision="granted"} 25"#));

    let log = provider.log("key");
    drop(proxy);
    let breaches = limiter.await.unwrap();
    let over = log.iter().filter(|entry| entry.verdict == Verdict::Over).count() as u64;
    assert!(over <= breaches, "{over} over the quota, {breaches} writes came too late");
    assert_eq!(log.iter().filter(|entry| entry.verdict == Verdict::Ok).count(), 25);
}

/// A provider that tells a limit of 20 and nothing of what is left of it.
async fn telling_a_smaller_limit(listener: TcpListener) {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nx-ratelimit-limit-requests: 20\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
            }
            socket.write_all(ANSWER).await.unwrap();
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_limit_in_the_headers_applies_at_once() {
    const SECONDS: u64 = 10;
    let (listener, url) = world::socket().await;
    tokio::spawn(telling_a_smaller_limit(listener));
    let quota = world::engine(vec![world::limit(1000, Duration::from_secs(SECONDS))]);
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::first_engine(peer, vec![quota]);
    let address = proxy.base_url_addr();
    // What may have been used before leaves the window of twenty at two a second. Were it still the thousand that the
    // quota names, nobody would be served before the window's end.
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let mut request = client::request("GET", "/openai/v1/models", "");
            request.headers_mut().insert("x-quotakeeper-patience", (SECONDS - 1).into());
            tokio::spawn(async move { client::send(address, request).await.status.as_u16() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!((proxy.stats().sent, proxy.stats().refused), (6, 0));
}
