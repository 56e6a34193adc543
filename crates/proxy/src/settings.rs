//! The configuration of a proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::bootstrap::BASE_URL_PORT;
use quotakeeper_wire::name::{Consumer, QuotaName};
use tokio::sync::watch;

use crate::replay::BodyBounds;
use crate::resolve::Override;
use crate::upstream::PoolSettings;

/// The configuration of a proxy.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The quotas that it serves, at most one of a provider.
    pub quotas: Vec<Quota>,
    /// The workload that draws.
    pub consumer: Consumer,
    /// Where base URLs lead; port 0 takes a free one.
    pub base_url: SocketAddr,
    /// Where the proxy intercepts the providers' hosts; none: it does not, and creates no CA.
    pub hosts: Option<HostsListeners>,
    /// Metrics and probes; none: no such listener.
    pub admin: Option<SocketAddr>,
    /// Where the CA bundle for applications is written before anything is served; none: nowhere.
    pub bundle: Option<PathBuf>,
    /// Where the same is written as a Java trust store; none: nowhere.
    pub java_store: Option<PathBuf>,
    /// The folder in which the interception CA is stored, for a proxy that restarts beside the same applications;
    /// none: a new CA at every start.
    pub authority: Option<PathBuf>,
    /// Further metrics that are served with its own, as text in the format of OpenMetrics 1.0; none: no others.
    pub more_metrics: Option<watch::Receiver<String>>,
    /// Addresses of hosts, instead of DNS.
    pub resolve: Vec<Override>,
    /// PEM texts of CAs that are trusted beside the system's.
    pub extra_cas: Vec<String>,
    /// PEM files of CAs that the applications trust by themselves: a part of their bundle, and of nothing else.
    pub own_ca_files: Vec<PathBuf>,
    /// How a client that does not trust the proxy's CA can be made to, as a sentence for the log.
    pub trust_remedy: String,
    /// When it is logged that no call has come.
    pub silence: Duration,
    /// The bounds of the request bodies that are buffered.
    pub bodies: BodyBounds,
    /// The most calls that are not over at the same time.
    pub max_calls: usize,
    /// Bounds of the connections to providers.
    pub pool: PoolSettings,
}

/// A quota that a proxy serves.
#[derive(Clone, Debug)]
pub struct Quota {
    /// As people name it.
    pub name: QuotaName,
    /// Its provider's name: the first segment of the base URL.
    pub provider: String,
    /// The provider's hosts: names, or `*.` and a name.
    pub hosts: Vec<String>,
    /// The origin to which calls of the base URL go, whatever accounts say later; none: where the account says.
    pub upstream: Option<String>,
    /// The compiled account; none: the limiter sends it, and calls wait until then.
    pub account: Option<Box<CompiledAccount>>,
}

impl From<CompiledAccount> for Quota {
    fn from(account: CompiledAccount) -> Self {
        Self {
            name: account.quota.clone(),
            provider: account.provider().to_owned(),
            hosts: account.profile.hosts.clone(),
            upstream: None,
            account: Some(Box::new(account)),
        }
    }
}

/// Addresses at which the proxy intercepts the providers' hosts.
#[derive(Clone, Debug, Default)]
pub struct HostsListeners {
    /// With TLS; `https://` calls arrive here.
    pub https: Vec<SocketAddr>,
    /// Without.
    pub http: Vec<SocketAddr>,
}

impl Settings {
    /// A proxy for `accounts` with base URLs on 127.0.0.1:15801 and nothing else.
    pub fn new(accounts: Vec<CompiledAccount>, consumer: impl Into<Consumer>) -> Self {
        Self::of_quotas(accounts.into_iter().map(Quota::from).collect(), consumer)
    }

    /// The same for quotas whose accounts may not be known yet.
    pub fn of_quotas(quotas: Vec<Quota>, consumer: impl Into<Consumer>) -> Self {
        Self {
            quotas,
            consumer: consumer.into(),
            base_url: SocketAddr::from((Ipv4Addr::LOCALHOST, BASE_URL_PORT)),
            hosts: None,
            admin: None,
            bundle: None,
            java_store: None,
            authority: None,
            more_metrics: None,
            resolve: Vec::new(),
            extra_cas: Vec::new(),
            own_ca_files: Vec::new(),
            trust_remedy: "let it read the CA bundle".to_owned(),
            silence: Duration::from_secs(60),
            bodies: BodyBounds::default(),
            max_calls: 10_000,
            pool: PoolSettings::default(),
        }
    }
}
