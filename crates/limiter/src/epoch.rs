//! The epoch of a limiter: greater than that of every limiter that a proxy can have received from, also
//! if the ledger is lost.
//!
//! A proxy ignores limiters that are older than the newest that it has received from, and so would ignore
//! one that starts at 1 again. The epoch therefore has three sources, any of which may be lost: the ledger
//! (lost with the pod), the limiter's Lease (lost when Quotakeeper is uninstalled, while injected pods
//! live on), and the wall clock in seconds since 1970, which is wrong only on a node whose clock is behind. Limiters start less often than once a second,
//! so counting on from the greatest never runs ahead of the clock for long.

use std::fmt;

use quotakeeper_wire::message::Epoch;

/// How a limiter becomes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was none before.
    First,
    /// It goes on from its own ledger.
    Restart,
    /// The one before has handed its state over.
    Handover,
    /// The one before has not, and what it has granted is presumed.
    Takeover,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 4] = [Change::First, Change::Restart, Change::Handover, Change::Takeover];
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// The sources of an epoch when a limiter starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochSources {
    /// The epoch of the limiter that last used this ledger.
    pub ledger: Option<u64>,
    /// The epoch of the limiter that last started anywhere, by the Lease.
    pub lease: Option<u64>,
    /// The wall clock: seconds since 1970.
    pub unix_seconds: u64,
}

impl EpochSources {
    /// The epoch of the limiter that starts now.
    pub fn next(&self) -> Epoch {
        let after = |known: Option<u64>| known.map_or(0, |number| number.saturating_add(1));
        Epoch(after(self.ledger).max(after(self.lease)).max(self.unix_seconds))
    }

    /// Whether the ledger is that of the limiter before this one. If another has granted since, the ledger
    /// lacks these grants.
    pub fn ledger_is_newest(&self) -> bool {
        self.ledger.is_some() && (self.lease.is_none() || self.lease == self.ledger)
    }

    /// How the limiter that starts now begins. `handed`: the epoch of one that has handed over to it.
    pub fn change(&self, handed: Option<u64>) -> Change {
        match self {
            known if known.lease.is_some() && known.lease == handed => Change::Handover,
            known if known.ledger_is_newest() => Change::Restart,
            known if known.has_predecessor() => Change::Takeover,
            _ => Change::First,
        }
    }

    /// Whether a limiter may have granted before this one.
    pub fn has_predecessor(&self) -> bool {
        self.ledger.is_some() || self.lease.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(ledger: Option<u64>, lease: Option<u64>, unix_seconds: u64) -> EpochSources {
        EpochSources { ledger, lease, unix_seconds }
    }

    #[test]
    fn an_epoch_is_greater_than_all_before_whatever_is_lost() {
        // (ledger, Lease, clock): nothing lost, each lost, the clock behind, all but one lost.
        for (ledger, lease, clock) in [
            (Some(500), Some(500), 700),
            (None, Some(500), 700),
            (Some(500), None, 700),
            (Some(500), Some(500), 100),
            (None, Some(500), 100),
            (Some(500), None, 100),
            (None, None, 700),
            (Some(300), Some(500), 100),
        ] {
            let next = known(ledger, lease, clock).next();
            assert!(next > Epoch(500), "{ledger:?} {lease:?} {clock}: {next:?}");
        }
    }

    #[test]
    fn a_ledger_is_trusted_only_if_no_other_limiter_has_granted_since() {
        assert!(known(Some(5), Some(5), 0).ledger_is_newest());
        assert!(known(Some(5), None, 0).ledger_is_newest());
        assert!(!known(Some(4), Some(5), 0).ledger_is_newest());
        assert!(!known(None, Some(5), 0).ledger_is_newest());
        assert!(!known(None, None, 0).ledger_is_newest());
        let change = |ledger, lease, handed| known(ledger, lease, 0).change(handed);
        assert_eq!(change(None, None, None), Change::First);
        assert_eq!(change(Some(5), Some(5), None), Change::Restart);
        assert_eq!(change(Some(3), Some(5), Some(5)), Change::Handover);
        assert_eq!(change(Some(3), Some(5), Some(4)), Change::Takeover, "another has granted since");
        assert_eq!(change(None, None, Some(4)), Change::First);
        assert!(known(None, Some(5), 0).has_predecessor() && !known(None, None, 9).has_predecessor());
    }
}
