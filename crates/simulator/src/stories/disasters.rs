//! What dies: proxies, connections, limiters, leases.

use std::time::Duration;

use quotakeeper_engine::config::{CountedAs, LimitConfig, Unit};
use quotakeeper_engine::event::CallClass;

use super::{Story, calm, limit, ms, seconds, some_window, storm, story};
use crate::random::Random;
use crate::scenario::{Arrivals, Disk, Lease, Scenario};

pub(super) const STORIES: &[Story] = &[
    story("proxy-crashes", "proxies die with calls under way, others follow", proxy_crashes),
    story("reconnecting", "connections are lost all the time", reconnecting),
    story("partitions", "proxies that are cut off for a while", partitions),
    story("restarts", "the limiter's process dies and restarts from its ledger", restarts),
    story(
        "restarts-alternating",
        "the same, and the way to the provider takes nothing or J",
        restarts_alternating,
    ),
    story(
        "restarts-and-deaths",
        "the limiter restarts while proxies die that nobody hears of again",
        restarts_and_deaths,
    ),
    story(
        "chained-restarts",
        "the limiter dies again and again before all proxies are back",
        chained_restarts,
    ),
    story(
        "killed-before-a-proxy-is-back",
        "the limiter dies again before a proxy has said what it was granted",
        killed_before_a_proxy_is_back,
    ),
    story("uneven-disk", "commits take long or hardly any time, and limiter and proxies die", uneven_disk),
    story("failing-disk", "commits are slow, and one in five fails", failing_disk),
    story("restarts-without-ledger", "the limiter restarts and knows nothing", restarts_without_ledger),
    story(
        "new-account-and-lost-ledgers",
        "the ledger is lost soon after an account came into force, and again and again",
        new_account_and_lost_ledgers,
    ),
    story("new-account-with-a-day", "a new account with a daily limit, and restarts", new_account_with_a_day),
    story("failover", "the limiter stalls beyond its lease, a standby takes over", failover),
    story("failover-bursts", "the same, with bursts and proxies that find the new one late", failover_bursts),
    story("everything", "storms, crashes, failovers, partitions and hang-ups at once", everything),
];

/// A disk as nodes have it.
pub(super) const DISK: Disk = Disk { takes: ms(3), fails: 0 };

fn proxy_crashes(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.faults.proxy_crash = seconds(3);
    scenario.upstream.adverse = random.chance(500_000);
    scenario
}

fn reconnecting(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.faults.connection_loss = ms(700);
    scenario.upstream.adverse = random.chance(500_000);
    scenario
}

fn partitions(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.faults.partition = seconds(2);
    scenario.upstream.adverse = random.chance(500_000);
    scenario
}

fn restarts(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.disk = Some(DISK);
    scenario.faults.limiter_crash = window.1 * 7 / 10;
    scenario.faults.proxy_crash = seconds(5);
    scenario
}

fn restarts_alternating(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.disk = Some(Disk { takes: ms(50), ..DISK });
    scenario.faults.limiter_crash = window.1 * 7 / 10;
    scenario.upstream.adverse = true;
    scenario.clocks.adverse = true;
    scenario
}

fn restarts_and_deaths(random: &mut Random) -> Scenario {
    let mut scenario = calm(random, (1000, seconds(10), ms(100)));
    scenario.account.limits[0].burst = Some(300);
    scenario.workload.arrivals = Arrivals::Bursts;
    scenario.disk = Some(Disk { takes: ms(225), ..DISK });
    scenario.faults.limiter_crash = seconds(3);
    scenario.faults.proxy_crash = seconds(1);
    scenario
}

fn chained_restarts(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.upstream.thinks = seconds(1);
    scenario.disk = Some(DISK);
    scenario.faults.limiter_crash = seconds(3);
    scenario.faults.limiter_crash_again = 700_000;
    scenario.faults.connection_loss = seconds(2);
    if random.chance(300_000) {
        // The provider goes on with calls whose clients have hung up or died: here none does.
        let slots = LimitConfig {
            unit: Unit::ConcurrentRequests,
            ..limit("concurrent", (random.between(3, 12), Duration::ZERO, ms(300)))
        };
        scenario.account.limits.push(slots);
        return scenario;
    }
    if random.chance(300_000) {
        let model = |name: &str| CallClass { model: Some(name.to_owned()), ..CallClass::default() };
        scenario.shapes = vec![model("large"), model("small")];
        scenario.account.limits[0].per_model = true;
        scenario.workload.arrivals = Arrivals::Bursts;
    }
    scenario.faults.partition = seconds(10);
    scenario.faults.proxy_crash = seconds(10);
    scenario.workload.hang_ups = 500_000;
    scenario.workload.hang_up_after = seconds(2);
    scenario.stalls.before_check = 50_000;
    scenario.upstream.allows_percent = random.chance(500_000).then_some(75);
    scenario
}

