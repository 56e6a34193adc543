//! Limiter processes: the limiter's own state machine, driven by simulated time, messages and a disk.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_engine::event::{CallId, SessionId};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_limiter_core::commit::PROXIES_OUTLIVE;
use quotakeeper_limiter_core::{ConnectionId, LedgerStart, LimiterState, LostGrants, Outbox, Start};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::limiter::{PodIdentity, SessionEnd, Violation};
use quotakeeper_wire::message::{Epoch, LimiterMessage, ProxyMessage, Report, ToLimiter, ToProxy};

use super::disk::NodeDisk;
use super::{Happening, World};
use crate::account::{self, NAMESPACE};
use crate::clock::{Clock, Moment};
use crate::network::Connection;
use crate::watch::PauseWatch;

/// How exact a process's timers are.
const TIMER: Duration = Duration::from_micros(50);
/// How long a proxy takes to learn that its connection has been ended.
const LEARNS: Duration = Duration::from_millis(1);

/// One limiter process, from its start to its death.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) clock: Clock,
    pub(crate) state: LimiterState,
    pub(crate) epoch: Epoch,
    began: Moment,
    /// The disk of its node; none: it keeps no ledger.
    pub(super) disk: Option<NodeDisk>,
    /// The process is alive.
    pub(crate) up: bool,
    /// Its first commit is stored: it takes connections.
    pub(super) serving: bool,
    pub(crate) stalled_until: Moment,
    wakes_at: Moment,
    /// The next batch of grants is decided, and sent so much later.
    pub(crate) stalls_with_batch: Option<Duration>,
    watch: PauseWatch,
    /// It may go on without its lease.
    pub(super) offline: bool,
    /// Until when another may.
    pub(super) left_out: Option<Time>,
    /// Grants that it has sent.
    grants: u64,
}

