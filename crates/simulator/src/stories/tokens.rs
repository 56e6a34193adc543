//! Limits of tokens beside one of calls: what calls say of their tokens decides how many of them fit.
//!
//! | room | holds |
//! |---|---|
//! | `streams` | answers of minutes, and what dies meanwhile |
//! | `learned` | what calls use is learned, and changes |
//! | `steady` | the same load all the time, for measurements |
//! | `mixed` | large calls beside small ones, several limits, edits |

mod learned;
mod mixed;
pub(crate) mod steady;
mod streams;

use std::time::Duration;

use quotakeeper_engine::config::{
    ArrivalFormula, ArrivalOutput, Charged, CountedAs, LimitConfig, Reserving, TokenLimit, TokenRates, Unit,
};

use super::disasters::DISK;
use super::{Story, limit, ms, seconds, storm, story};
use crate::random::Random;
use crate::scenario::{Arrivals, Lease, Scenario, TokenWork};

/// All of them.
pub(super) fn all() -> Vec<Story> {
    [STORIES, streams::STORIES, learned::STORIES, mixed::STORIES].concat()
}

const STORIES: &[Story] = &[
    story(
        "tokens-at-arrival",
        "tokens that are counted when a call arrives, clients that hang up",
        at_arrival,
    ),
    story("tokens-restarts", "the same, and limiter and proxies die", restarts),
    story("tokens-takeover", "the same, and a standby takes over", takeover),
    story("tokens-lost", "long answers whose clients hang up, while the provider goes on and counts", lost),
    story("tokens-lost-restarts", "the same, and limiter and proxies die", lost_restarts),
    story("tokens-learned", "answers that use a tenth of what they may, once that is learned", learned),
];

/// What a limit counts for each token.
const RATES: TokenRates = TokenRates { input: 1, cached: 1, cache_write: 1, output: 1 };

/// A limit of all tokens.
pub(super) fn tokens(
    random: &mut Random,
    (amount, window): (u64, Duration),
    tokens: TokenLimit,
) -> LimitConfig {
    LimitConfig {
        unit: Unit::TotalTokens,
        counted_as: *random.pick(&[CountedAs::Unknown, CountedAs::TokenBucket, CountedAs::SlidingWindow]),
        tokens: Some(tokens),
        ..limit("tokens", (amount, window, ms(300)))
    }
}

/// How a limit counts input and output as one, with an exact formula for what it counts when a call arrives.
pub(super) fn counting(charged: Charged, reserving: Reserving) -> TokenLimit {
    let formula = ArrivalFormula { bytes_per_token: 4, output: ArrivalOutput::Added, exact: true };
    TokenLimit { charged, arrival: Some(formula), rates: RATES, reserving }
}

/// The same of one that counts by that formula alone.
pub(super) fn exact() -> TokenLimit {
    counting(Charged::AtArrival, Reserving::Bound)
}

/// A limit of tokens that are counted by an exact formula, and calls of which about seventy are in a window of it.
pub(super) fn at_arrival(random: &mut Random) -> Scenario {
    let mut scenario = storm(random, (600, seconds(10), ms(300)));
    let text_bytes = (random.between(0, 400), random.between(400, 8_000));
    let work = TokenWork::new(text_bytes, (1, random.between(2, 2_000)), 300, Charged::AtArrival);
    let mean = (work.text_bytes.0 + work.text_bytes.1) / 8 + work.max_output.1 / 2;
    let largest = work.text_bytes.1 / 4 + 1 + work.max_output.1;
    let output = *random.pick(&[ArrivalOutput::Added, ArrivalOutput::Largest, ArrivalOutput::Ignored]);
    let formula = ArrivalFormula { bytes_per_token: 4, output, exact: true };
    let amount = (70 * mean).max(largest * 2);
    let counting = TokenLimit { arrival: Some(formula), ..exact() };
    scenario.account.limits.push(tokens(random, (amount, seconds(10)), counting));
    scenario.tokens = Some(work);
    scenario.workload.hang_ups = 100_000;
    scenario.workload.hang_up_after = seconds(3);
    scenario.expects.tokens_used_at_least = Some(3_000);
    scenario
}

