//! A private /etc/hosts for the command, in which providers' names point at the proxy.
//!
//! A thread leaves the common mount namespace, binds a file over /etc/hosts there and starts the command, so
//! nothing outside the command sees the file, and it is gone with the command.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::NamedTempFile;

use super::scratch;

const HOSTS: &str = "/etc/hosts";

/// A hosts file for one command.
pub struct PrivateHosts {
    file: NamedTempFile,
}

impl PrivateHosts {
    /// The present hosts file with `names` at `address` instead of its own entries for them.
    ///
    /// # Errors
    /// When the file can't be read or written.
    pub fn new(names: &[String], address: Ipv4Addr) -> io::Result<PrivateHosts> {
        let today = String::from_utf8_lossy(&fs::read(HOSTS)?).into_owned();
        let file = scratch::file("hosts", redirected(&today, names, address).as_bytes())?;
        Ok(PrivateHosts { file })
    }

    /// Starts a command that sees this hosts file.
    ///
    /// # Errors
    /// When the namespace can't be had or the command can't be started.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        let path = self.file.path().to_owned();
        // A namespace belongs to a thread: this one takes nothing else along.
        let thread = std::thread::Builder::new().name("private-hosts".to_owned()).spawn(move || {
            enter(&path)?;
            command.spawn()
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts the command panicked")))
    }
}

/// Whether there is a hosts file that a private one can be made from and mounted over.
///
/// # Errors
/// The reason.
pub fn readable() -> io::Result<()> {
    fs::read(HOSTS).map(drop)
}

/// Whether this process may create a mount namespace.
///
/// # Errors
/// The reason.
pub fn available() -> io::Result<()> {
    let thread = std::thread::Builder::new()
        .name("private-hosts-probe".to_owned())
        .spawn(|| enter(&fs::canonicalize(HOSTS)?))?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the probe panicked")))
}

fn enter(hosts: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Mounts here must not propagate back.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some(hosts), HOSTS, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// `hosts` without its own entries for `names`, and with theirs at `address`.
fn redirected(hosts: &str, names: &[String], address: Ipv4Addr) -> String {
    let is_ours = |word: &&str| names.iter().any(|name| name.eq_ignore_ascii_case(word));
    let mut text = String::new();
    for line in hosts.lines() {
        let entry = line.split('#').next().unwrap_or_default();
        if !entry.split_whitespace().skip(1).any(|word| is_ours(&word)) {
            text.push_str(line);
        } else {
            let words: Vec<&str> = entry.split_whitespace().filter(|word| !is_ours(word)).collect();
            if words.len() > 1 {
                text.push_str(&words.join(" "));
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("{address} {}\n", names.join(" ")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_redirected_and_the_rest_stays() {
        let hosts = "127.0.0.1 localhost\n# api.hubapi.com is not here\n10.0.0.1 API.hubapi.com crm\n10.0.0.2 api.hubapi.com\n";
        let names = ["api.hubapi.com".to_owned()];
        assert_eq!(
            redirected(hosts, &names, Ipv4Addr::new(127, 1, 2, 3)),
            "127.0.0.1 localhost\n# api.hubapi.com is not here\n10.0.0.1 crm\n\n127.1.2.3 api.hubapi.com\n"
        );
    }
}
