//! The lease that says which limiter may grant, and the standby that waits for it to run out.

use std::time::Duration;

use quotakeeper_engine::time::Time;
use quotakeeper_wire::message::Epoch;

use super::disk::NodeDisk;
use super::limiters::Boot;
use super::{Happening, World};
use crate::clock::{Clock, Moment};

/// The part of the lease after which its holder stops by itself, in percent; counted from before the
/// request, and safely less than the lease on any clock.
const DEADLINE_PERCENT: u32 = 70;

/// Who waits for the lease to run out, and the lease as the API server has it.
#[derive(Debug)]
pub(super) struct Standby {
    clock: Clock,
    pub(super) holder: usize,
    renewed: Moment,
    /// The renewal that it has seen last, and when on its own clock.
    seen: Moment,
    since: u64,
}

impl World {
    pub(super) fn begin_lease(&mut self) {
        let Some(lease) = self.scenario.lease else {
            return;
        };
        let clock = self.some_clock();
        let since = clock.read(self.now);
        self.standby = Some(Standby { clock, holder: 0, renewed: self.now, seen: self.now, since });
        let until = self.deadline(0);
        self.drive(0, |state, now, out| state.renew_lease(now, until, out));
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
        self.drive(limiter, |state, now, out| state.renew_lease(now, until, out));
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
        let epoch = Epoch(self.limiters.iter().map(|limiter| limiter.epoch.0).max().unwrap_or(0) + 1);
        let (now, local) = (self.now, next.read(self.now));
        let disk = self.scenario.disk.map(|_| NodeDisk::default());
        let Some(standby) = &mut self.standby else {
            return;
        };
        let clock = std::mem::replace(&mut standby.clock, next);
        (standby.renewed, standby.seen, standby.since) = (now, now, local);
        let index = self.start_limiter(Boot { clock, epoch, disk, follows: true });
        if let Some(standby) = &mut self.standby {
            standby.holder = index;
        }
        self.history.takeovers += 1;
        let until = self.deadline(index);
        self.drive(index, |state, now, out| state.renew_lease(now, until, out));
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
