//! What only its client can sign anew does not grow old in the queue: it is refused while a retry still helps.

use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_dialects::profile::Client as ClientTimeouts;
use quotakeeper_proxy::Settings;
use quotakeeper_wire::message::Report;

use crate::limiter::Hand;
use crate::{client, limiter, world};

fn settings(upstream: String, window: u32, engine: quotakeeper_engine::config::AccountConfig) -> Settings {
    let mut account = world::account("demo", Some(upstream), engine);
    let signature_seconds = Some(window);
    account.profile.client =
        Some(ClientTimeouts { signature_seconds, patience_seconds: Some(600), ..ClientTimeouts::default() });
    world::settings(vec![account])
}

/// A request that is signed now, as SDKs of AWS do it.
fn signed() -> http::Request<client::Body> {
    let mut request = client::request("POST", "/demo/model/m/invoke", "{}");
    let headers = request.headers_mut();
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    headers.insert("x-amz-date", now.parse().unwrap());
    let authorization = "AWS4-HMAC-SHA256 Credential=AKID/20261127/eu-west-1/bedrock/aws4_request, \
                         SignedHeaders=host;x-amz-date, Signature=00";
    headers.insert("authorization", authorization.parse().unwrap());
    request
}

/// A request with a token that ends so many seconds from now.
fn with_token(ends_in: i64) -> http::Request<client::Body> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let exp = Timestamp::now().as_second() + ends_in;
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{exp}}}"#));
    let mut request = client::request("GET", "/demo/anything", "");
    let value = format!("Bearer eyJhbGciOiJub25lIn0.{claims}.c2ln");
    request.headers_mut().insert("authorization", value.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_can_not_make_it_is_refused_on_arrival() {
    let (provider, url) = world::provider().await;
    let mut slow = world::engine(vec![world::limit(1, Duration::from_secs(60))]);
    slow.queue.max_wait = Duration::from_secs(480);
    let settings = settings(url, 20, slow.clone());
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![slow]);
    let address = proxy.base_url_addr();
    client::send(address, signed()).await;
    for (request, says) in [(signed(), "sign it again"), (with_token(30), "send it with a new one")] {
        let refused = client::send(address, request).await;
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert_eq!(refused.header("x-quotakeeper-reason"), Some("WaitTooLong"));
        assert!(refused.text().contains(says), "{}", refused.text());
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((30..=80).contains(&wait), "{wait}");
    }
    // A token that lasts longer waits its turn.
    let patient = tokio::spawn(async move { client::send(address, with_token(3_600)).await });
    world::until("it waits", || proxy.stats().waiting == 1).await;
    patient.abort();
    assert_eq!((proxy.stats().sent, provider.log("key").len()), (1, 0), "the first is another account's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_comes_too_late_sends_nothing() {
    let (listener, url) = world::socket().await;
    let settings = settings(url, 5, world::plenty());
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let address = proxy.base_url_addr();
    // The date has whole seconds.
    let passed = Timestamp::now().subsec_nanosecond();
    tokio::time::sleep(Duration::from_secs(1) - Duration::from_nanos(passed as u64)).await;
    let call = tokio::spawn(async move { client::send(address, signed()).await });
    let asked = hand.asked().await;
    // The grant crosses with the end of the signature's time: the proxy alone can know.
    tokio::time::sleep(Duration::from_millis(4_600)).await;
    hand.grant(asked, 1).await;
    assert_eq!(hand.report().await, (asked.call, 1, Report::Unused { again: false }));
    let refused = call.await.unwrap();
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-quotakeeper-reason"), Some("RequestExpired"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(proxy.stats().sent, 0);
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_on_arrival_is_for_the_provider_to_refuse() {
    let (provider, url) = world::provider().await;
    let settings = settings(url, 300, world::plenty());
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![world::plenty()]);
    let mut old = signed();
    old.headers_mut().insert("x-amz-date", "20200101T000000Z".parse().unwrap());
    client::send(proxy.base_url_addr(), old).await;
    client::send(proxy.base_url_addr(), with_token(-60)).await;
    assert_eq!(proxy.stats().sent, 2);
    drop(provider);
}
