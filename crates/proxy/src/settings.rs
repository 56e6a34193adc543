//! What a proxy is told when it starts.

use std::net::{Ipv4Addr, SocketAddr};

use quotakeeper_wire::account::CompiledAccount;

use crate::resolve::Override;
use crate::upstream::PoolSettings;

/// The base-URL listener's port, where none is chosen.
pub const BASE_URL_PORT: u16 = 15001;
/// The admin listener's port, where none is chosen.
pub const ADMIN_PORT: u16 = 15020;

/// What a proxy is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The accounts that it serves, at most one of a provider.
    pub accounts: Vec<CompiledAccount>,
    /// The workload that draws.
    pub consumer: String,
    /// Where base URLs lead; port 0 takes a free one.
    pub base_url: SocketAddr,
    /// Where the proxy plays the providers' hosts; none: it does not, and makes no CA.
    pub hosts: Option<HostsListeners>,
    /// Metrics and probes; none: no such listener.
    pub admin: Option<SocketAddr>,
    /// Other places for hosts, instead of DNS.
    pub resolve: Vec<Override>,
    /// PEM texts of CAs that are trusted beside the system's.
    pub extra_cas: Vec<String>,
    /// The most of a request's body that is kept so that the call can be sent again, in bytes.
    pub keep_body: usize,
    /// The most that is kept of all bodies together, in bytes; past it, bodies stream like large ones.
    pub keep_bodies: usize,
    /// The most calls that are not over at the same time.
    pub max_calls: usize,
    /// Bounds of the connections to providers.
    pub pool: PoolSettings,
}

/// Addresses at which the proxy plays the providers' hosts.
#[derive(Clone, Debug, Default)]
pub struct HostsListeners {
    /// With TLS; `https://` calls arrive here.
    pub https: Vec<SocketAddr>,
    /// Without.
    pub http: Vec<SocketAddr>,
}

impl Settings {
    /// A proxy for `accounts` with base URLs on 127.0.0.1:15001 and nothing else.
    pub fn new(accounts: Vec<CompiledAccount>, consumer: impl Into<String>) -> Self {
        Self {
            accounts,
            consumer: consumer.into(),
            base_url: SocketAddr::from((Ipv4Addr::LOCALHOST, BASE_URL_PORT)),
            hosts: None,
            admin: None,
            resolve: Vec::new(),
            extra_cas: Vec::new(),
            keep_body: 1024 * 1024,
            keep_bodies: 256 * 1024 * 1024,
            max_calls: 10_000,
            pool: PoolSettings::default(),
        }
    }
}
