//! Deliberate faults in the commit protocol, like those in the engine's rule: the simulator must detect
//! each of them. Without the feature `mutants` nothing here is compiled in.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The first record after a restart holds nothing for the grants of the limiter before it, which
    /// no proxy has named yet.
    FirstRecordDropsReserve,
    /// An account without a record in the ledger is taken to be new, whatever limiters before have granted.
    LostCountsAsNew,
    /// A day is over when the wall clock shows its end, whatever the limiter's own clock says.
    PeriodByWallClock,
    /// A checkpoint is believed that is older than the newest one.
    NumberIgnored,
    /// A lease is counted from when its renewal was answered.
    LeaseFromAnswer,
    /// A handover is used although another limiter has granted since.
    StaleHandover,
    /// A limiter that takes over leaves nothing out for the one that may be offline.
    OfflinePartGrantedTwice,
    /// Calls under way are left out of a handover, with what they hold.
    HandoverForgetsCalls,
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Puts a fault into all limiters of this thread; `None` removes it.
#[cfg(feature = "mutants")]
pub fn set(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Whether this fault is in force.
#[cfg(feature = "mutants")]
pub(crate) fn active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Whether this fault is in force: never.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn active(_: Mutant) -> bool {
    false
}
