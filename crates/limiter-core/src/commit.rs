//! When the ledger is written, and how far ahead of need it charges.
//!
//! One commit is under way at a time. Its reserve is of use only for what is left of it when the
//! commit has ended, so a slow disk gets a longer one.

use std::time::Duration;

use quotakeeper_engine::event::Reserve;
use quotakeeper_engine::time::Time;
use quotakeeper_wire::name::AccountKey;

/// The pause after a failed commit. Meanwhile what is charged ahead is granted, then calls wait for the disk.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How far ahead of need calls are charged on a quick disk: what a crash may cost.
const SHORTEST_HORIZON: Duration = Duration::from_millis(100);
/// The longest horizon where proxies outlive the limiter. A proxy reports to the next limiter the
/// attempts that ended up to a second before the newest grant that it has received. A commit that does not
/// have them may therefore allow grants for less than a second.
pub const PROXIES_OUTLIVE: Duration = Duration::from_millis(900);
/// The longest horizon where proxies end with the limiter: that of a disk that can hardly be used.
pub const PROXIES_END_TOO: Duration = Duration::from_secs(10);

/// The health of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerHealth {
    /// The last commit failed: calls wait for the next.
    pub failing: bool,
    /// How long the last commit took.
    pub took: Duration,
}

/// The commits of one limiter, one after the other.
#[derive(Debug)]
pub(crate) struct CommitSchedule {
    longest_horizon: Duration,
    in_flight: Option<InFlight>,
    not_before: Time,
    horizon: Duration,
    health: LedgerHealth,
}

/// A commit that the storage has not confirmed yet.
#[derive(Debug)]
struct InFlight {
    began: Time,
    reserves: Vec<AccountReserve>,
}

/// What a commit charges ahead on one account.
#[derive(Debug)]
pub(crate) struct AccountReserve {
    pub(crate) account: AccountKey,
    pub(crate) reserve: Reserve,
}

impl CommitSchedule {
    pub(crate) fn new(longest_horizon: Duration) -> CommitSchedule {
        CommitSchedule {
            longest_horizon,
            in_flight: None,
            not_before: Time(0),
            horizon: SHORTEST_HORIZON,
            health: LedgerHealth { failing: false, took: Duration::ZERO },
        }
    }

    /// The earliest time at which a commit can begin that is due at `wanted`; none while one is under way.
    pub(crate) fn next(&self, wanted: Time) -> Option<Time> {
        self.in_flight.is_none().then(|| wanted.max(self.not_before))
    }

    /// How far ahead of need the next commit charges.
    pub(crate) fn horizon(&self) -> Duration {
        self.horizon
    }

    pub(crate) fn begin(&mut self, now: Time, reserves: Vec<AccountReserve>) {
        self.in_flight = Some(InFlight { began: now, reserves });
    }

    /// The commit under way is stored. Returns what it charged ahead.
    pub(crate) fn committed(&mut self, now: Time) -> Vec<AccountReserve> {
        self.end(now, false)
    }

    /// The commit under way has failed.
    pub(crate) fn failed(&mut self, now: Time) {
        self.end(now, true);
        self.not_before = now + RETRY_AFTER;
    }

    fn end(&mut self, now: Time, failing: bool) -> Vec<AccountReserve> {
        self.health.failing = failing;
        let Some(InFlight { began, reserves }) = self.in_flight.take() else { return Vec::new() };
        self.health.took = now.since(began);
        self.horizon = (self.health.took * 4).clamp(SHORTEST_HORIZON, self.longest_horizon);
        reserves
    }

    pub(crate) fn health(&self) -> LedgerHealth {
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_slow_disk_gets_a_longer_horizon_up_to_the_bound() {
        let mut schedule = CommitSchedule::new(PROXIES_OUTLIVE);
        for (took, horizon) in [(0, 100), (25, 100), (50, 200), (225, 900), (5000, 900)] {
            schedule.begin(Time(0), Vec::new());
            schedule.committed(Time(0) + Duration::from_millis(took));
            assert_eq!(schedule.horizon(), Duration::from_millis(horizon), "a commit of {took} ms");
        }
    }

    #[test]
    fn one_commit_is_under_way_at_a_time_and_a_failed_one_is_repeated_later() {
        let mut schedule = CommitSchedule::new(PROXIES_OUTLIVE);
        assert_eq!(schedule.next(Time(7)), Some(Time(7)));
        schedule.begin(Time(7), Vec::new());
        assert_eq!(schedule.next(Time(8)), None);
        schedule.failed(Time(9));
        assert!(schedule.health().failing);
        assert_eq!(schedule.next(Time(10)), Some(Time(9) + SECOND));
        schedule.begin(Time(9) + SECOND, Vec::new());
        schedule.committed(Time(10) + SECOND);
        assert!(!schedule.health().failing);
    }
}
