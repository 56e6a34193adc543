//! Ports for programs that a test starts.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 32_100;
const COUNT: u16 = 400;

/// A port of the loopback that nobody listens on: below those that the system hands out, so that no connection
/// takes it meanwhile, and apart from those of the control plane and of the stories in shell.
///
/// # Panics
/// If all are taken.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time have numbers near each other, and begin at ports that are far apart.
    let first = (std::process::id() * 37 % u32::from(COUNT)) as u16;
    (0..COUNT)
        .map(|_| FIRST + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}
