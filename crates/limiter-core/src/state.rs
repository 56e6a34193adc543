//! Engines and sessions together: messages of a proxy become events of an engine, actions of an engine
//! become messages to proxies.
//!
//! | module | holds |
//! |---|---|
//! | `accounts` | the accounts in force, and their changes |
//! | `by_hand` | what a person has paused, or had go on |
//! | `checkpoints` | what of long windows is stored beside the ledger |
//! | `learned` | limits that answers tell of accounts without a declared tier |
//! | `right` | until when something may be granted, and which part of it |
//! | `periods` | the days, weeks and months that are open |
//! | `past` | what is known of an account's use before it is opened |
//! | `pods` | the pods of sessions, and their deletion |
//! | `durable` | what the ledger has to store |
//! | `report` | the status of all accounts |
//! | `notices` | what proxies have seen that people should know |
//! | `outlooks` | how one more call of a workload would fare |

mod accounts;
mod by_hand;
mod checkpoints;
mod durable;
mod learned;
mod notices;
mod outlooks;
mod past;
mod periods;
mod pods;
mod report;
mod right;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_engine::Engine;
use quotakeeper_engine::event::{Action, Event, SessionId};
use quotakeeper_engine::time::Time;
use quotakeeper_wire::account::{CompiledAccount, StatedUse};
use quotakeeper_wire::limiter::{Greeting, NewestHellos, PodIdentity, Session, SessionEnd};
use quotakeeper_wire::message::{AccountIndex, Epoch, FingerprintKey, ProxyMessage, ToLimiter, ToProxy};
use quotakeeper_wire::name::{AccountKey, QuotaName};
use quotakeeper_wire::status::PastUse;

pub use self::accounts::Configuration;
use self::checkpoints::AccountCheckpoints;
pub use self::checkpoints::{CheckpointTask, FoundCheckpoint, NotStored};
use self::notices::LeftNotices;
use self::outlooks::{Look, Looks};
use self::past::WallClock;
pub use self::periods::{CLOCKS_APART, OpenPeriod};
use crate::blame::Blame;
use crate::commit::CommitSchedule;
use crate::learned::LearnedLimits;
use crate::offline::{Part, Right};
use crate::record::{LostGrants, Recovered};

/// The interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The validity of grants while there is no account: enough for a slow network and a stalled
/// process, short enough that an unreported grant is not held for long.
const VALIDITY: Duration = Duration::from_secs(2);

/// Names a connection; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Messages to send, and connections that have ended.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Messages, in the order in which they are to be sent.
    pub messages: Vec<(ConnectionId, ToProxy)>,
    /// Connections that have been ended, and why. Nothing more comes from them or is sent to them.
    pub ended: Vec<(ConnectionId, SessionEnd)>,
}

/// What a limiter starts from.
#[derive(Clone, Debug)]
pub struct Start {
    /// The accounts.
    pub configuration: Configuration,
    /// Greater than that of every limiter before it.
    pub epoch: Epoch,
    /// None: it has no ledger, and grants without one.
    pub ledger: Option<LedgerStart>,
    /// What others have granted on single accounts that is in no ledger.
    pub lost_accounts: BTreeMap<AccountKey, LostGrants>,
    /// The wall clock now.
    pub wall: Timestamp,
    /// The key of the credentials' fingerprints; none: credentials are not distinguished.
    pub fingerprint_key: Option<FingerprintKey>,
}

/// A limiter's ledger when it starts.
#[derive(Clone, Debug)]
pub struct LedgerStart {
    /// What the ledger knows of the time before.
    pub recovered: Recovered,
    /// How far ahead of need calls are charged at most:
    /// [`PROXIES_OUTLIVE`](crate::commit::PROXIES_OUTLIVE) or
    /// [`PROXIES_END_TOO`](crate::commit::PROXIES_END_TOO).
    pub longest_horizon: Duration,
}

