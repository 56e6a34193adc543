//! How much of a client's patience is spent on waiting for a grant.

use std::time::Duration;

/// The part of a client's timeout that a call may wait, in percent. The rest is for the provider's answer, which
/// comes only after the grant.
pub const WAIT_PERCENT: u32 = 80;

/// The longest that a call may wait for a grant if its client waits `patience` for the answer.
pub fn longest_wait(patience: Duration) -> Duration {
    patience.saturating_mul(WAIT_PERCENT) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_timeout_is_left_for_the_answer() {
        assert_eq!(longest_wait(Duration::from_secs(600)), Duration::from_secs(480));
        assert_eq!(longest_wait(Duration::ZERO), Duration::ZERO);
        assert!(longest_wait(Duration::MAX) < Duration::MAX, "saturates");
    }
}
