//! A limiter that is told to end hands its state to the standby, and each step of that may fail.
//!
//! ```text
//! active                          standby                   API server
//!   │ grants nothing more            │                           │
//!   │ the handover ────────────────► │ sets its clock            │
//!   │ ◄──────────────────── accepted │                           │
//!   │ gives the lease up ────────────┼─────────────────────────► │
//!   │                                │ looks, takes the lease ─► │
//! ```

use std::time::Duration;

use quotakeeper_limiter_core::Handover;

use super::{Happening, World};
use crate::clock::Moment;

/// How long a limiter that ends waits until its handover is accepted.
const WAITS: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn hands_over(&mut self) {
        let Some(lease) = self.scenario.lease.filter(|_| !self.stopped) else { return };
        let next = Duration::from_secs(1) + self.chances.faults.exponential(lease.handover);
        self.after(next, Happening::HandsOver);
        let limiter = self.active;
        let entry = &self.limiters[limiter];
        let holds = self.leasing.as_ref().is_some_and(|leasing| leasing.holder == Some(limiter));
        if !holds || !entry.up || !entry.serving || self.limiter_stands_still(limiter).is_some() {
            return;
        }
        let now = self.time(limiter);
        let handover = self.limiters[limiter].state.hand_over(now);
        self.stops_running(limiter);
        if self.chances.faults.chance(500_000)
            && let Some(disk) = &mut self.limiters[limiter].disk
        {
            // Otherwise it ends before its last commit.
            disk.keep(&handover);
        }
        if self.is_cut(lease.handover_cut) {
            return self.dies_or_gives_up(limiter, WAITS);
        }
        let way = Duration::from_millis(1) + self.scenario.network.delay(&mut self.chances.network);
        self.after(way, Happening::HandoverArrives(limiter, Box::new(handover)));
    }

    fn is_cut(&mut self, per_million: u64) -> bool {
        self.chances.faults.chance(per_million)
    }

    /// The standby has it. Its clock goes on from that of the limiter that has sent it.
    pub(super) fn handover_arrives(&mut self, limiter: usize, handover: Handover) {
        let (now, cut) = (self.now, self.scenario.lease.map_or(0, |lease| lease.handover_cut));
        let dies = self.is_cut(cut);
        let again = self.some_clock();
        if let Some(leasing) = &mut self.leasing {
            let clock = leasing.standby.clock.showing(handover.sent.0, now);
            match dies {
                true => leasing.standby.starts_anew(again),
                false => leasing.standby.offered = Some((handover, clock)),
            }
        }
        let waits = match self.is_cut(cut) {
            true => WAITS,
            false => self.scenario.network.delay(&mut self.chances.network).min(WAITS),
        };
        self.dies_or_gives_up(limiter, waits);
    }

    /// The limiter that ends gives its lease up, unless it is killed before: then its container starts again, or not.
    fn dies_or_gives_up(&mut self, limiter: usize, waits: Duration) {
        let cut = self.scenario.lease.map_or(0, |lease| lease.handover_cut);
        if !self.is_cut(cut) {
            return self.after(waits, Happening::GivesUp(limiter));
        }
        if self.is_cut(500_000) {
            let down = self.chances.faults.within(Duration::from_millis(200), Duration::from_millis(500));
            self.after(down, Happening::LimiterRestarts(limiter));
        }
    }

    /// At the API server.
    pub(super) fn gives_up(&mut self, limiter: usize) {
        let way = self.chances.faults.within(Duration::from_millis(5), Duration::from_millis(200));
        let Some(leasing) = &mut self.leasing else { return };
        if leasing.holder == Some(limiter) && leasing.reaches_active(self.now) {
            leasing.change(None);
            self.after(way, Happening::StandbyLooks { again: false });
        }
    }
}

impl super::lease::Leasing {
    /// Whether requests of the active limiter reach the API server.
    fn reaches_active(&self, now: Moment) -> bool {
        self.cut.active <= now
    }
}
