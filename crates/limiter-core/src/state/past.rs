//! What is known of an account's use before it is opened: from the ledger's own beginning, from the record of when
//! the account came into force, and from what people state.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use quotakeeper_engine::config::AccountConfig;
use quotakeeper_engine::event::{Event, StatedUse};
use quotakeeper_engine::time::Time;
use quotakeeper_engine::{Engine, Predecessor};
use quotakeeper_wire::name::AccountKey;
use quotakeeper_wire::status::PastUse;

use super::{Account, LimiterState, Outbox};
use crate::mutant::{self, Mutant};
use crate::record::LostGrants;

/// How far the clock of a person may be ahead. What is stated of a later time is applied when it is so near.
const AHEAD: Duration = Duration::from_secs(60);

/// What the ledger lacks of the grants on an account that it has no record of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lost<'l> {
    /// Nothing: there were none.
    Nothing,
    /// Those of accounts that were in force before.
    By(&'l LostGrants),
    /// Those of others on this account.
    OfAccount(&'l LostGrants),
    /// The ledger has a record that can't be read.
    AllUntil(Time),
}

/// How an account begins that the ledger has no record of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// No limiter can have granted on it.
    New,
    /// Others may have.
    Lost(Predecessor),
    /// It is not known whether it is new.
    Unknown,
}

/// How an account begins that the ledger has no record of and that came into force at `since`, if that is known.
pub(super) fn opening(lost: Lost<'_>, since: Option<Timestamp>) -> Opening {
    match (lost, since) {
        _ if mutant::active(Mutant::LostCountsAsNew) => Opening::New,
        (Lost::Nothing, Some(_)) => Opening::New,
        (Lost::Nothing, None) => Opening::Unknown,
        (Lost::By(lost), Some(since)) if since > lost.until_wall => Opening::New,
        (Lost::By(lost) | Lost::OfAccount(lost), since) => {
            let in_force = since.map(|since| lost.until_wall.duration_since(since).unsigned_abs());
            Opening::Lost(Predecessor { until: lost.until, in_force })
        }
        (Lost::AllUntil(until), _) => Opening::Lost(Predecessor { until, in_force: None }),
    }
}

impl Opening {
    /// The engine of the account.
    pub(super) fn engine(self, config: AccountConfig, now: Time) -> Engine {
        match self {
            Opening::New => Engine::newly_in_force(config, now),
            Opening::Lost(predecessor) => Engine::takeover(config, predecessor, now),
            Opening::Unknown => Engine::after_unknown_past(config, now),
        }
    }

    /// The same, for people.
    pub(super) fn past(self) -> PastUse {
        match self {
            Opening::New => PastUse::New,
            Opening::Lost(_) => PastUse::Lost,
            Opening::Unknown => PastUse::Unknown,
        }
    }
}

/// What the wall clock showed at a time of the limiter's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct WallClock {
    pub(super) at: Time,
    pub(super) reads: Timestamp,
}

impl WallClock {
    /// The time of the limiter's clock at which the wall clock shows `timestamp`.
    pub(super) fn time(self, timestamp: Timestamp) -> Time {
        let ahead = timestamp.duration_since(self.reads);
        let distance = ahead.unsigned_abs();
        if ahead.is_negative() { self.at - distance } else { self.at + distance }
    }

    /// What it shows at a later time, if nobody sets it.
    pub(super) fn at(self, now: Time) -> WallClock {
        WallClock { at: now, reads: self.reads.saturating_add(now.since(self.at)).unwrap_or(self.reads) }
    }

    /// What the wall clock showed at a time of the limiter's clock that has passed, to the second.
    pub(super) fn showed(self, time: Time) -> Timestamp {
        let showed = self.reads.saturating_sub(self.at.since(time)).unwrap_or(self.reads);
        showed.round(Unit::Second).unwrap_or(showed)
    }
}

impl LimiterState {
    /// The wall clock shows `reads` now. It may be set to another time while the limiter runs.
    pub fn read_wall_clock(&mut self, now: Time, reads: Timestamp) {
        self.wall = WallClock { at: now, reads };
    }

    /// Applies what people state of an account's use: of each limit the newest statement, once.
    pub(super) fn apply_stated_use(&mut self, now: Time, key: &AccountKey, out: &mut Outbox) {
        let Some(account) = self.accounts.get_mut(key) else { return };
        let (mut new, mut due) = (Vec::new(), None);
        for stated in &account.compiled.used {
            let applied = account.stated.get(&stated.limit);
            if applied.is_some_and(|applied| stated == applied || stated.at < applied.at) {
                continue;
            }
            let at = self.wall.time(stated.at);
            if at > now + AHEAD {
                due = due.into_iter().chain([at - AHEAD]).min();
                continue;
            }
            new.push(StatedUse { limit: stated.limit.clone(), amount: stated.amount, at });
            account.stated.insert(stated.limit.clone(), stated.clone());
        }
        account.stated_use_due = due;
        for stated in new {
            self.handle_event(now, Some(key.clone()), Event::UseStated(stated), out);
        }
    }

    /// Applies what was stated of a time that was too far ahead.
    pub(super) fn apply_due_statements(&mut self, now: Time, out: &mut Outbox) {
        let due = |account: &Account| account.stated_use_due.is_some_and(|at| at <= now);
        let keys = self.accounts.iter().filter(|(_, account)| due(account)).map(|(key, _)| key.clone());
        for key in keys.collect::<Vec<_>>() {
            self.apply_stated_use(now, &key, out);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn an_account_is_new_only_if_no_limiter_can_have_granted_on_it() {
        let lost = LostGrants { until: Time(9), until_wall: wall(1000) };
        assert_eq!(opening(Lost::Nothing, Some(wall(5))), Opening::New, "the ledger has all grants");
        assert_eq!(opening(Lost::By(&lost), Some(wall(1001))), Opening::New);
        let of = |in_force| Opening::Lost(Predecessor { until: Time(9), in_force });
        assert_eq!(opening(Lost::By(&lost), Some(wall(1000))), of(Some(Duration::ZERO)));
        assert_eq!(opening(Lost::By(&lost), Some(wall(400))), of(Some(Duration::from_secs(600))));
        assert_eq!(opening(Lost::AllUntil(Time(9)), Some(wall(1001))), of(None));
    }

    /// An operator of an earlier version writes no record.
    #[test]
    fn without_a_record_nothing_is_taken_to_be_new() {
        let lost = LostGrants { until: Time(9), until_wall: wall(1000) };
        assert_eq!(opening(Lost::Nothing, None), Opening::Unknown);
        assert_eq!(
            opening(Lost::By(&lost), None),
            Opening::Lost(Predecessor { until: Time(9), in_force: None })
        );
    }

    #[test]
    fn times_before_and_after_the_reading_are_found() {
        let clock = WallClock { at: Time(50_000_000_000), reads: wall(1000) };
        assert_eq!(clock.time(wall(1003)), Time(53_000_000_000));
        assert_eq!(clock.time(wall(990)), Time(40_000_000_000));
        assert_eq!(clock.time(wall(1)), Time(0));
    }
}
