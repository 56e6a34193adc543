//! What breaks when.

use std::time::Duration;

use super::{Happening, World};
use crate::clock::Moment;

impl World {
    pub(super) fn plan_faults(&mut self) {
        let faults = self.scenario.faults;
        let stalls = self.scenario.stalls;
        let pods = u32::try_from(self.scenario.pods.len()).unwrap_or(1).max(1);
        self.plan(stalls.proxy_every / pods, Happening::ProxyStalls);
        self.plan(stalls.limiter_every, Happening::LimiterStalls);
        self.plan(faults.proxy_crash, Happening::ProxyCrashes);
        self.plan(faults.connection_loss, Happening::ConnectionBreaks);
        self.plan(faults.partition, Happening::Partitions);
        self.plan(faults.limiter_crash, Happening::LimiterCrashes { again: true });
        self.plan(faults.failover, Happening::FailsOver { again: true });
        if let Some(lease) = self.scenario.lease {
            self.plan(lease.cut_every, Happening::CutsApiServer);
            self.plan(lease.handover, Happening::HandsOver);
        }
        let once = [
            (faults.limiter_crash_at, Happening::LimiterCrashes { again: false }),
            (faults.failover_at, Happening::FailsOver { again: false }),
            (faults.node_loss_at, Happening::NodeLost),
        ];
        for (at, happening) in once {
            if let Some(at) = at {
                self.at(Moment(0) + at, happening);
            }
        }
        if let Some((at, calls)) = self.scenario.workload.burst_at {
            self.at(Moment(0) + at, Happening::Bursts(calls));
        }
        if let Some(away) = self.scenario.workload.away {
            for pod in 0..away.pods.min(self.scenario.pods.len()) {
                self.at(Moment(0) + away.to, Happening::Returns(pod));
            }
        }
        for change in 0..self.scenario.changes.len() {
            let (limiter, provider) =
                (self.scenario.changes[change].at, self.scenario.changes[change].provider_at);
            self.at(Moment(0) + limiter, Happening::AccountChanges(change));
            self.at(Moment(0) + provider, Happening::ProviderChanges(change));
        }
        self.after(Duration::from_millis(500), Happening::Samples);
    }

    fn plan(&mut self, every: Duration, happening: Happening) {
        if !every.is_zero() {
            let first = self.chances.faults.exponential(every);
            self.after(first, happening);
        }
    }

    pub(super) fn limiter_stalls(&mut self) {
        let stalls = self.scenario.stalls;
        if self.stopped {
            return;
        }
        let length = self.chances.faults.magnitude(stalls.shortest, stalls.longest);
        let limiter = self.active;
        // What was held up by one stall must not be overtaken in the next.
        if self.limiter_stands_still(limiter).is_none() {
            self.limiters[limiter].stalled_until = self.now + length;
        }
        let next = self.chances.faults.exponential(stalls.limiter_every);
        self.after(next, Happening::LimiterStalls);
    }

    pub(super) fn connection_breaks(&mut self) {
        if self.stopped {
            return;
        }
        if let Some(connection) = self.some_connection() {
            // What is under way may still arrive, or not.
            self.connections[connection].cut = self.chances.faults.chance(500_000);
            let random = &mut self.chances.faults;
            let proxy = random.within(Duration::ZERO, Duration::from_millis(200));
            let limiter = random.within(Duration::ZERO, Duration::from_secs(2));
            self.after(proxy, Happening::ProxyNotices(connection));
            self.after(limiter, Happening::LimiterNotices(connection));
        }
        let next = self.chances.faults.exponential(self.scenario.faults.connection_loss);
        self.after(next, Happening::ConnectionBreaks);
    }

    /// Nothing gets through for a while; then what was held up arrives, or the connection is lost.
    pub(super) fn partitions(&mut self) {
        if self.stopped {
            return;
        }
        if let Some(connection) = self.some_connection() {
            let length = self.chances.faults.magnitude(Duration::from_millis(500), Duration::from_secs(20));
            self.connections[connection].blocked_until = self.now + length;
            if self.chances.faults.chance(500_000) {
                self.connections[connection].cut = true;
                self.after(length, Happening::ProxyNotices(connection));
                self.after(length * 2, Happening::LimiterNotices(connection));
            }
        }
        let next = self.chances.faults.exponential(self.scenario.faults.partition);
        self.after(next, Happening::Partitions);
    }

    fn some_connection(&mut self) -> Option<usize> {
        let pod = self.chances.faults.below(self.pods.len() as u64) as usize;
        let proxy = self.pods[pod];
        if proxy == usize::MAX { None } else { self.proxies[proxy].connection }
    }
}
