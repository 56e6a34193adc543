//! How much of a client's patience is spent on waiting for a grant.

use std::time::Duration;

/// The part of a client's timeout that a call may wait, in percent. The rest is for the provider's answer, which
/// comes only after the grant.
pub const WAIT_PERCENT: u32 = 80;

/// The longest that a call may wait for a grant if its client waits `patience` for the answer.
pub fn longest_wait(patience: Duration) -> Duration {
    patience.saturating_mul(WAIT_PERCENT) / 100
}

/// The patience of a client that may wait `wait` for a grant: the inverse of [`longest_wait`].
pub fn patience_for(wait: Duration) -> Duration {
    (wait / WAIT_PERCENT).saturating_mul(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_timeout_is_left_for_the_answer() {
        assert_eq!(longest_wait(Duration::from_secs(600)), Duration::from_secs(480));
        assert_eq!(longest_wait(Duration::ZERO), Duration::ZERO);
        assert_eq!(patience_for(Duration::from_secs(480)), Duration::from_secs(600));
        assert!(
            longest_wait(patience_for(Duration::from_nanos(123_456_789)))
                <= Duration::from_nanos(123_456_789)
        );
        assert!(longest_wait(Duration::MAX) < Duration::MAX, "saturates");
    }
}
