//! A proxy that was injected before its quota was in force: it holds, takes what the limiter tells, and passes
//! calls of a disabled quota even where the limiter is gone.

use std::time::Duration;

use quotakeeper_engine::config::Mode;
use quotakeeper_proxy::settings::Quota;
use quotakeeper_proxy::{Event, Proxy, Settings};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::{AccountIndex, AccountState, AccountUpdate, LimiterMessage};

use crate::limiter::Hand;
use crate::{client, world};

const ACCOUNT: AccountIndex = AccountIndex(0);

/// A proxy that knows its quota's name and provider, as an injector tells it.
fn awaiting() -> Settings {
    awaiting_with(None)
}

/// The same of a pod that was admitted for this upstream.
fn awaiting_with(upstream: Option<String>) -> Settings {
    let (name, provider) = ("gtm/demo".into(), "demo".to_owned());
    let quota = Quota { name, provider, hosts: Vec::new(), upstream, account: None };
    let mut settings = Settings::of_quotas(vec![quota], "gtm/Job/enrich");
    settings.base_url = world::free();
    settings
}

fn in_force(account: &CompiledAccount) -> LimiterMessage {
    let document = serde_json::to_string(account).unwrap();
    update(AccountState::InForce { document })
}

fn absent(reason: &str) -> LimiterMessage {
    update(AccountState::Absent { reason: reason.to_owned() })
}

fn update(state: AccountState) -> LimiterMessage {
    LimiterMessage::Account { account: ACCOUNT, update: AccountUpdate::State(state) }
}

fn call(proxy: &Proxy) -> tokio::task::JoinHandle<client::Got> {
    let address = proxy.base_url_addr();
    tokio::spawn(async move { client::get(address, "/demo/anything").await })
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_until_their_quota_is_in_force() {
    let (provider, url) = world::provider().await;
    let (proxy, peer) = world::start(awaiting()).await;
    let mut limiter = Hand::connect(&peer, 1).await;
    limiter.say(absent("quota gtm/demo does not exist")).await;
    let held = call(&proxy);
    let waits = |calls: u32| {
        let line = format!(r#"quotakeeper_proxy_waiting_calls{{quota="gtm/demo"}} {calls}"#);
        proxy.metrics_text().lines().any(|found| found == line)
    };
    world::until("the call to wait", || waits(1)).await;
    assert!(!held.is_finished() && provider.log("key").is_empty());

    limiter.say(in_force(&world::account("demo", Some(url), world::plenty()))).await;
    let asked = limiter.asked().await;
    limiter.grant(asked, 1).await;
    assert_eq!(held.await.unwrap().status, 200);
    world::until("no call to wait", || waits(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_names_why_its_quota_is_not_in_force() {
    let (proxy, peer) = world::start(awaiting()).await;
    let limiter = Hand::connect(&peer, 1).await;
    limiter.say(absent("quota gtm/demo admits no pods of gtm; add it to spec.consumers")).await;
    let address = proxy.base_url_addr();
    let mut request = client::request("GET", "/demo/anything", "");
    request.headers_mut().insert("x-stainless-read-timeout", "1".parse().unwrap());
    let got = client::send(address, request).await;
    assert_eq!(got.status, 503);
    assert_eq!(got.header("x-quotakeeper-reason"), Some("QuotaNotInForce"));
    assert_eq!(got.header("retry-after"), Some("5"));
    assert!(got.text().contains("add it to spec.consumers"), "{}", got.text());
}

/// Whoever writes a provider would get the keys of all running pods otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn calls_go_where_they_went_when_their_pod_was_admitted() {
    let (provider, url) = world::provider().await;
    let (other, other_url) = world::provider().await;
    let (proxy, peer) = world::start(awaiting_with(Some(url.clone()))).await;
    let mut limiter = Hand::connect(&peer, 1).await;
    let mut events = proxy.subscribe();
    for upstream in [url, other_url] {
        limiter.say(in_force(&world::account("demo", Some(upstream), world::plenty()))).await;
        while !matches!(events.recv().await.unwrap(), Event::Quota { update: AccountUpdate::State(_), .. }) {}
    }
    let held = call(&proxy);
    let asked = limiter.asked().await;
    limiter.grant(asked, 1).await;
    assert_eq!(held.await.unwrap().status, 200);
    assert_eq!([&provider, &other].map(|it| it.log("key").len()), [1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_document_changes_nothing() {
    let (provider, url) = world::provider().await;
    let (proxy, peer) = world::start(awaiting()).await;
    let mut limiter = Hand::connect(&peer, 1).await;
    let account = world::account("demo", Some(url), world::plenty());
    limiter.say(in_force(&account)).await;
    let broken = AccountState::InForce { document: r#"{"format": 9}"#.to_owned() };
    limiter.say(update(broken)).await;
    limiter.say(in_force(&CompiledAccount { key: "openai/other".into(), ..account })).await;
    let held = call(&proxy);
    let asked = limiter.asked().await;
    limiter.grant(asked, 1).await;
    assert_eq!(held.await.unwrap().status, 200);
    assert_eq!(provider.log("key").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_gate_lets_waiting_and_later_calls_pass_without_a_limiter() {
    let (provider, url) = world::provider().await;
    let (proxy, peer) = world::start(awaiting()).await;
    let mut limiter = Hand::connect(&peer, 1).await;
    let mut account = world::account("demo", Some(url), world::plenty());
    limiter.say(in_force(&account)).await;
    let waiting = call(&proxy);
    limiter.asked().await;
    account.engine.mode = Mode::Disabled;
    limiter.say(in_force(&account)).await;
    // This limiter grants nothing: the call passes all the same.
    assert_eq!(waiting.await.unwrap().status, 200);
    peer.disconnect().await.unwrap();
    world::until("it is noticed", || !proxy.is_connected()).await;
    for _ in 0..20 {
        assert_eq!(call(&proxy).await.unwrap().status, 200);
    }
    assert_eq!(provider.log("key").len(), 21);
    world::until("no call is left behind", || proxy.stats().waiting == 0).await;

    // And a gate that is closed again holds.
    let mut limiter = Hand::connect(&peer, 2).await;
    account.engine.mode = Mode::Enforce;
    limiter.say(in_force(&account)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let held = call(&proxy);
    let asked = limiter.asked().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!held.is_finished());
    limiter.grant(asked, 1).await;
    assert_eq!(held.await.unwrap().status, 200);
}

/// A rejection through an open gate belongs to the client: repeated at once, it would never end.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_through_an_open_gate_goes_to_the_client() {
    let (provider, url) = world::provider().await;
    world::set_limit(&provider, 1, Duration::from_secs(3600));
    let (proxy, peer) = world::start(awaiting()).await;
    let limiter = Hand::connect(&peer, 1).await;
    let mut account = world::account("demo", Some(url), world::plenty());
    account.engine.mode = Mode::Disabled;
    limiter.say(in_force(&account)).await;
    world::until("the account is known", || !proxy.environment().is_empty()).await;
    let statuses = [call(&proxy).await.unwrap().status, call(&proxy).await.unwrap().status];
    assert_eq!(statuses, [200, 429]);
    assert_eq!(provider.log("key").len(), 2);
}
