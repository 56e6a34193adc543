//! Who uses the account past the proxies.

use std::time::Duration;

use super::{Happening, World};
use crate::scenario::Others;

/// The calls of a burst come within this time.
const BURST_TAKES: Duration = Duration::from_millis(100);
/// Into so many steps even use of a window is cut.
const STEPS_OF_A_WINDOW: u64 = 50;

impl World {
    pub(super) fn begin_others(&mut self) {
        if self.scenario.tokens.as_ref().is_some_and(|work| work.provider.others_percent > 0) {
            self.after(Duration::from_millis(1), Happening::OthersUseTokens);
        }
        let Some(others) = self.others() else { return };
        if others.percent > 0 {
            self.after(Duration::from_millis(1), Happening::OthersCall);
        }
        if !others.bursts_every.is_zero() {
            let first = self.chances.others.exponential(others.bursts_every);
            self.after(first, Happening::OthersBurst);
        }
    }

    /// Others use limits of tokens, evenly.
    pub(super) fn others_use_tokens(&mut self) {
        let Some(work) = &self.scenario.tokens else { return };
        let hundredths = work.provider.others_percent * 100 / STEPS_OF_A_WINDOW;
        self.provider.others_use_tokens(self.now, hundredths);
        let longest = self.scenario.account.limits.iter().filter(|limit| limit.tokens.is_some());
        let window = longest.map(|limit| limit.window).max().unwrap_or_default();
        if !self.stopped {
            self.after(window / STEPS_OF_A_WINDOW as u32, Happening::OthersUseTokens);
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
