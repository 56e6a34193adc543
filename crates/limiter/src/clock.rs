//! The limiter's clock, and which times of it can be compared.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

use nix::time::{ClockId, clock_gettime};
use quotakeeper_engine::time::Time;
use serde::{Deserialize, Serialize};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How far [`now`] is ahead of the machine's clock, in nanoseconds; negative: behind.
static SHIFT: AtomicI64 = AtomicI64::new(0);

/// The limiter's clock: that of its machine, or of the limiter that has handed over to this one.
pub fn now() -> Time {
    shown_at(machine_time())
}

/// What [`now`] showed at this time of the machine, or will show.
pub fn shown_at(machine: Time) -> Time {
    Time(machine.0.saturating_add_signed(SHIFT.load(Ordering::Relaxed)))
}

/// `CLOCK_BOOTTIME` in nanoseconds: monotonic, and it goes on while the machine is suspended
/// (clock_gettime(2)).
pub fn machine_time() -> Time {
    // The call fails for unknown clocks only; CLOCK_BOOTTIME is there since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Time(u64::MAX), |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or_default();
        Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    })
}

/// Lets [`now`] be so many nanoseconds ahead of the machine's clock from now on. Times that were read before have no
/// meaning then.
pub fn set_shift(shift: i64) {
    SHIFT.store(shift, Ordering::Relaxed);
}

/// Names the clock that times were read from: one boot of one machine, and how far it is ahead of that machine's clock.
/// Times of different domains can't be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClockDomain(pub String);

/// The clock's domain is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{BOOT_ID} can't be read: {0}; without it the ledger's times have no meaning, so mount /proc")]
pub struct ClockDomainError(io::Error);

impl ClockDomain {
    /// The domain of [`now`].
    ///
    /// # Errors
    /// [`ClockDomainError`] when the machine's boot id can't be read.
    pub fn current() -> Result<ClockDomain, ClockDomainError> {
        Ok(ClockDomain::of(&boot()?, SHIFT.load(Ordering::Relaxed)))
    }

    /// The domain of [`machine_time`].
    ///
    /// # Errors
    /// As of [`ClockDomain::current`].
    pub fn machine() -> Result<ClockDomain, ClockDomainError> {
        Ok(ClockDomain::of(&boot()?, 0))
    }

    fn of(boot: &str, shift: i64) -> ClockDomain {
        match shift {
            0 => ClockDomain(boot.to_owned()),
            shift => ClockDomain(format!("{boot} {shift:+}")),
        }
    }

    /// How far its clock is ahead of the machine's, if that of `other` goes on on the same boot of the same machine.
    pub fn shift_beside(&self, other: &ClockDomain) -> Option<i64> {
        let parts = |domain: &ClockDomain| match domain.0.split_once(' ') {
            Some((boot, shift)) => Some((boot.to_owned(), shift.parse::<i64>().ok()?)),
            None => Some((domain.0.clone(), 0)),
        };
        let ((boot, shift), (others, _)) = (parts(self)?, parts(other)?);
        (boot == others).then_some(shift)
    }
}

fn boot() -> Result<String, ClockDomainError> {
    Ok(std::fs::read_to_string(BOOT_ID).map_err(ClockDomainError)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_tells_how_far_its_clock_is_ahead_on_the_same_boot_alone() {
        let here = ClockDomain::of("boot", 0);
        for shift in [0, 7, -7, i64::MIN] {
            assert_eq!(ClockDomain::of("boot", shift).shift_beside(&here), Some(shift));
            assert_eq!(ClockDomain::of("other", shift).shift_beside(&here), None);
        }
        assert_eq!(here.shift_beside(&ClockDomain::of("boot", 9)), Some(0));
        assert_ne!(ClockDomain::of("boot", 1), here, "their times can't be compared");
    }
}
