//! Days, weeks and months: whoever knows the time of day says when one begins.

use super::Engine;
use crate::config::AccountConfig;
use crate::event::{Action, PeriodBegun};
use crate::time::Time;

impl Engine {
    /// A period has begun. What a call of the one before has not used does not fill it: a call that is under way
    /// counts in both.
    pub(super) fn period_begun(&mut self, now: Time, period: PeriodBegun, actions: &mut Vec<Action>) {
        self.lanes.period_begun(period, now);
        self.durability.past_learned();
        self.renew_forecasts(now, actions);
    }
}

impl AccountConfig {
    /// The limit of an earlier configuration whose count this one's limit of that name continues, perhaps under
    /// another name.
    pub fn continues(&self, earlier: &AccountConfig, limit: &str) -> Option<String> {
        super::lanes::continued_name(earlier, self, limit)
    }
}
