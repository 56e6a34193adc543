//! Large calls beside small ones, several limits, edits: what is charged is known when a call arrives.

use quotakeeper_engine::config::{Charged, CountedAs, LimitConfig, Reserving};
use quotakeeper_engine::event::{CallClass, Scope};

use super::{at_arrival, counting, exact, tokens};
use crate::random::Random;
use crate::scenario::{Arrivals, Closed, Disk, Pace, Scenario, TokenWork};
use crate::stories::demands::change_of;
use crate::stories::{Story, calm, ms, seconds, story};

pub(super) const STORIES: &[Story] = &[
    story("tokens-edits", "a limit of tokens is halved, and raised again, while calls run", edits),
    story(
        "tokens-too-large",
        "calls that allow more than all of a limit, and several completions",
        too_large,
    ),
    story(
        "tokens-large-among-small",
        "a few calls of 40 % of a limit among many small ones",
        large_among_small,
    ),
    story(
        "tokens-rejected-alone",
        "large calls that the provider takes from nobody, beside small ones",
        rejected_alone,
    ),
    story("tokens-own-limits", "large calls that wait at limits of their own, over a shared one", own_limits),
    story(
        "tokens-behind-a-pause",
        "large calls of an endpoint that is closed, beside small ones",
        behind_a_pause,
    ),
];

fn endpoint(name: &str) -> CallClass {
    CallClass { endpoint: Some(name.to_owned()), ..CallClass::default() }
}

/// A limit of tokens that are counted by an exact formula when a call arrives, and calls of about a thousand.
fn exactly(random: &mut Random, amount: u64) -> Scenario {
    let mut scenario = calm(random, (6_000, seconds(60), ms(300)));
    scenario.account.limits.push(tokens(random, (amount, seconds(10)), exact()));
    scenario.tokens = Some(TokenWork::new((400, 4_000), (100, 900), 300, Charged::AtArrival));
    scenario.pods = (0..9).map(|pod| format!("team/job-{}", pod % 3)).collect();
    scenario.workload.arrivals = Arrivals::Backlog(8);
    scenario.workload.leaves = 20_000;
    scenario.length = seconds(200);
    // A slow disk gets few commits.
    scenario.disk = Some(Disk { takes: ms(200), fails: 0 });
    scenario.expects.tokens_used_at_least = Some(8_000);
    scenario
}

fn edits(random: &mut Random) -> Scenario {
    let mut scenario = at_arrival(random);
    let amount = scenario.account.limits[1].amount;
    scenario.upstream.adverse = true;
    scenario.stalls.limiter_every = seconds(0);
    scenario.stalls.after_decision = 0;
    scenario.length = seconds(150);
    // After this time what was in flight under the limit before has been counted. A bucket that keeps its level is
    // known to be one only where the limit says so; elsewhere no more counts of it than a window holds.
    let lead = match scenario.account.limits[1].counted_as {
        CountedAs::TokenBucket => seconds(3),
        _ => seconds(13),
    };
    let change = |from, amount, provider_first| change_of(&scenario, 1, from, amount, provider_first, lead);
    scenario.changes = vec![
        change(seconds(40) + ms(137), amount / 2, false),
        change(seconds(80) + ms(71), amount, true),
        change(seconds(110) + ms(3), amount * 2 / 3, false),
    ];
    scenario.expects.tokens_used_at_least = None;
    scenario
}

/// The most that a call can use is held, so it is refused at once where that is more than there is.
fn too_large(random: &mut Random) -> Scenario {
    let charged = *random.pick(&[Charged::Settled, Charged::AsProduced, Charged::Unknown]);
    let mut scenario = exactly(random, 3_000);
    let mut work = TokenWork::new((0, 400), (500, 4_000), 20_000, charged);
    work.choices = *random.pick(&[1, 3]);
    work.pace = Pace::TokensPerSecond(1_000, seconds(20));
    scenario.tokens = Some(work);
    for limit in scenario.account.limits.iter_mut().skip(1) {
        limit.tokens = Some(counting(charged, Reserving::Bound));
    }
    scenario.account.pause.max_call = seconds(30);
    scenario.expects.tokens_used_at_least = None;
    scenario.expects.refused_at_most = u64::MAX;
    scenario.expects.refused_at_least = 10;
    // Which of the calls are refused is chance, and so is what is left of a workload's turns.
    scenario.workload.arrivals = Arrivals::Percent(2);
    scenario
}

