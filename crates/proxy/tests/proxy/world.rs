//! Where the stories happen: a provider, a proxy and what lies between.

use std::net::SocketAddr;
use std::time::Duration;

use counting_provider::{CountedAs as Counted, Limit, Provider, Rules};
use quotakeeper_dialects::catalogue;
use quotakeeper_dialects::profile::{BaseUrl, Profile};
use quotakeeper_engine::config::{AccountConfig, LimitConfig, Unit};
use quotakeeper_proxy::{Link, LinkPeer, Proxy, Settings};
use quotakeeper_wire::account::CompiledAccount;
pub use test_support::accounts::enforced as engine;
use test_support::accounts::{compiled, requests};
pub use test_support::wait::until;
use tokio::net::TcpListener;

/// N calls in a window, counted by nobody knows what.
pub fn limit(amount: u64, window: Duration) -> LimitConfig {
    LimitConfig { delivery: Duration::from_secs(1), ..requests(amount, window) }
}

/// As many as anyone asks for.
pub fn plenty() -> AccountConfig {
    engine(vec![limit(100_000, Duration::from_secs(1))])
}

/// As many as anyone asks for, of calls and of tokens.
pub fn plenty_of_tokens() -> AccountConfig {
    let name = "tokens".to_owned();
    let tokens =
        LimitConfig { name, unit: Unit::TotalTokens, ..limit(1_000_000_000, Duration::from_secs(60)) };
    engine(vec![limit(100_000, Duration::from_secs(1)), tokens])
}

/// An account of a catalogue's provider whose base URL leads to `upstream`.
pub fn account(provider: &str, upstream: Option<String>, engine: AccountConfig) -> CompiledAccount {
    let mut profile: Profile = catalogue::find(provider).unwrap();
    if let Some(upstream) = upstream {
        let variables = profile.base_url.take().unwrap_or_default().variables;
        profile.base_url = Some(BaseUrl { upstream, path_prefix: None, variables });
    }
    let (key, quota) = (format!("{provider}/test"), format!("gtm/{provider}"));
    CompiledAccount { profile, ..compiled(&key, &quota, engine) }
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
    let limit = Limit::new("requests", count, window.as_millis() as u64, Counted::Sliding);
    let rules = Rules { limits: Some(vec![limit]), ..Rules::default() };
    provider.set_rules("key", rules).unwrap();
}

/// A socket of a story's own that plays a provider.
pub async fn socket() -> (TcpListener, String) {
    let listener = TcpListener::bind(free()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}
