//! What a counter begins with where the time before is not known, and what the provider's headers
//! tell of it.

use super::{LONG, Ramp, WindowCounter, spread};
use crate::cost::Amount;
use crate::mutant::{self, Mutant};
use crate::time::{Time, nanos};
use crate::units::{Origin, Unit};

impl WindowCounter {
    /// Use of the time before this engine: N units that leave evenly through one window, and a
    /// full bucket but for one call, which asks the provider how things stand.
    pub(crate) fn fill_with_past(&mut self, begin: Time, room_for: Amount) {
        let units = self.amount.min(room_for) - Amount::ONE;
        let interval = nanos(self.window).div_ceil(self.amount.0.max(1));
        self.bulk.add(Ramp { units: units.0, last: begin + self.window, interval });
        self.bucket.set(self.bucket.size() - Amount::ONE, begin);
    }

    /// A limiter that takes over knows nothing of what its predecessor granted: a full bucket in
    /// flight until `arrived`, the rest of N leaving the log at the rate at which it can have
    /// come in. A long window without a bucket would be closed for all of it: once the
    /// predecessor's calls have arrived, one call may ask the provider how things stand.
    pub(crate) fn fill_with_predecessor(&mut self, now: Time, arrived: Time) {
        if !self.asks_bucket && self.window >= LONG {
            let units = self.amount - Amount::ONE;
            self.bulk.add(Ramp { units: units.0, last: arrived + self.window, interval: 0 });
            let settled = arrived - self.window;
            self.insert_counted(Unit::counted(Amount::ONE, settled, arrived, Origin::Past));
            self.asks_provider = Some(arrived);
            return;
        }
        let at_once = if self.asks_bucket { self.bucket.size().min(self.amount) } else { self.amount };
        self.bulk.add_arriving(arrived, at_once);
        self.in_flight += at_once;
        self.charged += at_once;
        if mutant::active(Mutant::GrantsPaced) {
            self.bucket.pour(now, at_once);
        }
        if let Some(spacing) = self.spacing {
            self.spaced_until = self.spaced_until.max(now) + spread(spacing, at_once);
        }
        // k · W/N · (1 − ρ), rounded down so that none leaves early.
        let interval = nanos(self.window) / self.amount.0.max(1);
        let interval = interval - crate::time::drift(interval).saturating_mul(2);
        let (units, last) = (self.amount - at_once, arrived + self.window);
        self.bulk.add(Ramp { units: units.0, last, interval });
        self.bucket.drain(now);
    }

    /// The provider says that `used` units are charged to the account in all: no more than that
    /// can be left of an unknown past. Those that would have left first go. Whether any went.
    pub(crate) fn past_is_at_most(&mut self, used: Amount) -> bool {
        self.asks_provider = None;
        self.bulk.past_is_at_most(used)
    }

    /// Others have drawn an amount that we did not see: charged from now on for one window.
    pub(crate) fn charge_others(&mut self, now: Time, amount: Amount) {
        let amount = amount.min(self.amount);
        if amount > Amount::ZERO {
            self.insert_counted(Unit::counted(amount, now, now + self.window, Origin::Others));
        }
    }
}
