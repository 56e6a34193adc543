//! A proxy that is told to stop ends soon, whoever is still connected: a pod and its Job wait for it.

use std::time::Duration;

use http_body_util::BodyExt;
use quotakeeper_proxy::sidecar::{Layout, Sidecar};
use quotakeeper_proxy::{HostsListeners, Proxy};
use quotakeeper_wire::bootstrap::Bootstrap;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::limiter::Hand;
use crate::{client, world};

/// Much less than the shortest grace period that pods have, much more than a stall of the machine.
const SOON: Duration = Duration::from_secs(8);

async fn stops(proxy: Proxy, grace: Duration) {
    let stopped = tokio::time::timeout(SOON, proxy.shutdown(grace));
    stopped.await.expect("the proxy stops although clients are connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_calls_are_refused_at_once_and_calls_under_way_may_end() {
    let (listener, url) = world::socket().await;
    let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let address = proxy.base_url_addr();
    let under_way = tokio::spawn(async move { client::get(address, "/demo/first").await });
    let asked = hand.asked().await;
    hand.grant_until_used(asked, 1).await;
    let (mut provider, _) = listener.accept().await.unwrap();
    let waiting = tokio::spawn(async move { client::get(address, "/demo/second").await });
    world::until("one waits", || proxy.stats().waiting == 1).await;

    let stopping = tokio::spawn(proxy.shutdown(Duration::from_secs(60)));
    let refused = waiting.await.unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("x-quotakeeper-reason"), Some("ProxyStopping"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    tokio::io::AsyncWriteExt::write_all(&mut provider, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await
        .unwrap();
    assert_eq!(under_way.await.unwrap().text(), "ok");
    assert!(stopping.await.unwrap(), "all calls ended by themselves");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_and_silent_clients_are_cut_off() {
    let (provider, url) = world::provider().await;
    let slow = counting_provider::Rules { stream_millis: Some(200), ..Default::default() };
    provider.set_rules("key", slow).unwrap();
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    crate::limiter::engine(peer, vec![quota]);
    let address = proxy.base_url_addr();
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut streaming = Client::http1(address).await;
    let ask = r#"{"model":"gpt-4o","stream":true,"max_tokens":1000,"messages":[{"role":"user","content":"hello"}]}"#;
    let request = client::request("POST", "/openai/v1/chat/completions", ask);
    let answer = streaming.begin(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    stops(proxy, Duration::from_millis(100)).await;
    assert!(answer.into_body().collect().await.is_err(), "the client sees that the stream is not whole");
}

/// A sidecar whose limiter does not answer.
async fn sidecar() -> Sidecar {
    let certificate = rcgen::generate_simple_self_signed(["limiter.invalid".to_owned()]).unwrap();
    let bootstrap = serde_json::json!({
        "limiter": {"address": "127.0.0.1:1", "serverName": "limiter.invalid", "caPem": certificate.cert.pem()},
        "consumer": "story",
        "quotas": [{"quota": "gtm/demo", "provider": "demo", "mode": "BaseURL", "hosts": []}],
    });
    let bootstrap: Bootstrap = serde_json::from_value(bootstrap).unwrap();
    let layout = Layout {
        base_url: world::free(),
        admin: world::free(),
        hosts: HostsListeners::default(),
        ..Layout::default()
    };
    Sidecar::start(&bootstrap, layout).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_without_limiter_stops_although_a_call_waits() {
    let sidecar = sidecar().await;
    let address = sidecar.proxy().base_url_addr();
    let waiting = tokio::spawn(async move { client::get(address, "/demo/anything").await });
    world::until("it waits", || sidecar.proxy().stats().calls == 1).await;
    let stopped = tokio::time::timeout(SOON, sidecar.stop());
    stopped.await.expect("the sidecar stops");
    assert_eq!(waiting.await.unwrap().header("x-quotakeeper-reason"), Some("ProxyStopping"));
}
