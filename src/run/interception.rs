//! Whether and where the proxy intercepts the providers' hosts in this run.
//!
//! A client with a base-URL variable is pointed at the proxy. The others connect to the provider's name: for the
//! command alone, that name resolves to a loopback address of this run, so that two runs and a web server on
//! 127.0.0.1 don't collide. Where this can be had, clients that should read the variable and don't are caught too.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, anyhow, bail, ensure};
use quotakeeper_proxy::HostsListeners;
use quotakeeper_proxy::authority::HostPattern;
use quotakeeper_wire::account::CompiledAccount;

use super::hosts;
use super::mounts::Replacement;
use super::names_within;
use crate::cli::HostsMode;
use crate::output::say;

const HTTPS: u16 = 443;
const HTTP: u16 = 80;
/// How many addresses are tried.
const TRIES: u32 = 64;

/// Where the providers' hosts are intercepted.
pub struct Interception {
    names: Vec<String>,
    address: Ipv4Addr,
}

impl Interception {
    /// What the accounts need and the mode allows; `None` if base URLs are enough, or have to be.
    ///
    /// # Errors
    /// A sentence, if a provider's calls could not be intercepted and would pass unlimited.
    pub fn choose(mode: HostsMode, accounts: &[CompiledAccount]) -> anyhow::Result<Option<Interception>> {
        let all: Vec<&CompiledAccount> = accounts.iter().collect();
        let without_variable = |account: &&CompiledAccount| account.profile.base_url.is_none();
        let needing: Vec<&CompiledAccount> = match mode {
            HostsMode::On => all.clone(),
            HostsMode::Auto | HostsMode::Off => accounts.iter().filter(without_variable).collect(),
        };
        if needing.is_empty() {
            // The variables lead to the proxy; clients that ignore them are caught where that can be had.
            let caught =
                (mode == HostsMode::Auto).then(|| Interception::of(&all, "no host is intercepted").ok());
            return Ok(caught.flatten());
        }
        let quotas = needing.iter().map(|account| account.quota.as_str()).collect::<Vec<_>>().join(", ");
        if mode == HostsMode::Off {
            say(&format!(
                "--hosts off: calls of {quotas} are not limited, their clients know no base-URL variable"
            ));
            return Ok(None);
        }
        ensure!(
            !names(&needing, true).is_empty(),
            "{quotas}: the provider names no host that could be intercepted; give its ApiProvider `hosts`"
        );
        let what = match mode {
            HostsMode::On => format!("--hosts on: the hosts of {quotas} can't be intercepted"),
            HostsMode::Auto | HostsMode::Off => format!(
                "{quotas}: clients of the provider know no base-URL variable, and its hosts can't be intercepted"
            ),
        };
        Interception::of(&all, &what).map(Some)
    }

    /// Of the hosts of all these accounts, checked from within: a command would find the proxy under each name. `what`
    /// an error begins with.
    ///
    /// # Errors
    /// A sentence.
    fn of(accounts: &[&CompiledAccount], what: &str) -> anyhow::Result<Interception> {
        let names = names(accounts, false);
        if names.is_empty() {
            bail!("no host can be intercepted");
        }
        hosts::readable().with_context(|| {
            format!(
                "{what}: the command's own /etc/hosts is made from the machine's, and that can't be read; mend it (an \
                 empty file will do), or let calls pass unlimited with --hosts off"
            )
        })?;
        let address =
            free_address().map_err(|error| cannot(what, "listen on ports 443 and 80", &error.into()))?;
        let interception = Interception { names, address };
        let replacements = interception.replacements()?;
        let found = names_within::resolve(&interception.names, &replacements)
            .map_err(|error| cannot(what, "make a mount namespace", &error.into()))?;
        names_within::check(&interception.names, address, &found)?;
        Ok(interception)
    }

    /// Where the proxy listens.
    pub fn listeners(&self) -> HostsListeners {
        HostsListeners {
            https: vec![SocketAddr::from((self.address, HTTPS))],
            http: vec![SocketAddr::from((self.address, HTTP))],
        }
    }

    /// The address to which the hosts lead.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The hosts that are intercepted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The command's own view of names.
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub fn replacements(&self) -> anyhow::Result<Vec<Replacement>> {
        hosts::replacements(&self.names, self.address).context("the private /etc/hosts can't be written")
    }
}

fn cannot(what: &str, step: &str, error: &anyhow::Error) -> anyhow::Error {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty() && user != "root");
    anyhow!(
        "{what}: this process may not {step} ({error:#}); run quotakeeper as root, with --user {} for the command \
         itself, or send calls without limits with --hosts off",
        user.as_deref().unwrap_or("NAME")
    )
}

/// The hosts that can stand in a hosts file. `told`: the others are named to the person.
fn names(accounts: &[&CompiledAccount], told: bool) -> Vec<String> {
    let mut names = Vec::new();
    for account in accounts {
        for host in &account.profile.hosts {
            match HostPattern::new(host).exact() {
                Some(name) => names.push(name.to_owned()),
                None if !told => {}
                None => {
                    say(&format!("quota {}: {host} can't stand in /etc/hosts; name its hosts", account.quota))
                }
            }
        }
    }
    names
}

/// A loopback address whose ports 443 and 80 are free; another one for each run.
fn free_address() -> io::Result<Ipv4Addr> {
    let seed = std::process::id().wrapping_mul(2_654_435_761);
    let mut refused = None;
    for number in 0..TRIES {
        let [_, a, b, c] = seed.wrapping_add(number.wrapping_mul(7919)).to_be_bytes();
        // 127.0.x.y is left to other programs.
        let address = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
        let free = |port| TcpListener::bind(SocketAddr::from((address, port)));
        match free(HTTPS).and_then(|_| free(HTTP)) {
            Ok(_) => return Ok(address),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}
