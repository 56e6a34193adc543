//! Providers that refuse until a person acts.
//!
//! One is believed when it says so twice: the first time one more call asks at once, while the others are held. From
//! the second on they are refused, and a call asks after 1, 2, 4 … 15 minutes.

use std::time::Duration;

use super::{Pause, Phase, STRIKES_AT_MOST};
use crate::event::Fingerprint;
use crate::name::Consumer;
use crate::time::{Time, stretched};

/// How long a provider that refuses until a person acts is not asked again: doubled from the first …
const STOPPED: Duration = Duration::from_secs(60);
/// … up to the longest.
const LONGEST_STOPPED: Duration = Duration::from_secs(15 * 60);

/// What the provider has said of refusing until a person acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusals {
    /// Nothing since it accepted a call, or rejected one for another reason.
    None,
    /// That it does, once.
    One,
    /// That it does, again.
    Stopped,
}

impl Pause {
    /// The provider refuses until a person acts. Returns for how long it is not asked again.
    pub(super) fn refused(&mut self) -> Duration {
        let before = self.refusals;
        self.refusals = if before == Refusals::None { Refusals::One } else { Refusals::Stopped };
        match before {
            Refusals::None => Duration::ZERO,
            Refusals::One => {
                self.strikes = 0;
                STOPPED
            }
            Refusals::Stopped => {
                STOPPED.saturating_mul(1 << self.strikes.min(STRIKES_AT_MOST)).min(LONGEST_STOPPED)
            }
        }
    }

    /// The stop of everyone, because two credentials were refused.
    pub(crate) fn stop(now: Time, reason: String) -> Pause {
        let mut pause = Pause::by_hand(now, stretched(STOPPED));
        pause.reason = reason;
        pause.refusals = Refusals::Stopped;
        pause
    }

    /// Whether the provider refuses until a person acts, and has said so more than once.
    pub(crate) fn stopped(&self) -> bool {
        self.refusals == Refusals::Stopped
    }

    /// Whether the provider has said that it refuses until a person acts, and has accepted no call since.
    pub(crate) fn is_refused(&self) -> bool {
        self.refusals != Refusals::None
    }

    /// The organisation whose calls were refused, if the provider names it.
    pub(crate) fn of_organization(&mut self, organization: Option<Fingerprint>) {
        self.organization = organization.or(self.organization);
    }

    /// The workload whose call was refused.
    pub(crate) fn heard_by(&mut self, workload: &Consumer) {
        self.heard_by = Some(workload.clone());
    }

    /// The workload whose call was refused last.
    pub(crate) fn heard(&self) -> Option<&Consumer> {
        self.heard_by.as_ref()
    }

    /// A call of another credential was accepted: it is the credential that is refused.
    pub(crate) fn contradict(&mut self) {
        self.contradicted = true;
    }

    /// Whether both may have been refused for the same reason, which concerns all credentials.
    pub(crate) fn agrees(&self, other: &Pause) -> bool {
        let same = match (self.organization, other.organization) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        same && self.is_refused() && other.is_refused() && !self.contradicted && !other.contradicted
    }

    /// Where everyone is stopped, all credentials that were refused ask by one probe: not before this time.
    pub(crate) fn share_probe(&mut self, until: Time) {
        self.refusals = Refusals::Stopped;
        if matches!(self.phase, Phase::Closed) {
            self.until = self.until.max(until);
        }
    }

    /// The cause is gone that it had in common with others: it asks at once.
    pub(crate) fn probe_now(&mut self, now: Time) {
        self.until = self.until.min(now);
    }
}
