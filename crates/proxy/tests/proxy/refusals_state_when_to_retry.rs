//! A call that cannot make it is refused on arrival, and told when another try makes sense.

use std::time::Duration;

use quotakeeper_engine::config::OnExceeded;
use quotakeeper_engine::event::RefusalReason;
use quotakeeper_proxy::record::Outcome;
use quotakeeper_proxy::{Event, admission};
use quotakeeper_wire::message::LimiterMessage;

use crate::limiter::Hand;
use crate::{client, limiter, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_the_time_that_we_named_succeeds() {
    let (provider, url) = world::provider().await;
    let mut quota = world::engine(vec![world::limit(1, Duration::from_secs(20))]);
    quota.on_exceeded = OnExceeded::Reject;
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let address = proxy.base_url_addr();
    assert_eq!(client::get(address, "/demo/anything").await.status, 200);

    let refused = client::get(address, "/demo/anything").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-quotakeeper-reason"), Some("QuotaExceeded"));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    assert_eq!(provider.log("key").len(), 1);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(client::get(address, "/demo/anything").await.status, 200);
    assert_eq!(proxy.stats().refused, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_would_give_up_too_early_is_refused_at_once() {
    let (provider, url) = world::provider().await;
    let quota = world::engine(vec![world::limit(1, Duration::from_secs(60))]);
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let ask = || {
        let text = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#;
        let mut request = client::request("POST", "/openai/v1/chat/completions", text);
        request.headers_mut().insert("x-stainless-read-timeout", "5".parse().unwrap());
        request
    };
    let address = proxy.base_url_addr();
    assert_eq!(client::send(address, ask()).await.status, 200);
    let refused = client::send(address, ask()).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-quotakeeper-reason"), Some("WaitTooLong"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((5..=80).contains(&wait), "{wait}");
    assert_eq!(provider.log("key").len(), 1);
    assert_eq!(proxy.stats().waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_never_fit_get_403_and_an_event() {
    let (_, url) = world::provider().await;
    let settings = world::settings(vec![world::account("demo", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut events = proxy.subscribe();
    let mut hand = Hand::connect(&peer, 1).await;
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move { client::get(address, "/demo/anything").await });
    let asked = hand.asked().await;
    let (account, call_id) = (asked.account, asked.call);
    let reason = RefusalReason::NeverFits;
    hand.say(LimiterMessage::Refuse { account, call: call_id, reason, retry_after: None, words: None }).await;
    let got = call.await.unwrap();
    assert_eq!(got.status, 403);
    assert_eq!(got.header("retry-after"), None);
    let record = loop {
        if let Event::Call(record) = events.recv().await.unwrap() {
            break record;
        }
    };
    assert_eq!(record.outcome, Outcome::Refused(admission::Reason::Limiter(reason)));
    assert_eq!((record.status, record.attempts), (Some(403), 0));
}
