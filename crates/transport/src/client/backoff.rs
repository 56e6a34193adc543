//! How long to wait before the next attempt: longer each time, at random, so that a thousand
//! proxies do not come back at the same moment.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Backoff {
    attempts: u32,
    random: RandomState,
}

impl Backoff {
    /// The limiter was there: the next failure is the first.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How long to wait now: between a half of the step and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let step = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        self.random = RandomState::new();
        let random = self.random.hash_one(self.attempts) % 1024;
        step / 2 + step.mul_f64(random as f64 / 2048.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_50_ms_to_2_s_and_differ() {
        let mut backoff = Backoff::default();
        for step in [50, 100, 200, 400, 800, 1600, 2000, 2000].map(Duration::from_millis) {
            let wait = backoff.next();
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
        }
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits.len() > 10, "{waits:?}");
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
