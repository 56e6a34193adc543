//! The rule, broken on purpose: a simulation that does not notice checks nothing.

use quotakeeper_engine::mutant::{self, Mutant};

use crate::campaign::{Outcome, run};
use crate::stories;

/// A broken clause, and a story that shows what it is there for.
pub const MUTANTS: [(Mutant, &str); 10] = [
    (Mutant::NoDriftGuard, "alternating"),
    (Mutant::GrantsPaced, "alternating"),
    (Mutant::EmptyTakeover, "failover"),
    (Mutant::NoLease, "failover-bursts"),
    (Mutant::NoReserve, "restarts-and-deaths"),
    (Mutant::ReleaseLowersLevel, "restarts-alternating"),
    (Mutant::MintTokensOnRaise, "raise"),
    (Mutant::IgnoreLateSent, "slow-writes"),
    (Mutant::SubtractOnUnused, "storm"),
    (Mutant::UnknownModelApart, "hidden-models"),
];

/// One world under a broken rule; `None`: there is no such story.
pub fn run_broken(mutant: Option<Mutant>, story: &str, seed: u64) -> Option<Outcome> {
    let story = stories::named(story)?;
    // The fault is this thread's; it must not outlive the run.
    mutant::set(mutant);
    let outcome = run(story, seed);
    mutant::set(None);
    Some(outcome)
}

/// The first of `seeds` in which a broken rule sends calls over the quota, and how many.
pub fn caught(mutant: Mutant, story: &str, seeds: std::ops::Range<u64>) -> Option<(u64, u64)> {
    seeds
        .filter_map(|seed| run_broken(Some(mutant), story, seed))
        .map(|outcome| (outcome.seed, outcome.report.over_beyond_promise()))
        .find(|(_, over)| *over > 0)
}
