//! The rate limit of requests that strangers can cause: a token bucket.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A token bucket.
pub(super) struct RateLimit {
    per_second: f64,
    burst: f64,
    left: Mutex<(f64, Instant)>,
}

impl RateLimit {
    pub(super) fn new(per_second: u32, burst: u32, now: Instant) -> RateLimit {
        let burst = f64::from(burst);
        RateLimit { per_second: f64::from(per_second), burst, left: Mutex::new((burst, now)) }
    }

    /// Whether another request may be made now; if so, it is counted.
    pub(super) fn try_acquire(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, at) = *left;
        let count = (count + now.duration_since(at).as_secs_f64() * self.per_second).min(self.burst);
        let may = count >= 1.0;
        *left = (if may { count - 1.0 } else { count }, now);
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let begin = Instant::now();
        let limit = RateLimit::new(10, 3, begin);
        let acquired = |at: Duration, tries| (0..tries).filter(|_| limit.try_acquire(begin + at)).count();
        assert_eq!(acquired(Duration::ZERO, 9), 3);
        assert_eq!(acquired(Duration::from_millis(200), 9), 2);
        assert_eq!(acquired(Duration::from_secs(60), 9), 3);
    }
}