/// The engines of all accounts and the sessions that draw on them.
#[derive(Debug)]
pub struct LimiterState {
    greeting: Greeting,
    pub(crate) recovered: Recovered,
    /// None: there is no ledger. With one, nothing is granted before it is charged.
    commits: Option<CommitSchedule>,
    /// Long windows grant what checkpoints cover, and no more.
    checkpoints: bool,
    /// The right to grant; none: it is not limited.
    right: Option<Right>,
    /// When it is to another part of an account without a renewal.
    part_changes: Option<Time>,
    began: Time,
    wall: WallClock,
    /// By key; with those that are out of force but not yet forgotten.
    accounts: BTreeMap<AccountKey, Account>,
    /// The keys of the accounts in force, by their quotas' names.
    quotas: BTreeMap<QuotaName, AccountKey>,
    /// Quotas whose newest document could not be put in force, and why.
    problems: BTreeMap<QuotaName, String>,
    /// Until when every call passes; none: the gate is closed.
    gate_open_until: Option<Timestamp>,
    connections: BTreeMap<ConnectionId, Connection>,
    current: BTreeMap<SessionId, ConnectionId>,
    left_notices: LeftNotices,
    hellos: NewestHellos,
    /// The UID of the pod that each session belongs to; none: this process's own.
    owners: BTreeMap<SessionId, Option<String>>,
    /// The sessions of each pod, oldest first.
    sessions_of: BTreeMap<String, Vec<SessionId>>,
    /// The pods that a limiter before may have granted calls that no ledger has, until each has come: their namespaces by
    /// UID; none: nobody knows which they are.
    awaited_pods: Option<BTreeMap<String, String>>,
}

#[derive(Debug)]
struct Account {
    engine: Engine,
    /// As its quota says.
    compiled: CompiledAccount,
    /// What answers have told, where the quota declares no tier.
    learned: LearnedLimits,
    /// `compiled` with what was learned.
    in_force: CompiledAccount,
    /// The part of it that may be granted; none: all of it.
    part: Option<Part>,
    /// `in_force` as JSON, as proxies get it.
    document: String,
    /// Since when it is out of force. What was drawn on it still counts if it comes back.
    retired: Option<Time>,
    /// What was known of its use when it was opened.
    past: PastUse,
    /// The newest statement of its use that has been applied, by limit.
    stated: BTreeMap<String, StatedUse>,
    /// When the next statement is due; none: all are applied.
    stated_use_due: Option<Time>,
    /// The days, weeks and months that are open, by limit.
    periods: BTreeMap<String, OpenPeriod>,
    /// When to look whether the next has begun; none: no limit has any.
    period_due: Option<Time>,
    checkpoints: AccountCheckpoints,
}

#[derive(Debug)]
struct Connection {
    session: Session,
    /// None: this process's own proxy, which may draw on everything.
    pod: Option<PodIdentity>,
    /// The keys of the session's accounts by their index, as far as they are in force for it.
    accounts: Vec<Option<AccountKey>>,
    /// When an account's state was last sent to it, …
    notified: Time,
    /// … and when a message of it last arrived.
    received: Time,
    looks: Looks,
}

impl LimiterState {
    /// The state of a limiter that starts now. With a ledger it grants nothing before
    /// [`LimiterState::opening_records`] are stored.
    pub fn new(start: Start, now: Time) -> LimiterState {
        let Start { configuration, epoch, ledger, lost_accounts, wall, fingerprint_key } = start;
        let validity = configuration.accounts.iter().map(|account| account.engine.validity).min();
        let validity = validity.unwrap_or(VALIDITY);
        let commits = ledger.as_ref().map(|ledger| CommitSchedule::new(ledger.longest_horizon));
        let mut state = LimiterState {
            greeting: Greeting { epoch, validity, heartbeat: HEARTBEAT.min(validity / 4), fingerprint_key },
            recovered: Recovered {
                lost_accounts,
                ..ledger.map(|ledger| ledger.recovered).unwrap_or_default()
            },
            commits,
            checkpoints: false,
            right: None,
            part_changes: None,
            began: now,
            wall: WallClock { at: now, reads: wall },
            accounts: BTreeMap::new(),
            quotas: BTreeMap::new(),
            problems: BTreeMap::new(),
            gate_open_until: None,
            connections: BTreeMap::new(),
            current: BTreeMap::new(),
            left_notices: LeftNotices::default(),
            hellos: NewestHellos::default(),
            owners: BTreeMap::new(),
            sessions_of: BTreeMap::new(),
            awaited_pods: None,
        };
        // Nobody is connected yet.
        state.configure(now, configuration, &mut Outbox::default());
        state
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.greeting.epoch
    }