fn restarts(random: &mut Random) -> Scenario {
    let mut scenario = at_arrival(random);
    scenario.disk = Some(DISK);
    scenario.faults.limiter_crash = seconds(7);
    scenario.faults.proxy_crash = seconds(5);
    scenario.expects.tokens_used_at_least = None;
    scenario
}

fn takeover(random: &mut Random) -> Scenario {
    let mut scenario = at_arrival(random);
    scenario.lease =
        Some(Lease { length: seconds(5), every: seconds(1), moves_within: ms(500), ..Lease::default() });
    scenario.faults.failover = Duration::from_secs(40);
    scenario.expects.tokens_used_at_least = None;
    scenario
}

/// Answers of many seconds, of which the provider counts the tokens until it has said the last of them. The most that
/// a call can use is held until its usage is told, and of one whose client has left as long as it can last.
pub(super) fn lost(random: &mut Random) -> Scenario {
    let ways = [Charged::Settled, Charged::AsProduced, Charged::Unknown];
    let charged = *random.pick(&ways);
    let text_bytes = (0, *random.pick(&[4, 400]));
    let max_output = (1, random.between(20, 2_000));
    // Most answers are as long as their requests allow, or a small part of it.
    let mean = random.between(50, 20_000);
    let truth = if charged == Charged::Unknown { *random.pick(&ways) } else { charged };
    let mut work = TokenWork::new(text_bytes, max_output, mean, truth);
    work.provider.settles_late = random.chance(500_000);
    let window = *random.pick(&[seconds(2), seconds(10)]);
    let mut scenario = long_answers(random, work, charged, Reserving::Bound, (40, window));
    scenario.workload.hang_ups = *random.pick(&[300_000, 900_000]);
    scenario.workload.hang_up_after = seconds(6);
    scenario.workload.leaves = *random.pick(&[0, 300_000]);
    scenario
}

/// Calls that last up to 20 s, of which this many with the most tokens fill the limit.
fn long_answers(
    random: &mut Random,
    work: TokenWork,
    charged: Charged,
    reserving: Reserving,
    (calls, window): (u64, Duration),
) -> Scenario {
    let mut scenario = storm(random, (600, seconds(10), ms(300)));
    let largest = work.text_bytes.1 + work.max_output.1;
    scenario.account.limits.push(tokens(random, (largest * calls, window), counting(charged, reserving)));
    scenario.account.pause.max_call = seconds(20);
    scenario.upstream.thinks = seconds(5);
    scenario.upstream.streams = seconds(8);
    scenario.tokens = Some(work);
    scenario.workload.arrivals = Arrivals::Backlog(8);
    scenario.length = seconds(150);
    scenario
}

fn lost_restarts(random: &mut Random) -> Scenario {
    let mut scenario = lost(random);
    scenario.disk = Some(DISK);
    scenario.faults.limiter_crash = seconds(7);
    scenario.faults.proxy_crash = seconds(5);
    scenario
}

/// Answers that use a tenth of what their requests allow: what they use is learned, and many more run at once.
fn learned(random: &mut Random) -> Scenario {
    let charged = Charged::AsProduced;
    let work = TokenWork::new((40, 400), (4_000, 4_000), random.between(200, 600), charged);
    let mut scenario = long_answers(random, work, charged, Reserving::Learned, (10, seconds(10)));
    for limit in scenario.account.limits.iter_mut().skip(1) {
        limit.counted_as = CountedAs::TokenBucket;
    }
    scenario.workload.arrivals = Arrivals::Backlog(40);
    scenario.workload.hang_ups = 50_000;
    scenario.workload.hang_up_after = seconds(15);
    scenario.expects.tokens_peak_at_most = Some(130);
    // A bucket of N lets W·q/(r·h) through: 25 to 50 % of answers that take 9 s of a window of 10 at first and when it
    // is learned, 8 % without learning.
    scenario.expects.tokens_used_at_least = Some(1_500);
    scenario
}
