//! Who uses the account past the proxies.

use std::time::Duration;

use super::{Happening, World};
use crate::scenario::Others;

/// The calls of a burst come within this time.
const BURST_TAKES: Duration = Duration::from_millis(100);

impl World {
    pub(super) fn begin_others(&mut self) {
        let Some(others) = self.others() else { return };
        if others.percent > 0 {
            self.after(Duration::from_millis(1), Happening::OthersCall);
        }
        if !others.bursts_every.is_zero() {
            let first = self.chances.others.exponential(others.bursts_every);
            self.after(first, Happening::OthersBurst);
        }
    }

    fn others(&self) -> Option<Others> {
        self.scenario.upstream.shared.as_ref().map(|shared| shared.others)
    }

    pub(super) fn others_call(&mut self) {
        let Some((others, limit)) = self.others().zip(self.scenario.account.limits.first()) else { return };
        let mean = limit.window.mul_f64(100.0 / (limit.amount as f64 * others.percent as f64));
        self.provider.others(self.now);
        if !self.stopped {
            let next = self.chances.others.exponential(mean);
            self.after(next, Happening::OthersCall);
        }
    }

    pub(super) fn others_burst(&mut self) {
        let Some((others, limit)) = self.others().zip(self.scenario.account.limits.first()) else { return };
        let calls = limit.amount * others.burst_percent / 100;
        for _ in 0..calls {
            let later = self.chances.others.within(Duration::ZERO, BURST_TAKES);
            self.after(later, Happening::OthersArrive);
        }
        if !self.stopped {
            let next = self.chances.others.exponential(others.bursts_every);
            self.after(next, Happening::OthersBurst);
        }
    }

    pub(super) fn others_arrive(&mut self) {
        self.provider.others(self.now);
    }
}
