//! Days, weeks and months: which one is open, by the wall clock and by the limiter's own.
//!
//! A period that has begun stays open until both clocks say that it is over: a wall clock that is set forward opens
//! nothing, and one that is set back closes nothing for longer than until it shows the end. An edit of zone or period
//! takes effect at the end of the period that is open.

use std::time::Duration;

use quotakeeper_dialects::calendar::{Calendar, Span};
use quotakeeper_engine::config::{AccountConfig, LimitConfig};
use quotakeeper_engine::event::{Event, PeriodBegun};
use quotakeeper_engine::time::{Time, stretched};
use quotakeeper_wire::account::calendar;
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

impl LimiterState {
    /// Looks which periods of an account are open, and tells its engine of them: a wall clock that was set moves the end
    /// of one that goes on, too.
    pub(super) fn begin_periods(&mut self, now: Time, key: &AccountKey, out: &mut Outbox) {
        let clock = self.wall.at(now);
        let Some(account) = self.accounts.get_mut(key) else { return };
        let limits: Vec<LimitConfig> = account.engine.config().limits_in_force().collect();
        let (mut begun, mut due) = (Vec::new(), None);
        for limit in limits {
            // In a zone that this version does not know no period begins: what is used counts for as long as one can last.
            let Some(calendar) = limit.period.as_ref().and_then(calendar) else { continue };
            let known = account.periods.get(&limit.name);
            let open = match known {
                None => Some(OpenPeriod::first(&calendar, clock)),
                Some(open) => open.next(&calendar, clock),
            };
            let Some(open) = open.or_else(|| known.cloned()) else { continue };
            let ends = open.over_at(clock);
            begun.push(PeriodBegun { limit: limit.name.clone(), begun: open.begun, ends });
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
            self.begin_periods(now, &key, out);
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
mod tests;
