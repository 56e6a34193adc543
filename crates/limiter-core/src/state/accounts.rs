//! The accounts in force, and their changes while sessions draw on them.
//!
//! A session is notified of a change. A session is ended instead if one of its quotas was added, removed, or
//! moved to another account: only a hello names the calls that it holds and those that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{AccountConfig, Mode};
use quotakeeper_engine::event::{Event, Reserve};
use quotakeeper_engine::time::Time;
use quotakeeper_wire::account::{Admitted, CompiledAccount};
use quotakeeper_wire::limiter::SessionEnd;
use quotakeeper_wire::message::{AccountIndex, AccountState, AccountUpdate, LimiterMessage, ToProxy};
use quotakeeper_wire::name::{AccountKey, QuotaName};
use quotakeeper_wire::status::PastUse;

use super::by_hand::ByHand;
use super::checkpoints::AccountCheckpoints;
use super::past::{Lost, Opening, opening};
use super::{Account, Connection, ConnectionId, LimiterState, Outbox};
use crate::blame::Blame;
use crate::offline::Part;
use crate::record::Record;

/// Everything that is to be in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The accounts, each key and each quota once.
    pub accounts: Vec<CompiledAccount>,
    /// Quotas whose newest document could not be put in force, and why, as a sentence. `accounts` has what was in
    /// force of them before.
    pub problems: BTreeMap<QuotaName, String>,
    /// Until when every call passes and no limit is enforced; none: the gate is closed.
    pub gate_open_until: Option<Timestamp>,
}

impl From<Vec<CompiledAccount>> for Configuration {
    fn from(accounts: Vec<CompiledAccount>) -> Configuration {
        Configuration { accounts, ..Configuration::default() }
    }
}

impl LimiterState {
    /// Replaces the configuration.
    ///
    /// While the gate is open no account is removed: the gate is opened before an uninstall so that calls pass,
    /// and calls of a removed account would wait.
    pub fn configure(&mut self, now: Time, configuration: Configuration, out: &mut Outbox) {
        let Configuration { accounts, problems, gate_open_until } = configuration;
        let gate_open = gate_open_until.is_some();
        let gate_turned =
            std::mem::replace(&mut self.gate_open_until, gate_open_until).is_some() != gate_open;
        let mut changed_keys = Vec::new();

        if !gate_open {
            let wanted: BTreeSet<&AccountKey> = accounts.iter().map(|account| &account.key).collect();
            for (key, account) in &mut self.accounts {
                if account.retired.is_none() && !wanted.contains(key) {
                    account.retired = Some(now);
                }
            }
            self.forget_drained(now);
        }
        for compiled in accounts {
            changed_keys.extend(self.put_in_force(now, compiled, out));
        }
        if gate_turned {
            changed_keys = self.accounts.keys().cloned().collect();
            for key in &changed_keys {
                self.reconfigure(now, key, out);
            }
        }
        let in_force = self.accounts.iter().filter(|(_, account)| account.retired.is_none());
        self.quotas = in_force.map(|(key, account)| (account.compiled.quota.clone(), key.clone())).collect();

        self.note_part_changes(now);
        self.end_moved(now, out);
        for key in changed_keys {
            self.notify_sessions(now, &key, out);
        }
        let old = std::mem::replace(&mut self.problems, problems);
        self.notify_absences(&old, out);
    }

    /// Returns the key if its sessions have to be notified.
    fn put_in_force(&mut self, now: Time, compiled: CompiledAccount, out: &mut Outbox) -> Option<AccountKey> {
        let key = compiled.key.clone();
        let Some(account) = self.accounts.get_mut(&key) else {
            self.open(now, compiled);
            self.apply_stated_use(now, &key, out);
            self.apply_by_hand(now, &key, None, out);
            return None;
        };
        let told =
            std::mem::replace(&mut account.compiled.checkpoint, compiled.checkpoint) != compiled.checkpoint;
        if account.retired.is_none() && account.compiled == compiled {
            if told {
                self.checkpoint_told(now, &key, out);
            }
            return None;
        }
        account.retired = None;
        account.in_force = account.learned.in_force(&compiled);
        let before = ByHand::of(&account.compiled);
        account.compiled = compiled;
        self.reconfigure(now, &key, out);
        self.checkpoint_told(now, &key, out);
        self.apply_stated_use(now, &key, out);
        self.apply_by_hand(now, &key, Some(before), out);
        Some(key)
    }

