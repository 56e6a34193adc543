//! Where a host really is: by the hosts file, except where that leads to the proxy itself as in hosts mode, then by DNS.

mod hosts_file;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use nix::libc;
use socket2::{Domain, Socket, Type};

pub use hosts_file::{HostsFile, Intercepted};

/// Another place for one host and port, like curl's `--resolve`: `HOST:PORT:ADDR[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The host that is asked for; case is without meaning.
    pub host: String,
    /// The port that is asked for.
    pub port: u16,
    /// Where to connect instead.
    pub to: SocketAddr,
}

/// A text that is no override.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no override; write HOST:PORT:ADDRESS or HOST:PORT:ADDRESS:PORT, an IPv6 address in brackets"
)]
pub struct OverrideError(String);

impl FromStr for Override {
    type Err = OverrideError;

    fn from_str(text: &str) -> Result<Self, OverrideError> {
        let read = || {
            let (host, rest) = text.split_once(':')?;
            let (port, to) = rest.split_once(':')?;
            let port = port.parse().ok()?;
            let address = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
            let to = match to.parse::<SocketAddr>() {
                Ok(to) => to,
                Err(_) => SocketAddr::new(address(to)?, port),
            };
            let host = host.to_ascii_lowercase();
            (!host.is_empty()).then_some(Self { host, port, to })
        };
        read().ok_or_else(|| OverrideError(text.to_owned()))
    }
}

/// Finds addresses.
pub struct Resolver {
    overrides: Vec<Override>,
    hosts_file: HostsFile,
    // A machine without a readable resolver configuration can still use overrides and addresses.
    dns: Result<TokioResolver, String>,
}

/// A host without an address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Neither the hosts file nor DNS has an answer.
    #[error(
        "{host} has no address in /etc/hosts and DNS ({reason}); check the name and the DNS servers that \
             /etc/resolv.conf names"
    )]
    NotFound { host: String, reason: String },
    /// This machine has no file descriptor left to ask with; nothing is known of the host.
    #[error("{host} can't be looked up now ({reason}); raise the limit of open files")]
    Shortage { host: String, reason: String },
    /// There is no resolver.
    #[error("{host} can't be looked up: /etc/resolv.conf can't be used ({reason})")]
    NoResolver {
        host: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Resolver {
    /// A resolver of the system's configuration (`/etc/resolv.conf`), with `overrides` and `hosts_file` before it.
    pub fn new(overrides: Vec<Override>, hosts_file: HostsFile) -> Self {
        let dns = TokioResolver::builder_tokio().and_then(|mut builder| {
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder.build()
        });
        Self { overrides, hosts_file, dns: dns.map_err(|error| error.to_string()) }
    }

    /// The addresses of `host`, best first, never empty.
    ///
    /// # Errors
    /// [`ResolveError`] when there is none.
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let asked = |o: &&Override| o.port == port && o.host.eq_ignore_ascii_case(host);
        if let Some(found) = self.overrides.iter().find(asked) {
            return Ok(vec![found.to]);
        }
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        // RFC 6761 §6.3: localhost is loopback, whatever DNS answers.
        if host.eq_ignore_ascii_case("localhost") {
            let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(loopback.map(|address| SocketAddr::new(address, port)).to_vec());
        }
        let listed = self.hosts_file.addresses(host).await;
        if !listed.is_empty() {
            return Ok(listed.into_iter().map(|address| SocketAddr::new(address, port)).collect());
        }
        let dns = self
            .dns
            .as_ref()
            .map_err(|reason| ResolveError::NoResolver { host: host.to_owned(), reason: reason.clone() })?;
        let not_found = |reason| ResolveError::NotFound { host: host.to_owned(), reason };
        let found = dns.lookup_ip(host).await.map_err(|error| match shortage() {
            Some(short) => ResolveError::Shortage { host: host.to_owned(), reason: short.to_string() },
            None => not_found(error.to_string()),
        })?;
        let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, port)).collect();
        if addresses.is_empty() {
            return Err(not_found("an empty answer".to_owned()));
        }
        Ok(addresses)
    }
}

/// Whether the process or the machine has no file descriptor left.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// A momentary shortage of file descriptors: the resolver only reports that it has no connections.
fn shortage() -> Option<io::Error> {
    Socket::new(Domain::IPV4, Type::DGRAM, None).err().filter(is_shortage)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn overrides_have_the_format_of_curl() {
        for (text, to) in [
            ("api.hubapi.com:443:127.0.0.1", "127.0.0.1:443"),
            ("api.hubapi.com:443:127.0.0.1:8443", "127.0.0.1:8443"),
            ("API.hubapi.com:443:[::1]", "[::1]:443"),
            ("api.hubapi.com:443:[::1]:8443", "[::1]:8443"),
            ("api.hubapi.com:443:::1", "[::1]:443"),
        ] {
            let read: Override = text.parse().unwrap();
            assert_eq!((read.host.as_str(), read.port), ("api.hubapi.com", 443));
            assert_eq!(read.to, to.parse().unwrap(), "{text}");
        }
        for text in ["", "host", "host:443", "host:x:127.0.0.1", ":443:127.0.0.1", "host:443:name"] {
            let error = text.parse::<Override>().unwrap_err();
            assert!(error.to_string().contains("HOST:PORT:ADDRESS"), "{text}");
        }
    }

    #[tokio::test]
    async fn the_hosts_file_is_asked_after_overrides_and_before_dns() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "127.0.0.7 crm.invalid localhost\n").unwrap();
        let hosts_file = HostsFile::at(file.path().to_owned(), Intercepted::default());
        let resolver = Resolver::new(vec!["crm.invalid:80:127.0.0.9".parse().unwrap()], hosts_file);
        let ask = |host, port| resolver.addresses(host, port);
        assert_eq!(ask("crm.invalid", 443).await.unwrap(), ["127.0.0.7:443".parse().unwrap()]);
        assert_eq!(ask("crm.invalid", 80).await.unwrap(), ["127.0.0.9:80".parse().unwrap()]);
        assert!(ask("localhost", 80).await.unwrap().iter().all(|address| address.ip().is_loopback()));
    }

    #[tokio::test]
    async fn an_override_concerns_its_port_only() {
        let resolver = Resolver::new(
            vec!["127.0.0.1:443:127.0.0.9:1".parse().unwrap()],
            HostsFile::past(Intercepted::default()),
        );
        let ask = |port| resolver.addresses("127.0.0.1", port);
        assert_eq!(ask(443).await.unwrap(), ["127.0.0.9:1".parse().unwrap()]);
        assert_eq!(ask(80).await.unwrap(), ["127.0.0.1:80".parse().unwrap()]);
    }
}
