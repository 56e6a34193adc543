//! Accounts whose quota declares no tier: the limiter begins with the lowest and learns from answers what is allowed.

use quotakeeper_engine::config::CountedAs;

use super::demands::change_at;
use super::others::{shared, some_window};
use super::{Story, ms, seconds, story};
use crate::random::Random;
use crate::scenario::Scenario;

pub(super) const STORIES: &[Story] = &[
    story("learned-tier", "no tier is declared, and others use the account too", tier),
    story("learned-restarts", "the same with a limiter that restarts again and again", restarts),
    story(
        "learned-changes",
        "the provider raises the account's limit again and again, and nobody edits a quota",
        changes,
    ),
];

/// The provider's limit is that of a tier, or of none.
fn undeclared(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let counted_as = *random.pick(&[CountedAs::Unknown, CountedAs::SlidingWindow]);
    let mut scenario = shared(random, window, counted_as);
    let own = if random.chance(700_000) { window.0 } else { window.0 + 1 };
    scenario.tiers = vec![(window.0 / 20).max(2), window.0 / 2, own, window.0 * 4];
    scenario
}

fn tier(random: &mut Random) -> Scenario {
    undeclared(random)
}

fn restarts(random: &mut Random) -> Scenario {
    let mut scenario = undeclared(random);
    scenario.faults.limiter_crash = scenario.account.limits[0].window * 2;
    // Nothing is granted while it is away.
    scenario.expects.used_at_least = scenario.expects.used_at_least.map(|_| 5_000);
    scenario
}

fn changes(random: &mut Random) -> Scenario {
    let mut scenario = undeclared(random);
    // It is measured against the last amount.
    scenario.expects.used_at_least = None;
    let (limit, lead) = (scenario.account.limits[0].clone(), seconds(1));
    let (mut from, mut amount) = (random.within(ms(1), limit.window), limit.amount);
    while from + lead < scenario.length {
        amount += random.between(1, limit.amount / 2);
        change_at(&mut scenario, from, amount, true, lead);
        from = from + limit.window * 3 + random.within(ms(1), limit.window);
    }
    scenario
}
