//! Answers of a minute and more, of which the most that they can use is held: clients and limiters go while they run,
//! and the provider counts all of them.

use std::time::Duration;

use quotakeeper_engine::config::{Charged, Reserving};

use super::{counting, tokens};
use crate::random::Random;
use crate::scenario::{Arrivals, Disk, Lease, Pace, Scenario, TokenWork};
use crate::stories::{Story, calm, ms, seconds, story};

pub(super) const STORIES: &[Story] = &[
    story(
        "tokens-streams",
        "answers of up to ten minutes; clients leave, and the provider goes on or stops",
        streams,
    ),
    story("tokens-streams-restarts", "the same, and limiter and pods die in mid-stream", streams_restarts),
    story("tokens-streams-takeover", "the same, and a standby takes over in mid-stream", streams_takeover),
    story("tokens-node-lost", "a node is lost with calls of a minute under way, a burst follows", node_lost),
    story(
        "tokens-late-hello",
        "a burst, a crash before it is in the ledger, and a pod that comes back minutes later",
        late_hello,
    ),
    story(
        "tokens-burst-takeover",
        "a burst of answers of two minutes, and a standby that takes over while they run",
        burst_takeover,
    ),
    story(
        "tokens-counted-late",
        "answers of two minutes whose tokens are counted at the end, which nobody knows",
        counted_late,
    ),
];

/// Calls of up to `longest`, of which so many with the most tokens fill a limit of a window.
fn long_streams(
    random: &mut Random,
    charged: Charged,
    longest: Duration,
    (calls, window): (u64, Duration),
) -> Scenario {
    let mut scenario = calm(random, (600, seconds(60), ms(300)));
    let ways = [Charged::Settled, Charged::AsProduced, Charged::Unknown];
    let truth = if charged == Charged::Unknown { *random.pick(&ways) } else { charged };
    let mut work = TokenWork::new((0, 400), (100, 2_000), random.between(300, 5_000), truth);
    work.outputs.none_per_million = 20_000;
    work.parts = 20;
    let thinks = seconds(2);
    // The longest answer, with what it may be slower, is over in time.
    let slowest = longest - thinks * 2;
    work.pace = Pace::TokensPerSecond(2_000 / (slowest.as_secs() * 4 / 5).max(1) + 1, slowest);
    work.choices = *random.pick(&[1, 3]);
    work.provider.stops = random.chance(300_000);
    let largest = work.text_bytes.1 + work.max_output.1 * u64::from(work.choices);
    let counting = counting(charged, Reserving::Bound);
    scenario.account.limits.push(tokens(random, (largest * calls, window), counting));
    scenario.account.pause.max_call = longest;
    scenario.upstream.thinks = thinks;
    scenario.upstream.streams = slowest;
    scenario.tokens = Some(work);
    scenario.workload.arrivals = Arrivals::Backlog(8);
    scenario.workload.leaves = *random.pick(&[100_000, 500_000]);
    scenario.stalls.proxy_every = seconds(60);
    scenario.length = longest * 2 + seconds(60);
    // A slow disk gets few commits.
    scenario.disk = Some(Disk { takes: ms(200), fails: 0 });
    scenario
}

fn any_way(random: &mut Random) -> Charged {
    *random.pick(&[Charged::Settled, Charged::AsProduced, Charged::Unknown])
}

fn streams(random: &mut Random) -> Scenario {
    let charged = any_way(random);
    let longest = *random.pick(&[seconds(130), seconds(600)]);
    long_streams(random, charged, longest, (40, seconds(60)))
}

fn streams_restarts(random: &mut Random) -> Scenario {
    let mut scenario = streams(random);
    // Some ends are acknowledged long before they are in the ledger.
    scenario.disk = Some(Disk { takes: *random.pick(&[ms(3), ms(700)]), fails: 0 });
    scenario.faults.limiter_crash = scenario.length / 8;
    scenario.faults.proxy_crash = seconds(60);
    scenario
}

fn streams_takeover(random: &mut Random) -> Scenario {
    let mut scenario = streams(random);
    scenario.lease =
        Some(Lease { length: seconds(5), every: seconds(1), moves_within: ms(500), ..Lease::default() });
    scenario.faults.failover = scenario.length / 4;
    scenario
}

fn node_lost(random: &mut Random) -> Scenario {
    let charged = any_way(random);
    let mut scenario = long_streams(random, charged, seconds(70), (30, seconds(10)));
    scenario.workload.arrivals = Arrivals::Jobs(40, 2);
    scenario.faults.node_loss_at = Some(seconds(60));
    scenario.workload.burst_at = Some((seconds(random.between(62, 170)), 10));
    scenario.length = seconds(300);
    scenario
}

fn late_hello(random: &mut Random) -> Scenario {
    let charged = any_way(random);
    let mut scenario = long_streams(random, charged, seconds(130), (30, seconds(60)));
    scenario.workload.arrivals = Arrivals::Jobs(60, 1);
    scenario.pods = (0..3).map(|pod| format!("team/job-{pod}")).collect();
    if let Some(work) = &mut scenario.tokens {
        // Nearly all take as long as they can, and use nearly all that is held for them.
        (work.max_output, work.outputs.mean) = ((2_000, 2_000), 200_000);
        (work.text_bytes, work.choices) = ((0, 4), 1);
        if charged == Charged::Unknown {
            work.truth = Charged::Unknown;
        }
    }
    let burst = seconds(random.between(20, 40));
    scenario.workload.burst_at = Some((burst, 40));
    scenario.disk = Some(Disk { takes: ms(400), fails: 0 });
    scenario.faults.limiter_crash_at = Some(burst + random.within(ms(1), ms(300)));
    scenario.faults.late_hello = seconds(random.between(60, 190));
    scenario.length = seconds(400);
    scenario
}

fn burst_takeover(random: &mut Random) -> Scenario {
    let mut scenario = late_hello(random);
    scenario.faults.limiter_crash_at = None;
    scenario.faults.late_hello = Duration::ZERO;
    scenario.lease =
        Some(Lease { length: seconds(5), every: seconds(1), moves_within: ms(500), ..Lease::default() });
    let burst = scenario.workload.burst_at.map_or(Duration::ZERO, |(at, _)| at);
    scenario.faults.failover_at = Some(burst + seconds(random.between(1, 10)));
    scenario
}

fn counted_late(random: &mut Random) -> Scenario {
    let mut scenario = long_streams(random, Charged::Unknown, seconds(130), (20, seconds(30)));
    if let Some(work) = &mut scenario.tokens {
        work.truth = Charged::Unknown;
        // Nearly all take as long as they can; in half of the worlds that is different for each.
        work.max_output = *random.pick(&[(2_000, 2_000), (100, 2_000)]);
        work.outputs.mean = 200_000;
        (work.text_bytes, work.choices) = ((0, 4), 1);
        work.uneven = *random.pick(&[2, 20]);
        work.provider.stops = false;
    }
    (scenario.workload.leaves, scenario.workload.leaves_within) =
        *random.pick(&[(30_000, seconds(3_600)), (1_000_000, seconds(5))]);
    scenario.length = seconds(600);
    scenario
}
