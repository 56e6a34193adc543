//! Limits that answers tell of accounts whose quota declares no tier, put in force like a change of the quota.

use quotakeeper_dialects::profile::{Limit, Partition};
use quotakeeper_engine::event::{CallClass, Event, Observation};
use quotakeeper_engine::name::Consumer;
use quotakeeper_engine::time::Time;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::AccountKey;

use super::{Account, ConnectionId, LimiterState, Outbox};
use crate::learned::Subject;

impl LimiterState {
    /// Takes in what an answer that this connection reports tells, before the engine does: it counts what is left by the
    /// limits that are told with it.
    pub(super) fn learn(
        &mut self,
        now: Time,
        key: &AccountKey,
        connection: ConnectionId,
        event: &Event,
        out: &mut Outbox,
    ) {
        let (attempt, observations) = match event {
            Event::FirstByte { attempt, observations, .. }
            | Event::Rejected { attempt, observations, .. } => (*attempt, observations),
            _ => return,
        };
        let Some(account) = self.accounts.get_mut(key).filter(|it| it.compiled.undeclared.is_some()) else {
            return;
        };
        let Some(connection) = self.connections.get(&connection) else { return };
        let by = Consumer::from(connection.session.consumer());
        let Some(class) = account.engine.class_of(attempt).cloned() else { return };
        let mut news = account.learned.answered(observations.iter().any(|seen| seen.hard.is_some()));
        for seen in observations {
            news |= account.learn_of(now, &by, &class, seen);
        }
        if !news {
            return;
        }
        account.in_force = account.learned.in_force(&account.compiled);
        self.learned_in_force(now, key, out);
    }

    fn learned_in_force(&mut self, now: Time, key: &AccountKey, out: &mut Outbox) {
        let Some(account) = self.accounts.get(key) else { return };
        let config = self.effective(&account.in_force, account.part);
        let document = super::accounts::document(&account.in_force, self.gate_open_until.is_some());
        let Some(account) = self.accounts.get_mut(key) else { return };
        let told = std::mem::replace(&mut account.document, document) != account.document;
        self.handle_event(now, Some(key.clone()), Event::Learned(config), out);
        if told {
            self.notify_sessions(now, key, out);
        }
    }
}

impl Account {
    /// Returns whether another amount is believed now.
    fn learn_of(&mut self, now: Time, by: &Consumer, class: &CallClass, seen: &Observation) -> bool {
        let Some(hard) = seen.hard.filter(|hard| *hard > 0) else { return false };
        let CompiledAccount { tier, profile, undeclared, .. } = &self.compiled;
        let declared = undeclared.as_ref().is_some_and(|it| it.declared.contains(&seen.limit));
        let Some(limit) = profile.limit(tier, &seen.limit).filter(|_| !declared) else { return false };
        let covered = match &limit.endpoint {
            Some(_) => limit.endpoint == class.endpoint,
            None => !profile.is_apart(class.endpoint.as_deref()),
        };
        let Some(model) = counted_model(limit, class).filter(|_| covered) else { return false };
        let subject = Subject { limit: seen.limit.clone(), model };
        self.learned.tell(now, by, subject, limit.window().unwrap_or_default(), hard)
    }
}

/// The model whose count an answer tells of; the outer `None` if that is not known.
fn counted_model(limit: &Limit, class: &CallClass) -> Option<Option<String>> {
    match limit.partition {
        Some(Partition::Model) => class.model.clone().map(Some),
        _ => Some(None),
    }
}
