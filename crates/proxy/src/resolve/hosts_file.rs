//! What `/etc/hosts` says of a host, except that it leads to the proxy itself.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::authority::HostPattern;

const HOSTS: &str = "/etc/hosts";

/// The hosts that lead to the proxy, and where it listens for them.
#[derive(Clone, Debug, Default)]
pub struct Intercepted {
    /// The hosts.
    pub hosts: Vec<HostPattern>,
    /// The addresses.
    pub at: Vec<IpAddr>,
}

/// A hosts file (hosts(5)); read at each question, so that an edit counts at once.
#[derive(Clone, Debug)]
pub struct HostsFile {
    path: PathBuf,
    intercepted: Intercepted,
}

impl HostsFile {
    /// The system's, without the entries that lead intercepted hosts to the proxy.
    pub fn past(intercepted: Intercepted) -> Self {
        Self::at(HOSTS.into(), intercepted)
    }

    pub(super) fn at(path: PathBuf, intercepted: Intercepted) -> Self {
        Self { path, intercepted }
    }

    /// The addresses of a host, in the order of the file; none where it has none or can't be read.
    pub(super) async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let text = tokio::fs::read(&self.path).await.unwrap_or_default();
        let caught = self.intercepted.hosts.iter().any(|pattern| pattern.covers(host));
        let found = addresses(&String::from_utf8_lossy(&text), host);
        found.into_iter().filter(|address| !(caught && self.intercepted.at.contains(address))).collect()
    }
}

fn addresses(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let entry = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn the_file_counts_but_for_what_leads_to_the_proxy() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(
            b"127.0.0.1 localhost api.hubapi.com\n\
              10.1.2.3\tapi.HUBAPI.com gateway # api.openai.com\n\
              # 10.9.9.9 gateway\n\
              fd00::1 gateway\n\
              127.0.0.1 stub.internal\n\
              nonsense api.hubapi.com\n",
        )
        .unwrap();
        let intercepted = Intercepted {
            hosts: vec![HostPattern::new("api.hubapi.com")],
            at: vec!["127.0.0.1".parse().unwrap()],
        };
        let hosts = HostsFile::at(file.path().to_owned(), intercepted);
        for (host, expected) in [
            ("api.hubapi.com", &["10.1.2.3"][..]),
            ("Gateway.", &["10.1.2.3", "fd00::1"]),
            ("stub.internal", &["127.0.0.1"]),
            ("api.openai.com", &[]),
        ] {
            let expected: Vec<IpAddr> = expected.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(hosts.addresses(host).await, expected, "{host}");
        }
        let absent = HostsFile::at("/nowhere/hosts".into(), Intercepted::default());
        assert!(absent.addresses("gateway").await.is_empty());
    }
}
