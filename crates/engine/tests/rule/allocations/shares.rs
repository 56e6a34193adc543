//! How allocations share what there is.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quotakeeper_engine::config::{
    AccountConfig, Charged, LimitConfig, Reserving, TokenLimit, TokenRates, Unit,
};
use quotakeeper_engine::cost::Demand;
use quotakeeper_engine::sharing::{AllocationConfig, Priority};
use quotakeeper_engine::tokens::CallSize;

use super::{allocation, of, shared};
use crate::world::*;

fn guaranteed(name: &str, percent: u32) -> AllocationConfig {
    AllocationConfig { guaranteed_percent: percent, ..allocation(name) }
}

fn two(first: u32, second: u32) -> AccountConfig {
    shared(vec![limit("requests", 100, 10)], vec![guaranteed("first", first), guaranteed("second", second)])
}

/// The percentage that session 1 had.
fn percent(served: &BTreeMap<u64, usize>) -> usize {
    served.get(&1).copied().unwrap_or(0) * 100 / served.values().sum::<usize>().max(1)
}

#[test]
fn a_backlog_of_two_is_shared_as_they_are_guaranteed_however_many_workloads_each_has() {
    let mut w = World::of(two(30, 70));
    w.asks_of(1, "first", 1000);
    for session in 2..8 {
        for _ in 0..300 {
            w.ask_as(session, &format!("team/{session}"), of("second"), None);
        }
    }
    w.served(10);
    let served = w.served(60);
    assert!((28..=32).contains(&percent(&served)), "{served:?}");
    let of_second: Vec<_> = served.range(2..).map(|(_, calls)| *calls).collect();
    assert!(of_second.iter().max().unwrap() - of_second.iter().min().unwrap() <= 2, "{served:?}");
}

#[test]
fn what_one_does_not_use_is_lent_and_comes_back_at_once() {
    let mut w = World::of(two(30, 70));
    w.asks_of(1, "first", 1000);
    w.served(10);
    let lent: usize = w.served(20).values().sum();
    assert!(lent >= 190, "all of 200 within 20 s: {lent}");
    w.asks_of(2, "second", 500);
    let served = w.served(20);
    assert!((28..=32).contains(&percent(&served)), "not to be caught up either: {served:?}");
}

#[test]
fn weights_share_what_nobody_is_guaranteed() {
    let weighted = AllocationConfig { weight: 3, guaranteed_percent: 20, ..allocation("first") };
    let mut w = World::of(shared(vec![limit("requests", 100, 10)], vec![weighted]));
    w.asks_of(1, "first", 1000);
    for _ in 0..1000 {
        w.ask_as(2, "web", Default::default(), None);
    }
    w.served(10);
    let served = w.served(50);
    assert!((78..=82).contains(&percent(&served)), "20 of 100, and 3/4 of the rest: {served:?}");
}

#[test]
fn an_allocation_is_not_counted_more_dearly_because_it_may_use_less() {
    let capped = AllocationConfig { max_percent: 50, ..guaranteed("first", 50) };
    let mut w = World::of(shared(vec![limit("requests", 100, 10)], vec![capped, guaranteed("second", 50)]));
    w.asks_of(1, "first", 1000);
    w.asks_of(2, "second", 1000);
    w.served(10);
    let served = w.served(50);
    assert!((47..=51).contains(&percent(&served)), "{served:?}");
}

/// Otherwise the others would pass whoever waits for the ledger at its own maximum, and their turns would be lost.
#[test]
fn the_ledger_charges_a_maximum_ahead_as_far_as_its_limit() {
    let tokens = TokenLimit {
        charged: Charged::Settled,
        arrival: None,
        rates: TokenRates { input: 1, cached: 1, cache_write: 1, output: 1 },
        reserving: Reserving::Bound,
    };
    let limit =
        LimitConfig { unit: Unit::TotalTokens, tokens: Some(tokens), ..sliding("tokens", 100_000, 60) };
    let half = AllocationConfig { max_percent: 1, ..guaranteed("capped", 1) };
    let config = shared(vec![limit], vec![guaranteed("first", 30), guaranteed("second", 60), half]);
    let mut w = World::of(config);
    w.alive(1);
    w.commit(50_000);
    let size = CallSize { text_bytes: 0, max_output: Some(5_000), choices: 1, ..CallSize::default() };
    w.ask_for(1, "job", Demand { class: of("first"), size: Some(size), ..Demand::default() }, None);
    assert_eq!(w.grants().len(), 1);
    let reserve = w.engine.reserve(w.now, MS * 100);
    let [all, first, second, capped] =
        ["tokens", "first/tokens", "second/tokens", "capped/tokens"].map(|limit| reserve.of(limit).0);
    assert!(all >= 10_000, "twice what was granted lately: {all}");
    assert_eq!((first, second, capped), (all, all, 1_000));
}

#[derive(Clone, Debug)]
struct Part {
    guaranteed: u32,
    weight: u32,
    max: u32,
    priority: Priority,
    workloads: u64,
}

fn part() -> impl Strategy<Value = Part> {
    let priority = prop::sample::select(vec![Priority::Interactive, Priority::Normal, Priority::Batch]);
    (0..30_u32, 1..5_u32, 20..=100_u32, priority, 1..4_u64).prop_map(
        |(guaranteed, weight, max, priority, workloads)| Part {
            guaranteed,
            weight,
            max: max.max(guaranteed),
            priority,
            workloads,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// However allocations are declared: all of the limit is used, nobody exceeds a maximum in any window, each
    /// workload gets its turn again and again, and among those of one priority each has what it is guaranteed.
    #[test]
    fn nobody_starves_and_guarantees_and_maxima_hold(parts in prop::collection::vec(part(), 1..4)) {
        let allocations: Vec<_> = parts.iter().enumerate().map(|(at, part)| AllocationConfig {
            guaranteed_percent: part.guaranteed,
            weight: part.weight,
            max_percent: part.max,
            priority: part.priority,
            ..allocation(&format!("a{at}"))
        }).collect();
        let mut w = World::of(shared(vec![limit("requests", 100, 10)], allocations));
        let mut session = 1;
        let mut of_part = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            for _ in 0..part.workloads {
                of_part.push(at);
                for _ in 0..400 {
                    w.ask_as(session, &format!("team/{session}"), of(&format!("a{at}")), None);
                }
                session += 1;
            }
        }
        w.served(10);
        let windows: Vec<_> = (0..4).map(|_| w.served(10)).collect();
        let (mut total, mut by_part) = (0, vec![0; parts.len()]);
        for (session, of_one) in (1..).zip(&of_part) {
            let calls: usize = windows.iter().map(|window| window.get(&session).copied().unwrap_or(0)).sum();
            prop_assert!(calls > 0, "workload {} of {:?} starves: {:?}", session, parts[*of_one], windows);
            by_part[*of_one] += calls;
            total += calls;
        }
        let most: u32 = parts.iter().map(|part| part.max).sum::<u32>().min(100);
        prop_assert!(total >= 3 * most as usize, "{total} of {} in four windows", 4 * most);
        for (part, calls) in parts.iter().zip(&by_part) {
            prop_assert!(*calls <= 5 * part.max as usize, "{calls} above {} in each of four windows", part.max);
            let alike = parts.iter().all(|other| other.priority == part.priority);
            let guaranteed = 4 * part.guaranteed as usize;
            prop_assert!(!alike || calls + 8 >= guaranteed, "{} of {} guaranteed: {:?}", calls, guaranteed, parts);
        }
    }
}
