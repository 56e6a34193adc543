//! An active limiter and a standby: who holds the lease, and what one hands to the other.

use std::time::Duration;

use super::disasters::DISK;
use super::{Story, calm, checkpoints, demands, ms, seconds, some_window, storm, story, tokens};
use crate::random::Random;
use crate::scenario::{Arrivals, Disk, Lease, Scenario};

pub(super) const STORIES: &[Story] = &[
    story("two-limiters", "limiters stall and die, and proxies and the API server are cut off", two_limiters),
    story(
        "two-limiters-slow-api-server",
        "answers of the API server come up to 16 s late, and at times none come",
        slow_api_server,
    ),
    story(
        "two-limiters-stopped-clock",
        "a limiter's clock stands still with it, and some proxies come back to it",
        stopped_clock,
    ),
    story(
        "two-limiters-concurrency",
        "limiters stall and die, and calls are limited at the same time",
        concurrency,
    ),
    story(
        "two-limiters-offline",
        "a limiter that can't renew its lease goes on with a part of each limit",
        offline,
    ),
    story("offline-tokens", "the same, and tokens that are counted when a call arrives", offline_tokens),
    story("offline-streams", "the same, and tokens that are counted until long answers end", offline_streams),
    story("offline-concurrency", "the same, and calls at the same time", offline_concurrency),
    story("offline-hour", "the same, and an hour's limit whose use is stored in checkpoints", offline_hour),
    story("handovers", "limiters are replaced by plan, again and again", handovers),
    story("handovers-cut", "each step of a handover may fail, and limiters stall and die", handovers_cut),
];

const LEASE: Lease = Lease {
    length: seconds(5),
    every: seconds(1),
    moves_within: ms(500),
    late: 0,
    strays: 0,
    clock_stops: false,
    cut_every: Duration::ZERO,
    handover: Duration::ZERO,
    handover_cut: 0,
    offline_percent: 0,
    offline_for: Duration::ZERO,
};

fn two_limiters(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    if random.chance(500_000) {
        scenario.workload.arrivals = Arrivals::Bursts;
    }
    scenario.disk = Some(DISK);
    scenario.lease = Some(Lease { cut_every: seconds(15), late: 20_000, strays: 300_000, ..LEASE });
    scenario.faults.failover = seconds(30);
    scenario.faults.partition = seconds(20);
    scenario.faults.proxy_crash = seconds(10);
    scenario.faults.limiter_crash = seconds(40);
    scenario.length = scenario.length.max(seconds(120));
    scenario
}

fn slow_api_server(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.disk = Some(DISK);
    if random.chance(500_000) {
        scenario.workload.arrivals = Arrivals::Bursts;
    }
    // Some proxies stay for a while with the limiter that waits for its answers.
    let lease = Lease { length: seconds(2), every: ms(400), moves_within: seconds(4), ..LEASE };
    scenario.lease = Some(Lease { late: 300_000, cut_every: seconds(8), ..lease });
    scenario.length = scenario.length.max(seconds(120));
    scenario
}

fn stopped_clock(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.disk = Some(DISK);
    scenario.lease = Some(Lease { clock_stops: true, strays: 800_000, ..LEASE });
    scenario.faults.failover = seconds(40);
    scenario.faults.connection_loss = ms(300);
    scenario.length = scenario.length.max(seconds(120));
    scenario
}

fn concurrency(random: &mut Random) -> Scenario {
    let mut scenario = demands::concurrency(random);
    let Scenario { lease, disk, faults, stalls, .. } = two_limiters(random);
    (scenario.lease, scenario.disk, scenario.faults, scenario.stalls) = (lease, disk, faults, stalls);
    scenario.faults.proxy_crash = Duration::ZERO;
    scenario.length = scenario.length.max(seconds(120));
    scenario
}

fn offline(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let scenario = storm(random, window);
    goes_on_offline(random, scenario)
}

fn offline_tokens(random: &mut Random) -> Scenario {
    let mut scenario = tokens::at_arrival(random);
    scenario.expects.tokens_used_at_least = None;
    goes_on_offline(random, scenario)
}

fn offline_streams(random: &mut Random) -> Scenario {
    let scenario = tokens::lost(random);
    goes_on_offline(random, scenario)
}

fn offline_concurrency(random: &mut Random) -> Scenario {
    let scenario = demands::concurrency(random);
    let mut scenario = goes_on_offline(random, scenario);
    // The provider goes on with calls whose proxies have died: here none does.
    scenario.faults.proxy_crash = Duration::ZERO;
    scenario
}

fn offline_hour(random: &mut Random) -> Scenario {
    let scenario = checkpoints::failover(random);
    let mut scenario = goes_on_offline(random, scenario);
    scenario.lease =
        scenario.lease.map(|lease| Lease { cut_every: seconds(200), handover: seconds(600), ..lease });
    scenario.faults.failover = seconds(400);
    scenario.faults.limiter_crash = seconds(900);
    scenario.faults.proxy_crash = seconds(400);
    scenario
}

/// The active limiter goes on with a part of each limit when it can't renew its lease, and others take over beside it.
fn goes_on_offline(random: &mut Random, mut scenario: Scenario) -> Scenario {
    if random.chance(500_000) {
        scenario.workload.arrivals = Arrivals::Bursts;
    }
    scenario.disk = Some(DISK);
    scenario.lease = Some(Lease {
        // Some proxies stay with the limiter that is cut off, and others come back to it.
        moves_within: seconds(15),
        strays: 300_000,
        late: 20_000,
        cut_every: seconds(15),
        handover: seconds(30),
        offline_percent: random.between(5, 50) as u32,
        offline_for: seconds(random.between(8, 30)),
        ..LEASE
    });
    scenario.faults.failover = seconds(60);
    scenario.faults.proxy_crash = seconds(20);
    scenario.faults.limiter_crash = seconds(40);
    // What the other grants is left out until no call of it can be under way.
    scenario.account.pause.max_call = scenario.upstream.thinks + scenario.upstream.streams + seconds(30);
    scenario.length = scenario.length.max(seconds(300));
    scenario
}

fn handovers(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    // Without stalls, which make the standby wait for the lease to run out.
    scenario.stalls.limiter_every = Duration::ZERO;
    scenario.upstream.thinks = ms(random.between(100, 3000));
    scenario.upstream.adverse = random.chance(500_000);
    scenario.disk = Some(Disk { takes: ms(random.between(1, 50)), ..DISK });
    scenario.lease = Some(Lease { handover: seconds(5), ..LEASE });
    scenario.faults.proxy_crash = seconds(10);
    scenario.length = scenario.length.max(seconds(60));
    scenario
}

fn handovers_cut(random: &mut Random) -> Scenario {
    let mut scenario = handovers(random);
    scenario.stalls.limiter_every = seconds(15);
    scenario.lease = Some(Lease {
        handover: seconds(8),
        handover_cut: 250_000,
        cut_every: seconds(30),
        late: 20_000,
        strays: 100_000,
        ..LEASE
    });
    scenario.faults.failover = seconds(30);
    scenario.faults.limiter_crash = seconds(20);
    scenario.faults.partition = seconds(20);
    scenario.length = scenario.length.max(seconds(120));
    scenario
}
