//! Ports for programs that a test starts.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port of the loopback that nobody listens on: below those that the system hands out, so that no connection
/// takes it meanwhile, and apart from those of the control plane.
///
/// # Panics
/// If all are taken.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time begin at different ones.
    let first = (std::process::id() % 600) as u16;
    (0..600)
        .map(|_| 32_100 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 600)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}
