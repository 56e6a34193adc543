//! One grant is one request on the wire: no library resends it, whatever becomes of the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quotakeeper_engine::time::Stamp;
use quotakeeper_engine::tokens::CallEnd;
use quotakeeper_wire::message::Report;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::limiter::{Hand, VALIDITY};
use crate::{client, limiter, world};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Answers the first `answers` requests of each connection, reads one more and closes; counts all requests.
fn closing_provider(listener: TcpListener, answers: usize) -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                for request in 0..=answers {
                    let mut head = Vec::new();
                    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                        if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    counter.fetch_add(1, Ordering::SeqCst);
                    if request < answers {
                        socket.write_all(OK).await.unwrap();
                    }
                }
            });
        }
    });
    seen
}

async fn proxied(url: String) -> quotakeeper_proxy::Proxy {
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    proxy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_on_a_connection_that_closes_after_reading_it_arrives_once() {
    let (listener, url) = world::socket().await;
    let seen = closing_provider(listener, 1);
    let proxy = proxied(url).await;
    let address = proxy.base_url_addr();
    let post = || client::request("POST", "/demo/anything", "");
    assert_eq!(client::send(address, post()).await.status, 200);
    // Goes out on the same connection, which is then closed.
    let lost = client::send(address, post()).await;
    assert_eq!(lost.status, 502);
    assert_eq!(lost.header("x-quotakeeper-reason"), Some("ProviderUnreachable"));
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    assert_eq!(proxy.stats().failed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_is_repeated_once_under_a_grant_of_its_own() {
    let (listener, url) = world::socket().await;
    let seen = closing_provider(listener, 0);
    let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move { client::get(address, "/demo/anything").await });
    for attempt in 1..=2 {
        let asked = hand.asked().await;
        hand.grant(asked, 1).await;
        let (sent, done) = (hand.report().await, hand.report().await);
        assert!(matches!(sent.2, Report::Sent { .. }), "{sent:?}");
        assert_eq!(done, (asked.call, 1, Report::Done { end: CallEnd::Lost, usage: None }));
        assert_eq!(seen.load(Ordering::SeqCst), attempt);
    }
    assert_eq!(call.await.unwrap().status, 502);
    assert_eq!(proxy.stats().sent, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_closed_is_replaced() {
    let (listener, url) = world::socket().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                socket.read_buf(&mut head).await.unwrap();
            }
            counter.fetch_add(1, Ordering::SeqCst);
            // ReplayBody alive by its head, closed by its deed.
            socket.write_all(OK).await.unwrap();
        }
    });
    let proxy = proxied(url).await;
    for _ in 0..10 {
        let post = client::request("POST", "/demo/anything", "");
        assert_eq!(client::send(proxy.base_url_addr(), post).await.status, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(seen.load(Ordering::SeqCst), 10);
    assert_eq!(proxy.stats().failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_grant_is_returned_unsent() {
    let (listener, url) = world::socket().await;
    let seen = closing_provider(listener, 9);
    let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect_in_a_hurry(&peer, 1).await;
    let hello = hand.newest();
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move { client::get(address, "/demo/anything").await });
    let asked = hand.asked().await;
    tokio::time::sleep(VALIDITY).await;
    assert!(hello > Stamp(0));
    hand.grant_as_of(asked, 1, hello).await;
    assert_eq!(hand.report().await, (asked.call, 1, Report::Unused { again: true }));
    assert_eq!(seen.load(Ordering::SeqCst), 0);
    hand.grant_until_used(asked, 2).await;
    assert_eq!(call.await.unwrap().status, 200);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_reached_costs_no_grant() {
    let (listener, url) = world::socket().await;
    drop(listener);
    let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let address = proxy.base_url_addr();
    let mut post = client::request("POST", "/demo/anything", "{}");
    post.headers_mut().insert("x-quotakeeper-patience", "2".parse().unwrap());
    let call = tokio::spawn(async move { client::send(address, post).await });
    let mut tries = 0;
    while !call.is_finished() {
        let Ok(asked) = tokio::time::timeout(Duration::from_secs(3), hand.asked()).await else { break };
        hand.grant(asked, 1).await;
        assert_eq!(hand.report().await, (asked.call, 1, Report::Unused { again: false }));
        tries += 1;
    }
    assert!((1..=3).contains(&tries), "tried {tries} times within 1.6 s");
    let got = call.await.unwrap();
    assert_eq!(got.status, 502);
    assert!(got.text().contains("can't be reached at 127.0.0.1"), "{}", got.text());
}
