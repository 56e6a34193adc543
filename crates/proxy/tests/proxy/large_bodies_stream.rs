//! A body beyond the bound streams through in one attempt; one within it can be sent again.

use std::time::Duration;

use bytes::Bytes;
use counting_provider::Force;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;

use crate::{client, limiter, world};

const LARGE: usize = 5 * 1024 * 1024;

async fn proxied() -> (counting_provider::Provider, quotakeeper_proxy::Proxy) {
    let (provider, url) = world::provider().await;
    let quota = world::plenty();
    let mut settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    settings.bodies.each = 1024 * 1024;
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    (provider, proxy)
}

fn large() -> Request<client::Body> {
    let mut request = client::request("POST", "/demo/anything/large", "");
    *request.body_mut() = client::body(vec![b'x'; LARGE]);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn five_mebibytes_arrive_whole() {
    let (provider, proxy) = proxied().await;
    let got = client::send(proxy.base_url_addr(), large()).await;
    assert_eq!(got.status, 200, "{}", got.text());
    world::until("it is counted", || proxy.stats().ended == 1).await;
    assert_eq!(provider.log("key").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_reaches_the_client_when_the_body_cannot_be_replayed() {
    let (provider, proxy) = proxied().await;
    provider.force(Force { retry_after: Some("7".to_owned()), ..Force::default() }).unwrap();
    let got = client::send(proxy.base_url_addr(), large()).await;
    assert_eq!(got.status, 429);
    assert_eq!(got.header("retry-after"), Some("7"));
    assert_eq!(got.header("x-quotakeeper-reason"), None);
    assert_eq!(provider.log("key").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_forwarded_as_it_arrives() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (listener, url) = world::socket().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);

    let (mut sender, body) = Channel::<Bytes>::new(1);
    let mut request = client::request("POST", "/demo/anything", "");
    *request.body_mut() = body.map_err(|never| match never {}).boxed_unsync();
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move { client::send(address, request).await });
    sender.send_data(Bytes::from_static(b"first")).await.unwrap();

    let (mut socket, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    while !seen.windows(5).any(|part| part == b"first") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
    }
    sender.send_data(Bytes::from_static(b"second")).await.unwrap();
    drop(sender);
    while !seen.ends_with(b"0\r\n\r\n") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
    }
    assert!(seen.windows(6).any(|part| part == b"second"));
    socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let got = tokio::time::timeout(Duration::from_secs(30), call).await.unwrap().unwrap();
    assert_eq!((got.status.as_u16(), got.body.len()), (204, 0));
}
