//! Engines and sessions together: what a proxy says becomes events of an engine, what an engine
//! wants becomes messages to proxies. No clock, no sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::event::{Action, Event, Reserve, SessionId};
use quotakeeper_engine::time::Time;
use quotakeeper_engine::{Engine, Status, Totals};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::limiter::{Greeting, NewestHellos, Session, Violation};
use quotakeeper_wire::message::{AccountIndex, Epoch, ToLimiter, ToProxy};

use super::ledger::Record;

/// How often a proxy says something when it has nothing to say.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The validity of grants where no account says another: enough for a slow network and a stalled
/// process, short enough that an unreported grant is not held for long.
const VALIDITY: Duration = Duration::from_secs(2);

/// What is known of an account's time before this limiter.
#[derive(Clone, Debug)]
pub enum Past {
    /// Nothing.
    Unknown,
    /// What the ledger has.
    Ledger(Box<Record>),
}

/// Names a connection; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The engines of all accounts and the sessions that draw on them.
pub struct Book {
    greeting: Greeting,
    accounts: BTreeMap<String, Account>,
    connections: BTreeMap<ConnectionId, Connection>,
    current: BTreeMap<SessionId, ConnectionId>,
    hellos: NewestHellos,
}

/// Why a connection is to be closed.
#[derive(Debug, thiserror::Error)]
pub enum Unwelcome {
    /// The proxy broke the session's rules.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The proxy has connected anew in the meantime.
    #[error("a newer connection of the same proxy has taken this one's place")]
    Overtaken,
}

struct Account {
    engine: Engine,
    compiled: CompiledAccount,
}

struct Connection {
    session: Session,
    /// The accounts of the session by their index, as far as they exist here.
    accounts: Vec<Option<String>>,
}

/// What an account's people are shown.
#[derive(Clone, Debug)]
pub struct AccountStatus {
    /// The quota as people name it.
    pub quota: String,
    /// The provider's name.
    pub provider: String,
    /// The tier in force.
    pub tier: String,
    /// Where it stands.
    pub status: Status,
    /// What has been counted.
    pub totals: Totals,
}

impl Book {
    /// A book of accounts, kept by the limiter of this epoch.
    pub fn new(accounts: Vec<(CompiledAccount, Past)>, epoch: Epoch, now: Time) -> Book {
        let validity = accounts.iter().map(|(account, _)| account.engine.validity).min().unwrap_or(VALIDITY);
        let open = |(compiled, past): (CompiledAccount, Past)| {
            let config = compiled.engine.clone();
            let engine = match past {
                Past::Unknown => Engine::after_unknown_past(config, now),
                Past::Ledger(record) => Engine::restart(config, record.snapshot, record.reserve, now),
            };
            (compiled.key.clone(), Account { engine, compiled })
        };
        Book {
            greeting: Greeting { epoch, validity, heartbeat: HEARTBEAT.min(validity / 4) },
            accounts: accounts.into_iter().map(open).collect(),
            connections: BTreeMap::new(),
            current: BTreeMap::new(),
            hellos: NewestHellos::default(),
        }
    }

    /// A connection has been accepted.
    pub fn connect(&mut self, connection: ConnectionId) {
        let session = Session::new(self.greeting);
        self.connections.insert(connection, Connection { session, accounts: Vec::new() });
    }

    /// A connection is lost: its waiting calls leave the queues.
    pub fn disconnect(
        &mut self,
        now: Time,
        connection: ConnectionId,
        out: &mut Vec<(ConnectionId, ToProxy)>,
    ) {
        let Some(lost) = self.connections.remove(&connection) else { return };
        // A proxy that has connected anew has told its calls already; this one speaks for it no more.
        let Some(id) = lost.session.id() else { return };
        if self.current.get(&id) != Some(&connection) {
            return;
        }
        self.current.remove(&id);
        for (index, event) in lost.session.lost() {
            let account = lost.accounts.get(index.0 as usize).cloned().flatten();
            self.tell(now, account, event, out);
        }
    }

    /// Takes a message that was received before `now` was read.
    ///
    /// # Errors
    /// [`Unwelcome`]: the connection is to be closed and [`Book::disconnect`]ed.
    pub fn receive(
        &mut self,
        now: Time,
        connection: ConnectionId,
        message: ToLimiter,
        out: &mut Vec<(ConnectionId, ToProxy)>,
    ) -> Result<(), Unwelcome> {
        if !self.hellos.admit(&message) {
            return Err(Unwelcome::Overtaken);
        }
        let Some(entry) = self.connections.get_mut(&connection) else { return Ok(()) };
        let mut events = Vec::new();
        if let Some(reply) = entry.session.receive(now, message, &mut events)? {
            out.push((connection, reply));
            let known = |quota: &String| {
                let mut accounts = self.accounts.iter();
                accounts.find(|(_, account)| account.compiled.quota == *quota).map(|(key, _)| key.clone())
            };
            entry.accounts = entry.session.accounts().iter().map(known).collect();
            if let Some(session) = entry.session.id() {
                self.replace(now, session, connection, out);
            }
        }
        for (index, event) in events {
            let account = self
                .connections
                .get(&connection)
                .and_then(|entry| entry.accounts.get(index.0 as usize).cloned().flatten());
            self.tell(now, account, event, out);
        }
        Ok(())
    }