    /// An account that this limiter does not hold yet.
    fn open(&mut self, now: Time, compiled: CompiledAccount) {
        let key = compiled.key.clone();
        let _blame = Blame::on(&key);
        let mut record = self.recovered.records.remove(&key);
        let learned = record.as_mut().map(|record| std::mem::take(&mut record.learned)).unwrap_or_default();
        let in_force = learned.in_force(&compiled);
        let part = self.part_of(&in_force.engine, now);
        let config = self.effective(&in_force, part);
        let mut deleted = Vec::new();
        let (mut applied, mut periods) = (BTreeMap::new(), BTreeMap::new());
        let (mut engine, past) = match record {
            Some(Record { snapshot, reserve, pods, stated, periods: open, learned: _ }) => {
                (applied, periods) = (stated, open);
                for (session, uid) in pods {
                    if self.recovered.deleted_pods.contains(&uid) {
                        deleted.push(session);
                    } else {
                        self.own(session, Some(uid));
                    }
                }
                (Engine::restart(config, snapshot, reserve, now), PastUse::Recorded)
            }
            None => {
                let opening = self.opening_without_record(&compiled);
                (opening.engine(config, now), opening.past())
            }
        };
        if self.commits.is_some() {
            // Otherwise the engine would assume that there is no ledger, and grant.
            engine.handle(now, Event::Committed(Reserve::nothing(now)), &mut Vec::new());
        }
        if self.checkpoints {
            engine.require_checkpoints(now);
        }
        if let Some(right) = self.right {
            engine.handle(now, Event::Lease(right.ends(now)), &mut Vec::new());
        }
        if self.awaits_none_of(&in_force.admitted) {
            engine.handle(now, Event::PredecessorNamed, &mut Vec::new());
        }
        for session in deleted {
            // No call waits yet that it could make room for.
            engine.handle(now, Event::PodDeleted(session), &mut Vec::new());
        }
        let document = document(&in_force, self.gate_open());
        self.accounts.insert(
            key.clone(),
            Account {
                engine,
                compiled,
                learned,
                in_force,
                part,
                document,
                retired: None,
                past,
                stated: applied,
                stated_use_due: None,
                periods,
                period_due: None,
                checkpoints: AccountCheckpoints::default(),
            },
        );
        // No call waits yet that it could make room for.
        self.begin_periods(now, &key, &mut Outbox::default());
    }

    fn opening_without_record(&mut self, compiled: &CompiledAccount) -> Opening {
        let unreadable = self.recovered.unreadable.remove(&compiled.key);
        let of_account = self.recovered.lost_accounts.remove(&compiled.key);
        let lost = match &of_account {
            Some(lost) => Lost::OfAccount(lost),
            None if unreadable => Lost::AllUntil(self.began),
            None => self.recovered.lost.as_ref().map_or(Lost::Nothing, Lost::By),
        };
        opening(lost, compiled.in_force_since)
    }

    /// Applies to the engine of an account what is in force now.
    pub(super) fn reconfigure(&mut self, now: Time, key: &AccountKey, out: &mut Outbox) {
        let gate_open = self.gate_open();
        let Some(account) = self.accounts.get(key) else { return };
        let config = self.effective(&account.in_force, account.part);
        let earlier = account.engine.config().clone();
        let changed = earlier != config;
        let document = document(&account.in_force, gate_open);
        if let Some(account) = self.accounts.get_mut(key) {
            account.document = document;
        }
        if changed {
            self.handle_event(now, Some(key.clone()), Event::Configure(config), out);
            self.keep_periods(key, &earlier);
            self.begin_periods(now, key, out);
        }
    }

    fn gate_open(&self) -> bool {
        self.gate_open_until.is_some()
    }

    pub(super) fn effective(&self, compiled: &CompiledAccount, part: Option<Part>) -> AccountConfig {
        let config = compiled.engine.clone();
        let mut config = part.map_or(config.clone(), |part| part.of(config, self.checkpoints));
        // A session has one D for all of its accounts: holding a grant for longer is safe.
        config.validity = config.validity.max(self.greeting.validity);
        if self.gate_open() {
            config.mode = Mode::Disabled;
        }
        config
    }

    /// Forgets accounts that have been out of force until nothing of them counts any more.
    fn forget_drained(&mut self, now: Time) {
        self.accounts.retain(|_, account| {
            let config = account.engine.config();
            let window = config.limits_in_force().map(|limit| limit.window + limit.delivery).max();
            let drained = window.unwrap_or(Duration::ZERO) + config.validity + config.longest_call();
            account.retired.is_none_or(|since| now.since(since) <= drained)
        });
    }

    /// Ends the sessions whose quotas have moved to other accounts, or are no longer in force.
    fn end_moved(&mut self, now: Time, out: &mut Outbox) {
        let mut moved = Vec::new();
        for (id, connection) in &self.connections {
            let mut quotas = connection.session.quotas().iter().zip(&connection.accounts);
            let why = quotas.find_map(|(quota, known)| {
                let found = self.account_for(quota, connection);
                (found.as_ref().ok() != known.as_ref()).then(|| change(quota, found))
            });
            moved.extend(why.map(|why| (*id, SessionEnd::Changed(why))));
        }
        for (connection, why) in moved {
            self.end(now, connection, why, out);
        }
    }

