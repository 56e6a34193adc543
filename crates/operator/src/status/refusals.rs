//! Calls that were refused of late, from the limiter's count of them. Pure.

use jiff::Timestamp;
use quotakeeper_wire::status::AccountReport;

/// After so many seconds without a refusal they are over.
const OVER_SECONDS: i64 = 60;

/// The calls that were refused of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// How many.
    pub calls: u64,
    /// When the first of them was noticed.
    pub since: Timestamp,
    /// When the last of them was noticed.
    last: Timestamp,
}

impl Refusals {
    /// With so many more; none: there are none, or they are over.
    fn next(before: Option<Refusals>, new: u64, now: Timestamp) -> Option<Refusals> {
        let before = before.filter(|it| now.as_second() - it.last.as_second() < OVER_SECONDS);
        if new == 0 {
            return before;
        }
        let (calls, since) = before.map_or((0, now), |it| (it.calls, it.since));
        Some(Refusals { calls: calls.saturating_add(new), since, last: now })
    }

    /// How many, rounded down to 1, 10, 100 and so on, so that it changes seldom.
    pub(super) fn coarse(&self) -> i32 {
        let digits = self.calls.max(1).ilog10();
        10_i32.checked_pow(digits).unwrap_or(1_000_000_000)
    }
}

/// Follows the limiter's count of refused calls of one quota.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RefusalCounter {
    total: Option<u64>,
    refusals: Option<Refusals>,
}

impl RefusalCounter {
    /// The refusals of late, by the newest report; without one, as far as is known.
    pub(crate) fn next(&mut self, report: Option<&AccountReport>, now: Timestamp) -> Option<Refusals> {
        let total = report.map(|report| report.totals.refused);
        let new = match (self.total, total) {
            (Some(before), Some(total)) if total >= before => total - before,
            // A limiter that has restarted counts from 0.
            (Some(_), Some(total)) => total,
            // What was refused before the first report may be long ago.
            (None, _) | (_, None) => 0,
        };
        self.total = total.or(self.total);
        self.refusals = Refusals::next(self.refusals, new, now);
        self.refusals
    }
}

#[cfg(test)]
mod tests {
    use quotakeeper_engine::Totals;

    use super::*;
    use crate::fixtures::idle;

    #[test]
    fn refusals_are_counted_until_none_has_come_for_a_minute() {
        let mut counter = RefusalCounter::default();
        let at = |second: i64| Timestamp::from_second(1_793_714_580 + second).unwrap_or_default();
        let mut seen = |refused: Option<u64>, second: i64| {
            let report = refused.map(|refused| AccountReport {
                totals: Totals { refused, ..Totals::default() },
                ..idle("gtm/crm")
            });
            let seen = counter.next(report.as_ref(), at(second));
            seen.map(|it| (it.calls, it.coarse(), it.since.as_second() - at(0).as_second()))
        };
        assert_eq!(seen(Some(70), 0), None, "of another time");
        assert_eq!(seen(Some(70), 1), None);
        assert_eq!(seen(Some(72), 2), Some((2, 1, 2)));
        assert_eq!(seen(Some(372), 4), Some((302, 100, 2)));
        assert_eq!(seen(None, 6), Some((302, 100, 2)));
        assert_eq!(seen(Some(700), 8), Some((630, 100, 2)), "the limiter was silent");
        assert_eq!(seen(Some(9), 10), Some((639, 100, 2)), "the limiter has restarted");
        assert_eq!(seen(Some(9), 69), Some((639, 100, 2)));
        assert_eq!(seen(Some(9), 70), None);
        assert_eq!(seen(Some(19), 71), Some((10, 10, 71)));
    }
}
