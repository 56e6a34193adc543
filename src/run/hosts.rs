//! The command's own view of names: an /etc/hosts in which providers' names point at the proxy, and nothing that would
//! answer before it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::mounts::Replacement;
use super::scratch;

/// The hosts file.
pub const HOSTS: &str = "/etc/hosts";
/// Which sources of names are asked, and in which order (nsswitch.conf(5)).
const NAME_SOURCES: &str = "/etc/nsswitch.conf";
/// Where the C library asks nscd, which answers from the machine's hosts file; often one is a link to the other.
const NSCD: [&str; 2] = ["/run/nscd/socket", "/var/run/nscd/socket"];

/// The present hosts file with `names` at `address` instead of its own entries for them, and what makes the C library
/// read it first.
///
/// # Errors
/// When a file can't be read or written.
pub fn replacements(names: &[String], address: Ipv4Addr) -> io::Result<Vec<Replacement>> {
    let today = String::from_utf8_lossy(&fs::read(HOSTS)?).into_owned();
    let mut replaced = vec![replacement(Path::new(HOSTS), "hosts", &redirected(&today, names, address))?];
    if let Some(sources) = fs::read_to_string(NAME_SOURCES).ok().and_then(|text| files_first(&text)) {
        replaced.push(replacement(Path::new(NAME_SOURCES), "sources", &sources)?);
    }
    // A file that is no socket: the C library goes on without nscd.
    let sockets: BTreeSet<PathBuf> = NSCD.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    for socket in sockets {
        if fs::metadata(&socket).is_ok_and(|found| found.file_type().is_socket()) {
            replaced.push(replacement(&socket, "nscd", "")?);
        }
    }
    Ok(replaced)
}

fn replacement(at: &Path, purpose: &str, text: &str) -> io::Result<Replacement> {
    let file = scratch::file(purpose, text.as_bytes())?;
    Ok(Replacement { at: at.to_owned(), file, required: true })
}

/// Whether there is a hosts file that a private one can be made from and mounted over.
///
/// # Errors
/// The reason.
pub fn readable() -> io::Result<()> {
    fs::read(HOSTS).map(drop)
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

/// `sources` with the hosts file before all other sources of host names; none where it is there already.
fn files_first(sources: &str) -> Option<String> {
    let mut changed = false;
    let mut text = String::new();
    for line in sources.lines() {
        let before = line.split('#').next().unwrap_or_default();
        match before.trim().strip_prefix("hosts:").map(str::trim) {
            Some(order) if order.split_whitespace().next() != Some("files") => {
                changed = true;
                text.push_str(&format!("hosts: files {order}\n"));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    changed.then_some(text)
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

    #[test]
    fn the_hosts_file_is_asked_first() {
        let sources = "passwd: files\nhosts: mymachines resolve [!UNAVAIL=return] files dns # all\n";
        let expected = "passwd: files\nhosts: files mymachines resolve [!UNAVAIL=return] files dns\n";
        assert_eq!(files_first(sources).as_deref(), Some(expected));
        assert_eq!(files_first("hosts:          files dns\n"), None);
        assert_eq!(files_first("passwd: files\n"), None);
    }
}
