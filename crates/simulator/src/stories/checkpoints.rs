//! Windows of an hour whose use is stored in the Kubernetes API too: ledgers, checkpoints and swaps that get lost.

use quotakeeper_engine::config::CountedAs;

use super::disasters::DISK;
use super::{Story, calm, ms, seconds, story};
use crate::random::Random;
use crate::scenario::{Arrivals, Change, Checkpoints, Lease, Scenario};

pub(super) const STORIES: &[Story] = &[
    story("checkpoints", "the ledger is lost again and again within an hour's limit", lost_ledgers),
    story("checkpoints-slow", "the same, and one request in five to the API server is late or fails", slow),
    story("checkpoints-lost", "the checkpoint is lost with the ledger, or rolled back", lost_checkpoints),
    story("checkpoints-failover", "a stalled limiter is followed, and its swaps arrive late", failover),
    story("checkpoints-renamed", "the limit gets another name, and the ledger is lost", renamed),
];

/// An hour's limit that is wanted more than it allows, and about twenty lost ledgers.
pub(super) fn lost_ledgers(random: &mut Random) -> Scenario {
    let amount = random.between(40, 400);
    let mut scenario = calm(random, (amount, seconds(3600), ms(1000)));
    scenario.account.limits[0].counted_as = *random.pick(&[CountedAs::SlidingWindow, CountedAs::FixedWindow]);
    scenario.pods.truncate(3);
    scenario.recorded = true;
    scenario.workload.arrivals = Arrivals::Percent(random.between(70, 130));
    scenario.length = seconds(8000);
    scenario.disk = Some(DISK);
    scenario.faults.limiter_crash = seconds(400);
    scenario.faults.ledger_loss = 1_000_000;
    scenario.checkpoints = Some(Checkpoints::default());
    scenario
}

fn slow(random: &mut Random) -> Scenario {
    let mut scenario = lost_ledgers(random);
    scenario.faults.limiter_crash_again = 300_000;
    scenario.checkpoints = Some(Checkpoints { late: 100_000, fails: 100_000, ..Checkpoints::default() });
    scenario
}

fn lost_checkpoints(random: &mut Random) -> Scenario {
    let mut scenario = lost_ledgers(random);
    scenario.faults.limiter_crash = seconds(900);
    scenario.checkpoints =
        Some(Checkpoints { deleted: 200_000, rolled_back: 500_000, ..Checkpoints::default() });
    scenario
}

pub(super) fn failover(random: &mut Random) -> Scenario {
    let mut scenario = lost_ledgers(random);
    scenario.faults.limiter_crash = seconds(0);
    scenario.lease =
        Some(Lease { length: seconds(5), every: seconds(1), moves_within: ms(500), ..Lease::default() });
    scenario.faults.failover = seconds(400);
    scenario.checkpoints = Some(Checkpoints { late: 300_000, ..Checkpoints::default() });
    scenario
}

fn renamed(random: &mut Random) -> Scenario {
    let mut scenario = lost_ledgers(random);
    for (change, at) in [1500, 3000, 4500].into_iter().enumerate() {
        let mut account = scenario.account.clone();
        account.limits[0].name = format!("hourly-{change}");
        scenario.changes.push(Change { at: seconds(at), provider_at: seconds(at), account });
    }
    scenario
}
