//! What is known of limits now and then, held against what the provider has counted.

use std::time::Duration;

use quotakeeper_engine::config::CountedAs;

use super::{Happening, World};

impl World {
    /// Whether what is used of a limit is what its log holds.
    fn has_log(&self, limit: &str) -> bool {
        let mut limits = self.scenario.account.limits.iter();
        limits.any(|known| {
            known.name == limit
                && !matches!(known.counted_as, CountedAs::TokenBucket | CountedAs::LeakyBucket)
        })
    }

    /// The ledger of the limiter is held against what the provider has counted.
    pub(super) fn samples(&mut self) {
        let limiter = self.active;
        let steady = self.limiters[limiter].up && self.limiter_stands_still(limiter).is_none();
        if steady {
            let now = self.time(limiter);
            let report = self.limiters[limiter].state.report(now);
            let mut limits = report.accounts.iter().flat_map(|account| &account.status.limits);
            if let Some(limit) = limits.find(|limit| limit.unit.counts_tokens() && !self.stopped) {
                self.history.in_flight(limit.reserved * 10_000 / limit.amount.max(1));
            }
            // What another may have granted meanwhile is in no ledger of this one.
            let alone = self.limiters[limiter].left_out.is_none();
            for limit in
                report.accounts.into_iter().flat_map(|account| account.status.limits).filter(|_| alone)
            {
                if !self.has_log(&limit.name) {
                    continue;
                }
                let counted = self.provider.counted(self.now, &limit.name, limit.model.as_ref());
                self.history.compared(counted.unwrap_or(0), limit.used);
            }
        }
        if !self.stopped {
            let window =
                self.scenario.account.limits.first().map_or(Duration::from_secs(1), |limit| limit.window);
            self.after(window / 7, Happening::Samples);
        }
    }
}
