//! Allocations: parts of a quota for sets of pods, their priorities, and a bound of calls under way per workload.

mod shares;

use std::collections::BTreeMap;

use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{AccountConfig, LimitConfig};
use quotakeeper_engine::event::{
    Attempt, CallClass, Event, Observation, RefusalReason, SessionId, StatedUse,
};
use quotakeeper_engine::sharing::{AllocationConfig, Priority, Sharing};

use crate::world::*;

pub fn allocation(name: &str) -> AllocationConfig {
    AllocationConfig {
        name: name.into(),
        weight: 1,
        guaranteed_percent: 0,
        max_percent: 100,
        priority: Priority::Normal,
        limits: Vec::new(),
    }
}

pub fn shared(limits: Vec<LimitConfig>, allocations: Vec<AllocationConfig>) -> AccountConfig {
    let sharing = Sharing { allocations, max_concurrent_per_workload: None };
    AccountConfig { sharing, ..account(limits) }
}

pub fn of(allocation: &str) -> CallClass {
    CallClass { allocation: Some(allocation.into()), ..CallClass::default() }
}

impl World {
    /// Calls of a workload of this allocation and name.
    pub fn asks_of(&mut self, session: u64, allocation: &str, calls: usize) {
        for _ in 0..calls {
            self.ask_as(session, allocation, of(allocation), None);
        }
    }

    /// What was granted within so many seconds, by session; each call is answered at once.
    pub fn served(&mut self, seconds: u32) -> BTreeMap<u64, usize> {
        let mut served = BTreeMap::new();
        for _ in 0..seconds * 10 {
            for attempt in self.grants() {
                *served.entry(attempt.session.0).or_default() += 1;
                self.answered(attempt);
            }
            self.pass(MS * 100);
        }
        served
    }

    /// How much an allocation has used of a limit, and may use.
    fn part(&mut self, allocation: &str, limit: &str) -> (u64, u64) {
        let status = self.engine.status(self.now);
        let of_one = status.allocations.into_iter().find(|it| it.name == *allocation).unwrap();
        let limit = of_one.limits.into_iter().find(|it| it.name == limit).unwrap();
        (limit.used, limit.amount)
    }
}

fn answer_all(w: &mut World) -> Vec<Attempt> {
    let granted = w.grants();
    granted.iter().for_each(|attempt| w.answered(*attempt));
    granted
}

#[test]
fn a_maximum_holds_also_while_the_others_are_idle_and_nothing_else_is_held_up_by_it() {
    let capped = AllocationConfig { max_percent: 20, ..allocation("batch") };
    let mut w = World::of(shared(vec![sliding("requests", 100, 60)], vec![capped]));
    w.asks_of(1, "batch", 50);
    assert_eq!(w.served(30).values().sum::<usize>(), 20);
    assert_eq!((w.part("batch", "requests"), w.used("requests")), ((20, 20), 20));
    for _ in 0..5 {
        w.ask_as(2, "web", CallClass::default(), None);
    }
    assert_eq!(answer_all(&mut w).len(), 5, "the others don't wait behind it");
    w.pass(SECOND * 60);
    assert_eq!(w.grants().len(), 20, "in every window");
}

#[test]
fn limits_of_an_allocation_and_of_the_account_are_charged_together_or_not_at_all() {
    let own = AllocationConfig { limits: vec![sliding("daily", 3, 86_400)], ..allocation("sales") };
    let mut w = World::of(shared(vec![sliding("requests", 5, 60)], vec![own]));
    w.asks_of(1, "sales", 10);
    assert_eq!(answer_all(&mut w).len(), 3, "its own limit is full");
    assert_eq!(
        (w.part("sales", "daily"), w.used("requests")),
        ((3, 3), 3),
        "the others draw nothing anywhere"
    );
    for _ in 0..4 {
        w.ask_as(2, "web", CallClass::default(), None);
    }
    assert_eq!(answer_all(&mut w).len(), 2, "the account's is full");
    assert_eq!(w.part("sales", "daily"), (3, 3));
}

#[test]
fn a_call_that_is_larger_than_its_allocations_part_is_refused_with_both_figures() {
    let capped = AllocationConfig { max_percent: 10, ..allocation("batch") };
    let mut w = World::of(shared(vec![sliding("requests", 100, 60)], vec![capped]));
    let mut demand = requests(11);
    demand.class = of("batch");
    w.ask_for(1, "job", demand, None);
    assert_eq!(w.refusals(), [(RefusalReason::NeverFits, None)]);
}

