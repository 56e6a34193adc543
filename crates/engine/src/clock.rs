//! When, on the limiter's clock, a proxy's stamp was taken: an upper bound that no delay breaks.
//!
//! Nothing is known of a message's transit but that it arrived after it was stamped. The least
//! difference ever seen between "received" and "stamped" therefore bounds the offset of the two
//! clocks from above; as they drift, the bound is widened by ρ for the time that has passed.

use std::time::Duration;

use crate::event::Pulse;
use crate::time::{Stamp, Time, drift};

/// The relation of one session's clock to the limiter's.
#[derive(Clone, Debug, Default)]
pub struct SessionClock {
    seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// θ: limiter time minus stamp is at most this, as of `at`. Origins are arbitrary: signed.
    offset: i128,
    /// When θ was last widened or tightened.
    at: Time,
    /// The newest stamp and its bound.
    pulse: Pulse,
}

impl SessionClock {
    /// Learns from a message that was stamped `stamp` and received before `now` was read, and
    /// returns the newest sign of life. `now` must be read after receiving.
    pub fn observe(&mut self, now: Time, stamp: Stamp) -> Pulse {
        let direct = i128::from(now.0) - i128::from(stamp.0);
        let offset = match self.seen {
            Some(seen) => direct.min(seen.widened(now)),
            None => direct,
        };
        let latest = bound(now, stamp, offset);
        let pulse = match self.seen {
            Some(seen) if seen.pulse.stamp > stamp => seen.pulse,
            // A later look at the same stamp may bound it better, never worse.
            Some(seen) if seen.pulse.stamp == stamp => Pulse { stamp, latest: latest.min(seen.pulse.latest) },
            _ => Pulse { stamp, latest },
        };
        self.seen = Some(Seen { offset, at: now, pulse });
        pulse
    }

    /// K(stamp): the latest time at which `stamp` can have been taken, seen from `now`. Before
    /// anything was observed: `now`.
    pub fn latest(&self, now: Time, stamp: Stamp) -> Time {
        self.seen.map_or(now, |seen| bound(now, stamp, seen.widened(now)))
    }

    /// The newest sign of life, if there was one.
    pub fn pulse(&self) -> Option<Pulse> {
        self.seen.map(|seen| seen.pulse)
    }
}

impl Seen {
    fn widened(&self, now: Time) -> i128 {
        self.offset + i128::from(drift(now.0.saturating_sub(self.at.0)))
    }
}

/// θ relates the clocks as of now; when the stamp was taken they may have stood ρ·age further apart.
fn bound(now: Time, stamp: Stamp, offset: i128) -> Time {
    let mapped = (i128::from(stamp.0) + offset).clamp(0, i128::from(u64::MAX)) as u64;
    let age = now.0.saturating_sub(mapped);
    now.min(Time(mapped.saturating_add(drift(age)).saturating_add(1)))
}

/// Whether a session's last message is recent enough to be granted anything: `now − K(echo) ≤ D/2`.
/// An older echo would leave the grant too little of its validity to travel and be written.
pub(crate) fn is_fresh(now: Time, pulse: Pulse, validity: Duration) -> bool {
    now < stale_at(pulse, validity)
}

/// From when on it is not, if the session says nothing more.
pub(crate) fn stale_at(pulse: Pulse, validity: Duration) -> Time {
    pulse.latest + validity / 2 + Duration::from_nanos(1)
}