    /// A proxy has said hello on a new connection while the limiter still held the old one.
    fn replace(
        &mut self,
        now: Time,
        session: SessionId,
        connection: ConnectionId,
        out: &mut Vec<(ConnectionId, ToProxy)>,
    ) {
        if let Some(old) = self.current.get(&session).copied().filter(|old| *old != connection) {
            self.disconnect(now, old, out);
        }
        self.current.insert(session, connection);
    }

    fn tell(
        &mut self,
        now: Time,
        account: Option<String>,
        event: Event,
        out: &mut Vec<(ConnectionId, ToProxy)>,
    ) {
        let Some(key) = account else { return };
        let Some(account) = self.accounts.get_mut(&key) else { return };
        let mut actions = Vec::new();
        account.engine.handle(now, event, &mut actions);
        self.send(now, &key, &actions, out);
    }

    fn send(&self, now: Time, key: &str, actions: &[Action], out: &mut Vec<(ConnectionId, ToProxy)>) {
        for action in actions {
            match action {
                Action::Grant { attempt, .. } => self.send_to(now, attempt.session, key, action, out),
                Action::Refuse { session, .. } => self.send_to(now, *session, key, action, out),
                Action::Paused { .. } | Action::Resumed { .. } => {
                    for session in self.current.keys() {
                        self.send_to(now, *session, key, action, out);
                    }
                }
            }
        }
    }

    fn send_to(
        &self,
        now: Time,
        session: SessionId,
        key: &str,
        action: &Action,
        out: &mut Vec<(ConnectionId, ToProxy)>,
    ) {
        let Some(connection) = self.current.get(&session) else { return };
        let Some(entry) = self.connections.get(connection) else { return };
        let Some(index) = entry.accounts.iter().position(|account| account.as_deref() == Some(key)) else {
            return;
        };
        let index = AccountIndex(u32::try_from(index).unwrap_or(u32::MAX));
        out.extend(entry.session.send(now, index, action).map(|message| (*connection, message)));
    }

    /// When [`Book::wake`] is due.
    pub fn next_wake(&self) -> Option<Time> {
        self.accounts.values().filter_map(|account| account.engine.next_wake()).min()
    }

    /// Wakes the engines whose time has come.
    pub fn wake(&mut self, now: Time, out: &mut Vec<(ConnectionId, ToProxy)>) {
        let due: Vec<String> = self
            .accounts
            .iter()
            .filter(|(_, account)| account.engine.next_wake().is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.tell(now, Some(key), Event::Wake, out);
        }
    }

    /// When [`Book::due_records`] are to be written next.
    pub fn commit_due(&self, now: Time) -> Option<Time> {
        self.accounts.values().filter_map(|account| account.engine.commit_due(now)).min()
    }

    /// What the ledger has to keep of the accounts of which something is due, with a reserve for
    /// `horizon`.
    pub fn due_records(&mut self, now: Time, horizon: Duration) -> Vec<(String, Record)> {
        self.records(now, horizon, |engine| engine.commit_due(now).is_some_and(|at| at <= now))
    }

    /// What the ledger has to keep while nothing may be granted: before the first commit, and at
    /// the end.
    pub fn records_without_reserve(&mut self, now: Time) -> Vec<(String, Record)> {
        self.records(now, Duration::ZERO, |_| true)
    }

    fn records(
        &mut self,
        now: Time,
        horizon: Duration,
        of: impl Fn(&Engine) -> bool,
    ) -> Vec<(String, Record)> {
        let of_account = |(key, account): (&String, &mut Account)| {
            let engine = &mut account.engine;
            let calls = if horizon.is_zero() { 0 } else { engine.reserve_for(horizon) };
            let reserve = Reserve { as_of: now, calls, horizon: now + horizon };
            of(engine).then(|| (key.clone(), Record { snapshot: engine.snapshot(now), reserve }))
        };
        self.accounts.iter_mut().filter_map(of_account).collect()
    }

    /// The ledger has these records.
    pub fn committed(
        &mut self,
        now: Time,
        reserves: Vec<(String, Reserve)>,
        out: &mut Vec<(ConnectionId, ToProxy)>,
    ) {
        for (account, reserve) in reserves {
            self.tell(now, Some(account), Event::Committed(reserve), out);
        }
    }

    /// Where all accounts stand.
    pub fn status(&mut self, now: Time) -> Vec<AccountStatus> {
        self.accounts
            .values_mut()
            .map(|account| AccountStatus {
                quota: account.compiled.quota.clone(),
                provider: provider_of(&account.compiled.key).to_owned(),
                tier: account.compiled.tier.clone(),
                status: account.engine.status(now),
                totals: account.engine.totals(),
            })
            .collect()
    }
}

/// The provider in an account's key, `provider/id`.
pub fn provider_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(provider, _)| provider)
}
