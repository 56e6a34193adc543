//! The limiter's clock, and which times of it can be compared.

use std::io;

use nix::time::{ClockId, clock_gettime};
use quotakeeper_engine::time::Time;
use serde::{Deserialize, Serialize};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// `CLOCK_BOOTTIME` in nanoseconds: monotonic, and it goes on while the machine is suspended
/// (clock_gettime(2)).
pub fn now() -> Time {
    // The call fails for unknown clocks only; CLOCK_BOOTTIME is there since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Time(u64::MAX), |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or_default();
        Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    })
}

/// Names the clock that times were read from: one boot of one machine. Times of different domains can't be
/// compared.
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
        let boot = std::fs::read_to_string(BOOT_ID).map_err(ClockDomainError)?;
        Ok(ClockDomain(boot.trim().to_owned()))
    }
}
