//! What outlives a limiter: its ledger, and the lease that says who may grant.

use std::time::Duration;

use quotakeeper_engine::Engine;
use quotakeeper_engine::Snapshot;
use quotakeeper_engine::event::{Event, Reserve};
use quotakeeper_engine::time::Time;
use quotakeeper_wire::message::Epoch;

use super::limiters::Limiter;
use super::{Happening, World};
use crate::clock::{Clock, Moment};

/// The part of the lease after which its holder stops by itself, in percent; counted from before the
/// request, and safely less than the lease on any clock.
const DEADLINE_PERCENT: u32 = 70;

/// Who waits for the lease to run out, and the lease as the API server has it.
#[derive(Debug)]
pub(super) struct Standby {
    clock: Clock,
    holder: usize,
    renewed: Moment,
    /// The renewal that it has seen last, and when on its own clock.
    seen: Moment,
    since: u64,
}

impl World {
    /// Nothing may be granted before the first commit, which is for no grant of its own: until an engine is
    /// told of one it takes itself for one without a ledger.
    pub(super) fn begin_ledger(&mut self, limiter: usize) {
        if self.scenario.ledger.is_some() {
            let now = self.time(limiter);
            let engine = &mut self.limiters[limiter].engine;
            let snapshot = engine.snapshot(now);
            let reserve = engine.reserve(now, Duration::ZERO);
            self.limiters[limiter].durable = Some((snapshot, reserve.clone()));
            self.limiter_takes(limiter, vec![Event::Committed(reserve)]);
            self.after(Duration::ZERO, Happening::Snapshots(limiter));
        }
    }