#[test]
fn what_the_provider_lowers_lowers_the_maximum_in_proportion() {
    let capped = AllocationConfig { max_percent: 20, ..allocation("batch") };
    let mut w = World::of(shared(vec![sliding("requests", 100, 60)], vec![capped]));
    w.asks_of(1, "batch", 1);
    let first = w.grants()[0];
    let told =
        Observation { limit: "requests".to_owned(), hard: Some(50), remaining: Some(49), ends_in: None };
    w.answered_with(first, told);
    assert_eq!(w.part("batch", "requests"), (1, 10));
}

#[test]
fn an_interactive_call_goes_before_the_backlog_of_a_batch_which_keeps_a_tenth() {
    let priorities = vec![
        AllocationConfig { priority: Priority::Interactive, ..allocation("chat") },
        AllocationConfig { priority: Priority::Batch, ..allocation("nightly") },
    ];
    let mut w = World::of(shared(vec![sliding("requests", 20, 10)], priorities));
    w.asks_of(1, "nightly", 500);
    w.served(20);
    w.asks_of(2, "chat", 3);
    w.pass(SECOND * 10);
    let first: Vec<u64> = w.grants().iter().take(5).map(|attempt| attempt.session.0).collect();
    assert_eq!(first.iter().filter(|session| **session == 2).count(), 3, "{first:?}");

    w.asks_of(2, "chat", 500);
    let served = w.served(100);
    let (chat, nightly) = (served[&2], served[&1]);
    assert!(nightly * 100 / (chat + nightly) >= 9 && nightly * 100 / (chat + nightly) <= 11, "{served:?}");
}

#[test]
fn the_wait_of_an_interactive_call_is_not_foreseen_behind_a_batch() {
    let priorities = vec![
        AllocationConfig { priority: Priority::Interactive, ..allocation("chat") },
        AllocationConfig { priority: Priority::Batch, ..allocation("nightly") },
    ];
    let mut w = World::of(shared(vec![limit("requests", 10, 10)], priorities));
    w.asks_of(1, "nightly", 500);
    w.served(10);
    w.ask_as(2, "chat", of("chat"), Some(SECOND * 10));
    assert_eq!(w.refusals(), [], "it is next, within a second or two");
    w.ask_as(1, "nightly", of("nightly"), Some(SECOND * 10));
    assert_eq!(w.refusals().len(), 1, "this one comes after 500 others");
}

