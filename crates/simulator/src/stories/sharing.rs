//! Allocations, priorities, and bounds of single workloads. Pods of the workload `team/web-0` draw on the allocation
//! `web`.

use std::time::Duration;

use quotakeeper_engine::config::{Charged, CountedAs, LimitConfig, Reserving};
use quotakeeper_engine::sharing::{AllocationConfig, Priority};

use super::disasters::DISK;
use super::tokens::{counting, exact, tokens};
use super::{Story, calm, limit, ms, seconds, story};
use crate::random::Random;
use crate::scenario::{Arrivals, Away, Disk, Growth, Lease, Part, Scenario, TokenWork};

pub(super) const STORIES: &[Story] = &[
    story("shared-tokens", "two allocations of 30 and 70 %, whose calls are of different sizes", two),
    story("shared-tokens-restarts", "the same, and limiter and proxies die", two_restarts),
    story("shared-tokens-takeover", "the same, and a standby takes over", two_takeover),
    story("shared-lent", "an allocation is idle for a while, and has its guarantee back at once", lent),
    story("shared-maximum", "an allocation that may use 40 %, beside one without calls", maximum),
    story("shared-own-limits", "an allocation with limits of its own, which are used up", own_limits),
    story("shared-own-limits-restarts", "the same, and limiter and proxies die", own_limits_restarts),
    story("shared-own-limits-takeover", "the same, and a standby takes over", own_limits_takeover),
    story("shared-priorities", "interactive calls before those of a batch, which has its floor", priorities),
    story("shared-workloads", "workloads of which at most three calls may be under way", workloads),
];

fn allocation(name: &str, guaranteed_percent: u32) -> AllocationConfig {
    AllocationConfig {
        name: name.into(),
        weight: 1,
        guaranteed_percent,
        max_percent: 100,
        priority: Priority::Normal,
        limits: Vec::new(),
    }
}

const fn part(allocation: &'static str, (from, to): (u64, u64), percent: (u64, u64)) -> Part {
    Part { allocation, from: Duration::from_secs(from), to: Duration::from_secs(to), percent }
}

/// A limit of tokens that is used up beside one of calls that is not; three pods of each allocation.
fn shared(random: &mut Random, allocations: Vec<AllocationConfig>, work: TokenWork) -> Scenario {
    let mut scenario = calm(random, (6_000, seconds(60), ms(300)));
    let limit = match work.truth {
        Charged::AtArrival => exact(),
        charged => counting(charged, Reserving::Bound),
    };
    let limit =
        LimitConfig { counted_as: CountedAs::TokenBucket, ..tokens(random, (60_000, seconds(10)), limit) };
    scenario.account.limits.push(limit);
    let pods = allocations.iter().flat_map(|of_one| (0..3).map(move |_| format!("team/{}-0", of_one.name)));
    scenario.pods = pods.collect();
    scenario.account.sharing.allocations = allocations;
    scenario.tokens = Some(work);
    scenario.workload.arrivals = Arrivals::Backlog(12);
    // A disk that takes its time gets fewer commits.
    scenario.disk = Some(Disk { takes: ms(200), fails: 0 });
    scenario.length = seconds(120);
    scenario
}

fn thirty_and_seventy() -> Vec<AllocationConfig> {
    vec![allocation("web", 70), allocation("batch", 30)]
}

/// What calls of the one allocation use is four times what calls of the other do, and both allow the same.
fn two(random: &mut Random) -> Scenario {
    let charged = *random.pick(&[Charged::Settled, Charged::AsProduced]);
    let mut work = TokenWork::new((40, 400), (900, 900), 150, charged);
    work.outputs.grows =
        Some(Growth { at: Duration::ZERO, times: 4, workload: Some("team/web-0".to_owned()) });
    let mut scenario = shared(random, thirty_and_seventy(), work);
    scenario.expects.parts =
        const { &[part("web", (20, 120), (64, 74)), part("batch", (20, 120), (27, 33))] };
    scenario
}

fn dies(scenario: &mut Scenario) {
    scenario.disk = Some(Disk { takes: ms(50), fails: 0 });
    scenario.faults.limiter_crash = seconds(7);
    scenario.faults.proxy_crash = seconds(5);
    scenario.workload.hang_ups = 100_000;
    scenario.workload.hang_up_after = seconds(3);
    scenario.account.pause.max_call = seconds(5);
}

fn fails_over(scenario: &mut Scenario) {
    scenario.lease =
        Some(Lease { length: seconds(5), every: seconds(1), moves_within: ms(500), ..Lease::default() });
    scenario.faults.failover = seconds(40);
    scenario.account.pause.max_call = seconds(5);
}

