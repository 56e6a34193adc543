//! Waiting for a state. The bounds are far above what a loaded machine needs: only a hang reaches them.

use std::time::{Duration, Instant};

/// How often [`until`] looks, 10 ms apart.
const LOOKS: u32 = 6000;
/// How long [`until_seen`] looks, every 200 ms.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until `holds`.
///
/// # Panics
/// After a minute, with `what` was expected.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within a minute: {what}");
}

/// Waits until `look` finds something, and returns it. Blocks the thread: for looks that start a process.
///
/// # Panics
/// After 90 s, with `what` was expected.
pub fn until_seen<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "not seen in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
