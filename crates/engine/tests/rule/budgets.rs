//! Calls that a budget has no room for: held if it has room again in time, refused at once if not.

use std::time::Duration;

use quotakeeper_engine::config::{
    AccountConfig, Charged, CountedAs, LimitConfig, QueueConfig, Reserving, TokenLimit, TokenRates, Unit,
};
use quotakeeper_engine::cost::Demand;
use quotakeeper_engine::event::{Action, Event, RefusalReason};
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};

use crate::world::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A limit of requests an hour that is free again all at once.
fn hourly(amount: u64) -> LimitConfig {
    LimitConfig { counted_as: CountedAs::FixedWindow, ..limit("hourly", amount, 3600) }
}

/// A limit of tokens an hour that holds the most that a call can use.
fn hourly_tokens(amount: u64) -> LimitConfig {
    let rates = TokenRates { input: 1, cached: 1, cache_write: 1, output: 1 };
    let tokens = TokenLimit { charged: Charged::Settled, arrival: None, rates, reserving: Reserving::Bound };
    LimitConfig { unit: Unit::TotalTokens, tokens: Some(tokens), ..hourly(amount) }
}

fn call_of(tokens: u64) -> Demand {
    let size = CallSize { max_output: Some(tokens), choices: 1, ..CallSize::default() };
    Demand { size: Some(size), ..Demand::default() }
}

impl World {
    fn ends_with(&mut self, output: u64) {
        for attempt in self.grants() {
            self.tell(Event::FirstByte { attempt, latest: self.now, observations: Vec::new() });
            let usage = TokenUsage { output, exact: true, ..TokenUsage::default() };
            self.tell(Event::Done { attempt, end: CallEnd::Seen, usage: Some(usage) });
        }
        self.pass(SECOND);
    }

    fn spent(&mut self) -> bool {
        self.engine.status(self.now).limits[0].spent
    }

    fn figures(&self) -> Vec<String> {
        let words = self.actions.iter().filter_map(|action| match action {
            Action::Refuse { words, .. } => words.clone(),
            _ => None,
        });
        words.collect()
    }
}

#[test]
fn a_spent_budget_refuses_who_would_leave_before_it_has_room_and_holds_the_others() {
    let mut w = World::new(vec![hourly(3)]);
    w.ask(3);
    assert_eq!(w.grants().len(), 3);
    w.pass(SECOND);
    assert!(!w.spent(), "no call has found it so");
    w.ask_for(1, "job", Demand::default(), Some(SECOND * 60));
    let figures = w.figures();
    assert_eq!(figures, ["all of hourly (3 requests) is used"]);
    let (reason, room) = w.refusals()[0];
    assert_eq!(reason, RefusalReason::BudgetExhausted);
    assert!(room.is_some_and(|room| room > HOUR - SECOND * 10 && room <= HOUR + SECOND * 10), "{room:?}");
    assert!(w.spent());
    w.pass(HOUR - SECOND * 400);
    w.ask_for(1, "job", Demand::default(), Some(SECOND * 600));
    assert!(w.refusals().is_empty(), "it has room again within the client's patience");
    w.pass(SECOND * 410);
    assert_eq!((w.grants().len(), w.spent()), (1, false));
}

/// What is held for calls under way may come back: it refuses nobody.
#[test]
fn a_call_waits_for_what_calls_under_way_hold_and_is_refused_when_they_have_used_it() {
    let mut w = World::new(vec![hourly_tokens(1_000)]);
    for _ in 0..4 {
        w.ask_for(1, "job", call_of(400), Some(SECOND * 600));
    }
    assert_eq!(w.engine.status(w.now).waiting_calls(), 2, "two hold 800");
    assert!(w.refusals().is_empty());
    w.ends_with(400);
    let figures = w.figures();
    let told = "800 tokens of hourly (1000 tokens) is used, and it can draw 400 tokens; allow it fewer tokens of output";
    assert_eq!(figures, [told, told], "both that wait are told at once, not at the end of their patience");
    assert!(w.refusals().iter().all(|(reason, _)| *reason == RefusalReason::BudgetExhausted));
    w.ask_for(1, "job", call_of(100), Some(SECOND * 60));
    assert_eq!(w.grants().len(), 1, "a smaller one fits");
}

#[test]
fn what_calls_give_back_lets_those_through_that_wait_for_it() {
    let mut w = World::new(vec![hourly_tokens(1_000)]);
    for _ in 0..4 {
        w.ask_for(1, "job", call_of(400), Some(SECOND * 600));
    }
    w.ends_with(50);
    assert_eq!((w.grants().len(), w.refusals().len()), (2, 0));
}