#[test]
fn a_workload_has_no_more_calls_under_way_than_the_quota_allows_each() {
    let mut config = account(vec![sliding("requests", 100, 10)]);
    config.sharing.max_concurrent_per_workload = Some(2);
    let mut w = World::of(config.clone());
    for _ in 0..5 {
        w.ask_as(1, "greedy", CallClass::default(), None);
    }
    for _ in 0..3 {
        w.ask_as(2, "other", endpoint("search"), None);
    }
    let first = w.grants();
    let sessions: Vec<u64> = first.iter().map(|attempt| attempt.session.0).collect();
    assert_eq!(sessions, [1, 1, 2, 2], "each its two");
    w.pass(SECOND * 20);
    assert_eq!(w.grants(), [], "however much is free");
    w.answered(first[0]);
    assert_eq!(w.grants().len(), 1, "the next, when one is over");
    w.tell(Event::Unused { attempt: first[1], again: false });
    assert_eq!(w.grants().len(), 1, "or was not sent");

    config.sharing.max_concurrent_per_workload = Some(3);
    w.tell(Event::Configure(config.clone()));
    assert_eq!(w.grants().len(), 2, "one more of each");
    config.sharing.max_concurrent_per_workload = None;
    w.tell(Event::Configure(config));
    assert_eq!(w.grants().len(), 0, "none is left to wait");
    w.tell(Event::PodDeleted(SessionId(1)));
    w.ask_as(3, "greedy", CallClass::default(), None);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn calls_that_are_held_for_their_workload_go_on_when_the_quota_is_switched_off() {
    let mut config = account(vec![sliding("requests", 100, 10)]);
    config.sharing.max_concurrent_per_workload = Some(1);
    let mut w = World::of(config.clone());
    w.ask(5);
    assert_eq!(w.grants().len(), 1);
    config.mode = quotakeeper_engine::config::Mode::Disabled;
    w.tell(Event::Configure(config));
    assert_eq!(w.grants().len(), 4);
}

#[test]
fn a_restart_knows_what_an_allocation_has_used_and_which_calls_are_under_way() {
    let own = AllocationConfig { limits: vec![sliding("daily", 3, 86_400)], ..allocation("sales") };
    let mut config = shared(vec![sliding("requests", 100, 60)], vec![own]);
    config.sharing.max_concurrent_per_workload = Some(2);
    let mut w = World::of(config.clone());
    w.asks_of(1, "sales", 2);
    assert_eq!(w.grants().len(), 2);
    let (snapshot, reserve) = w.commit(0);
    let mut w = World::with(Engine::restart(config, snapshot, reserve, w.now), w.now);
    w.commit(10);
    assert_eq!(w.part("sales", "daily"), (2, 3));
    w.asks_of(2, "sales", 1);
    w.commit(10);
    assert_eq!(w.grants(), [], "two of the workload are under way");
    w.ask_as(3, "other", of("sales"), None);
    w.commit(10);
    assert_eq!(w.grants().len(), 1, "one of another workload fits");
}

#[test]
fn a_budget_counts_from_its_declaration_and_a_new_name_does_not_open_it_again() {
    let limits = vec![sliding("requests", 100, 60)];
    let mut w = World::of(shared(limits.clone(), Vec::new()));
    w.ask(5);
    answer_all(&mut w);
    let own = AllocationConfig { limits: vec![sliding("daily", 3, 86_400)], ..allocation("sales") };
    w.tell(Event::Configure(shared(limits.clone(), vec![own.clone()])));
    w.asks_of(1, "sales", 5);
    assert_eq!(answer_all(&mut w).len(), 3);

    let renamed = AllocationConfig { name: "gtm".into(), limits: vec![sliding("budget", 3, 86_400)], ..own };
    w.tell(Event::Configure(shared(limits, vec![renamed])));
    w.asks_of(2, "gtm", 5);
    let of_new: Vec<_> = w.grants().into_iter().filter(|attempt| attempt.session.0 == 2).collect();
    assert_eq!(of_new, [], "all of it is used");
}

#[test]
fn calls_of_an_allocation_that_is_gone_go_on_without_it() {
    let capped = AllocationConfig { max_percent: 1, ..allocation("batch") };
    let limits = vec![sliding("requests", 100, 60)];
    let mut w = World::of(shared(limits.clone(), vec![capped]));
    w.asks_of(1, "batch", 5);
    assert_eq!(answer_all(&mut w).len(), 1);
    w.tell(Event::Configure(account(limits)));
    assert_eq!(answer_all(&mut w).len(), 4);
}

#[test]
fn a_limiter_without_its_ledger_does_not_hold_a_maximum_for_used_but_an_own_limit() {
    let own = AllocationConfig {
        max_percent: 50,
        limits: vec![sliding("daily", 30, 86_400)],
        ..allocation("sales")
    };
    let config = shared(vec![sliding("requests", 100, 60)], vec![own]);
    let w = World::of(config.clone());
    let mut w = World::with(Engine::takeover(config, predecessor(w.now), w.now), w.now);
    assert_eq!(w.part("sales", "requests").0, 0);
    assert!(w.part("sales", "daily").0 >= 29, "{:?}", w.part("sales", "daily"));
}

#[test]
fn what_an_allocation_has_used_of_its_own_limit_can_be_stated() {
    let own = AllocationConfig { limits: vec![sliding("budget", 30, 86_400)], ..allocation("sales") };
    let config = shared(vec![sliding("daily", 1000, 86_400)], vec![own]);
    let w = World::of(config.clone());
    let mut w = World::with(Engine::takeover(config, predecessor(w.now), w.now), w.now);
    w.pass(SECOND * 900);
    for (limit, amount) in [("daily", 500), ("sales/budget", 20)] {
        w.tell(Event::UseStated(StatedUse { limit: limit.to_owned(), amount, at: w.now }));
    }
    w.asks_of(1, "sales", 30);
    assert_eq!(answer_all(&mut w).len(), 10);
    assert_eq!((w.part("sales", "budget"), w.used("daily")), ((30, 30), 510));
}
