//! Whoever hangs up costs the quota nothing that was not sent, and what was sent is told to its end.

use std::time::Duration;

use counting_provider::{Ended, Rules};
use http_body_util::BodyExt;
use quotakeeper_engine::tokens::CallEnd;
use quotakeeper_wire::message::{ProxyMessage, Report};
use tokio::io::AsyncReadExt;

use crate::limiter::Hand;
use crate::{client, limiter, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_leaves_the_queue() {
    for http2 in [false, true] {
        let (_, url) = world::provider().await;
        let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
        let (proxy, peer) = world::start(settings).await;
        let mut hand = Hand::connect(&peer, 1).await;
        let address = proxy.base_url_addr();
        let call = tokio::spawn(async move {
            let mut connection = match http2 {
                true => client::Client::http2(address).await,
                false => client::Client::http1(address).await,
            };
            let path = if http2 { "http://127.0.0.1:15801/demo/anything" } else { "/demo/anything" };
            connection.begin(client::request("POST", path, "{}")).await
        });
        let asked = hand.asked().await;
        call.abort();
        let heard = hand.hear().await;
        assert_eq!(heard, ProxyMessage::Cancel { account: asked.account, call: asked.call });
        world::until("it is counted", || proxy.stats().client_gone == 1).await;
        assert_eq!(proxy.stats().waiting, 0);

        // A grant that was on its way is returned.
        hand.grant(asked, 1).await;
        assert_eq!(hand.report().await, (asked.call, 1, Report::Unused { again: false }));
        assert_eq!(proxy.stats().sent, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_call_gets_the_grant_of_a_hang_up() {
    let (provider, url) = world::provider().await;
    let quota = world::engine(vec![world::limit(1, Duration::from_secs(15))]);
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let address = proxy.base_url_addr();
    assert_eq!(client::get(address, "/demo/anything/first").await.status, 200);

    let gone = tokio::spawn(async move { client::get(address, "/demo/anything/gone").await });
    world::until("one waits", || proxy.stats().waiting == 1).await;
    let next = tokio::spawn(async move { client::get(address, "/demo/anything/next").await });
    world::until("two wait", || proxy.stats().waiting == 2).await;
    gone.abort();
    world::until("one is gone", || proxy.stats().client_gone == 1).await;
    assert_eq!(next.await.unwrap().status, 200);

    let paths: Vec<_> = provider.log("key").into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths, ["/anything/first", "/anything/next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_during_a_stream_ends_it_upstream() {
    for http2 in [false, true] {
        let (provider, _) = world::provider().await;
        let slow = Rules { stream_millis: Some(50), ..Rules::default() };
        provider.set_rules("key", slow).unwrap();
        let upstream = "https://api.openai.com".to_owned();
        let account = world::account("openai", Some(upstream), world::plenty());
        let mut settings = world::settings(vec![account]);
        settings.extra_cas = vec![provider.ca_pem().to_owned()];
        settings.resolve = vec![format!("api.openai.com:443:{}", provider.https().unwrap()).parse().unwrap()];
        let (proxy, peer) = world::start(settings).await;
        let mut hand = Hand::connect(&peer, 1).await;

        let address = proxy.base_url_addr();
        let ask = r#"{"model":"gpt-4o","stream":true,"max_tokens":1000,"messages":[{"role":"user","content":"hello"}]}"#;
        let begun = tokio::spawn(async move {
            let mut connection = match http2 {
                true => client::Client::http2(address).await,
                false => client::Client::http1(address).await,
            };
            let path = "http://127.0.0.1:15801/openai/v1/chat/completions";
            let path = if http2 { path } else { "/openai/v1/chat/completions" };
            let mut answer = connection.begin(client::request("POST", path, ask)).await.unwrap();
            assert_eq!(answer.status(), 200);
            let first = answer.body_mut().frame().await.unwrap().unwrap();
            assert!(first.into_data().unwrap().starts_with(b"data: "));
        });
        let asked = hand.asked().await;
        hand.grant(asked, 1).await;
        begun.await.unwrap();
        let mut reports = Vec::new();
        while reports.last() != Some(&Report::Done { end: CallEnd::Lost, usage: None }) {
            let (call, attempt, report) = hand.report().await;
            assert_eq!((call, attempt), (asked.call, 1));
            reports.push(report);
        }
        assert!(reports.iter().any(|report| matches!(report, Report::FirstByte { .. })), "{reports:?}");
        world::until("the provider notices", || provider.log("key")[0].ended == Ended::HungUp).await;
        assert_eq!(proxy.stats().client_gone, 1);
        let log = provider.log("key");
        let protocol = if http2 { "H2" } else { "H1" };
        assert_eq!(format!("{:?}", log[0].protocol), protocol, "the protocol is the client's");
    }
}

/// The provider thinks for longer than the story lasts: nothing is written that could fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_while_a_stream_is_silent_ends_it_upstream() {
    let (provider, url) = world::provider().await;
    let silent = Rules { stream_millis: Some(600_000), ..Rules::default() };
    provider.set_rules("key", silent).unwrap();
    let settings = world::settings(vec![world::account("openai", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![world::plenty()]);
    let ask =
        r#"{"model":"gpt-4o","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hello"}]}"#;
    let mut connection = client::Client::http1(proxy.base_url_addr()).await;
    let mut request = client::request("POST", "/openai/v1/chat/completions", ask);
    request.headers_mut().insert("host", "api.openai.com".parse().unwrap());
    let mut answer = connection.begin(request).await.unwrap();
    answer.body_mut().frame().await.unwrap().unwrap();
    drop((answer, connection));
    world::until("the provider notices", || provider.log("key")[0].ended == Ended::HungUp).await;
    assert_eq!(proxy.stats().client_gone, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_before_the_response_counts_as_sent() {
    let (listener, url) = world::socket().await;
    let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let address = proxy.base_url_addr();
    let call =
        tokio::spawn(
            async move { client::send(address, client::request("POST", "/demo/anything", "{}")).await },
        );
    let asked = hand.asked().await;
    hand.grant(asked, 1).await;
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"{}") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
    }
    // No answer has begun: the limiter hears of the write.
    let (id, attempt, report) = hand.report().await;
    assert!(matches!(report, Report::Sent { .. }) && (id, attempt) == (asked.call, 1), "{report:?}");
    call.abort();
    assert_eq!(hand.report().await, (asked.call, 1, Report::Done { end: CallEnd::Lost, usage: None }));
    assert_eq!(socket.read_buf(&mut seen).await.unwrap_or(0), 0, "the connection is given up");
    world::until("it is told", || proxy.stats().client_gone == 1).await;
    assert_eq!(proxy.stats().sent, 1);
}
