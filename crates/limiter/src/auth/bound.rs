//! How many questions may be asked: so many at once, and so many a second.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A bucket of questions.
pub(super) struct Bound {
    a_second: f64,
    at_once: f64,
    left: Mutex<(f64, Instant)>,
}

impl Bound {
    pub(super) fn new(a_second: u32, at_once: u32, now: Instant) -> Bound {
        let at_once = f64::from(at_once);
        Bound { a_second: f64::from(a_second), at_once, left: Mutex::new((at_once, now)) }
    }

    /// Whether one may be asked now.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, at) = *left;
        let count = (count + now.duration_since(at).as_secs_f64() * self.a_second).min(self.at_once);
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
    fn so_many_at_once_then_so_many_a_second() {
        let begin = Instant::now();
        let bound = Bound::new(10, 3, begin);
        let taken = |at: Duration, tries| (0..tries).filter(|_| bound.take(begin + at)).count();
        assert_eq!(taken(Duration::ZERO, 9), 3);
        assert_eq!(taken(Duration::from_millis(200), 9), 2);
        assert_eq!(taken(Duration::from_secs(60), 9), 3);
    }
}
