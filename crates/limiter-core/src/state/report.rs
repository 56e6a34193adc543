//! The status of all accounts, for `quotakeeper run` and for the operator.

use quotakeeper_engine::config::Mode;
use quotakeeper_engine::time::Time;
use quotakeeper_engine::{AccountStatus, ConsumerWait, Totals};
use quotakeeper_wire::name::{AccountKey, QuotaName};
use quotakeeper_wire::status::{AccountReport, PastUse, ProxyCounts, Report};

use super::past::WallClock;
use super::{Account, Connection, LimiterState};
use crate::blame::Blame;

/// The workloads of an account whose waiting calls are reported; more would make a report too long to read.
const MOST_CONSUMERS: usize = 1000;

impl LimiterState {
    /// All accounts, for the operator and for the process's own display.
    pub fn report(&mut self, now: Time) -> Report {
        let open = || self.connections.values().filter(|connection| connection.session.id().is_some());
        let all = count(open());
        let proxies: Vec<ProxyCounts> = self
            .accounts
            .keys()
            .map(|key| count(open().filter(|connection| connection.index_of(key).is_some())))
            .collect();
        let problems = &self.problems;
        let notices: Vec<_> = self.accounts.keys().map(|key| self.notices(key, now)).collect();
        let observed = proxies.into_iter().zip(notices);
        let in_force =
            self.accounts.iter_mut().zip(observed).filter(|((_, account), _)| account.retired.is_none());
        let wall = self.wall;
        let mut accounts: Vec<AccountReport> = in_force
            .map(|((key, account), (proxies, notices))| {
                let problem = problems.get(&account.compiled.quota).cloned();
                AccountReport { notices, ..account.report(key, problem, proxies, now, wall) }
            })
            .collect();
        let without = problems.iter().filter(|(quota, _)| !self.quotas.contains_key(*quota));
        accounts.extend(without.map(|(quota, problem)| nothing_in_force(quota, problem)));
        let (epoch, gate_open_until) = (self.greeting.epoch.0, self.gate_open_until);
        // Whoever drives it knows its name.
        let active = None;
        Report {
            epoch,
            active,
            gate_open: gate_open_until.is_some(),
            gate_open_until,
            proxies: all,
            accounts,
        }
    }
}

/// A session is current once a message of it has arrived since the last change was sent: then the connection was up.
fn count<'a>(connections: impl Iterator<Item = &'a Connection>) -> ProxyCounts {
    let mut counts = ProxyCounts::default();
    for connection in connections {
        counts.connected += 1;
        counts.current += u32::from(connection.received > connection.notified);
    }
    counts
}

impl Account {
    fn report(
        &mut self,
        key: &AccountKey,
        problem: Option<String>,
        proxies: ProxyCounts,
        now: Time,
        wall: WallClock,
    ) -> AccountReport {
        let blame = Blame::on(key);
        let mut status = self.engine.status(now);
        drop(blame);
        keep_longest(&mut status.waiting);
        AccountReport {
            key: key.clone(),
            quota: self.compiled.quota.clone(),
            tier: self.in_force.tier.clone(),
            learned: self.learned.report(&self.compiled, |time| wall.showed(time)),
            generation: Some(self.compiled.generation),
            problem,
            past: self.past,
            checkpoint: self.checkpoints.report(),
            mode: self.engine.config().mode,
            proxies,
            status,
            totals: self.engine.totals(),
            notices: Vec::new(),
        }
    }
}

/// Drops workloads above [`MOST_CONSUMERS`]: those that have waited the shortest.
fn keep_longest(consumers: &mut Vec<ConsumerWait>) {
    if consumers.len() > MOST_CONSUMERS {
        consumers.sort_by_key(|wait| std::cmp::Reverse(wait.longest));
        consumers.truncate(MOST_CONSUMERS);
        consumers.sort_by(|one, other| one.consumer.cmp(&other.consumer));
    }
}

/// A quota of which nothing has ever been in force here.
fn nothing_in_force(quota: &QuotaName, problem: &str) -> AccountReport {
    AccountReport {
        key: AccountKey::default(),
        quota: quota.clone(),
        tier: String::new(),
        learned: None,
        generation: None,
        problem: Some(problem.to_owned()),
        past: PastUse::Unknown,
        checkpoint: None,
        mode: Mode::Enforce,
        proxies: ProxyCounts::default(),
        status: AccountStatus::default(),
        totals: Totals::default(),
        notices: Vec::new(),
    }
}
