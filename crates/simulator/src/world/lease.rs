//! The lease that says which limiter may grant, the API server that keeps it, and the standby that waits for it.

use std::time::Duration;

use quotakeeper_engine::time::Time;
use quotakeeper_limiter_core::Handover;
use quotakeeper_limiter_core::lease::{Held, Terms, Verdict, Watch};
use quotakeeper_limiter_core::offline::{Offline, Right};
use quotakeeper_wire::message::Epoch;

use super::disk::NodeDisk;
use super::limiters::Boot;
use super::{Happening, World};
use crate::clock::{Clock, Moment};

/// The name of the standby in the lease.
const STANDBY: &str = "standby";
/// The shortest and the longest way of a request that is late.
const LATE: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(8)];

/// The lease as the API server has it, and who waits for it.
#[derive(Debug)]
pub(super) struct Leasing {
    /// Who holds it; `None`: nobody, or the standby, which does not know yet.
    pub(super) holder: Option<usize>,
    version: u64,
    pub(super) epoch: Epoch,
    /// Which limiter may go on without it.
    claim: usize,
    pub(super) standby: Standby,
    /// Until when the API server is cut off from the active limiter, and from the standby.
    pub(super) cut: Cut,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    pub(super) active: Moment,
    pub(super) standby: Moment,
}

/// A limiter that may become the active one.
#[derive(Debug)]
pub(super) struct Standby {
    pub(super) clock: Clock,
    watch: Watch,
    /// It has asked for the lease and has no answer yet.
    takes: bool,
    /// What the active limiter has handed over, and the clock that goes on from that limiter's.
    pub(super) offered: Option<(Handover, Clock)>,
}

impl Standby {
    fn new(clock: Clock) -> Standby {
        Standby { clock, watch: Watch::default(), takes: false, offered: None }
    }

    /// Its pod is replaced; what it has asked for may still be done.
    pub(super) fn starts_anew(&mut self, clock: Clock) {
        *self = Standby { takes: self.takes, ..Standby::new(clock) };
    }
}

impl Leasing {
    pub(super) fn change(&mut self, holder: Option<usize>) {
        self.holder = holder;
        self.version += 1;
    }

    /// A limiter has restarted on its node, under its own name.
    pub(super) fn restarted(&mut self, limiter: usize, epoch: Epoch) {
        self.change(Some(limiter));
        self.epoch = epoch;
    }
}

impl World {
    pub(super) fn begin_lease(&mut self) {
        let Some(lease) = self.scenario.lease else { return };
        let standby = Standby::new(self.some_clock());
        let (cut, epoch) = (Cut::default(), self.limiters[0].epoch);
        self.leasing = Some(Leasing { holder: Some(0), version: 0, epoch, claim: 0, standby, cut });
        self.limiters[0].offline = lease.offline_percent > 0;
        self.granted_from(0, self.now);
        self.after(lease.every, Happening::RequestsRenewal(0));
        self.after(Duration::from_millis(100), Happening::StandbyLooks { again: true });
    }

    fn terms(&self) -> Terms {
        Terms { length: self.scenario.lease.map_or(Duration::ZERO, |lease| lease.length) }
    }

    /// A limiter learns that what it asked for then was done.
    fn granted_from(&mut self, limiter: usize, asked: Moment) {
        let asked = Time(self.limiters[limiter].clock.read(asked));
        let right = self.right(limiter, asked, self.time(limiter));
        self.drive(limiter, |state, now, out| state.renew_lease(now, right, out));
    }

    /// A limiter begins that does not know yet until when it may grant.
    pub(super) fn granted_nothing_yet(&mut self, limiter: usize) {
        let now = self.time(limiter);
        let right = Right { until: now, offline: None, ..self.right(limiter, now, now) };
        self.drive(limiter, |state, now, out| state.renew_lease(now, right, out));
    }

    fn right(&self, limiter: usize, asked: Time, answered: Time) -> Right {
        let (offline, entry) = (self.offline(), &self.limiters[limiter]);
        Right {
            until: self.terms().grants_until(asked, answered),
            offline: entry.offline.then(|| (offline.percent, offline.granted_until(asked))),
            left_out: entry.left_out.map(|until| (offline.percent, until)),
        }
    }

    fn offline(&self) -> Offline {
        let lease = self.scenario.lease.unwrap_or_default();
        Offline { percent: lease.offline_percent, length: lease.offline_for }
    }

    /// A limiter follows: it may go on without its lease if the one before might, of which it has the ledger. Otherwise it
    /// leaves out what that may grant.
    pub(super) fn inherits_claim(&mut self, limiter: usize, before: Option<usize>) {
        let (offline, now) = (self.offline(), self.time(limiter));
        let Some(leasing) = self.leasing.as_mut().filter(|_| offline.percent > 0) else { return };
        let entry = &mut self.limiters[limiter];
        match before == Some(leasing.claim) {
            true => (leasing.claim, entry.offline) = (limiter, true),
            false => entry.left_out = Some(offline.left_out_until(now)),
        }
    }

    /// How long a request takes to the API server, or its answer back.
    fn api_way(&mut self) -> Duration {
        let late = self.scenario.lease.map_or(0, |lease| lease.late);
        let random = &mut self.chances.faults;
        match random.chance(late) {
            true => random.magnitude(LATE[0], LATE[1]),
            false => random.within(Duration::from_millis(5), Duration::from_millis(200)),
        }
    }

