//! What a person has paused, or had go on.

use std::collections::BTreeSet;

use jiff::Timestamp;
use quotakeeper_engine::event::{Event, Scope};
use quotakeeper_engine::time::Time;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::AccountKey;

use super::{LimiterState, Outbox};

/// What a document says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ByHand {
    paused_until: Option<Timestamp>,
    resumed_at: Option<Timestamp>,
}

impl ByHand {
    pub(super) fn of(account: &CompiledAccount) -> ByHand {
        ByHand { paused_until: account.paused_until, resumed_at: account.resumed_at }
    }
}

impl LimiterState {
    /// Applies what an account's document says now. `before`: what it said while this limiter had it; none: it has just
    /// been opened, and what was to go on has gone on.
    pub(super) fn apply_by_hand(
        &mut self,
        now: Time,
        key: &AccountKey,
        before: Option<ByHand>,
        out: &mut Outbox,
    ) {
        let Some(account) = self.accounts.get_mut(key) else { return };
        let said = ByHand::of(&account.compiled);
        if before == Some(said) {
            return;
        }
        let resumes = before.is_some_and(|before| before.resumed_at < said.resumed_at);
        let ends = before.is_some_and(|before| before.paused_until != said.paused_until);
        // Without a word to resume, the provider's pauses stand.
        let (over, stand): (Vec<_>, Vec<_>) = account
            .engine
            .status(now)
            .pauses
            .into_iter()
            .partition(|pause| resumes || (ends && pause.by_hand && pause.scope == Scope::account()));
        let stand =
            stand.into_iter().filter(|pause| pause.scope == Scope::account() && pause.callers.is_all());
        let stand = stand.map(|pause| pause.remaining).max().unwrap_or_default();
        for scope in over.into_iter().map(|pause| pause.scope).collect::<BTreeSet<_>>() {
            self.handle_event(now, Some(key.clone()), Event::Resume(scope), out);
        }
        let until = said.paused_until.map(|until| self.wall.time(until)).filter(|until| *until > now);
        if let Some(until) = until {
            // It takes the place of the provider's, and is no shorter.
            let pause = Event::Pause { scope: Scope::account(), length: until.since(now).max(stand) };
            self.handle_event(now, Some(key.clone()), pause, out);
        }
    }
}
