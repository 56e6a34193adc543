//! An overloaded provider and a lost connection are answered by at most one more attempt, and only where the call
//! cannot have had its effect twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use counting_provider::{Force, Provider, Verdict};
use quotakeeper_engine::tokens::{CallEnd, TokenUsage};
use quotakeeper_proxy::Proxy;
use quotakeeper_wire::message::Report;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use crate::limiter::Hand;
use crate::{client, limiter, world};

async fn proxied(provider: &str, url: String) -> Proxy {
    let quota = world::plenty();
    let settings = world::settings(vec![world::account(provider, Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    proxy
}

fn verdicts(provider: &Provider) -> Vec<Verdict> {
    provider.log("key").iter().map(|entry| entry.verdict).collect()
}

fn overloaded(times: u64, headers: &[(&str, &str)]) -> Force {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Force {
        status: 503,
        requests: Some(times),
        retry_after: Some("1".to_owned()),
        headers: headers.collect::<BTreeMap<_, _>>(),
        ..Force::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_provider_is_asked_twice_for_a_get_and_once_for_a_post() {
    let (provider, url) = world::provider().await;
    let proxy = proxied("demo", url).await;
    let address = proxy.base_url_addr();

    provider.force(overloaded(1, &[])).unwrap();
    assert_eq!(client::get(address, "/demo/anything").await.status, 200);
    assert_eq!(verdicts(&provider), [Verdict::Forced, Verdict::Ok]);

    provider.reset(None);
    provider.force(overloaded(2, &[])).unwrap();
    let got = client::get(address, "/demo/anything").await;
    assert_eq!((got.status.as_u16(), got.header("retry-after")), (503, Some("1")));
    assert_eq!(got.header("x-quotakeeper-reason"), None, "the provider's own answer");
    assert_eq!(verdicts(&provider), [Verdict::Forced, Verdict::Forced]);

    provider.reset(None);
    provider.force(overloaded(1, &[])).unwrap();
    let got = client::send(address, client::request("POST", "/demo/anything", "{}")).await;
    assert_eq!(got.status, 503);
    assert_eq!(verdicts(&provider), [Verdict::Forced]);
}

#[tokio::test(flavor = "multi_thread")]
async fn advice_against_a_retry_is_followed() {
    let (provider, url) = world::provider().await;
    let proxy = proxied("openai", url).await;
    let models = || client::get(proxy.base_url_addr(), "/openai/v1/models");
    provider.force(overloaded(1, &[("x-should-retry", "false")])).unwrap();
    let got = models().await;
    assert_eq!((got.status.as_u16(), got.header("x-should-retry")), (503, Some("false")));
    assert_eq!(verdicts(&provider), [Verdict::Forced]);
    assert_eq!(models().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_end_with_their_budget() {
    let (provider, url) = world::provider().await;
    let proxy = proxied("demo", url).await;
    provider.down(Duration::from_secs(600));
    let address = proxy.base_url_addr();
    let calls = 40;
    for _ in 0..calls {
        assert_eq!(client::get(address, "/demo/anything").await.status, 502);
    }
    // Ten in reserve, and one for each five calls.
    let sent = proxy.stats().sent;
    assert!((calls + 10..=calls + 10 + calls / 5).contains(&sent), "{sent} requests for {calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unprocessed_post_is_sent_again() {
    let (listener, url) = world::socket().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            match counter.fetch_add(1, Ordering::SeqCst) {
                0 => respond.send_reset(h2::Reason::REFUSED_STREAM),
                _ => drop(respond.send_response(http::Response::new(()), true).unwrap()),
            }
        }
    });
    let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move {
        let post = client::request("POST", "http://127.0.0.1:15801/demo/anything", "{}");
        client::Client::http2(address).await.send(post).await.status
    });
    let first = hand.asked().await;
    hand.grant(first, 1).await;
    let mut report = hand.report().await;
    // The provider has done nothing for it.
    let nothing = TokenUsage { exact: true, ..TokenUsage::default() };
    while report.2 != (Report::Done { end: CallEnd::Seen, usage: Some(nothing) }) {
        report = hand.report().await;
    }
    let second = hand.asked().await;
    assert_ne!(first.call, second.call, "a grant of its own");
    hand.grant(second, 1).await;
    assert_eq!(call.await.unwrap(), 200);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_connection_returns_its_grant_and_serves_the_next_call() {
    let (provider, _) = world::provider().await;
    let (listener, _) = world::socket().await;
    let (door, behind) = (listener.local_addr().unwrap(), provider.https().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let made = Arc::new(AtomicBool::new(false));
    let (counter, passing) = (Arc::clone(&connections), Arc::clone(&made));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let passes = Arc::clone(&passing);
            tokio::spawn(async move {
                // Longer than a grant is valid: TLS can't begin.
                tokio::time::sleep(limiter::VALIDITY + Duration::from_secs(1)).await;
                let mut provider = TcpStream::connect(behind).await.unwrap();
                passes.store(true, Ordering::SeqCst);
                let _ended = copy_bidirectional(&mut socket, &mut provider).await;
            });
        }
    });
    let account = world::account("demo", Some("https://api.demo.example".to_owned()), world::plenty());
    let mut settings = world::settings(vec![account]);
    settings.extra_cas = vec![provider.ca_pem().to_owned()];
    settings.resolve = vec![format!("api.demo.example:443:{door}").parse().unwrap()];
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect_in_a_hurry(&peer, 1).await;
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move {
        let post = client::request("POST", "/demo/anything", "{}");
        client::send(address, post).await.status
    });
    let asked = hand.asked().await;
    hand.grant(asked, 1).await;
    assert_eq!(hand.report().await, (asked.call, 1, Report::Unused { again: true }));
    assert!(provider.log("key").is_empty());
    world::until("the connection is made", || made.load(Ordering::SeqCst)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    hand.grant_until_used(asked, 2).await;
    assert_eq!(call.await.unwrap(), 200);
    assert_eq!(provider.log("key").len(), 1);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
