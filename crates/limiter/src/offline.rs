//! Who may go on without its Lease, as the Lease tells: one limiter at a time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use quotakeeper_limiter_core::offline::Offline;

use crate::epoch::Change;

/// The limiter that may go on without its Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Its epoch.
    pub(crate) epoch: u64,
    /// What it may grant.
    pub(crate) offline: Offline,
}

impl Claim {
    /// What a limiter leaves out that takes the Lease from one of the epoch `last`, and finds this claim there. One whose
    /// ledger it goes on with grants nothing more.
    pub(crate) fn left_out(self, last: Option<u64>, change: Change) -> Option<Offline> {
        let goes_on = matches!(change, Change::Handover | Change::Restart) && last == Some(self.epoch);
        (!goes_on).then_some(self.offline)
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claim { epoch, offline: Offline { percent, length } } = self;
        write!(formatter, "{epoch} {percent} {}", length.as_secs())
    }
}

/// A text that is no [`Claim`].
#[derive(Debug)]
pub(crate) struct NoClaim;

impl FromStr for Claim {
    type Err = NoClaim;

    fn from_str(text: &str) -> Result<Claim, NoClaim> {
        let numbers: Result<Vec<u64>, _> = text.split(' ').map(str::parse).collect();
        let &[epoch, percent, seconds] = numbers.map_err(|_| NoClaim)?.as_slice() else {
            return Err(NoClaim);
        };
        let percent = u32::try_from(percent).map_err(|_| NoClaim)?;
        Ok(Claim { epoch, offline: Offline { percent, length: Duration::from_secs(seconds) } })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OFFLINE: Offline = Offline { percent: 20, length: Duration::from_secs(900) };

    #[test]
    fn a_claim_is_written_and_read() {
        let claim = Claim { epoch: 1_795_000_000, offline: OFFLINE };
        assert_eq!(claim.to_string(), "1795000000 20 900");
        assert_eq!(claim.to_string().parse::<Claim>().unwrap(), claim);
        for text in ["", "1 2", "1 2 3 4", "a 2 3"] {
            assert!(text.parse::<Claim>().is_err(), "{text}");
        }
    }

    #[test]
    fn who_goes_on_with_the_ledger_of_the_one_that_claims_leaves_nothing_out() {
        let claim = Claim { epoch: 7, offline: OFFLINE };
        for change in [Change::Handover, Change::Restart] {
            assert_eq!(claim.left_out(Some(7), change), None);
            assert_eq!(claim.left_out(Some(9), change), Some(OFFLINE), "it is one before");
        }
        for change in [Change::Takeover, Change::First] {
            assert_eq!(claim.left_out(Some(7), change), Some(OFFLINE));
        }
    }
}
