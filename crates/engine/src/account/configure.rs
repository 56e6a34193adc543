//! A changed quota or profile, taken on while calls are under way.

use super::{CallState, Engine};
use crate::config::AccountConfig;
use crate::event::{Action, RefusalReason};
use crate::time::Time;

impl Engine {
    pub(super) fn configure(&mut self, now: Time, config: AccountConfig, actions: &mut Vec<Action>) {
        let old = std::mem::replace(&mut self.config, config);
        let places = self.lanes.configure(&self.config, now);
        self.durability.reconfigure(&places);
        self.share_copied();
        let gone = |name: &String| old.has_limit(name) && !self.config.has_limit(name);
        self.pauses.retain(|key, _| !key.scope.limit.as_ref().is_some_and(gone));
        let mut too_late = Vec::new();
        for (key, call) in &self.calls {
            if matches!(call.state, CallState::Waiting { .. }) {
                self.lanes.call_waits(call.wanted.lane, call.wanted.costs);
                if self.lanes.never_fits(call.wanted.lane, call.wanted.costs) {
                    too_late.push(*key);
                }
            }
        }
        for key in too_late {
            self.refuse(key, RefusalReason::NeverFits.into(), actions);
        }
        self.renew_forecasts(now, actions);
    }
}
