//! Days, weeks and months: what counts in which.

use std::time::Duration;

use proptest::prelude::*;
use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{AccountConfig, CalendarPeriod, CountedAs, LimitConfig, PeriodKind};
use quotakeeper_engine::event::{CallClass, Event, Observation, PeriodBegun};
use quotakeeper_engine::sharing::{AllocationConfig, Sharing};
use quotakeeper_engine::time::Time;

use crate::allocations::allocation;
use crate::world::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A limit of requests a day, which may have 25 hours.
pub fn daily(amount: u64) -> LimitConfig {
    let period = CalendarPeriod { kind: PeriodKind::Day, time_zone: "Europe/Berlin".to_owned() };
    LimitConfig {
        counted_as: CountedAs::FixedWindow,
        period: Some(period),
        ..limit("day", amount, 25 * 3600)
    }
}

fn patient(limits: Vec<LimitConfig>) -> AccountConfig {
    let config = account(limits);
    AccountConfig {
        queue: quotakeeper_engine::config::QueueConfig { max_wait: DAY * 40, ..config.queue },
        ..config
    }
}

impl World {
    pub fn day_begins(&mut self, begun: Time) {
        self.tell(Event::PeriodBegun(PeriodBegun { limit: "day".to_owned(), begun, ends: begun + DAY }));
    }

    fn all_answered(&mut self, calls: usize) {
        let granted = self.grants();
        assert_eq!(granted.len(), calls);
        for attempt in granted {
            self.tell(Event::FirstByte { attempt, latest: self.now, observations: Vec::new() });
            self.tell(over(attempt));
        }
    }
}

#[test]
fn a_day_is_free_again_when_the_next_begins_and_no_sooner() {
    let mut w = World::of(patient(vec![daily(5)]));
    let midnight = w.now - SECOND * 3600;
    w.day_begins(midnight);
    w.ask(12);
    w.all_answered(5);
    assert_eq!(w.used("day"), 5);
    w.pass(SECOND * 3600 * 22);
    assert!(w.grants().is_empty(), "an hour is left of the day");
    w.pass(SECOND * 3600 * 2);
    assert!(w.grants().is_empty(), "nobody has said that the day is over");
    w.day_begins(midnight + DAY);
    w.all_answered(5);
    w.pass(SECOND * 3600 * 2);
    assert!(w.grants().is_empty(), "a day's calls leave with their day, not one by one");
    w.day_begins(midnight + DAY * 2);
    w.all_answered(2);
}

#[test]
fn a_beginning_that_is_never_told_opens_nothing_before_the_longest_such_period_has_passed() {
    let mut w = World::of(patient(vec![daily(5)]));
    w.day_begins(w.now - SECOND);
    w.ask(6);
    w.all_answered(5);
    w.pass(DAY + SECOND * 3500);
    assert!(w.grants().is_empty());
    w.pass(SECOND * 200);
    w.all_answered(1);
}

#[test]
fn a_call_under_way_at_midnight_counts_in_both_days() {
    let mut w = World::of(patient(vec![daily(5)]));
    let midnight = w.now + SECOND;
    w.day_begins(midnight - DAY);
    w.ask(3);
    w.all_answered(3);
    w.pass(MS * 900);
    w.ask(2);
    let late = w.grants();
    assert_eq!(late.len(), 2);
    w.pass(MS * 600);
    w.day_begins(midnight);
    assert_eq!(w.used("day"), 2);
    w.ask(10);
    w.all_answered(3);
    for attempt in late {
        w.tell(Event::FirstByte { attempt, latest: w.now, observations: Vec::new() });
        w.tell(over(attempt));
    }
    w.pass(SECOND * 3600);
    assert!(w.grants().is_empty());
}

#[test]
fn a_beginning_that_is_told_twice_frees_nothing_again() {
    let mut w = World::of(patient(vec![daily(5)]));
    let midnight = w.now - SECOND;
    w.day_begins(midnight);
    w.ask(9);
    w.all_answered(5);
    w.pass(SECOND * 60);
    w.day_begins(midnight);
    w.day_begins(midnight - DAY);
    w.pass(SECOND * 60);
    assert!(w.grants().is_empty());
}

#[test]
fn an_unknown_past_is_over_with_its_day() {
    let start = Time(3_600_000_000_000);
    let mut w = World::with(Engine::after_unknown_past(patient(vec![daily(5)]), start), start);
    w.day_begins(start - SECOND * 3600);
    w.ask(6);
    w.all_answered(1);
    w.pass(SECOND * 3600 * 22);
    assert!(w.grants().is_empty(), "all of it may have been used just before the start");
    w.day_begins(start + SECOND * 3600 * 23);
    w.pass(SECOND * 3600 * 2);
    w.all_answered(5);
}