    /// The API server is out of reach for a while.
    pub(super) fn cuts_api_server(&mut self) {
        let Some(lease) = self.scenario.lease.filter(|_| !self.stopped) else { return };
        let random = &mut self.chances.faults;
        let until = self.now + random.magnitude(Duration::from_millis(500), Duration::from_secs(20));
        let (active, standby) = *random.pick(&[(true, false), (true, false), (false, true), (true, true)]);
        if let Some(leasing) = &mut self.leasing {
            if active {
                leasing.cut.active = until;
            }
            if standby {
                leasing.cut.standby = until;
            }
        }
        let next = self.chances.faults.exponential(lease.cut_every);
        self.after(next, Happening::CutsApiServer);
    }

    pub(super) fn requests_renewal(&mut self, limiter: usize) {
        let Some(lease) = self.scenario.lease else { return };
        if !self.limiters[limiter].up {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::RequestsRenewal(limiter));
        }
        if self.leasing.as_ref().is_some_and(|leasing| leasing.cut.active <= self.now) {
            let way = self.api_way();
            self.after(way, Happening::RenewalArrives(limiter, self.now));
        }
        self.after(lease.every, Happening::RequestsRenewal(limiter));
    }

    /// At the API server.
    pub(super) fn renewal_arrives(&mut self, limiter: usize, asked: Moment) {
        let way = self.api_way();
        let (now, entry) = (self.time(limiter), &self.limiters[limiter]);
        let claims = entry.left_out.is_some() && !entry.state.leaves_something_out(now);
        let Some(leasing) = &mut self.leasing else { return };
        let answer = if leasing.holder == Some(limiter) {
            leasing.change(Some(limiter));
            if claims {
                leasing.claim = limiter;
            }
            Happening::Renewed(limiter, asked, claims)
        } else {
            Happening::Deposed(limiter)
        };
        self.after(way, answer);
    }

    pub(super) fn renewed(&mut self, limiter: usize, asked: Moment, claims: bool) {
        if !self.limiters[limiter].up {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::Renewed(limiter, asked, claims));
        }
        if claims {
            (self.limiters[limiter].offline, self.limiters[limiter].left_out) = (true, None);
        }
        self.granted_from(limiter, asked);
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

    /// The standby reads the lease, if it can.
    pub(super) fn standby_looks(&mut self, again: bool) {
        if again {
            self.after(Duration::from_millis(100), Happening::StandbyLooks { again });
        }
        let (Some(leasing), Some(lease)) = (&self.leasing, self.scenario.lease) else { return };
        let Leasing { holder, version, epoch, standby, cut, .. } = leasing;
        if standby.takes || cut.standby > self.now {
            return;
        }
        let name = holder.map_or(String::new(), |holder| holder.to_string());
        let held =
            Held { holder: name, renewal: version.to_string(), epoch: epoch.0, length: Some(lease.length) };
        let version = *version;
        let way = self.chances.faults.within(Duration::from_millis(1), Duration::from_millis(20));
        self.after(way, Happening::StandbySees(Box::new(held), version));
    }

    pub(super) fn standby_sees(&mut self, held: &Held, version: u64) {
        let (now, way) = (self.now, self.api_way());
        let Some(Leasing { standby, .. }) = &mut self.leasing else { return };
        let local = Time(standby.clock.read(now));
        let takes = standby.watch.sees(local, Some(held), STANDBY) == Verdict::Free && !standby.takes;
        if takes {
            standby.takes = true;
            self.after(way, Happening::TakeArrives(version, now));
        }
    }

    /// At the API server: only the lease that was read is replaced.
    pub(super) fn take_arrives(&mut self, version: u64, asked: Moment) {
        let way = self.api_way();
        let Some(leasing) = &mut self.leasing else { return };
        if leasing.version != version {
            leasing.standby.takes = false;
            return;
        }
        let last = leasing.epoch;
        leasing.change(None);
        self.after(way, Happening::TakesOver(last, asked));
    }

    /// The standby learns that it holds the lease: it goes on from what was handed over, or by line 9 of the rule.
    pub(super) fn takes_over(&mut self, last: Epoch, asked: Moment) {
        let Some(lease) = self.scenario.lease else { return };
        let next = Standby::new(self.some_clock());
        let epoch = Epoch(self.limiters.iter().map(|limiter| limiter.epoch.0).max().unwrap_or(0) + 1);
        let Some(leasing) = &mut self.leasing else { return };
        let Standby { clock, offered, .. } = std::mem::replace(&mut leasing.standby, next);
        let offered = offered.and_then(|(handover, goes_on)| Some((handover.recovered(last)?, goes_on)));
        let by_plan = offered.is_some();
        let new = self.scenario.disk.map(|_| NodeDisk::default());
        let (disk, clock) = match offered {
            Some((recovered, goes_on)) => (new.map(|_| NodeDisk::handed_over(recovered)), goes_on),
            None => (new, clock),
        };
        let before = self.limiters.iter().position(|limiter| by_plan && limiter.epoch == last);
        let index = self.start_limiter(Boot { clock, epoch, disk, follows: true });
        self.inherits_claim(index, before);
        if let Some(leasing) = &mut self.leasing {
            leasing.change(Some(index));
            leasing.epoch = epoch;
        }
        self.history.takeovers += 1;
        self.history.handovers += u64::from(by_plan);
        self.granted_from(index, asked);
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
            self.stands_still_for(limiter, longer);
        }
    }

    /// A limiter does nothing for so long, and its clock perhaps shows nothing of it.
    pub(super) fn stands_still_for(&mut self, limiter: usize, length: Duration) {
        let entry = &mut self.limiters[limiter];
        entry.stalled_until = self.now + length;
        if self.scenario.lease.is_some_and(|lease| lease.clock_stops) {
            entry.clock = entry.clock.stopped_for(length);
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
            let longer = if lease.clock_stops { longer + lease.length } else { longer };
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
