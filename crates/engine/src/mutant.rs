//! Deliberate faults, one for each clause of the rule that is easy to get wrong.
//!
//! The simulator must notice every one of them: a check that passes a broken rule checks nothing.
//! Without the feature `mutants` nothing here is compiled into the engine.

/// A clause of the rule, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Durations are not stretched by ρ.
    NoDriftGuard,
    /// The bucket counts grants when they are made, not while they may still arrive.
    GrantsPaced,
    /// A limiter that takes over without the ledger starts empty.
    EmptyTakeover,
    /// The lease is not checked.
    NoLease,
    /// A restart does not hold the reserve against what was granted since the last commit.
    NoReserve,
    /// While a commit is under way, grants go on by what the commit before it charged ahead, though the new
    /// record has less.
    ReserveForgetsBudget,
    /// Releasing the reserve lowers the bucket's level.
    ReleaseLowersLevel,
    /// A raised limit fills the bucket instead of keeping what remained.
    MintTokensOnRaise,
    /// A late `Sent` is believed to have been counted already.
    IgnoreLateSent,
    /// An unused grant takes back what its bucket had counted.
    SubtractOnUnused,
    /// Calls whose model is not known are counted apart from all models.
    UnknownModelApart,
    /// An edit of a limit adds an unknown past to what is charged already.
    EditAddsPast,
    /// Lowering a limit keeps what remains in the bucket, but not what is in it.
    EditLowersLevel,
    /// The reset that answers name is believed of sliding windows too.
    ResetOfSlidingWindow,
    /// At a reset our own charges are free again.
    ResetFreesOwnCharges,
    /// What others have used is charged for a window, although the reset is sooner.
    OthersOutlastReset,
    /// Each answer charges what others have used, whether or not it is charged already.
    OthersChargedAgain,
    /// What others have used is not charged.
    OthersForgotten,
    /// A reset that is further away than a window is believed.
    LateResetBelieved,
    /// What may have been granted beyond a checkpoint is free again once its ledger is lost.
    BlockReclaimed,
    /// A limit that gets another name is a new one.
    RenameStartsAnew,
    /// A call whose client has hung up is taken to be over at the provider.
    HangUpIsAnEnd,
    /// What a call did not use is free at its end, though the provider may count it for a moment longer.
    FreedAtTheEnd,
    /// A large call that waits at a limit keeps nothing of it for itself.
    NothingKept,
    /// Allocations share alike, whatever they are guaranteed and weigh.
    SharesIgnored,
    /// A lower priority has its turns only when no call of a higher one waits.
    NoFloor,
    /// Calls are not charged to their allocation's limits.
    AllocationsUnbounded,
    /// Of a call whose client has hung up, what has come so far is all that counts.
    LossCountsWhatCame,
    /// A restart forgets what is in a bucket beyond its size.
    RestartForgetsDebt,
    /// A bucket holds no more than its size.
    DebtClamped,
    /// Of the most that a call can use, no more than all of the limit is held.
    BoundCutToAmount,
    /// A call that waits keeps what it needs of all limits, also where it does not wait for them.
    KeptEverywhere,
    /// A call keeps what it needs while it is paused.
    KeptBehindPause,
    /// What a call did not use gives its consumer nothing back where its next turn would lie in the past.
    RefundClipped,
    /// A call that draws tokens takes no turn.
    TurnOfZero,
    /// What calls use is learned from those that have ended alone.
    EndedCallsOnly,
    /// A call is settled when its answer begins.
    SettledAtFirstByte,
    /// What a call did not use lowers the level.
    RefundLowersLevel,
    /// The answer that comes last replaces what is known of others, also if it was overtaken and tells of less.
    LastAnswerCounts,
    /// A call that was rejected although it had the whole bucket is tried again and again.
    RejectedAloneAgain,
    /// One workload's short pauses bind everyone, however many they are.
    PausesUndoubted,
    /// Two credentials that are refused stop everyone, though one workload alone has heard it.
    OneWorkloadStops,
    /// Nobody finds a place in a full queue, whoever has filled it.
    QueueUnshared,
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Breaks one clause for all engines of this thread; `None` mends it.
#[cfg(feature = "mutants")]
pub fn set(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Whether this clause is broken.
#[cfg(feature = "mutants")]
pub(crate) fn active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Whether this clause is broken: never.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn active(_: Mutant) -> bool {
    false
}