    /// A connection has been accepted, of this pod or of this process's own proxy.
    pub fn connect(&mut self, now: Time, connection: ConnectionId, pod: Option<PodIdentity>) {
        let since = self.recovered.since.unwrap_or(self.greeting.epoch);
        let session = Session::new(self.greeting).with_ledger_since(since);
        let entry = Connection {
            session,
            pod,
            accounts: Vec::new(),
            notified: now,
            received: now,
            looks: Looks::default(),
        };
        self.connections.insert(connection, entry);
    }

    /// A connection is lost: its waiting calls leave the queues.
    pub fn disconnect(&mut self, now: Time, connection: ConnectionId, out: &mut Outbox) {
        let Some(lost) = self.connections.remove(&connection) else { return };
        // The hello of a newer connection has named the proxy's calls already.
        let Some(id) = lost.session.id() else { return };
        if self.current.get(&id) != Some(&connection) {
            return;
        }
        self.current.remove(&id);
        self.left_notices.keep(&lost, now);
        for (index, event) in lost.session.lost() {
            let account = lost.accounts.get(index.0 as usize).cloned().flatten();
            self.handle_event(now, account, event, out);
        }
    }

    /// Ends a connection. Its proxy learns why, connects again and names all of its calls.
    fn end(&mut self, now: Time, connection: ConnectionId, why: SessionEnd, out: &mut Outbox) {
        if self.connections.contains_key(&connection) {
            out.ended.push((connection, why));
            self.disconnect(now, connection, out);
        }
    }

    /// A proxy does not read its messages.
    pub fn too_slow(&mut self, now: Time, connection: ConnectionId, out: &mut Outbox) {
        self.end(now, connection, SessionEnd::TooSlow, out);
    }

    /// Handles a message that was received before `now` was read. One that breaks the protocol ends
    /// the connection.
    pub fn receive(&mut self, now: Time, connection: ConnectionId, message: ToLimiter, out: &mut Outbox) {
        if let ProxyMessage::Hello(hello) = &message.body {
            // First: another pod's hello must not make this pod's own look older.
            if let Err(why) = self.check_pod(connection, hello) {
                return self.end(now, connection, why, out);
            }
            let session = hello.session;
            if let Err(why) = self.with_room_for_session(now, connection, session, out) {
                return self.end(now, connection, why, out);
            }
            if !self.hellos.admit(&message) {
                return self.end(now, connection, SessionEnd::Replaced, out);
            }
        }
        let greets = matches!(message.body, ProxyMessage::Hello(_));
        let look = Look::of(&message.body);
        let Some(entry) = self.connections.get_mut(&connection) else { return };
        entry.received = now;
        let mut events = Vec::new();
        match entry.session.receive(now, message, &mut events) {
            Err(violation) => {
                return self.end(now, connection, SessionEnd::Violation(violation), out);
            }
            Ok(Some(welcome)) => {
                out.messages.push((connection, welcome));
                self.greeted(now, connection, out);
            }
            Ok(None) => {}
        }
        for (index, mut event) in events {
            let Some(entry) = self.connections.get(&connection) else { continue };
            let account = entry.accounts.get(index.0 as usize).cloned().flatten();
            if let Some(key) = &account {
                self.allocate(entry, key, &mut event);
                self.learn(now, key, connection, &event, out);
            }
            self.handle_event(now, account, event, out);
        }
        if let Some(look) = look {
            // Whoever looks too often, or at nothing, is not answered.
            let _answered = self.answer_look(now, connection, look, out);
        }
        if greets {
            let pod = self.connections.get(&connection).and_then(|entry| entry.pod.as_ref());
            if let Some(uid) = pod.map(|pod| pod.uid.clone()) {
                self.pod_has_come(now, &uid, out);
            }
        }
    }

