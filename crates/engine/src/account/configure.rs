//! A changed quota or profile, taken on while calls are under way.

use super::calls::Refusal;
use super::lanes::TooLarge;
use super::{Call, Engine, Wanted};
use crate::config::AccountConfig;
use crate::cost::Costs;
use crate::event::Action;
use crate::queue::{CallKey, LaneId};
use crate::time::Time;

impl Engine {
    pub(super) fn configure(&mut self, now: Time, config: AccountConfig, actions: &mut Vec<Action>) {
        let old = std::mem::replace(&mut self.config, config);
        self.share_as_configured();
        let places = self.lanes.configure(&self.config, now);
        for (_, call, _) in self.calls.granted() {
            self.queue.call_begins(self.lanes.group(call.wanted.lane), &call.wanted.consumer);
        }
        self.durability.reconfigure(&places);
        self.share_copied();
        self.rename_pauses(&old, &places);
        let waiting: Vec<CallKey> = self.calls.waiting().map(|(key, _)| key).collect();
        for key in waiting {
            self.reconfigure_costs(key);
            if let Some(Call { wanted: Wanted { lane, costs, .. }, .. }) = self.calls.get(&key) {
                self.lanes.call_waits(*lane, costs);
            }
        }
        self.refuse_too_large(now, actions);
        self.renew_forecasts(now, actions);
    }

    /// The limit of which a call of these costs needs more than there ever is.
    pub(super) fn never_fits(&self, lane: LaneId, costs: &Costs, now: Time) -> Option<TooLarge> {
        self.lanes.never_fits(lane, costs, now).filter(|_| self.config.extent.is_whole())
    }

    /// Refuses the calls that wait for what there never is.
    pub(super) fn refuse_too_large(&mut self, now: Time, actions: &mut Vec<Action>) {
        let too_large = |(key, Wanted { lane, costs, .. }): (CallKey, &Wanted)| {
            self.never_fits(*lane, costs, now).map(|too_large| (key, too_large))
        };
        let refused: Vec<_> = self.calls.waiting().filter_map(too_large).collect();
        for (key, too_large) in refused {
            self.refuse(now, key, Refusal::too_large(&too_large), actions);
        }
    }

    /// Takes on how the account is shared.
    pub(super) fn share_as_configured(&mut self) {
        self.queue.configure(&self.config.sharing, self.enforces());
        self.lanes.set_groups(self.queue.groups());
    }

    /// Has pauses of limits go with them, under their new names, or end with them.
    fn rename_pauses(&mut self, old: &AccountConfig, places: &[Option<usize>]) {
        for (mut key, pause) in std::mem::take(&mut self.pauses) {
            let place = |name: &String| old.limits.iter().position(|limit| limit.name == *name);
            if let Some(place) = key.scope.limit.as_ref().and_then(place) {
                let now = places.iter().position(|before| *before == Some(place));
                let Some(limit) = now.and_then(|now| self.config.limits.get(now)) else { continue };
                let held = self.held.remove(&key);
                key.scope.limit = Some(limit.name.clone());
                self.held.extend(held.map(|held| (key.clone(), held)));
            }
            self.pauses.insert(key, pause);
        }
    }
}
