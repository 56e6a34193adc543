//! Without the limiter calls wait; the gate never opens by itself.

use std::time::Duration;

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
