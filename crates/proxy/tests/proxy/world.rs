//! Where the stories happen: a provider, a proxy and what lies between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use counting_provider::{CountedAs as Counted, Limit, Provider, Rules};
use quotakeeper_dialects::catalogue;
use quotakeeper_dialects::profile::{BaseUrl, Profile};
use quotakeeper_engine::config::{
    AccountConfig, CountedAs, LimitConfig, Mode, OnExceeded, Pacing, PauseConfig, QueueConfig, Unit,
};
use quotakeeper_proxy::{Link, LinkPeer, Proxy, Settings};
use quotakeeper_wire::account::{Admitted, CompiledAccount, FORMAT};
use tokio::net::TcpListener;

use crate::limiter::VALIDITY;

/// N calls in a window, counted by nobody knows what.
pub fn limit(amount: u64, window: Duration) -> LimitConfig {
    LimitConfig {
        name: "requests".to_owned(),
        unit: Unit::Requests,
        amount,
        declared: None,
        window,
        counted_as: CountedAs::Unknown,
        delivery: Duration::from_secs(1),
        burst: Some(amount),
        pacing: Pacing::TokenBucket,
        endpoint: None,
        models: vec![],
        per_model: false,
    }
}

pub fn engine(limits: Vec<LimitConfig>) -> AccountConfig {
    AccountConfig {
        mode: Mode::Enforce,
        on_exceeded: OnExceeded::Queue,
        validity: VALIDITY,
        limits,
        queue: QueueConfig { max_wait: Duration::from_secs(60), max_calls: 1000 },
        pause: PauseConfig {
            fallback: Duration::from_millis(500),
            cap: Duration::from_secs(60),
            probe_patience: Duration::from_secs(5),
            max_call: Duration::from_secs(600),
        },
        weights: BTreeMap::new(),
    }
}

/// As many as anyone asks for.
pub fn plenty() -> AccountConfig {
    engine(vec![limit(100_000, Duration::from_secs(1))])
}

/// An account of a catalogue's provider whose base URL leads to `upstream`.
pub fn account(provider: &str, upstream: Option<String>, engine: AccountConfig) -> CompiledAccount {
    let mut profile: Profile = catalogue::find(provider).unwrap();
    if let Some(upstream) = upstream {
        let variables = profile.base_url.take().unwrap_or_default().variables;
        profile.base_url = Some(BaseUrl { upstream, variables });
    }
    CompiledAccount {
        format: FORMAT,
        generation: 1,
        key: format!("{provider}/test"),
        quota: format!("gtm/{provider}"),
        tier: "test".to_owned(),
        engine,
        not_enforced: vec![],
        admitted: Admitted::Everyone,
        profile,
    }
}

pub fn settings(accounts: Vec<CompiledAccount>) -> Settings {
    let mut settings = Settings::new(accounts, "story");
    settings.base_url = free();
    settings
}

pub fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A proxy whose limiter is not connected yet.
pub async fn start(settings: Settings) -> (Proxy, LinkPeer) {
    let (link, peer) = Link::pair();
    (Proxy::start(settings, link).await.unwrap(), peer)
}

/// The counting provider, and where it is without TLS.
pub async fn provider() -> (Provider, String) {
    let provider = counting_provider::start(counting_provider::Options::default()).await.unwrap();
    let url = format!("http://{}", provider.http().unwrap());
    (provider, url)
}

/// The account `key` of the provider gets `count` calls in each stretch of `window`.
pub fn set_limit(provider: &Provider, count: u64, window: Duration) {
    let limit = Limit {
        name: "requests".to_owned(),
        count,
        window_millis: window.as_millis() as u64,
        counted_as: Counted::Sliding,
        phase_millis: 0,
        bucket: None,
        endpoint: None,
        per_model: false,
    };
    let rules = Rules { limits: Some(vec![limit]), ..Rules::default() };
    provider.set_rules("key", rules).unwrap();
}

/// A socket of a story's own that plays a provider.
pub async fn socket() -> (TcpListener, String) {
    let listener = TcpListener::bind(free()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Looks until it is so; a story that waits for ever fails.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..3000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never so: {what}");
}