fn killed_before_a_proxy_is_back(random: &mut Random) -> Scenario {
    let mut scenario = calm(random, (1000, seconds(10), ms(100)));
    let slots = LimitConfig {
        unit: Unit::ConcurrentRequests,
        ..limit("concurrent", (random.between(3, 12), Duration::ZERO, ms(300)))
    };
    scenario.account.limits.push(slots);
    // Few calls of a pod end while no limiter runs, so that a slot given away twice is one too many at the provider.
    scenario.pods = (0..25).map(|pod| format!("team/job-{}", pod % 3)).collect();
    scenario.upstream.thinks = seconds(4);
    scenario.disk = Some(Disk { takes: ms(100), ..DISK });
    scenario.faults.limiter_crash = seconds(3);
    scenario.faults.limiter_crash_again = 900_000;
    scenario
}

fn uneven_disk(random: &mut Random) -> Scenario {
    let mut scenario = calm(random, (1000, ms(2500), ms(100)));
    scenario.account.limits[0].counted_as = CountedAs::SlidingWindow;
    scenario.workload.arrivals = Arrivals::Bursts;
    scenario.disk = Some(Disk { takes: ms(250), ..DISK });
    scenario.faults.limiter_crash = seconds(1);
    scenario.faults.proxy_crash = ms(300);
    scenario
}

fn failing_disk(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.disk = Some(Disk { takes: ms(random.between(3, 300)), fails: 200_000 });
    scenario.faults.limiter_crash = window.1 * 7 / 10;
    scenario.faults.ledger_loss = 100_000;
    scenario
}

fn restarts_without_ledger(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.faults.limiter_crash = window.1 * 2;
    scenario.faults.ledger_loss = 1_000_000;
    scenario
}

fn new_account_and_lost_ledgers(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.recorded = true;
    let counted = [CountedAs::Unknown, CountedAs::SlidingWindow, CountedAs::TokenBucket];
    scenario.account.limits[0].counted_as = *random.pick(&counted);
    scenario.disk = Some(DISK);
    // Some die within the first window, when a predecessor can have granted little.
    scenario.faults.limiter_crash = window.1 / 2;
    scenario.faults.ledger_loss = 700_000;
    scenario.upstream.adverse = random.chance(500_000);
    scenario
}

/// No answer tells what is left of the day: nothing but the record says that all of it is.
fn new_account_with_a_day(random: &mut Random) -> Scenario {
    let mut scenario = calm(random, (100, seconds(10), ms(300)));
    scenario.recorded = true;
    let mut day = limit("daily", (250_000, seconds(86_400), ms(1000)));
    day.counted_as = CountedAs::SlidingWindow;
    scenario.account.limits.push(day);
    scenario.disk = Some(DISK);
    scenario.faults.limiter_crash = seconds(40);
    scenario.expects.below_ceiling_at_most = Some(2_000);
    scenario
}

fn failover(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.lease =
        Some(Lease { length: seconds(5), every: seconds(1), moves_within: ms(500), ..Lease::default() });
    scenario.faults.failover = (window.1 * 3).max(seconds(25));
    scenario.length = scenario.length.max(seconds(120));
    scenario.faults.proxy_crash = seconds(5);
    scenario
}

fn failover_bursts(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.workload.arrivals =
        if random.chance(500_000) { Arrivals::Bursts } else { scenario.workload.arrivals };
    scenario.lease =
        Some(Lease { length: seconds(1), every: ms(250), moves_within: seconds(4), ..Lease::default() });
    scenario.faults.failover = seconds(15);
    scenario.length = scenario.length.max(seconds(120));
    scenario
}

fn everything(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.lease =
        Some(Lease { length: seconds(3), every: ms(500), moves_within: seconds(2), ..Lease::default() });
    scenario.disk = Some(DISK);
    scenario.faults.failover = (window.1 * 4).max(seconds(40));
    scenario.faults.proxy_crash = seconds(6);
    scenario.faults.connection_loss = seconds(3);
    scenario.faults.partition = seconds(20);
    scenario.workload.hang_ups = 100_000;
    scenario.workload.hang_up_after = seconds(3);
    scenario.length = scenario.length.max(seconds(120));
    scenario.upstream.adverse = random.chance(500_000);
    scenario
}