#[test]
fn a_limit_of_an_allocation_begins_anew_as_those_of_the_account_do() {
    let team = AllocationConfig { limits: vec![daily(5)], ..allocation("team") };
    let sharing = Sharing { allocations: vec![team], max_concurrent_per_workload: None };
    let config = AccountConfig { sharing, ..patient(vec![sliding("requests", 100, 1)]) };
    let mut w = World::of(config);
    let begins = |w: &mut World, begun: Time| {
        let period = PeriodBegun { limit: "team/day".to_owned(), begun, ends: begun + DAY };
        w.tell(Event::PeriodBegun(period));
    };
    let midnight = w.now - SECOND * 3600;
    begins(&mut w, midnight);
    w.asks_of(1, "team", 7);
    w.all_answered(5);
    w.pass(SECOND * 3600 * 23);
    begins(&mut w, midnight + DAY);
    w.all_answered(2);
}

#[test]
fn a_forecast_knows_when_the_day_ends() {
    let mut w = World::of(patient(vec![daily(5)]));
    w.day_begins(w.now - SECOND * 3600);
    w.ask(5);
    w.all_answered(5);
    w.ask_as(1, "hurried", CallClass::default(), Some(SECOND * 3600 * 22));
    assert_eq!(w.refusals().len(), 1, "the day ends in 23 hours");
    w.ask_as(1, "patient", CallClass::default(), Some(SECOND * 3600 * 24));
    assert!(w.refusals().len() == 1, "its client waits for longer");
    let status = w.engine.status(w.now);
    assert!(status.limits[0].resets_in <= SECOND * 3600 * 23);
}

#[test]
fn an_answer_to_a_call_of_yesterday_says_nothing_of_today() {
    let mut w = World::of(patient(vec![daily(5)]));
    let midnight = w.now + SECOND;
    w.day_begins(midnight - DAY);
    w.ask(1);
    let late = w.grants()[0];
    w.pass(SECOND * 10);
    w.day_begins(midnight);
    let full = Observation { limit: "day".to_owned(), hard: None, remaining: Some(0), ends_in: None };
    w.tell(Event::FirstByte { attempt: late, latest: w.now, observations: vec![full] });
    w.tell(over(late));
    w.ask(4);
    assert_eq!(w.grants().len(), 4, "others may have used up yesterday");
}

proptest! {
    /// A provider counts by its own calendar, whose midnights are up to two seconds from ours, when a call arrives.
    #[test]
    fn no_day_of_the_provider_has_more_than_the_limit(
        calls in prop::collection::vec((0u64..4_000, 0u64..2_500, any::<bool>()), 1..120),
        apart in -1_900i64..1_900,
    ) {
        // A short day, so that many are seen.
        let (length, delivery) = (SECOND * 30, MS * 300);
        let limit = LimitConfig { window: length, delivery, ..daily(4) };
        let mut w = World::of(patient(vec![limit]));
        let first = w.now;
        let tell = |w: &mut World, day: u64| {
            let edge = first + length * day as u32;
            let begun = Time(edge.0.saturating_sub(2_000_000_000));
            w.tell(Event::PeriodBegun(PeriodBegun { limit: "day".to_owned(), begun, ends: edge + length }));
        };
        tell(&mut w, 0);
        let mut day = 0;
        let mut counted = std::collections::BTreeMap::<i64, u64>::new();
        // A call is granted no longer before it is seen.
        let step = MS * 100;
        for (wait, arrives_after, used) in calls {
            w.ask(1);
            let until = w.now + MS * wait as u32;
            while w.now < until {
                w.pass(step.min(until.since(w.now)));
                // A beginning is told two seconds late, as clocks may stand apart.
                while w.now >= first + length * (day + 1) + SECOND * 2 {
                    day += 1;
                    tell(&mut w, u64::from(day));
                }
                for attempt in w.grants() {
                    if !used {
                        w.tell(Event::Unused { attempt, again: false });
                        continue;
                    }
                    let arrives = w.now + (MS * arrives_after as u32).min(SECOND * 2 + delivery - step);
                    let ours = i128::from(arrives.0) - i128::from(first.0) + i128::from(apart) * 1_000_000;
                    *counted.entry(ours.div_euclid(length.as_nanos() as i128) as i64).or_default() += 1;
                }
            }
        }
        for (day, calls) in counted {
            prop_assert!(calls <= 4, "day {day} has {calls}");
        }
    }
}
