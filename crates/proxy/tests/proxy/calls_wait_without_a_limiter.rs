//! Without the limiter calls wait; the gate never opens by itself.

use std::time::Duration;

use quotakeeper_engine::config::{AccountConfig, QueueConfig};
use quotakeeper_proxy::Event;
use quotakeeper_wire::message::{Progress, ProxyMessage};

use crate::limiter::Hand;
use crate::{client, limiter, world};

#[tokio::test(flavor = "multi_thread")]
async fn calls_from_before_the_limiter_are_in_the_hello_and_granted() {
    let (provider, url) = world::provider().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move { client::get(address, "/demo/anything").await });
    world::until("it waits", || proxy.stats().waiting == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!proxy.is_connected() && provider.log("key").is_empty());
    assert!(proxy.metrics_text().contains(r#"quotakeeper_proxy_degraded{reason="LimiterUnreachable"} 1"#));

    limiter::engine(peer, vec![quota]);
    assert_eq!(call.await.unwrap().status, 200);
    assert!(proxy.is_connected());
    assert!(proxy.metrics_text().contains(r#"quotakeeper_proxy_degraded{reason="LimiterUnreachable"} 0"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_survives_a_lost_connection() {
    let (provider, url) = world::provider().await;
    let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut events = proxy.subscribe();
    let mut first = Hand::connect(&peer, 1).await;
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move { client::get(address, "/demo/anything").await });
    let asked = first.asked().await;
    peer.disconnect().await.unwrap();
    world::until("it is noticed", || !proxy.is_connected()).await;
    // A word of the lost connection opens nothing.
    first.grant(asked, 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(provider.log("key").is_empty());

    let mut says = peer.connect().await.unwrap();
    let ProxyMessage::Hello(hello) = says.recv().await.unwrap().body else { panic!("no hello") };
    assert_eq!(hello.calls.len(), 1);
    assert_eq!(hello.calls[0].call, asked.call);
    assert!(matches!(hello.calls[0].progress, Progress::Waiting { .. }));
    drop(says);
    world::until("a dropped receiver is a lost connection", || !proxy.is_connected()).await;

    let second = Hand::connect(&peer, 2).await;
    second.grant(asked, 1).await;
    assert_eq!(call.await.unwrap().status, 200);
    let mut links = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Connected(connected) = event {
            links.push(connected);
        }
    }
    assert_eq!(links, [true, false, true, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impatient_client_learns_that_the_limiter_is_unreachable() {
    let (provider, url) = world::provider().await;
    let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
    let (proxy, _peer) = world::start(settings).await;
    let mut request = client::request("GET", "/demo/anything", "");
    request.headers_mut().insert("x-quotakeeper-patience", "1".parse().unwrap());
    let got = client::send(proxy.base_url_addr(), request).await;
    assert_eq!(got.status, 503);
    assert_eq!(got.header("x-quotakeeper-reason"), Some("LimiterUnreachable"));
    assert!(provider.log("key").is_empty());
    assert_eq!((proxy.stats().waiting, proxy.stats().refused), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_the_limiter_ends_with_the_clients_patience() {
    let (provider, url) = world::provider().await;
    let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let mut request = client::request("GET", "/demo/anything", "");
    request.headers_mut().insert("x-quotakeeper-patience", "1".parse().unwrap());
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move { client::send(address, request).await });
    let asked = hand.asked().await;
    let cancelled = ProxyMessage::Cancel { account: asked.account, call: asked.call };
    assert_eq!(hand.hear().await, cancelled);
    let got = call.await.unwrap();
    assert_eq!(got.status, 429);
    assert_eq!(got.header("x-quotakeeper-reason"), Some("WaitExceeded"));
    assert!(provider.log("key").is_empty());
}

/// A quota whose calls may wait for their turn for a second.
fn impatient(max_absence: Option<Duration>) -> AccountConfig {
    let plenty = world::plenty();
    AccountConfig {
        queue: QueueConfig { max_wait: Duration::from_secs(1), max_absence, ..plenty.queue },
        ..plenty
    }
}

/// Clients that ask before the limiter is lost, while it is away, and without a timeout that is known.
#[tokio::test(flavor = "multi_thread")]
async fn an_absence_longer_than_the_queue_loses_no_call_of_a_patient_client() {
    let (provider, url) = world::provider().await;
    let settings = world::settings(vec![world::account("demo", Some(url), impatient(None))]);
    let (proxy, peer) = world::start(settings).await;
    let address = proxy.base_url_addr();
    let call = |patience: Option<&str>| {
        let mut request = client::request("GET", "/demo/anything", "");
        if let Some(patience) = patience {
            request.headers_mut().insert("x-quotakeeper-patience", patience.parse().unwrap());
        }
        tokio::spawn(async move { client::send(address, request).await })
    };
    let mut calls = Vec::new();
    for patience in [None, Some("600")] {
        let hand = Hand::connect(&peer, 1).await;
        calls.extend((0..3).map(|_| call(patience)));
        world::until("they wait", || proxy.stats().waiting == calls.len() as u64).await;
        drop(hand);
        peer.disconnect().await.unwrap();
        world::until("it is noticed", || !proxy.is_connected()).await;
        calls.extend((0..2).map(|_| call(patience)));
    }
    world::until("all wait", || proxy.stats().waiting == 10).await;
    // More than the queue's second and the two that a limiter may take to answer.
    tokio::time::sleep(Duration::from_millis(4500)).await;
    assert_eq!(proxy.stats().waiting, 10);
    limiter::engine(peer, vec![impatient(None)]);
    for call in calls {
        let got = call.await.unwrap();
        assert_eq!(got.status, 200, "{:?}", got.header("x-quotakeeper-reason"));
    }
    assert_eq!(provider.log("key").len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quotas_own_maximum_bounds_the_wait_for_a_limiter_too() {
    let (provider, url) = world::provider().await;
    let bounded = impatient(Some(Duration::from_secs(1)));
    let settings = world::settings(vec![world::account("demo", Some(url), bounded)]);
    let (proxy, _peer) = world::start(settings).await;
    let got = client::get(proxy.base_url_addr(), "/demo/anything").await;
    assert_eq!(got.status, 503);
    assert_eq!(got.header("x-quotakeeper-reason"), Some("LimiterUnreachable"));
    assert!(provider.log("key").is_empty());
}