    /// The key of a quota's account, if a session may draw on it; else why it may not.
    fn account_for(&self, quota: &QuotaName, connection: &Connection) -> Result<AccountKey, String> {
        let account = self.quotas.get(quota).and_then(|key| Some((key, self.accounts.get(key)?)));
        let (of, name) = quota.split_once('/').unwrap_or(("", quota));
        let asking = connection.namespace().filter(|_| !self.gate_open());
        match (account, asking) {
            (Some((key, account)), asking)
                if asking.is_none_or(|asking| account.compiled.admitted.admits(asking)) =>
            {
                Ok(key.clone())
            }
            // Whether a quota of another namespace exists is its owner's to tell.
            (_, Some(asking)) if asking != of => Err(format!(
                "quota {quota} is not in force, or does not admit pods of namespace {asking}; its owner can see which, and admit them by spec.consumers.namespaces"
            )),
            (Some(_), _) => Err(format!(
                "quota {quota} does not admit pods of its own namespace; select that in its spec.consumers.namespaces"
            )),
            (None, _) => Err(match self.problems.get(quota) {
                Some(problem) => format!("quota {quota} is not in force: {problem}"),
                None => format!(
                    "quota {quota} is not in force; `kubectl describe apiquota {name} -n {of}` says why; if there is none of that name, create it or correct the pod's annotation quotakeeper.dev/quotas"
                ),
            }),
        }
    }

    /// Sends a proxy that has just been welcomed the state of its accounts.
    pub(super) fn announce_accounts(&mut self, now: Time, id: ConnectionId, out: &mut Outbox) {
        let Some(connection) = self.connections.get(&id) else { return };
        let found: Vec<_> =
            connection.session.quotas().iter().map(|quota| self.account_for(quota, connection)).collect();
        for (index, found) in (0u32..).zip(&found) {
            let state = match found {
                Ok(key) => self.in_force(key),
                Err(reason) => Some(AccountState::Absent { reason: reason.clone() }),
            };
            out.messages.extend(state.map(|state| (id, self.account_message(AccountIndex(index), state))));
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.accounts = found.into_iter().map(Result::ok).collect();
            connection.notified = now;
        }
    }

    /// Sends an account's state to the sessions that draw on it.
    pub(super) fn notify_sessions(&mut self, now: Time, key: &AccountKey, out: &mut Outbox) {
        let Some(state) = self.in_force(key) else { return };
        let drawing: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(id, connection)| Some((*id, connection.index_of(key)?)))
            .collect();
        for (id, index) in drawing {
            out.messages.push((id, self.account_message(index, state.clone())));
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.notified = now;
            }
        }
    }

    /// Notifies sessions whose quota is absent for another reason than before.
    fn notify_absences(&self, old: &BTreeMap<QuotaName, String>, out: &mut Outbox) {
        for (id, connection) in &self.connections {
            let quotas = connection.session.quotas().iter().zip(&connection.accounts);
            for (index, (quota, known)) in (0u32..).zip(quotas) {
                if known.is_none()
                    && old.get(quota) != self.problems.get(quota)
                    && let Err(reason) = self.account_for(quota, connection)
                {
                    let state = AccountState::Absent { reason };
                    out.messages.push((*id, self.account_message(AccountIndex(index), state)));
                }
            }
        }
    }

    fn in_force(&self, key: &AccountKey) -> Option<AccountState> {
        let account = self.accounts.get(key)?;
        Some(AccountState::InForce { document: account.document.clone() })
    }

    fn account_message(&self, account: AccountIndex, state: AccountState) -> ToProxy {
        ToProxy {
            epoch: self.greeting.epoch,
            body: LimiterMessage::Account { account, update: AccountUpdate::State(state) },
        }
    }
}

fn change(quota: &QuotaName, found: Result<AccountKey, String>) -> String {
    match found {
        Ok(_) => format!("quota {quota} has come into force"),
        Err(reason) => reason,
    }
}

/// An account as proxies get it.
pub(super) fn document(compiled: &CompiledAccount, gate_open: bool) -> String {
    let mut compiled = CompiledAccount {
        in_force_since: None,
        paused_until: None,
        resumed_at: None,
        checkpoint: None,
        used: Vec::new(),
        undeclared: None,
        warnings: Vec::new(),
        allocations: Vec::new(),
        admitted: Admitted::Everyone,
        ..compiled.clone()
    };
    if gate_open {
        compiled.engine.mode = Mode::Disabled;
    }
    // Plain values with text for keys always have a JSON form.
    serde_json::to_string(&compiled).unwrap_or_default()
}
