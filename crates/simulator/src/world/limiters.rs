//! Limiter processes: an engine, the sessions of its connections, what it sends and when it wakes.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::config::CountedAs;
use quotakeeper_engine::event::{Action, Event, Reserve, SessionId};
use quotakeeper_engine::time::Time;
use quotakeeper_engine::{Engine, Snapshot};
use quotakeeper_wire::limiter::{Greeting, NewestHellos, Session, Violation};
use quotakeeper_wire::message::{AccountIndex, Epoch, ToLimiter, ToProxy};

use super::{Happening, World};
use crate::clock::{Clock, Moment};
use crate::network::Connection;
use crate::watch::PauseWatch;

const ACCOUNT: AccountIndex = AccountIndex(0);

/// How exact a process's timers are.
const TIMER: Duration = Duration::from_micros(50);

/// One limiter process, from its start to its death.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) clock: Clock,
    pub(crate) engine: Engine,
    pub(crate) epoch: Epoch,
    /// The incarnation that began its ledger.
    pub(crate) ledger_since: Epoch,
    pub(crate) up: bool,
    pub(crate) stalled_until: Moment,
    /// The connection of each session.
    pub(crate) sessions: BTreeMap<SessionId, usize>,
    hellos: NewestHellos,
    wakes_at: Moment,
    /// What the disk of its node holds.
    pub(crate) durable: Option<(Snapshot, Reserve)>,
    /// A commit is under way.
    pub(crate) committing: bool,
    /// The next batch of grants is decided, and sent so much later.
    pub(crate) stalls_with_batch: Option<Duration>,
    watch: PauseWatch,
}

impl Limiter {
    pub(super) fn new(clock: Clock, engine: Engine, epoch: Epoch, now: Moment) -> Limiter {
        let config = engine.config().clone();
        Limiter {
            clock,
            engine,
            epoch,
            ledger_since: epoch,
            up: true,
            stalled_until: now,
            sessions: BTreeMap::new(),
            hellos: NewestHellos::default(),
            wakes_at: Moment(u64::MAX),
            durable: None,
            committing: false,
            stalls_with_batch: None,
            watch: PauseWatch::new(&config),
        }
    }
}

impl World {
    pub(super) fn begin_limiter(&mut self) {
        let clocks = self.scenario.clocks;
        let clock = if clocks.adverse {
            Clock::new(Duration::from_secs(1000), clocks.drift)
        } else {
            self.some_clock()
        };
        let now = Time(clock.read(self.now));
        let engine = Engine::new(self.scenario.account.clone(), now);
        self.limiters.push(Limiter::new(clock, engine, Epoch(1), self.now));
        self.begin_ledger(0);
        if self.scenario.lease.is_some() {
            self.begin_lease();
        }
    }

    pub(super) fn time(&self, limiter: usize) -> Time {
        Time(self.limiters[limiter].clock.read(self.now))
    }

    /// Whether a limiter does nothing now.
    pub(super) fn limiter_stands_still(&self, limiter: usize) -> Option<Moment> {
        let until = self.limiters[limiter].stalled_until;
        (until > self.now).then_some(until)
    }

    /// A proxy looks for the limiter and finds it, or tries again.
    pub(super) fn connects(&mut self, proxy: usize) {
        if !self.proxies[proxy].alive {
            return;
        }
        if let Some(later) = self.stands_still(proxy) {
            return self.at(later, Happening::Connects(proxy));
        }
        let limiter = self.active;
        if let Some(connection) = self.proxies[proxy].connection {
            let current = &self.connections[connection];
            if current.limiter == limiter && !current.cut {
                return;
            }
            self.closes_at_proxy(connection);
        }
        if !self.limiters[limiter].up {
            return self.after(Duration::from_millis(100), Happening::Connects(proxy));
        }
        let config = self.limiters[limiter].engine.config();
        let greeting = Greeting {
            epoch: self.limiters[limiter].epoch,
            validity: config.validity,
            heartbeat: config.validity / 4,
        };
        let connection = self.connections.len();
        let session = Session::new(greeting).with_ledger_since(self.limiters[limiter].ledger_since);
        self.connections.push(Connection::new(proxy, limiter, session));
        self.proxies[proxy].connection = Some(connection);
        self.proxies[proxy].session.connected();
        self.pump(proxy);
    }