/// A queue that moves is no spent budget: a later try makes sense.
#[test]
fn a_rolling_window_that_lets_calls_through_one_by_one_is_not_spent() {
    let rolling = LimitConfig { counted_as: CountedAs::SlidingWindow, ..limit("hourly", 60, 3600) };
    let mut w = World::new(vec![rolling]);
    for _ in 0..60 {
        w.ask(1);
        w.pass(SECOND * 60);
    }
    assert_eq!(w.grants().len(), 60);
    w.ask(20);
    w.ask_for(1, "job", Demand::default(), Some(SECOND * 120));
    let (reason, wait) = w.refusals()[0];
    assert_eq!((reason, wait.is_some()), (RefusalReason::WaitTooLong, true));
}

/// Otherwise whoever comes while the last ones wait is told to try again in a day, and an SDK sleeps for that long.
#[test]
fn a_rolling_window_that_calls_ahead_will_use_up_refuses_too() {
    let rolling = LimitConfig { counted_as: CountedAs::SlidingWindow, ..limit("daily", 40, 24 * 3600) };
    let mut w = World::new(vec![rolling]);
    w.ask(36);
    assert_eq!(w.grants().len(), 36);
    w.tell(Event::Lease(w.now));
    for _ in 0..6 {
        w.ask_for(1, "job", Demand::default(), Some(SECOND * 60));
    }
    assert!(w.grants().is_empty(), "none is granted yet");
    let refusals = w.refusals();
    assert_eq!(refusals.len(), 2);
    assert!(refusals.iter().all(|(reason, _)| *reason == RefusalReason::BudgetExhausted), "{refusals:?}");
}

#[test]
fn a_queue_without_a_maximum_of_its_own_bounds_the_wait_for_a_budget_alone() {
    let config = account(vec![hourly(2), sliding("rate", 1, 60)]);
    let queue = QueueConfig { max_wait: HOUR * 24, max_budget_wait: Some(SECOND * 100), ..config.queue };
    let mut w = World::of(AccountConfig { queue, ..config });
    w.ask(2);
    w.pass(SECOND * 70);
    assert_eq!((w.grants().len(), w.refusals().len()), (2, 0), "the rate lets them wait");
    w.ask(1);
    assert_eq!(w.refusals()[0].0, RefusalReason::BudgetExhausted);
}

#[test]
fn a_day_that_is_used_up_refuses_until_its_end() {
    let mut w = World::new(vec![crate::calendar::daily(3)]);
    w.day_begins(w.now - HOUR);
    w.ask(3);
    w.pass(SECOND);
    assert_eq!(w.grants().len(), 3);
    w.ask_for(1, "job", Demand::default(), Some(SECOND * 60));
    assert_eq!(w.refusals()[0].0, RefusalReason::BudgetExhausted);
}

/// The word of the next day comes from another clock, a moment before or after the end that this one expects.
#[test]
fn a_day_that_should_be_over_refuses_nobody_until_the_next_is_told() {
    let mut w = World::new(vec![crate::calendar::daily(3)]);
    let midnight = w.now + HOUR * 23;
    w.day_begins(w.now - HOUR);
    w.pass(HOUR * 23 - SECOND * 40);
    for _ in 0..5 {
        w.ask_for(1, "job", Demand::default(), Some(SECOND * 60));
    }
    assert_eq!(w.grants().len(), 3);
    w.pass(SECOND * 45);
    w.ask_for(1, "job", Demand::default(), Some(SECOND * 60));
    assert_eq!((w.grants().len(), w.refusals()), (0, Vec::new()));
    w.day_begins(midnight);
    assert_eq!(w.grants().len(), 3);
}

/// Otherwise whoever comes with the last ones is told to try again in a day.
#[test]
fn a_day_that_calls_ahead_will_use_up_refuses_too() {
    let mut w = World::new(vec![crate::calendar::daily(3)]);
    w.day_begins(w.now - HOUR);
    w.tell(Event::Lease(w.now));
    for _ in 0..5 {
        w.ask_for(1, "job", Demand::default(), Some(SECOND * 60));
    }
    assert!(w.grants().is_empty(), "none is granted yet");
    let refusals = w.refusals();
    assert_eq!(refusals.len(), 2);
    assert!(refusals.iter().all(|(reason, _)| *reason == RefusalReason::BudgetExhausted), "{refusals:?}");
}
