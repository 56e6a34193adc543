//! Days, weeks and months: which one is open, by the wall clock and by the limiter's own.
//!
//! A period that has begun stays open until both clocks say that it is over: a wall clock that is set forward opens
//! nothing, and one that is set back closes nothing for longer than until it shows the end. An edit of zone or period
//! takes effect at the end of the period that is open.

use std::time::Duration;

use quotakeeper_dialects::calendar::{Calendar, Span};
use quotakeeper_dialects::profile::Period;
use quotakeeper_engine::config::{AccountConfig, CalendarPeriod, LimitConfig, PeriodKind};
use quotakeeper_engine::event::{Event, PeriodBegun};
use quotakeeper_engine::time::{Time, stretched};
use quotakeeper_wire::name::AccountKey;
use serde::{Deserialize, Serialize};

use super::past::WallClock;
use super::{LimiterState, Outbox};
use crate::mutant::{self, Mutant};

/// How far a provider's clock may be from this node's. A period begins so much later here, and what was counted so
/// much before its beginning may count in it.
pub const CLOCKS_APART: Duration = Duration::from_secs(2);

/// The wall clock may be set at any time: it is looked at so often at least.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// The period of a limit that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPeriod {
    /// Which one, by the wall clock.
    pub span: Span,
    /// When it began, on the limiter's clock, or earlier.
    pub begun: Time,
    /// When it ends on the limiter's clock, as was known when it was opened.
    pub ends: Time,
    /// It lasts until then at least, whatever the wall clock shows: the end, less what the limiter's clock may run fast.
    pub lasts: Time,
}

impl OpenPeriod {
    /// The one that is open when nothing is known of another.
    fn first(calendar: &Calendar, clock: WallClock) -> OpenPeriod {
        OpenPeriod::of(calendar.at(clock.reads), clock)
    }

    /// The one that follows, once this one is over.
    fn next(&self, calendar: &Calendar, clock: WallClock) -> Option<OpenPeriod> {
        if self.over_at(clock) > clock.at {
            return None;
        }
        let next = OpenPeriod::of(calendar.after(self.span, clock.reads), clock);
        // By a wall clock that was set back meanwhile it began later than it did.
        let begun = next.begun.min(self.ends - CLOCKS_APART).max(self.begun);
        Some(OpenPeriod { begun, ..next })
    }

    fn of(span: Span, clock: WallClock) -> OpenPeriod {
        let left = span.end.duration_since(clock.reads).unsigned_abs();
        let (ends, drifted) = (clock.at + left, stretched(left).saturating_sub(left));
        OpenPeriod { span, begun: clock.time(span.begin) - CLOCKS_APART, ends, lasts: ends - drifted }
    }

    /// When it is over, as far as the clocks tell now.
    fn over_at(&self, clock: WallClock) -> Time {
        let by_wall = clock.time(self.span.end) + CLOCKS_APART;
        if mutant::active(Mutant::PeriodByWallClock) { by_wall } else { by_wall.max(self.lasts) }
    }
}

/// The calendar of a limit's period. In a zone that this version does not know no period begins: what is used counts
/// for as long as such a period can last.
fn calendar(period: &CalendarPeriod) -> Option<Calendar> {
    let kind = match period.kind {
        PeriodKind::Day => Period::Day,
        PeriodKind::Week => Period::Week,
        PeriodKind::Month => Period::Month,
    };
    Calendar::new(kind, &period.time_zone).ok()
}

impl LimiterState {
    /// Looks which periods of an account are open, and tells its engine of those that have begun, or of all.
    pub(super) fn begin_periods(&mut self, now: Time, key: &AccountKey, all: bool, out: &mut Outbox) {
        let clock = self.wall.at(now);
        let Some(account) = self.accounts.get_mut(key) else { return };
        let limits: Vec<LimitConfig> = account.engine.config().limits_in_force().collect();
        let (mut begun, mut due) = (Vec::new(), None);
        for limit in limits {
            let Some(calendar) = limit.period.as_ref().and_then(calendar) else { continue };
            let known = account.periods.get(&limit.name);
            let open = match known {
                None => Some(OpenPeriod::first(&calendar, clock)),
                Some(open) => open.next(&calendar, clock),
            };
            let is_new = open.is_some();
            let Some(open) = open.or_else(|| known.cloned()) else { continue };
            let ends = open.over_at(clock);
            if is_new || all {
                begun.push(PeriodBegun { limit: limit.name.clone(), begun: open.begun, ends });
            }
            due = due.into_iter().chain([ends.min(now + LOOK_AGAIN)]).min();
            account.periods.insert(limit.name.clone(), open);
        }
        account.period_due = due;
        for period in begun {
            self.handle_event(now, Some(key.clone()), Event::PeriodBegun(period), out);
        }
    }