    /// The proxy gives a connection up; the limiter notices some time later.
    fn closes_at_proxy(&mut self, connection: usize) {
        let proxy = self.connections[connection].proxy;
        self.connections[connection].open_at_proxy = false;
        if self.proxies[proxy].connection == Some(connection) {
            self.proxies[proxy].connection = None;
            self.proxies[proxy].session.disconnected();
        }
        let notices = self.chances.faults.within(Duration::from_millis(1), Duration::from_secs(2));
        self.after(notices, Happening::LimiterNotices(connection));
    }

    pub(super) fn proxy_notices(&mut self, connection: usize) {
        let proxy = self.connections[connection].proxy;
        if !self.connections[connection].open_at_proxy || !self.proxies[proxy].alive {
            return;
        }
        if let Some(later) = self.stands_still(proxy) {
            return self.at(later, Happening::ProxyNotices(connection));
        }
        self.closes_at_proxy(connection);
        let again = self.chances.faults.within(Duration::from_millis(20), Duration::from_millis(300));
        self.after(again, Happening::Connects(proxy));
    }

    pub(super) fn limiter_notices(&mut self, connection: usize) {
        let entry = &self.connections[connection];
        let limiter = entry.limiter;
        if !entry.open_at_limiter || !self.limiters[limiter].up {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::LimiterNotices(connection));
        }
        let lost = self.closes_at_limiter(connection);
        self.limiter_takes(limiter, lost);
    }

    fn closes_at_limiter(&mut self, connection: usize) -> Vec<Event> {
        let entry = &mut self.connections[connection];
        entry.open_at_limiter = false;
        let Some(session) = entry.session.id() else {
            return Vec::new();
        };
        let sessions = &mut self.limiters[entry.limiter].sessions;
        if sessions.get(&session) != Some(&connection) {
            return Vec::new();
        }
        sessions.remove(&session);
        entry.session.lost().into_iter().map(|(_, event)| event).collect()
    }

    pub(super) fn limiter_hears(&mut self, connection: usize, message: Box<ToLimiter>) {
        let entry = &self.connections[connection];
        let limiter = entry.limiter;
        if entry.cut || !entry.open_at_limiter || !self.limiters[limiter].up {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::Up(connection, message));
        }
        if !self.limiters[limiter].hellos.admit(&message) {
            self.connections[connection].open_at_limiter = false;
            return self.after(Duration::from_millis(1), Happening::ProxyNotices(connection));
        }
        let now = self.time(limiter);
        let mut told = Vec::new();
        let mut events = Vec::new();
        let greeted = self.connections[connection].session.id().is_some();
        match self.connections[connection].session.receive(now, *message, &mut told) {
            Ok(reply) => {
                if let Some(session) = self.connections[connection].session.id().filter(|_| !greeted) {
                    // The proxy's older connection is lost, whether it was noticed or not.
                    if let Some(&older) = self.limiters[limiter].sessions.get(&session) {
                        events.extend(self.closes_at_limiter(older));
                    }
                    self.limiters[limiter].sessions.insert(session, connection);
                }
                if let Some(reply) = reply {
                    self.send_down(connection, self.now, reply);
                }
            }
            Err(Violation::NewerLimiter { .. }) => {
                events.extend(self.closes_at_limiter(connection));
                self.after(Duration::from_millis(1), Happening::ProxyNotices(connection));
            }
            Err(violation) => self.history.problem(&format!("a session broke the protocol: {violation}")),
        }
        events.extend(told.into_iter().map(|(_, event)| event));
        self.limiter_takes(limiter, events);
    }

    pub(super) fn limiter_wakes(&mut self, limiter: usize) {
        let entry = &self.limiters[limiter];
        if !entry.up || entry.wakes_at > self.now {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            self.limiters[limiter].wakes_at = later;
            return self.at(later, Happening::LimiterWakes(limiter));
        }
        self.limiters[limiter].wakes_at = Moment(u64::MAX);
        self.limiter_takes(limiter, vec![Event::Wake]);
    }

    pub(super) fn pod_gone(&mut self, proxy: usize) {
        let gone = Event::PodDeleted(self.proxies[proxy].id);
        let limiter = self.active;
        if !self.limiters[limiter].up {
            return self.after(Duration::from_millis(500), Happening::PodGone(proxy));
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::PodGone(proxy));
        }
        self.limiter_takes(limiter, vec![gone]);
    }

    /// Hands events to the engine and sends what it wants done.
    pub(super) fn limiter_takes(&mut self, limiter: usize, events: Vec<Event>) {
        let now = self.time(limiter);
        let mut actions = Vec::new();
        let entry = &mut self.limiters[limiter];
        for event in events {
            entry.watch.hears(now, &event);
            let before = actions.len();
            entry.engine.handle(now, event, &mut actions);
            for action in &actions[before..] {
                entry.watch.sees(now, action, &mut self.history);
            }
        }
        self.send_all(limiter, now, actions);
        self.set_alarm(limiter, now);
    }

    fn send_all(&mut self, limiter: usize, now: Time, actions: Vec<Action>) {
        let grants = actions.iter().filter(|action| matches!(action, Action::Grant { .. })).count() as u64;
        let mut leaves = self.now;
        let stalls = self.scenario.stalls;
        if grants > 0 && self.chances.faults.chance(stalls.after_decision) {
            leaves += self.chances.faults.magnitude(stalls.shortest, stalls.longest);
        }
        let burst = self.scenario.account.limits.first().map_or(1, |limit| limit.effective_burst());
        if grants >= (burst / 2).max(1)
            && let Some(stall) = self.limiters[limiter].stalls_with_batch.take()
        {
            leaves += stall;
        }
        if leaves > self.now {
            self.limiters[limiter].stalled_until = leaves;
        }
        for action in actions {
            self.send(limiter, now, leaves, &action);
        }
    }

    fn send(&mut self, limiter: usize, now: Time, leaves: Moment, action: &Action) {
        let to = match action {
            Action::Grant { attempt, .. } => {
                self.history.granted(attempt.session, attempt.call);
                Some(attempt.session)
            }
            Action::Refuse { session, .. } => Some(*session),
            Action::Paused { .. } | Action::Resumed { .. } => None,
        };
        let connections: Vec<usize> = match to {
            Some(session) => self.limiters[limiter].sessions.get(&session).copied().into_iter().collect(),
            None => self.limiters[limiter].sessions.values().copied().collect(),
        };
        if connections.is_empty() && matches!(action, Action::Grant { .. }) {
            self.history.problem("a call was granted to a session that is not connected");
        }
        for connection in connections {
            if let Some(message) = self.connections[connection].session.send(now, ACCOUNT, action) {
                self.send_down(connection, leaves, message);
            }
        }
    }

    fn send_down(&mut self, connection: usize, leaves: Moment, message: ToProxy) {
        let delay = self.scenario.network.delay(&mut self.chances.network);
        let arrives = self.connections[connection].down(leaves, delay);
        self.at(arrives, Happening::Down(connection, Box::new(message)));
    }

    fn set_alarm(&mut self, limiter: usize, now: Time) {
        let entry = &mut self.limiters[limiter];
        let Some(wake) = entry.engine.next_wake() else {
            return;
        };
        if wake <= now {
            self.history.idle_wakes += 1;
        }
        let at = entry.clock.when(wake.0).max(self.now) + TIMER;
        if at < entry.wakes_at {
            entry.wakes_at = at;
            self.at(at, Happening::LimiterWakes(limiter));
        }
    }

    pub(super) fn account_changes(&mut self, change: usize) {
        let limiter = self.active;
        if !self.limiters[limiter].up {
            return self.after(Duration::from_millis(50), Happening::AccountChanges(change));
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::AccountChanges(change));
        }
        let account = self.scenario.changes[change].account.clone();
        self.scenario.account.clone_from(&account);
        self.limiter_takes(limiter, vec![Event::Configure(account)]);
    }

    pub(super) fn provider_changes(&mut self, change: usize) {
        let account = self.scenario.changes[change].account.clone();
        self.provider.change(self.now, &account);
    }

    /// Whether what is used of a limit is what its log holds.
    fn has_log(&self, limit: &str) -> bool {
        let mut limits = self.scenario.account.limits.iter();
        limits.any(|known| {
            known.name == limit
                && !matches!(known.counted_as, CountedAs::TokenBucket | CountedAs::LeakyBucket)
        })
    }

    /// The ledger of the limiter is held against what the provider has counted.
    pub(super) fn samples(&mut self) {
        let limiter = self.active;
        let steady = self.limiters[limiter].up && self.limiter_stands_still(limiter).is_none();
        if steady {
            let now = self.time(limiter);
            let status = self.limiters[limiter].engine.status(now);
            for limit in status.limits {
                if !self.has_log(&limit.name) {
                    continue;
                }
                let counted = self.provider.counted(self.now, &limit.name, limit.model.as_ref());
                self.history.compared(counted.unwrap_or(0), limit.used);
            }
        }
        if !self.stopped {
            let window =
                self.scenario.account.limits.first().map_or(Duration::from_secs(1), |limit| limit.window);
            self.after(window / 7, Happening::Samples);
        }
    }
}