fn two_restarts(random: &mut Random) -> Scenario {
    let mut scenario = two(random);
    dies(&mut scenario);
    scenario.expects.parts = &[];
    scenario
}

fn two_takeover(random: &mut Random) -> Scenario {
    let mut scenario = two(random);
    fails_over(&mut scenario);
    scenario.expects.parts = &[];
    scenario
}

/// What an idle allocation is guaranteed is lent, and it has it back with its next calls. The
/// other one has two workloads.
fn lent(random: &mut Random) -> Scenario {
    let work = TokenWork::new((400, 4_000), (100, 900), 300, Charged::AtArrival);
    let mut scenario = shared(random, thirty_and_seventy(), work);
    scenario.workload.away = Some(Away { pods: 3, from: seconds(30), to: seconds(70) });
    scenario.pods.push("team/batch-1".to_owned());
    scenario.expects.parts = const {
        &[
            part("web", (12, 30), (64, 74)),
            // More by the calls that were counted just after the period begins and before it ends: that nothing is over
            // is judged apart.
            part("batch", (40, 70), (92, 107)),
            part("web", (72, 82), (60, 80)),
            part("web", (80, 120), (66, 73)),
            part("batch", (80, 120), (26, 33)),
        ]
    };
    scenario
}

fn maximum(random: &mut Random) -> Scenario {
    let work = TokenWork::new((400, 4_000), (100, 900), 300, Charged::AtArrival);
    let web = AllocationConfig { max_percent: 40, ..allocation("web", 10) };
    let mut scenario = shared(random, vec![web, allocation("batch", 30)], work);
    scenario.pods.retain(|pod| pod == "team/web-0");
    scenario.expects.parts = const { &[part("web", (20, 120), (34, 41))] };
    scenario
}

/// The one allocation has a tenth of the tokens for itself and few calls in ten seconds; the other uses the rest.
fn own_limits(random: &mut Random) -> Scenario {
    let work = TokenWork::new((400, 4_000), (100, 900), 300, Charged::AtArrival);
    let mut web = allocation("web", 50);
    let counted_as = CountedAs::TokenBucket;
    let own = LimitConfig { counted_as, ..tokens(random, (6_000, seconds(10)), exact()) };
    let few = LimitConfig { name: "calls".to_owned(), ..limit("calls", (8, seconds(20), ms(300))) };
    web.limits = vec![LimitConfig { name: "budget".to_owned(), ..own }, few];
    let mut scenario = shared(random, vec![web, allocation("batch", 30)], work);
    scenario.expects.parts = const { &[part("web", (20, 120), (5, 11)), part("batch", (20, 120), (84, 95))] };
    scenario
}

fn own_limits_restarts(random: &mut Random) -> Scenario {
    let mut scenario = own_limits(random);
    dies(&mut scenario);
    scenario.expects.parts = &[];
    scenario
}

fn own_limits_takeover(random: &mut Random) -> Scenario {
    let mut scenario = own_limits(random);
    fails_over(&mut scenario);
    scenario.expects.parts = &[];
    scenario
}

/// Calls of the batch allow ten times the output that they use.
fn priorities(random: &mut Random) -> Scenario {
    let charged = *random.pick(&[Charged::Settled, Charged::AsProduced]);
    let mut work = TokenWork::new((40, 40), (300, 300), 2_000, charged);
    work.outputs.over_reserves = Some(("team/batch-0".to_owned(), 10));
    let interactive = AllocationConfig { priority: Priority::Interactive, ..allocation("web", 10) };
    let batch = AllocationConfig { priority: Priority::Batch, ..allocation("batch", 60) };
    let mut scenario = shared(random, vec![interactive, batch], work);
    // A tenth of the turns, less what a call of the batch waits until ten times what it uses is free.
    scenario.expects.parts = const { &[part("batch", (20, 120), (5, 13)), part("web", (20, 120), (80, 95))] };
    scenario
}

fn workloads(random: &mut Random) -> Scenario {
    let mut scenario = calm(random, (600, seconds(60), ms(300)));
    scenario.pods = (0..9).map(|pod| format!("team/{}-{}", ["web", "batch"][pod % 2], pod % 4)).collect();
    scenario.account.sharing.allocations = thirty_and_seventy();
    scenario.account.sharing.max_concurrent_per_workload = Some(3);
    scenario.upstream.thinks = seconds(1);
    scenario.upstream.streams = seconds(3);
    scenario.faults.connection_loss = seconds(5);
    scenario.disk = Some(DISK);
    scenario.faults.limiter_crash = seconds(40);
    scenario.length = seconds(200);
    scenario
}