    /// Looks again at the periods whose time has come.
    pub(super) fn begin_due_periods(&mut self, now: Time, out: &mut Outbox) {
        let due = self.accounts.iter().filter(|(_, account)| account.period_due.is_some_and(|at| at <= now));
        for key in due.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.begin_periods(now, &key, false, out);
        }
    }

    /// Has the open periods go with their limits into another configuration, under their new names.
    pub(super) fn keep_periods(&mut self, key: &AccountKey, earlier: &AccountConfig) {
        let Some(account) = self.accounts.get_mut(key) else { return };
        let config = account.engine.config();
        let mut known = std::mem::take(&mut account.periods);
        for limit in config.limits_in_force().filter(|limit| limit.period.is_some()) {
            let open = config.continues(earlier, &limit.name).and_then(|name| known.remove(&name));
            account.periods.extend(open.map(|open| (limit.name.clone(), open)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A node whose wall clock can be set.
    struct Node {
        at: Time,
        reads: Timestamp,
    }

    impl Node {
        fn new(reads: &str) -> Node {
            Node { at: Time(50 * 86_400_000_000_000), reads: reads.parse().unwrap() }
        }

        fn pass(&mut self, time: Duration) {
            self.at += time;
            self.reads += time;
        }

        fn set(&mut self, reads: &str) {
            self.reads = reads.parse().unwrap();
        }

        fn clock(&self) -> WallClock {
            WallClock { at: self.at, reads: self.reads }
        }
    }

    fn days(zone: &str) -> Calendar {
        Calendar::new(Period::Day, zone).unwrap()
    }

    /// Lets time pass to the second before the end, then to the second after it, and opens the next.
    fn lasts(node: &mut Node, open: &OpenPeriod, calendar: &Calendar, hours: u32) -> OpenPeriod {
        node.pass(HOUR * hours - Duration::from_secs(1));
        assert_eq!(open.next(calendar, node.clock()), None, "{}", node.reads);
        node.pass(Duration::from_secs(1) + CLOCKS_APART);
        open.next(calendar, node.clock()).unwrap()
    }

    #[test]
    fn days_have_23_and_25_hours_where_clocks_are_changed() {
        let calendar = days("America/New_York");
        for (midnight, hours) in
            [("2026-03-08T05:00:00Z", 23), ("2026-11-01T04:00:00Z", 25), ("2026-06-01T04:00:00Z", 24)]
        {
            let mut node = Node::new(midnight);
            let open = OpenPeriod::first(&calendar, node.clock());
            let next = lasts(&mut node, &open, &calendar, hours);
            assert!(next.span.id > open.span.id);
            assert_eq!(next.begun, node.at - CLOCKS_APART - CLOCKS_APART, "{midnight}");
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_forward_opens_nothing() {
        let calendar = days("UTC");
        let mut node = Node::new("2026-03-10T10:00:00Z");
        let open = OpenPeriod::first(&calendar, node.clock());
        node.set("2026-03-11T12:00:00Z");
        node.pass(HOUR);
        assert_eq!(open.next(&calendar, node.clock()), None);
        node.set("2026-03-10T11:00:00Z");
        node.pass(HOUR * 12);
        assert_eq!(open.next(&calendar, node.clock()), None);
        node.pass(HOUR + CLOCKS_APART);
        assert_eq!(open.next(&calendar, node.clock()).unwrap().span, calendar.at(node.reads));
    }

    #[test]
    fn a_wall_clock_that_is_set_back_opens_nothing_twice() {
        let calendar = days("UTC");
        let mut node = Node::new("2026-03-10T23:00:00Z");
        let open = OpenPeriod::first(&calendar, node.clock());
        node.pass(HOUR + CLOCKS_APART);
        let next = open.next(&calendar, node.clock()).unwrap();
        node.set("2026-03-10T20:00:00Z");
        node.pass(HOUR * 5);
        assert_eq!(next.next(&calendar, node.clock()), None, "midnight comes a second time");
    }

    #[test]
    fn another_zone_is_in_force_from_the_next_midnight_of_the_old_one() {
        let (old, new) = (days("UTC"), days("Pacific/Auckland"));
        let mut node = Node::new("2026-06-10T11:30:00Z");
        let open = OpenPeriod::first(&old, node.clock());
        node.pass(HOUR);
        assert_eq!(open.next(&new, node.clock()), None, "it is past midnight in Auckland");
        node.pass(HOUR * 12);
        let next = open.next(&new, node.clock()).unwrap();
        assert_eq!(next.span.begin, open.span.end);
        assert_eq!(next.span.end, new.at(node.reads).end);
    }

    #[test]
    fn after_a_time_without_a_limiter_the_period_of_now_is_open() {
        let calendar = days("UTC");
        let mut node = Node::new("2026-03-10T10:00:00Z");
        let open = OpenPeriod::first(&calendar, node.clock());
        node.pass(HOUR * 60);
        let next = open.next(&calendar, node.clock()).unwrap();
        assert_eq!(next.span, calendar.at(node.reads));
        assert!(next.begun <= open.ends, "what was charged since the end of the old one counts in the new");
    }
}