    /// A commit begins.
    pub(super) fn snapshots(&mut self, limiter: usize) {
        let Some(ledger) = self.scenario.ledger else {
            return;
        };
        if !self.limiters[limiter].up {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::Snapshots(limiter));
        }
        self.after(ledger.every, Happening::Snapshots(limiter));
        if std::mem::replace(&mut self.limiters[limiter].committing, true) {
            return;
        }
        let now = self.time(limiter);
        let engine = &mut self.limiters[limiter].engine;
        let snapshot = engine.snapshot(now);
        let reserve = engine.reserve(now, ledger.horizon);
        let takes = Duration::from_millis(1) + self.chances.faults.exponential(ledger.takes);
        self.after(takes, Happening::Durable(limiter, Box::new((snapshot, reserve))));
    }

    /// A commit is on the disk; the process hears of it when it runs.
    pub(super) fn durable(&mut self, limiter: usize, commit: Box<(Snapshot, Reserve)>) {
        if !self.limiters[limiter].up {
            return;
        }
        let reserve = commit.1.clone();
        self.limiters[limiter].durable = Some((*commit).clone());
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::Durable(limiter, commit));
        }
        self.limiters[limiter].committing = false;
        self.limiter_takes(limiter, vec![Event::Committed(reserve)]);
    }

    pub(super) fn limiter_crashes(&mut self, again: bool) {
        if self.stopped {
            return;
        }
        let limiter = self.active;
        if self.limiters[limiter].up {
            self.stops_running(limiter);
            let down = self.chances.faults.within(Duration::from_millis(200), Duration::from_millis(500));
            self.after(down, Happening::LimiterRestarts(limiter));
        }
        if again {
            let next =
                Duration::from_secs(1) + self.chances.faults.exponential(self.scenario.faults.limiter_crash);
            self.after(next, Happening::LimiterCrashes { again });
        }
    }

    /// The process is gone, its connections with it; its proxies notice one by one.
    fn stops_running(&mut self, limiter: usize) {
        self.limiters[limiter].up = false;
        for connection in 0..self.connections.len() {
            let entry = &mut self.connections[connection];
            if entry.limiter == limiter && entry.open_at_proxy && !entry.cut {
                let notices =
                    self.chances.faults.within(Duration::from_millis(1), Duration::from_millis(100));
                self.after(notices, Happening::ProxyNotices(connection));
            }
        }
    }

    /// The same node, its clock and its disk: line 8 of the rule.
    pub(super) fn limiter_restarts(&mut self, limiter: usize) {
        if self.standby.as_ref().is_some_and(|standby| standby.holder != limiter) {
            // Another holds the lease by now.
            return;
        }
        let old = &self.limiters[limiter];
        let (clock, epoch, durable) = (old.clock, Epoch(old.epoch.0 + 1), old.durable.clone());
        let since = old.ledger_since;
        let config = self.scenario.account.clone();
        let now = Time(clock.read(self.now));
        let engine = match durable.clone() {
            Some((snapshot, reserve)) => Engine::restart(config, snapshot, reserve, now),
            None => Engine::takeover(config, now),
        };
        let mut restarted = Limiter::new(clock, engine, epoch, self.now);
        if durable.is_some() {
            restarted.ledger_since = since;
        }
        restarted.durable = durable;
        self.limiters.push(restarted);
        self.active = self.limiters.len() - 1;
        self.history.restarts += 1;
        if let Some(standby) = &mut self.standby {
            // It is the lease's holder still, but does not know until when.
            standby.holder = self.active;
            let now = self.time(self.active);
            self.limiter_takes(self.active, vec![Event::Lease(now)]);
            self.after(Duration::ZERO, Happening::RequestsRenewal(self.active));
        }
        self.begin_ledger(self.active);
        if self.chances.faults.chance(self.scenario.faults.limiter_crash_again) {
            let lives = self.chances.faults.within(Duration::from_millis(1), Duration::from_millis(300));
            self.after(lives, Happening::LimiterCrashes { again: false });
        }
        // It lists the pods anew, and finds out who has died.
        for proxy in 0..self.proxies.len() {
            if !self.proxies[proxy].alive {
                self.after(Duration::from_secs(2), Happening::PodGone(proxy));
            }
        }
    }

    pub(super) fn begin_lease(&mut self) {
        let Some(lease) = self.scenario.lease else {
            return;
        };
        let clock = self.some_clock();
        let since = clock.read(self.now);
        self.standby = Some(Standby { clock, holder: 0, renewed: self.now, seen: self.now, since });
        let until = self.deadline(0);
        self.limiter_takes(0, vec![Event::Lease(until)]);
        self.after(lease.every, Happening::RequestsRenewal(0));
        self.after(Duration::from_millis(100), Happening::StandbyLooks);
    }

    /// Until when a limiter may grant on the strength of a renewal that it requests now.
    fn deadline(&self, limiter: usize) -> Time {
        let length = self.scenario.lease.map_or(Duration::ZERO, |lease| lease.length);
        self.time(limiter) + length * DEADLINE_PERCENT / 100
    }

    pub(super) fn requests_renewal(&mut self, limiter: usize) {
        let Some(lease) = self.scenario.lease else {
            return;
        };
        if !self.limiters[limiter].up {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::RequestsRenewal(limiter));
        }
        let until = self.deadline(limiter);
        let way = self.chances.faults.within(Duration::from_millis(5), Duration::from_millis(200));
        self.after(way, Happening::RenewalArrives(limiter, until));
        self.after(lease.every, Happening::RequestsRenewal(limiter));
    }

    /// At the API server.
    pub(super) fn renewal_arrives(&mut self, limiter: usize, until: Time) {
        let way = self.chances.faults.within(Duration::from_millis(5), Duration::from_millis(200));
        let now = self.now;
        let Some(standby) = &mut self.standby else {
            return;
        };
        let answer = if standby.holder == limiter {
            standby.renewed = now;
            Happening::Renewed(limiter, until)
        } else {
            Happening::Deposed(limiter)
        };
        self.after(way, answer);
    }

    pub(super) fn renewed(&mut self, limiter: usize, until: Time) {
        if !self.limiters[limiter].up {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::Renewed(limiter, until));
        }
        self.limiter_takes(limiter, vec![Event::Lease(until)]);
    }

    /// It learns that another holds the lease, and ends.
    pub(super) fn deposed(&mut self, limiter: usize) {
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::Deposed(limiter));
        }
        if self.limiters[limiter].up {
            self.stops_running(limiter);
        }
    }

    pub(super) fn standby_looks(&mut self) {
        let (Some(standby), Some(lease)) = (&mut self.standby, self.scenario.lease) else {
            return;
        };
        let local = standby.clock.read(self.now);
        if standby.renewed != standby.seen {
            standby.seen = standby.renewed;
            standby.since = local;
        }
        if Duration::from_nanos(local - standby.since) >= lease.length {
            self.takes_over();
        }
        self.after(Duration::from_millis(100), Happening::StandbyLooks);
    }

    /// Another node, no ledger: line 9 of the rule.
    fn takes_over(&mut self) {
        let Some(lease) = self.scenario.lease else {
            return;
        };
        let next = self.some_clock();
        let index = self.limiters.len();
        let epoch = Epoch(self.limiters.iter().map(|limiter| limiter.epoch.0).max().unwrap_or(0) + 1);
        let (now, local) = (self.now, next.read(self.now));
        let Some(standby) = &mut self.standby else {
            return;
        };
        let clock = std::mem::replace(&mut standby.clock, next);
        standby.holder = index;
        (standby.renewed, standby.seen, standby.since) = (now, now, local);
        let engine = Engine::takeover(self.scenario.account.clone(), Time(clock.read(now)));
        self.limiters.push(Limiter::new(clock, engine, epoch, now));
        self.active = index;
        self.history.takeovers += 1;
        self.begin_ledger(index);
        let until = self.deadline(index);
        self.limiter_takes(index, vec![Event::Lease(until)]);
        self.after(lease.every, Happening::RequestsRenewal(index));
        for pod in 0..self.pods.len() {
            let finds =
                Duration::from_millis(20) + self.chances.faults.within(Duration::ZERO, lease.moves_within);
            let proxy = self.pods[pod];
            if proxy != usize::MAX {
                self.after(finds, Happening::Connects(proxy));
            }
        }
    }

    /// There was no batch to stand still with: it does without.
    pub(super) fn freezes(&mut self, limiter: usize) {
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::Freezes(limiter));
        }
        if let Some(longer) = self.limiters[limiter].stalls_with_batch.take() {
            self.limiters[limiter].stalled_until = self.now + longer;
        }
    }

    /// The active limiter's node stands still, with a batch that it has decided, for longer than
    /// its lease; or it dies.
    pub(super) fn fails_over(&mut self, again: bool) {
        let Some(lease) = self.scenario.lease.filter(|_| !self.stopped) else {
            return;
        };
        let random = &mut self.chances.faults;
        let active = self.active;
        if random.chance(250_000) {
            self.limiters[active].up = false;
        } else {
            let longer = random.within(lease.length * 12 / 10, lease.length * 32 / 10);
            self.limiters[active].stalls_with_batch = Some(longer);
            self.after(Duration::from_secs(1), Happening::Freezes(active));
        }
        if again {
            let mean = self.scenario.faults.failover;
            let next = self.chances.faults.within(mean / 2, mean * 3 / 2);
            self.after(next, Happening::FailsOver { again });
        }
    }
}
