//! A crash costs capacity, never correctness, and not much of it: the same seeds with and without.

use std::time::Duration;

use quotakeeper_simulator::Report;
use quotakeeper_simulator::scenario::{Disk, Lease, Scenario};
use quotakeeper_simulator::utilisation::scenario;
use quotakeeper_simulator::world::World;

const SEEDS: std::ops::Range<u64> = 500..504;
const DISK: Disk = Disk { takes: Duration::from_millis(3), fails: 0 };
const LEASE: Lease = Lease {
    length: Duration::from_secs(5),
    every: Duration::from_secs(1),
    moves_within: Duration::from_millis(500),
    late: 0,
    strays: 0,
    clock_stops: false,
    cut_every: Duration::ZERO,
    handover: Duration::ZERO,
    handover_cut: 0,
    offline_percent: 0,
    offline_for: Duration::ZERO,
};
const LIMITS: [(u64, Duration); 2] = [(100, Duration::from_secs(10)), (600, Duration::from_secs(60))];

/// A quiet day, and what `breaks` adds a bit after its middle.
fn day((amount, window): (u64, Duration), seed: u64, breaks: impl Fn(&mut Scenario, Duration)) -> Report {
    let thinks = Duration::from_millis(300);
    let mut scenario: Scenario = scenario(amount, window, Duration::from_millis(300), thinks, seed);
    let middle = scenario.length / 2 + Duration::from_millis(123);
    breaks(&mut scenario, middle);
    let report = World::new(scenario, seed).run();
    assert_eq!(report.faults(), Vec::<String>::new(), "{report}");
    report
}

/// Calls that were not made in time on account of it, on average.
fn lost(limit: (u64, Duration), breaks: impl Fn(&mut Scenario, Duration)) -> f64 {
    let mut lost = 0;
    for seed in SEEDS {
        let without = day(limit, seed, |_, _| {}).counted_in_time as i64;
        let with = day(limit, seed, &breaks);
        assert!(with.restarts + with.takeovers > 0 || with.died > 0, "nothing broke: {with}");
        lost += without - with.counted_in_time as i64;
    }
    lost as f64 / (SEEDS.end - SEEDS.start) as f64
}

#[test]
fn a_restart_costs_three_calls_at_most() {
    for limit in LIMITS {
        let lost = lost(limit, |scenario, middle| {
            scenario.disk = Some(DISK);
            scenario.faults.limiter_crash_at = Some(middle);
        });
        println!("{limit:?}: a restart costs {lost} calls");
        assert!(lost <= 3.0, "{limit:?}: {lost} calls lost");
    }
}

#[test]
fn a_failover_costs_seconds_of_the_rate_not_a_window() {
    for limit in LIMITS {
        let lost = lost(limit, |scenario, middle| {
            scenario.lease = Some(LEASE);
            scenario.faults.failover_at = Some(middle);
        });
        let seconds = lost * limit.1.as_secs_f64() / limit.0 as f64;
        println!("{limit:?}: a failover costs {lost} calls, {seconds:.1} s of the rate");
        assert!(seconds <= 9.5, "{limit:?}: {seconds} s of the rate");
    }
}

#[test]
fn a_proxys_death_costs_a_call() {
    let limit = LIMITS[1];
    let (mut lost, mut deaths) = (0, 0);
    for seed in SEEDS {
        let without = day(limit, seed, |_, _| {}).counted_in_time as i64;
        let with = day(limit, seed, |scenario, _| scenario.faults.proxy_crash = Duration::from_secs(4));
        lost += without - with.counted_in_time as i64;
        deaths += with.proxy_crashes as i64;
    }
    println!("{limit:?}: {deaths} deaths cost {lost} calls");
    assert!(deaths > 100, "{deaths}");
    assert!(lost <= deaths, "{limit:?}: {deaths} deaths cost {lost} calls");
}