    /// A proxy has been welcomed: it gets the state of its accounts. The limiter may still hold an
    /// older connection of it.
    fn greeted(&mut self, now: Time, connection: ConnectionId, out: &mut Outbox) {
        self.announce_accounts(now, connection, out);
        let Some(entry) = self.connections.get(&connection) else { return };
        let Some(session) = entry.session.id() else { return };
        let uid = entry.pod.as_ref().map(|pod| pod.uid.clone());
        self.own(session, uid);
        if let Some(old) = self.current.get(&session).copied().filter(|old| *old != connection) {
            self.end(now, old, SessionEnd::Replaced, out);
        }
        self.current.insert(session, connection);
    }

    /// Has a call draw on the allocation of its pod, whatever the proxy says.
    fn allocate(&self, connection: &Connection, key: &AccountKey, event: &mut Event) {
        let demand = match event {
            Event::Ask(ask) => &mut ask.demand,
            Event::ResumeGrant(grant) => &mut grant.demand,
            _ => return,
        };
        let account = self.accounts.get(key).map(|account| &account.compiled);
        let found = account.zip(connection.pod.as_ref());
        let found = found.and_then(|(account, pod)| account.allocation_of(&pod.namespace, &pod.labels));
        demand.class.allocation = found.cloned();
    }

    fn handle_event(&mut self, now: Time, account: Option<AccountKey>, event: Event, out: &mut Outbox) {
        let Some(key) = account else { return };
        let Some(account) = self.accounts.get_mut(&key) else { return };
        let mut actions = Vec::new();
        let blame = Blame::on(&key);
        account.engine.handle(now, event, &mut actions);
        drop(blame);
        self.send(now, &key, &actions, out);
    }

    fn send(&self, now: Time, key: &AccountKey, actions: &[Action], out: &mut Outbox) {
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

    fn send_to(&self, now: Time, session: SessionId, key: &AccountKey, action: &Action, out: &mut Outbox) {
        let Some(connection) = self.current.get(&session) else { return };
        let Some(entry) = self.connections.get(connection) else { return };
        let Some(index) = entry.index_of(key) else { return };
        out.messages.extend(entry.session.send(now, index, action).map(|message| (*connection, message)));
    }

    /// When [`LimiterState::wake`] or [`LimiterState::due_records`] has something to do, if nothing else
    /// happens before.
    pub fn next_wake(&self, now: Time) -> Option<Time> {
        let engines = self.accounts.values().filter_map(|account| account.engine.next_wake());
        let stated = self.accounts.values().filter_map(|account| account.stated_use_due);
        let periods = self.accounts.values().filter_map(|account| account.period_due);
        let checkpoints = self.next_checkpoint(now);
        let due = engines.chain(stated).chain(periods).chain(checkpoints).chain(self.commit_due(now));
        due.chain(self.part_changes).min()
    }

    /// Wakes the engines whose time has come.
    pub fn wake(&mut self, now: Time, out: &mut Outbox) {
        if self.part_changes.is_some_and(|at| at <= now) {
            self.apply_right(now, out);
        }
        self.apply_due_statements(now, out);
        self.begin_due_periods(now, out);
        let due: Vec<AccountKey> = self
            .accounts
            .iter()
            .filter(|(_, account)| account.engine.next_wake().is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.handle_event(now, Some(key), Event::Wake, out);
        }
    }
}

impl Connection {
    fn index_of(&self, key: &AccountKey) -> Option<AccountIndex> {
        let index = self.accounts.iter().position(|account| account.as_ref() == Some(key))?;
        Some(AccountIndex(u32::try_from(index).unwrap_or(u32::MAX)))
    }

    /// The namespace that its pod runs in; none: it is this process's own proxy.
    fn namespace(&self) -> Option<&str> {
        self.pod.as_ref().map(|pod| pod.namespace.as_str())
    }
}
