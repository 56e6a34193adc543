//! Connections of the command that go to a provider without the proxy.
//!
//! A client may know neither the base-URL variable nor the private hosts file. The kernel lists the sockets of all
//! processes (proc(5), /proc/net/tcp), so its connections are seen if they last longer than a look.

mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::Pid;
use quotakeeper_proxy::authority::HostPattern;
use quotakeeper_proxy::resolve::Override;
use quotakeeper_wire::account::CompiledAccount;

/// The ports of providers, where no override names another.
const PORTS: [u16; 2] = [443, 80];
/// Providers' names have changing addresses.
const RESOLVED_EVERY: Duration = Duration::from_secs(30);

/// Which addresses are a provider's: the host by address. A port of 0 stands for [`PORTS`].
type Addresses = BTreeMap<(IpAddr, u16), String>;

/// Connections around the proxy.
#[derive(Debug, Default)]
pub struct DirectConnections {
    addresses: Arc<Mutex<Addresses>>,
    /// The sockets that were looked at: a process is not looked for twice.
    seen: BTreeSet<u64>,
    /// How many there were, by host.
    pub counts: BTreeMap<String, u64>,
}

impl DirectConnections {
    /// Looks for connections to the accounts' providers. Their addresses are those of `overrides`, else what the
    /// system's resolver says, which is asked on a thread of its own: it may take long.
    pub fn new(accounts: &[CompiledAccount], overrides: &[Override]) -> DirectConnections {
        let direct = DirectConnections::default();
        let hosts = accounts.iter().flat_map(|account| &account.profile.hosts);
        let hosts: BTreeSet<String> =
            hosts.filter_map(|host| HostPattern::new(host).exact().map(str::to_owned)).collect();
        let (given, asked): (Vec<String>, Vec<String>) =
            hosts.into_iter().partition(|host| overrides.iter().any(|it| it.host.eq_ignore_ascii_case(host)));
        let given = overrides.iter().filter(|it| given.iter().any(|host| it.host.eq_ignore_ascii_case(host)));
        direct.lock().extend(given.map(|it| ((it.to.ip(), it.to.port()), it.host.clone())));
        if !asked.is_empty() {
            let addresses = Arc::downgrade(&direct.addresses);
            // Without it, only connections to the overrides are found.
            let _ = std::thread::Builder::new().name("addresses".to_owned()).spawn(move || {
                loop {
                    for host in &asked {
                        let found = (host.as_str(), PORTS[0]).to_socket_addrs().into_iter().flatten();
                        let found: Vec<_> = found.map(|at| ((at.ip(), 0), host.clone())).collect();
                        let Some(addresses) = addresses.upgrade() else { return };
                        addresses.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                    }
                    std::thread::sleep(RESOLVED_EVERY);
                }
            });
        }
        direct
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for connections of the command and what it has started. Returns the hosts to which the first were found.
    pub fn look(&mut self, command: Pid) -> Vec<String> {
        let mut found: Vec<(u64, String)> = {
            let addresses = self.lock();
            let sockets = sockets::connected().into_iter();
            let new = sockets.filter(|socket| !self.seen.contains(&socket.inode));
            new.filter_map(|socket| Some((socket.inode, host_of(&addresses, socket.remote)?))).collect()
        };
        if found.is_empty() {
            return Vec::new();
        }
        self.seen.extend(found.iter().map(|(inode, _)| *inode));
        // Mostly the proxy's own, which is known at once.
        let own = sockets::of_process("self");
        found.retain(|(inode, _)| !own.contains(inode));
        if found.is_empty() {
            return Vec::new();
        }
        let theirs = sockets::of_tree(command);
        let mut first = Vec::new();
        for (_, host) in found.into_iter().filter(|(inode, _)| theirs.contains(inode)) {
            let count = self.counts.entry(host.clone()).or_default();
            *count += 1;
            if *count == 1 {
                first.push(host);
            }
        }
        first
    }
}

fn host_of(addresses: &Addresses, remote: SocketAddr) -> Option<String> {
    let (ip, port) = (remote.ip().to_canonical(), remote.port());
    let usual = PORTS.contains(&port).then(|| addresses.get(&(ip, 0))).flatten();
    addresses.get(&(ip, port)).or(usual).cloned()
}
