//! The state of all accounts, for people: for `quotakeeper run`, and for the operator.

use std::time::Duration;

use quotakeeper_engine::time::Time;
use quotakeeper_engine::{ConsumerWait, LimitStatus, Status, Totals};
use quotakeeper_wire::name::{AccountKey, QuotaName};
use quotakeeper_wire::status::{AccountReport, LimitReport, ProxyCounts, Report, WaitingReport};

use super::{Account, Connection, LimiterState};

/// The workloads of an account whose waiting calls are reported; more would make a report too long to read.
const MOST_CONSUMERS: usize = 1000;

/// What an account's people are shown.
#[derive(Clone, Debug)]
pub struct AccountStatus {
    /// The quota as people name it.
    pub quota: QuotaName,
    /// The provider's name.
    pub provider: String,
    /// The tier in force.
    pub tier: String,
    /// Its state.
    pub status: Status,
    /// What has been counted.
    pub totals: Totals,
}

impl LimiterState {
    /// The accounts in force.
    pub fn status(&mut self, now: Time) -> Vec<AccountStatus> {
        let in_force = self.accounts.values_mut().filter(|account| account.retired.is_none());
        in_force
            .map(|account| AccountStatus {
                quota: account.compiled.quota.clone(),
                provider: account.compiled.provider().to_owned(),
                tier: account.compiled.tier.clone(),
                status: account.engine.status(now),
                totals: account.engine.totals(),
            })
            .collect()
    }

    /// All accounts, as the operator gets them.
    pub fn report(&mut self, now: Time) -> Report {
        let open = || self.connections.values().filter(|connection| connection.session.id().is_some());
        let all = count(open());
        let proxies: Vec<ProxyCounts> = self
            .accounts
            .keys()
            .map(|key| count(open().filter(|connection| connection.index_of(key).is_some())))
            .collect();
        let problems = &self.problems;
        let in_force =
            self.accounts.iter_mut().zip(proxies).filter(|((_, account), _)| account.retired.is_none());
        let mut accounts: Vec<AccountReport> = in_force
            .map(|((key, account), proxies)| {
                let problem = problems.get(&account.compiled.quota).cloned();
                account.report(key, problem, proxies, now)
            })
            .collect();
        let without = problems.iter().filter(|(quota, _)| !self.quotas.contains_key(*quota));
        accounts.extend(without.map(|(quota, problem)| nothing_in_force(quota, problem)));
        let (epoch, gate_open_until) = (self.greeting.epoch.0, self.gate_open_until);
        Report { epoch, gate_open: gate_open_until.is_some(), gate_open_until, proxies: all, accounts }
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
    ) -> AccountReport {
        let status = self.engine.status(now);
        let totals = self.engine.totals();
        AccountReport {
            key: key.clone(),
            quota: self.compiled.quota.clone(),
            generation: Some(self.compiled.generation),
            problem,
            mode: self.engine.config().mode,
            limits: status.limits.into_iter().map(limit).collect(),
            pauses: status.pauses,
            waiting: waiting(status.waiting_by_consumer),
            under_way: status.under_way as u64,
            proxies,
            granted: totals.granted,
            refused: totals.refused,
            rejected: totals.rejected,
            breaches: totals.breaches,
        }
    }
}

fn limit(limit: LimitStatus) -> LimitReport {
    LimitReport {
        name: limit.name,
        model: limit.model,
        amount: limit.amount,
        used: limit.used,
        used_by_others: limit.used_by_others,
        assumed: limit.assumed,
        waiting: limit.waiting,
        resets_in_millis: millis(limit.resets_in),
    }
}

fn waiting(mut consumers: Vec<ConsumerWait>) -> Vec<WaitingReport> {
    if consumers.len() > MOST_CONSUMERS {
        consumers.sort_by_key(|wait| std::cmp::Reverse(wait.longest));
        consumers.truncate(MOST_CONSUMERS);
        consumers.sort_by(|one, other| one.consumer.cmp(&other.consumer));
    }
    let report = |wait: ConsumerWait| WaitingReport {
        consumer: wait.consumer,
        calls: wait.calls as u64,
        longest_millis: millis(wait.longest),
    };
    consumers.into_iter().map(report).collect()
}

/// A quota of which nothing has ever been in force here.
fn nothing_in_force(quota: &QuotaName, problem: &str) -> AccountReport {
    AccountReport {
        key: AccountKey::default(),
        quota: quota.clone(),
        generation: None,
        problem: Some(problem.to_owned()),
        mode: quotakeeper_engine::config::Mode::Enforce,
        limits: Vec::new(),
        pauses: Vec::new(),
        waiting: Vec::new(),
        under_way: 0,
        proxies: ProxyCounts::default(),
        granted: 0,
        refused: 0,
        rejected: 0,
        breaches: 0,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