fn large_among_small(random: &mut Random) -> Scenario {
    // Small calls alone would leave less than a large one needs.
    let mut scenario = exactly(random, 42_000);
    scenario.workload.arrivals = Arrivals::Percent(3);
    let many = (0..39).map(|_| endpoint("small"));
    scenario.shapes = std::iter::once(endpoint("large")).chain(many).collect();
    if let Some(work) = &mut scenario.tokens {
        (work.text_bytes, work.max_output) = ((3_000, 3_400), (100, 100));
        work.outputs.large = Some((0, 19));
    }
    scenario.expects.longest_wait_at_most = Some(seconds(100));
    scenario.expects.tokens_used_at_least = Some(6_500);
    scenario
}

/// A bucket of a fifth of the limit, and calls of more than that: each waits until it has all of the bucket, and is
/// rejected even so. After the first the others are refused.
fn rejected_alone(random: &mut Random) -> Scenario {
    let mut scenario = exactly(random, 40_000);
    let many = (0..39).map(|_| endpoint("small"));
    scenario.shapes = std::iter::once(endpoint("large")).chain(many).collect();
    for limit in scenario.account.limits.iter_mut().skip(1) {
        (limit.counted_as, limit.burst) = (CountedAs::TokenBucket, Some(8_000));
    }
    if let Some(work) = &mut scenario.tokens {
        (work.text_bytes, work.max_output) = ((3_000, 3_400), (100, 100));
        work.outputs.large = Some((0, 16));
        work.provider.rejects = true;
    }
    (scenario.expects.refused_at_least, scenario.expects.refused_at_most) = (3, u64::MAX);
    // Each of the large calls is of another size, and smaller than those before only now and then.
    scenario.expects.rejected_at_most = Some(120);
    scenario
}

/// Each endpoint's own limit lets one of its calls through in 16 s; the shared one would let four through in that time.
fn own_limits(random: &mut Random) -> Scenario {
    let mut scenario = exactly(random, 10_000);
    scenario.shapes = ["first", "second", "third", "other", "other", "other", "other"].map(endpoint).to_vec();
    // Calls of the others alone are more than the shared limit lets through.
    scenario.account.limits[0].amount = 600;
    scenario.workload.arrivals = Arrivals::Percent(8);
    if let Some(work) = &mut scenario.tokens {
        (work.text_bytes, work.max_output) = ((10_000, 10_000), (500, 500));
    }
    for name in ["first", "second", "third"] {
        let own = tokens(random, (3_100, seconds(16)), exact());
        let counted_as = CountedAs::TokenBucket;
        let own = LimitConfig { name: name.to_owned(), endpoint: Some(name.to_owned()), counted_as, ..own };
        scenario.account.limits.push(own);
    }
    scenario.expects.tokens_used_at_least = Some(8_000);
    scenario
}

fn closed_to_large(second: u64) -> Closed {
    let (from, length, scope) = (seconds(second), seconds(50), Scope::endpoint("large"));
    Closed { from, length, scope, says_when: true, claimed_by: None }
}

fn behind_a_pause(random: &mut Random) -> Scenario {
    let mut scenario = large_among_small(random);
    if let Some(work) = &mut scenario.tokens {
        // Nearly all of the limit.
        work.outputs.large = Some((0, 45));
    }
    // More than the limit lets through: it is full whenever the large call looks.
    scenario.workload.arrivals = Arrivals::Percent(6);
    // Pauses of a minute at most hold everyone, without a witness.
    scenario.upstream.closed = [20, 75, 130].map(closed_to_large).to_vec();
    scenario.expects.longest_wait_at_most = None;
    scenario.expects.tokens_used_at_least = Some(6_400);
    scenario
}