/// What a limiter process starts from.
pub(super) struct Boot {
    pub(super) clock: Clock,
    pub(super) epoch: Epoch,
    pub(super) disk: Option<NodeDisk>,
    /// Another limiter has granted before.
    pub(super) follows: bool,
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
        let disk = self.scenario.disk.map(|_| match self.scenario.recorded {
            true => NodeDisk::default(),
            false => NodeDisk::of_an_unused_account(&self.scenario.account, now),
        });
        self.start_limiter(Boot { clock, epoch: Epoch(1), disk, follows: false });
        if self.scenario.lease.is_some() {
            self.begin_lease();
        }
    }

    /// A process starts, and is the one that new connections reach.
    pub(super) fn start_limiter(&mut self, boot: Boot) -> usize {
        let Boot { clock, epoch, mut disk, follows } = boot;
        let (now, wall) = (Time(clock.read(self.now)), wall_clock(self.now));
        let before = follows.then(|| LostGrants { until: now, until_wall: wall + Duration::from_secs(1) });
        let recovered = disk.as_mut().map(|disk| disk.recover(epoch, before));
        let ledger = recovered.map(|recovered| LedgerStart { recovered, longest_horizon: PROXIES_OUTLIVE });
        let configuration = vec![self.compiled()].into();
        let mut state = LimiterState::new(
            Start {
                configuration,
                epoch,
                ledger,
                lost_accounts: BTreeMap::new(),
                wall,
                fingerprint_key: None,
            },
            now,
        );
        if self.scenario.checkpoints.is_some() && disk.is_some() {
            state.require_checkpoints(now);
        }
        self.limiters.push(Limiter {
            clock,
            state,
            epoch,
            began: self.now,
            serving: disk.is_none(),
            disk,
            up: true,
            stalled_until: self.now,
            wakes_at: Moment(u64::MAX),
            stalls_with_batch: None,
            watch: PauseWatch::new(&self.scenario.account),
            offline: false,
            left_out: None,
            grants: 0,
        });
        self.active = self.limiters.len() - 1;
        let alive = self.proxies.iter().enumerate().filter(|(_, proxy)| proxy.alive);
        let pods = alive.map(|(proxy, _)| (uid(proxy), NAMESPACE.to_owned())).collect();
        self.drive(self.active, |state, now, out| state.await_pods(now, pods, out));
        self.opens_ledger(self.active);
        self.active
    }

    /// The account's document as the operator would write it now.
    pub(super) fn compiled(&self) -> CompiledAccount {
        let in_force_since = self.scenario.recorded.then(|| wall_clock(Moment(0)));
        let checkpoint = self.checkpoints.told;
        let declared =
            CompiledAccount { in_force_since, checkpoint, ..account::compiled(&self.scenario.account) };
        match &self.scenario.upstream.shared {
            Some(shared) if !self.scenario.tiers.is_empty() => {
                account::without_a_tier(declared, &self.scenario.tiers, &shared.headers)
            }
            _ => declared,
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
        if let Some(later) = self.finds_late(proxy, self.active) {
            return self.at(later, Happening::Connects(proxy));
        }
        if let Some(connection) = self.proxies[proxy].connection {
            let current = &self.connections[connection];
            if current.limiter == self.active && !current.cut {
                return;
            }
            self.closes_at_proxy(connection);
        }
        let limiter = self.reached(proxy);
        let entry = &self.limiters[limiter];
        if !entry.up || !entry.serving {
            return self.after(Duration::from_millis(100), Happening::Connects(proxy));
        }
        let connection = self.connections.len();
        self.connections.push(Connection::new(proxy, limiter));
        let (now, pod) = (self.time(limiter), self.pod_of(proxy));
        self.limiters[limiter].state.connect(now, id(connection), Some(pod));
        self.proxies[proxy].connection = Some(connection);
        self.proxies[proxy].session.connected();
        self.pump(proxy);
    }

    /// The limiter that a new connection reaches: the active one, or one that another has followed and does not know it.
    /// Where even its clock does not show that its lease is over, it can be told by those alone who know the other.
    fn reached(&mut self, proxy: usize) -> usize {
        let knows = self.proxies[proxy].session.newest() == self.limiters[self.active].epoch;
        let lease = self.scenario.lease.filter(|lease| !lease.clock_stops || knows);
        let strays = lease.map_or(0, |lease| lease.strays);
        let old = self.limiters.iter().rposition(|limiter| limiter.up && limiter.serving);
        let old = old.filter(|old| *old != self.active);
        let old = old.or_else(|| self.active.checked_sub(1).filter(|old| self.limiters[*old].up));
        match old {
            Some(old) if self.chances.faults.chance(strays) => old,
            _ => self.active,
        }
    }

    /// When a proxy finds a limiter that follows another, if that takes long.
    fn finds_late(&self, proxy: usize, limiter: usize) -> Option<Moment> {
        let entry = &self.limiters[limiter];
        let late = entry.began + self.scenario.faults.late_hello;
        (self.proxies[proxy].pod == 0 && entry.epoch != Epoch(1) && late > self.now).then_some(late)
    }

    /// Each proxy is a pod of its own.
    fn pod_of(&self, proxy: usize) -> PodIdentity {
        PodIdentity {
            namespace: NAMESPACE.to_owned(),
            pod: format!("pod-{}", self.proxies[proxy].pod),
            uid: uid(proxy),
            service_account: "default".to_owned(),
            consumer: self.scenario.pods[self.proxies[proxy].pod].as_str().into(),
            labels: account::labels(
                self.scenario.allocation_of(&self.scenario.pods[self.proxies[proxy].pod]),
            ),
        }
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
        self.connections[connection].open_at_limiter = false;
        self.drive(limiter, |state, now, out| state.disconnect(now, id(connection), out));
    }

    pub(super) fn limiter_receives(&mut self, connection: usize, message: Box<ToLimiter>) {
        let entry = &self.connections[connection];
        let limiter = entry.limiter;
        if entry.cut || !entry.open_at_limiter || !self.limiters[limiter].up {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::Up(connection, message));
        }
        let now = self.time(limiter);
        let mut out = Outbox::default();
        let proxy = &self.proxies[entry.proxy];
        if let ProxyMessage::Report {
            call, report: Report::FirstByte { .. } | Report::Rejected { .. }, ..
        } = &message.body
        {
            self.provider.heard(self.now, (proxy.id, *call));
        }
        let entry = &mut self.limiters[limiter];
        entry.state.receive(now, id(connection), (*message).clone(), &mut out);
        if !out.ended.iter().any(|(ended, _)| *ended == id(connection)) {
            let limiter_time = |stamp: Stamp| Time(entry.clock.read(proxy.clock.when(stamp.0)));
            entry.watch.receives(now, proxy.id, &message.body, limiter_time);
        }
        self.proceed(limiter, now, out);
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
        self.drive(limiter, |state, now, out| state.wake(now, out));
    }

    pub(super) fn pod_gone(&mut self, proxy: usize) {
        let limiter = self.active;
        if !self.limiters[limiter].up {
            return self.after(Duration::from_millis(500), Happening::PodGone(proxy));
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::PodGone(proxy));
        }
        let session = self.proxies[proxy].id;
        self.limiters[limiter].watch.pod_deleted(session);
        self.drive(limiter, |state, now, out| state.pod_deleted(now, &uid(proxy), out));
    }

    /// Hands something to a limiter's state and does what follows from it.
    pub(super) fn drive(&mut self, limiter: usize, act: impl FnOnce(&mut LimiterState, Time, &mut Outbox)) {
        let now = self.time(limiter);
        let mut out = Outbox::default();
        act(&mut self.limiters[limiter].state, now, &mut out);
        self.proceed(limiter, now, out);
    }

    /// As the process does after each event: sends, begins a commit that is due, sets its timer.
    fn proceed(&mut self, limiter: usize, now: Time, out: Outbox) {
        self.send_all(limiter, now, out);
        if let Some(records) = self.limiters[limiter].state.due_records(now) {
            self.writes(limiter, records);
        }
        self.checkpoints_begin(limiter, now);
        self.set_alarm(limiter, now);
    }

    fn send_all(&mut self, limiter: usize, now: Time, out: Outbox) {
        let leaves = self.leaves_at(limiter, &out);
        for (connection, message) in out.messages {
            if let Some(place) = World::is_hostile(connection) {
                self.hostile_receives(limiter, place, &message);
                continue;
            }
            let connection = connection.0 as usize;
            let session = self.proxies[self.connections[connection].proxy].id;
            self.notes(limiter, now, session, &message);
            self.send_down(connection, leaves, message);
        }
        self.limiters[limiter].watch.batch_ends(now);
        for (connection, why) in out.ended {
            match World::is_hostile(connection) {
                Some(place) => self.hostile_ends(place),
                None => self.ends(connection.0 as usize, &why),
            }
        }
    }

    /// The process may stall between its decision and the wire.
    fn leaves_at(&mut self, limiter: usize, out: &Outbox) -> Moment {
        let granted = |message: &ToProxy| matches!(message.body, LimiterMessage::Grant { .. });
        let grants = out.messages.iter().filter(|(_, message)| granted(message)).count() as u64;
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
            self.stands_still_for(limiter, leaves.since(self.now));
        }
        leaves
    }

    fn notes(&mut self, limiter: usize, now: Time, session: SessionId, message: &ToProxy) {
        let entry = &mut self.limiters[limiter];
        if let LimiterMessage::Grant { call, .. } = message.body {
            entry.grants += 1;
            self.history.granted(session, call);
            self.provider.granted(self.now, (session, call));
        }
        entry.watch.sends(now, session, &message.body, &mut self.history);
    }

    /// The limiter has granted a call of a pod that means harm.
    pub(super) fn granted_to_hostile(&mut self, limiter: usize, session: SessionId, call: CallId) {
        self.limiters[limiter].grants += 1;
        self.history.granted(session, call);
        self.provider.granted(self.now, (session, call));
    }

    /// The limiter has ended a connection.
    fn ends(&mut self, connection: usize, why: &SessionEnd) {
        let proxy = self.connections[connection].proxy;
        let expected = match why {
            SessionEnd::Replaced | SessionEnd::Violation(Violation::NewerLimiter { .. }) => true,
            SessionEnd::NotAdmitted(_) => !self.proxies[proxy].alive,
            _ => false,
        };
        if !expected {
            self.history.problem(&format!("a session was ended: {why}"));
        }
        self.connections[connection].open_at_limiter = false;
        self.after(LEARNS, Happening::ProxyNotices(connection));
    }

    fn send_down(&mut self, connection: usize, leaves: Moment, message: ToProxy) {
        let delay = self.scenario.network.delay(&mut self.chances.network);
        let arrives = self.connections[connection].down(leaves, delay);
        self.at(arrives, Happening::Down(connection, Box::new(message)));
    }

    fn set_alarm(&mut self, limiter: usize, now: Time) {
        let entry = &mut self.limiters[limiter];
        let Some(wake) = entry.state.next_wake(now) else {
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

    /// Each grant that the engines have made was sent.
    pub(crate) fn check_grants(&mut self, limiter: usize) {
        let now = self.time(limiter);
        let entry = &mut self.limiters[limiter];
        let made: u64 = entry.state.report(now).accounts.iter().map(|account| account.totals.granted).sum();
        if made != entry.grants {
            let sent = entry.grants;
            self.history.problem(&format!("{made} grants were made, {sent} were sent"));
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
        self.scenario.account = account;
        let configuration = vec![self.compiled()].into();
        self.drive(limiter, |state, now, out| state.configure(now, configuration, out));
    }

    pub(super) fn provider_changes(&mut self, change: usize) {
        let account = self.scenario.changes[change].account.clone();
        self.provider.change(self.now, &account);
    }
}

/// The wall clock of all nodes: records are written to the second.
fn wall_clock(now: Moment) -> Timestamp {
    Timestamp::from_second((now.0 / 1_000_000_000) as i64).unwrap_or_default()
}

fn id(connection: usize) -> ConnectionId {
    ConnectionId(connection as u64)
}

fn uid(proxy: usize) -> String {
    format!("uid-{proxy}")
}
