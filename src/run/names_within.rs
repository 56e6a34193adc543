//! What the command would find under the providers' names, asked from within its view before it starts: services beside
//! the hosts file (nscd, modules of /etc/nsswitch.conf) may answer first.

use std::io;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, ensure};
use clap::Args;

use super::mounts::{self, Replacement};
use crate::output::print;

/// The arguments of `quotakeeper resolve`.
#[derive(Debug, Args)]
pub struct ResolveArguments {
    /// Names of hosts.
    hosts: Vec<String>,
}

/// A name and an address that the system's resolver gives for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    host: String,
    address: IpAddr,
}

/// Prints what the system's resolver says of hosts, a line for each address.
pub fn main(arguments: &ResolveArguments) -> ExitCode {
    let addresses = |host: &String| {
        let found = (host.as_str(), 0).to_socket_addrs().into_iter().flatten();
        found.map(|at| format!("{host} {}\n", at.ip())).collect::<String>()
    };
    print(&arguments.hosts.iter().map(addresses).collect::<String>())
}

/// What a process finds that sees the replacements.
///
/// # Errors
/// It can't be started with them.
pub fn resolve(names: &[String], replacements: &[Replacement]) -> io::Result<Vec<Found>> {
    let mut probe = Command::new(std::env::current_exe()?);
    probe.arg("resolve").arg("--").args(names);
    probe.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let output = mounts::spawn(replacements, probe)?.wait_with_output()?;
    let line = |line: &str| {
        let (host, address) = line.split_once(' ')?;
        Some(Found { host: host.to_owned(), address: address.parse().ok()? })
    };
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(line).collect())
}

/// Whether each name leads to the proxy, and nowhere else.
///
/// # Errors
/// A sentence with a name that does not, and the remedy.
pub fn check(names: &[String], proxy: Ipv4Addr, found: &[Found]) -> anyhow::Result<()> {
    for name in names {
        let mut addresses = found.iter().filter(|it| it.host == *name).map(|it| it.address).peekable();
        ensure!(
            addresses.peek().is_some(),
            "{name} can't be resolved in the command's view although its private /etc/hosts names it; put `files` first \
             in the line `hosts:` of /etc/nsswitch.conf, or send calls without limits by --hosts off"
        );
        let other = addresses.find(|address| *address != IpAddr::V4(proxy));
        other.map_or(Ok(()), |other| Err(anyhow::anyhow!("{other} is none of this run's addresses"))).with_context(
            || {
                format!(
                    "{name} leads past the proxy although the command's private /etc/hosts names the proxy: a service \
                     answers before that file; stop it (nscd, unscd), put `files` first in the line `hosts:` of \
                     /etc/nsswitch.conf, or send calls without limits by --hosts off"
                )
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_told_with_the_remedy() {
        let names = ["api.hubapi.com".to_owned()];
        let proxy = Ipv4Addr::new(127, 1, 2, 3);
        let found = |addresses: &[&str]| -> Vec<Found> {
            let found = |address: &&str| Found { host: names[0].clone(), address: address.parse().unwrap() };
            addresses.iter().map(found).collect()
        };
        check(&names, proxy, &found(&["127.1.2.3", "127.1.2.3"])).unwrap();
        for elsewhere in [&["104.18.0.1"][..], &["127.1.2.3", "2606:4700::1"], &[]] {
            let error = format!("{:#}", check(&names, proxy, &found(elsewhere)).unwrap_err());
            assert!(error.contains("api.hubapi.com") && error.contains("nsswitch.conf"), "{error}");
        }
    }
}
