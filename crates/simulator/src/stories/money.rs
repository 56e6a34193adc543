//! Budgets of money: what a call costs is known when its answer is over, and nothing may be overspent.

use std::time::Duration;

use quotakeeper_engine::config::{
    Charged, CountedAs, LimitConfig, ModelFacts, ModelPrices, Reserving, TokenLimit, TokenRates, Unit,
};

use super::{Story, checkpoints, limit, ms, seconds, story};
use crate::random::Random;
use crate::scenario::{Prices, Scenario, TokenWork};

pub(super) const STORIES: &[Story] = &[
    story("money", "an hour's budget, clients that hang up, and ledgers that are lost", ledgers_lost),
    story("money-restarts", "the same, and limiter and proxies die with their ledger kept", restarts),
    story("money-takeover", "the same, and a standby takes over", takeover),
];

/// A budget that about ten to sixty of the dearest calls use up, whatever else the scenario does.
fn with_a_budget(random: &mut Random, mut scenario: Scenario) -> Scenario {
    let charged = *random.pick(&[Charged::Settled, Charged::AsProduced]);
    let most_output = random.between(20, 2_000);
    let mean = random.between(20, 4_000);
    let mut work = TokenWork::new((40, 4_000), (1, most_output), mean, charged);
    // $0.1 to $15 a million.
    let prices =
        Prices { input: random.between(100_000, 5_000_000), output: random.between(100_000, 15_000_000) };
    work.prices = Some(prices);
    work.provider.settles_late = random.chance(500_000);
    let dearest = work.most(Unit::Dollars);
    let tokens =
        TokenLimit { charged, arrival: None, rates: TokenRates::default(), reserving: Reserving::Bound };
    scenario.account.limits.push(LimitConfig {
        unit: Unit::Dollars,
        counted_as: *random.pick(&[CountedAs::SlidingWindow, CountedAs::FixedWindow]),
        tokens: Some(tokens),
        ..limit("budget", (dearest * random.between(10, 60), seconds(3600), ms(1000)))
    });
    let Prices { input, output } = prices;
    let per_token = TokenRates { input, cached: input, cache_write: input, output };
    scenario.account.any_model =
        ModelFacts { prices: Some(ModelPrices { tokens: per_token, call: 0 }), ..ModelFacts::default() };
    scenario.account.pause.max_call = seconds(20);
    scenario.upstream.thinks = seconds(2);
    scenario.upstream.streams = seconds(5);
    scenario.tokens = Some(work);
    scenario.workload.hang_ups = *random.pick(&[0, 300_000]);
    scenario.workload.hang_up_after = seconds(6);
    scenario.workload.leaves = *random.pick(&[0, 300_000]);
    scenario
}

fn ledgers_lost(random: &mut Random) -> Scenario {
    let scenario = checkpoints::lost_ledgers(random);
    with_a_budget(random, scenario)
}

fn restarts(random: &mut Random) -> Scenario {
    let mut scenario = ledgers_lost(random);
    scenario.faults.ledger_loss = 0;
    scenario.faults.limiter_crash_again = 300_000;
    scenario.faults.proxy_crash = Duration::from_secs(300);
    scenario
}

fn takeover(random: &mut Random) -> Scenario {
    let scenario = checkpoints::failover(random);
    with_a_budget(random, scenario)
}
