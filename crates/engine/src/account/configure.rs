//! A changed quota or profile, taken on while calls are under way.

use super::{CallState, Engine};
use crate::config::AccountConfig;
use crate::event::{Action, RefusalReason, Scope};
use crate::time::Time;

impl Engine {
    pub(super) fn configure(&mut self, now: Time, config: AccountConfig, actions: &mut Vec<Action>) {
        self.config = config;
        let places = self.lanes.configure(&self.config, now);
        self.durability.reconfigure(&places);
        self.share_copied();
        let config = &self.config;
        self.pauses.retain(|scope, _| match scope {
            Scope::Limit(name) => config.limits.iter().any(|limit| limit.name == *name),
            _ => true,
        });
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
    }
}
