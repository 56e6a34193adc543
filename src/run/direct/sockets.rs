//! The sockets of this machine, as proc(5) lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::unistd::Pid;

/// States in which bytes may go out: established, and the client's half of the handshake (include/net/tcp_states.h).
const OPEN: [&str; 2] = ["01", "02"];

/// A TCP socket that is, or is about to be, connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    pub remote: SocketAddr,
    /// By which processes' descriptors name it.
    pub inode: u64,
}

/// All that this process may see.
pub fn connected() -> Vec<Socket> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    tables.iter().filter_map(|table| read(table).ok()).flat_map(|table| parse(&table)).collect()
}

/// A table. The kernel searches all of its hash table, some milliseconds, for each read, also for the one that tells the
/// end: a read that was far from filling a page was the last.
fn read(table: &str) -> std::io::Result<String> {
    const PAGE: usize = 4096;
    let (mut file, mut text, mut page) = (fs::File::open(table)?, Vec::new(), vec![0; 16 * PAGE]);
    loop {
        let length = file.read(&mut page)?;
        text.extend_from_slice(&page[..length]);
        if length < PAGE / 2 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
}

/// The inodes of the sockets that a process and its descendants have open.
pub fn of_tree(root: Pid) -> BTreeSet<u64> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().parse().ok();
        let stat = id.and_then(|id: i32| Some((id, fs::read_to_string(format!("/proc/{id}/stat")).ok()?)));
        if let Some((id, parent)) = stat.and_then(|(id, stat)| Some((id, parent(&stat)?))) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut left = vec![root.as_raw()];
    let mut sockets = BTreeSet::new();
    while let Some(id) = left.pop() {
        left.extend(children.remove(&id).unwrap_or_default());
        sockets.extend(of_process(&id.to_string()));
    }
    sockets
}

/// The inodes of the sockets that a process has open.
pub fn of_process(id: &str) -> BTreeSet<u64> {
    let descriptors = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    let link = |entry: fs::DirEntry| socket(&fs::read_link(entry.path()).ok()?.to_string_lossy());
    descriptors.filter_map(link).collect()
}

/// The parent in a line of /proc/PID/stat. The name before it may hold anything, parentheses too.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The open sockets of a table.
fn parse(table: &str) -> Vec<Socket> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let open = OPEN.contains(fields.get(3)?);
        let inode = fields.get(9)?.parse().ok().filter(|inode| *inode != 0)?;
        open.then_some(Socket { remote: address(fields.get(2)?)?, inode })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// An address: words of 32 bits in the machine's byte order, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_of_this_process_is_found_and_a_listener_is_none() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(any) else { continue };
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let remote = stream.peer_addr().unwrap();
            let found: Vec<Socket> = connected().into_iter().filter(|it| it.remote == remote).collect();
            assert_eq!(found.len(), 1, "{any}");
            assert!(of_tree(nix::unistd::getpid()).contains(&found[0].inode));
        }
    }

    #[test]
    fn a_parent_is_read_behind_any_name() {
        assert_eq!(parent("12 (a) b (c) S 7 12 12 0"), Some(7));
    }
}
