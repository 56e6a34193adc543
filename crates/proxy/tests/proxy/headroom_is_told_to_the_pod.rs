//! A program asks what is left before it calls.

use http::StatusCode;
use quotakeeper_engine::event::CallClass;
use quotakeeper_engine::{LimitStatus, Outlook};
use quotakeeper_wire::headroom::{Headroom, PATH};
use quotakeeper_wire::message::{AccountIndex, LimiterMessage, ProxyMessage};
use serde_json::Value;

use crate::limiter::Hand;
use crate::{client, world};

async fn ask(address: std::net::SocketAddr, query: &str) -> client::Got {
    let path: &'static str = Box::leak(format!("{PATH}{query}").into_boxed_str());
    client::send(address, client::request("GET", path, "")).await
}

fn json(answer: &client::Got) -> Value {
    serde_json::from_str(answer.text()).unwrap()
}

async fn looked(hand: &mut Hand) -> (AccountIndex, u64, CallClass) {
    match hand.hear().await {
        ProxyMessage::Look { account, look, class } => (account, look, class),
        other => panic!("no look but {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_limiter_says_is_passed_on() {
    let (_provider, url) = world::provider().await;
    let account = world::account("openai", Some(url), world::plenty());
    let (proxy, peer) = world::start(world::settings(vec![account])).await;
    let address = proxy.base_url_addr();
    let mut hand = Hand::connect(&peer, 1).await;
    let asks = tokio::spawn(async move { ask(address, "?provider=openai&model=gpt-5").await });
    let (account, look, class) = looked(&mut hand).await;
    assert_eq!(class.model.as_deref(), Some("gpt-5"));
    let limit: LimitStatus = serde_json::from_value(serde_json::json!({
        "name": "budget", "unit": "Dollars", "amount": 5_000_000_000_u64, "used": 1_250_000_000_u64, "usedByOthers": 0,
        "assumed": 0, "waiting": 3, "resetsInMillis": 61_500,
    }))
    .unwrap();
    let outlook = Outlook { limits: vec![limit], waiting_calls: 3, ..Outlook::default() };
    // A later limiter may say more.
    let mut document = serde_json::to_value(outlook).unwrap();
    document["later"] = Value::from(1);
    hand.say(LimiterMessage::Outlook { account, look, document: document.to_string() }).await;
    let answer = asks.await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, Some("application/json")));
    let told = &json(&answer)["quotas"][0];
    assert_eq!((&told["provider"], &told["waitingCalls"]), (&"openai".into(), &3.into()));
    let limit = serde_json::json!({
        "name": "budget", "unit": "Dollars", "amount": 5, "used": 1.25, "remaining": 3.75, "resetsInSeconds": 61.5,
    });
    assert_eq!(told["limits"][0], limit);
    serde_json::from_str::<Headroom>(answer.text()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limiter_it_says_so() {
    let (_provider, url) = world::provider().await;
    let (proxy, _peer) =
        world::start(world::settings(vec![world::account("openai", Some(url), world::plenty())])).await;
    let answer = ask(proxy.base_url_addr(), "").await;
    assert_eq!(answer.status, StatusCode::OK);
    let why = json(&answer)["quotas"][0]["unavailable"].clone();
    assert!(why.as_str().unwrap().contains("the limiter can't be reached"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_says_why() {
    let (_provider, url) = world::provider().await;
    let account = world::account("openai", Some(url), world::plenty());
    let (proxy, _peer) = world::start(world::settings(vec![account])).await;
    let address = proxy.base_url_addr();
    for (query, says) in [
        ("?quota=gtm/none", "no such quota here; this proxy has gtm/openai"),
        ("?models=x", "is unknown; give quota, provider, model or endpoint"),
    ] {
        let answer = ask(address, query).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
        assert!(answer.text().contains(says), "{}", answer.text());
    }
    let posted = client::send(address, client::request("POST", PATH, "{}")).await;
    assert_eq!((posted.status, posted.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD")));
    let mut refused = 0;
    for _ in 0..200 {
        let answer = ask(address, "").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.header("retry-after"), Some("1"));
            refused += 1;
        }
    }
    assert!(refused > 0, "some of 200 within moments");
}
