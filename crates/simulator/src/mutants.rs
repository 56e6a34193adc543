//! The rule and the commit protocol, broken on purpose: a simulation that does not notice checks nothing.

use quotakeeper_engine::mutant::Mutant;
use quotakeeper_limiter_core::mutant::Mutant as CommitMutant;
use quotakeeper_wire::mutant::Mutant as SessionMutant;

use crate::campaign::{Outcome, run};
use crate::stories;

/// A deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// In the engine's rule.
    Rule(Mutant),
    /// In the limiter's commit protocol, its lease or its handover.
    Commit(CommitMutant),
    /// In the session of proxy and limiter.
    Session(SessionMutant),
}

/// Each fault, and a story that shows what the broken clause is there for.
pub const MUTANTS: [(Fault, &str); 57] = [
    (Fault::Rule(Mutant::NoDriftGuard), "alternating"),
    (Fault::Rule(Mutant::GrantsPaced), "alternating"),
    (Fault::Rule(Mutant::EmptyTakeover), "failover"),
    (Fault::Rule(Mutant::NoLease), "failover-bursts"),
    (Fault::Rule(Mutant::NoReserve), "restarts-and-deaths"),
    (Fault::Rule(Mutant::ReserveForgetsBudget), "uneven-disk"),
    (Fault::Rule(Mutant::ReleaseLowersLevel), "restarts-alternating"),
    (Fault::Rule(Mutant::MintTokensOnRaise), "raise"),
    (Fault::Rule(Mutant::IgnoreLateSent), "slow-writes"),
    (Fault::Rule(Mutant::SubtractOnUnused), "storm"),
    (Fault::Rule(Mutant::UnknownModelApart), "hidden-models"),
    (Fault::Rule(Mutant::EditAddsPast), "small-edits"),
    (Fault::Rule(Mutant::EditLowersLevel), "edits"),
    (Fault::Rule(Mutant::ResetOfSlidingWindow), "others-sliding"),
    (Fault::Rule(Mutant::ResetFreesOwnCharges), "others-fixed"),
    (Fault::Rule(Mutant::OthersOutlastReset), "others-renamed"),
    (Fault::Rule(Mutant::OthersChargedAgain), "others-sliding"),
    (Fault::Rule(Mutant::OthersForgotten), "others-sliding"),
    (Fault::Rule(Mutant::LateResetBelieved), "others-late-reset"),
    (Fault::Rule(Mutant::RenameStartsAnew), "others-renamed"),
    (Fault::Rule(Mutant::LastAnswerCounts), "others-fixed"),
    (Fault::Rule(Mutant::EmptyTakeover), "tokens-takeover"),
    (Fault::Rule(Mutant::NoReserve), "tokens-restarts"),
    (Fault::Rule(Mutant::HangUpIsAnEnd), "tokens-counted-late"),
    (Fault::Rule(Mutant::FreedAtTheEnd), "tokens-over-reserving"),
    (Fault::Rule(Mutant::NothingKept), "tokens-large-among-small"),
    (Fault::Rule(Mutant::LossCountsWhatCame), "tokens-lost"),
    (Fault::Rule(Mutant::RestartForgetsDebt), "tokens-debt"),
    (Fault::Rule(Mutant::DebtClamped), "tokens-debt"),
    (Fault::Rule(Mutant::EditLowersLevel), "tokens-edits"),
    (Fault::Rule(Mutant::BoundCutToAmount), "tokens-too-large"),
    (Fault::Rule(Mutant::KeptEverywhere), "tokens-own-limits"),
    (Fault::Rule(Mutant::KeptBehindPause), "tokens-behind-a-pause"),
    (Fault::Rule(Mutant::RefundClipped), "tokens-over-reserving"),
    (Fault::Rule(Mutant::TurnOfZero), "tokens-over-reserving"),
    (Fault::Rule(Mutant::EndedCallsOnly), "tokens-long-tail"),
    (Fault::Rule(Mutant::SettledAtFirstByte), "tokens-counted-late"),
    (Fault::Rule(Mutant::RefundLowersLevel), "tokens-over-reserving"),
    (Fault::Rule(Mutant::OthersForgotten), "tokens-others"),
    (Fault::Rule(Mutant::RejectedAloneAgain), "tokens-rejected-alone"),
    (Fault::Rule(Mutant::SharesIgnored), "shared-tokens"),
    (Fault::Rule(Mutant::NoFloor), "shared-priorities"),
    (Fault::Rule(Mutant::AllocationsUnbounded), "shared-maximum"),
    (Fault::Rule(Mutant::BlockReclaimed), "checkpoints"),
    (Fault::Rule(Mutant::PausesUndoubted), "hostile-pauses"),
    (Fault::Rule(Mutant::OneWorkloadStops), "hostile-credentials"),
    (Fault::Rule(Mutant::QueueUnshared), "hostile"),
    (Fault::Commit(CommitMutant::NumberIgnored), "checkpoints-lost"),
    (Fault::Commit(CommitMutant::FirstRecordDropsReserve), "killed-before-a-proxy-is-back"),
    (Fault::Commit(CommitMutant::LostCountsAsNew), "new-account-and-lost-ledgers"),
    (Fault::Rule(Mutant::EmptyTakeover), "two-limiters"),
    (Fault::Rule(Mutant::NoLease), "two-limiters"),
    (Fault::Commit(CommitMutant::LeaseFromAnswer), "two-limiters-slow-api-server"),
    (Fault::Commit(CommitMutant::OfflinePartGrantedTwice), "two-limiters-offline"),
    (Fault::Commit(CommitMutant::HandoverForgetsCalls), "handovers"),
    (Fault::Commit(CommitMutant::StaleHandover), "handovers-cut"),
    (Fault::Session(SessionMutant::EpochsIgnored), "two-limiters-stopped-clock"),
];

/// One world with a fault; `None`: there is no such story.
pub fn run_broken(fault: Option<Fault>, story: &str, seed: u64) -> Option<Outcome> {
    let story = stories::named(story)?;
    // The fault is this thread's; it must not outlive the run.
    set(fault);
    let outcome = run(story, seed);
    set(None);
    Some(outcome)
}

fn set(fault: Option<Fault>) {
    let (mut rule, mut commit, mut session) = (None, None, None);
    match fault {
        Some(Fault::Rule(mutant)) => rule = Some(mutant),
        Some(Fault::Commit(mutant)) => commit = Some(mutant),
        Some(Fault::Session(mutant)) => session = Some(mutant),
        None => {}
    }
    quotakeeper_engine::mutant::set(rule);
    quotakeeper_limiter_core::mutant::set(commit);
    quotakeeper_wire::mutant::set(session);
}

/// The first of `seeds` in which a fault is noticed, and what is wrong with that world.
pub fn noticed(fault: Fault, story: &str, seeds: std::ops::Range<u64>) -> Option<(u64, Vec<String>)> {
    seeds
        .filter_map(|seed| run_broken(Some(fault), story, seed))
        .map(|outcome| (outcome.seed, outcome.report.faults()))
        .find(|(_, faults)| !faults.is_empty())
}
