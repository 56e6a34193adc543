//! A limiter's disk, and what a crash leaves of it: commits that take time, fail, or are stored without the
//! process having learned of it.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::Engine;
use quotakeeper_engine::config::AccountConfig;
use quotakeeper_engine::event::Reserve;
use quotakeeper_engine::time::Time;
use quotakeeper_limiter_core::learned::LearnedLimits;
use quotakeeper_limiter_core::{DueRecord, Handover, LostGrants, Record, Recovered};
use quotakeeper_wire::message::Epoch;
use quotakeeper_wire::name::AccountKey;

use super::limiters::Boot;
use super::{Happening, World};
use crate::account::KEY;

/// How long a process that could not open its ledger is down.
const RESTARTS_AFTER: Duration = Duration::from_secs(1);

/// What the disk of a limiter's node holds.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeDisk {
    records: BTreeMap<AccountKey, Record>,
    /// The limiter that began the ledger.
    since: Option<Epoch>,
    /// What limiters before it have granted.
    lost: Option<LostGrants>,
}

impl NodeDisk {
    /// A ledger that knows that nothing was ever drawn on the account.
    pub(super) fn of_an_unused_account(config: &AccountConfig, now: Time) -> NodeDisk {
        let reserve = Reserve::nothing(now);
        let snapshot = Engine::new(config.clone(), now).snapshot(now);
        let (stated, learned) = (BTreeMap::new(), LearnedLimits::default());
        let record =
            Record { snapshot, reserve, pods: BTreeMap::new(), stated, periods: BTreeMap::new(), learned };
        NodeDisk { records: BTreeMap::from([(KEY.into(), record)]), since: Some(Epoch(1)), lost: None }
    }

    /// What the limiter of this epoch finds. `before`: what others have granted, if it begins the ledger.
    pub(super) fn recover(&mut self, epoch: Epoch, before: Option<LostGrants>) -> Recovered {
        if self.since.is_none() {
            self.lost = before;
        }
        let since = *self.since.get_or_insert(epoch);
        Recovered {
            records: self.records.clone(),
            since: Some(since),
            lost: self.lost.clone(),
            ..Recovered::default()
        }
    }

    /// What a limiter of another node has handed over.
    pub(super) fn handed_over(recovered: Recovered) -> NodeDisk {
        NodeDisk { records: recovered.records, since: recovered.since, lost: recovered.lost }
    }

    /// The last commit of a limiter that hands over.
    pub(super) fn keep(&mut self, handover: &Handover) {
        self.records = handover.records.clone();
    }

    fn store(&mut self, records: Vec<DueRecord>) {
        self.records.extend(records.into_iter().map(|due| (due.account, due.record)));
    }
}

impl World {
    /// A limiter's first commit, before which it serves nobody.
    pub(super) fn opens_ledger(&mut self, limiter: usize) {
        if self.scenario.disk.is_some() {
            let now = self.time(limiter);
            let records = self.limiters[limiter].state.opening_records(now);
            self.writes(limiter, records);
        }
    }

    /// A commit begins. It is stored at some time before the process learns that it has ended.
    pub(super) fn writes(&mut self, limiter: usize, records: Vec<DueRecord>) {
        let Some(disk) = self.scenario.disk else { return };
        let random = &mut self.chances.disk;
        let takes = match disk.takes {
            Duration::ZERO => Duration::ZERO,
            mean => Duration::from_millis(1) + random.exponential(mean),
        };
        let stored = random.within(Duration::ZERO, takes);
        let fails = random.chance(disk.fails);
        if !fails {
            self.after(stored, Happening::CommitStored(limiter, records));
        }
        self.after(takes, Happening::CommitEnds { limiter, stored: !fails });
    }

    /// A commit is on the disk, unless its process was killed before.
    pub(super) fn commit_stored(&mut self, limiter: usize, records: Vec<DueRecord>) {
        let entry = &mut self.limiters[limiter];
        if let Some(disk) = entry.disk.as_mut().filter(|_| entry.up) {
            disk.store(records);
        }
    }

    /// The process learns how its commit has ended, when it runs.
    pub(super) fn commit_ends(&mut self, limiter: usize, stored: bool) {
        if !self.limiters[limiter].up {
            return;
        }
        if let Some(later) = self.limiter_stands_still(limiter) {
            return self.at(later, Happening::CommitEnds { limiter, stored });
        }
        if !stored && !self.limiters[limiter].serving {
            // It ends with an error, and is started again.
            self.stops_running(limiter);
            return self.after(RESTARTS_AFTER, Happening::LimiterRestarts(limiter));
        }
        self.limiters[limiter].serving = true;
        self.drive(limiter, |state, now, out| match stored {
            true => state.committed(now, out),
            false => state.commit_failed(now),
        });
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
    pub(super) fn stops_running(&mut self, limiter: usize) {
        self.check_grants(limiter);
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

    /// The same node, its clock and its disk, unless the pod was lost and its disk with it.
    pub(super) fn limiter_restarts(&mut self, limiter: usize) {
        if self.leasing.as_ref().is_some_and(|leasing| leasing.holder != Some(limiter)) {
            // Another holds the lease by now.
            return;
        }
        let lost = self.chances.disk.chance(self.scenario.faults.ledger_loss);
        if lost {
            self.checkpoint_may_go();
        }
        let old = &mut self.limiters[limiter];
        let disk = if lost { old.disk.take().map(|_| NodeDisk::default()) } else { old.disk.take() };
        let epoch = Epoch(old.epoch.0 + 1);
        let boot = Boot { clock: old.clock, epoch, disk, follows: true };
        let restarted = self.start_limiter(boot);
        self.history.restarts += 1;
        if let Some(leasing) = &mut self.leasing {
            // It is the lease's holder still, but does not know until when.
            leasing.restarted(restarted, epoch);
            self.inherits_claim(restarted, Some(limiter).filter(|_| !lost));
            self.granted_nothing_yet(restarted);
            self.after(Duration::ZERO, Happening::RequestsRenewal(restarted));
        }
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
}
