//! Until when a limiter may grant, and which part of each account.

use quotakeeper_engine::config::AccountConfig;
use quotakeeper_engine::event::Event;
use quotakeeper_engine::time::Time;

use super::{LimiterState, Outbox};
use crate::offline::{Part, Right};

impl LimiterState {
    /// The right to grant, until it is renewed again. A limiter for which this is never called may grant everything for as
    /// long as it runs.
    pub fn renew_lease(&mut self, now: Time, right: impl Into<Right>, out: &mut Outbox) {
        self.right = Some(right.into());
        self.apply_right(now, out);
    }

    /// Whether some account is granted in part only, because another limiter may grant the rest.
    pub fn leaves_something_out(&self, now: Time) -> bool {
        let other_grants = self.right.and_then(|right| right.left_out).is_some_and(|(_, until)| now < until);
        other_grants || self.accounts.values().any(|account| matches!(account.part, Some(Part::Beside(_))))
    }

    /// Whether it grants what is left to it without its Lease.
    pub fn is_offline(&self, now: Time) -> bool {
        self.right.is_some_and(|right| right.offline.is_some() && right.is_over(now) && now < right.ends(now))
    }

    /// Has the engines grant what the right allows now. Each gets its part first, and then until when: an engine grants
    /// nothing meanwhile.
    pub(super) fn apply_right(&mut self, now: Time, out: &mut Outbox) {
        let Some(right) = self.right else { return };
        for key in self.accounts.keys().cloned().collect::<Vec<_>>() {
            let Some(account) = self.accounts.get(&key) else { continue };
            let part = self.part_of(&account.in_force.engine, now);
            if let Some(account) = self.accounts.get_mut(&key)
                && std::mem::replace(&mut account.part, part) != part
            {
                self.reconfigure(now, &key, out);
            }
            self.handle_event(now, Some(key), Event::Lease(right.ends(now)), out);
        }
        self.note_part_changes(now);
    }

    pub(super) fn part_of(&self, account: &AccountConfig, now: Time) -> Option<Part> {
        self.right?.part(account, self.checkpoints, now)
    }

    /// Notes when the right is to another part of an account.
    pub(super) fn note_part_changes(&mut self, now: Time) {
        let Some(right) = self.right else { return };
        let accounts = self.accounts.values().map(|account| &account.in_force.engine);
        self.part_changes =
            accounts.filter_map(|account| right.part_changes(account, self.checkpoints, now)).min();
    }

    /// Until when the block of a checkpoint may be granted that another limiter has stored.
    pub(super) fn others_grant_until(&self, now: Time) -> Time {
        let left_out = self.right.and_then(|right| right.left_out);
        left_out.map_or(now, |(_, until)| until.max(now))
    }
}
