//! What a world came to, and what is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use quotakeeper_engine::config::{AccountConfig, LimitConfig};

use crate::clock::Moment;
use crate::provider::{Over, Provider};
use crate::scenario::{Delivery, Excused, Expects, Part, Scenario};
use crate::world::World;

/// What a world came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Calls over the quota, by the provider's count.
    pub over: Over,
    /// Requests that the provider counted.
    pub counted: u64,
    /// Of those, the ones that came before the workload's time was over.
    pub counted_in_time: u64,
    /// Grants that were made.
    pub grants: u64,
    /// Grants that proxies returned because they had run out.
    pub expired: u64,
    /// Calls that came to the provider later than the promise covers.
    pub breaches: u64,
    /// Calls whose clients got their answer.
    pub completed: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls whose clients hung up.
    pub hung_up: u64,
    /// Calls that died with their proxy.
    pub died: u64,
    /// Calls of living clients that never came to an end.
    pub lost: u64,
    /// Rejections by the provider.
    pub rejections: u64,
    /// Calls over because others had used the account since the newest answer.
    pub untold: u64,
    /// Proxies that died.
    pub proxy_crashes: u64,
    /// Restarts of the limiter.
    pub restarts: u64,
    /// Takeovers by a standby.
    pub takeovers: u64,
    /// Takeovers that went on from what their predecessor had handed over.
    pub handovers: u64,
    /// Calls that ask the provider because a limiter began with use that is only assumed; each may be over.
    pub asking_calls: u64,
    /// Used of the first limit, in hundredths of a percent, first and last windows left out.
    pub used: u64,
    /// Charged of the limit of tokens of which most is used, in hundredths of a percent; `None`: there is none.
    pub tokens_used: Option<u64>,
    /// The most that counted of a limit of tokens at any instant, by the provider's bucket, in percent.
    pub tokens_peak: u64,
    /// Charged of it in the window in which that was least, in percent; `None`: the world was too short.
    pub worst_window: Option<u64>,
    /// The same on average, in hundredths of a percent.
    pub tokens_steady: Option<u64>,
    /// Charged of the limit of tokens of which most is used, in each whole window, in percent.
    pub tokens_by_window: Vec<u64>,
    /// What was in flight of the first limit of tokens by our own count, on average, in hundredths of a percent of it.
    pub tokens_in_flight: u64,
    /// What could have been used: min(W/(W+h), b/(r·h)).
    pub ceiling: u64,
    /// From a grant to the time by which it is known to be counted, on average.
    pub hold: Duration,
    /// Jain's index over workloads, by weight, in millionths.
    pub fairness: u64,
    /// Completed in the same time by each workload.
    pub by_consumer: BTreeMap<String, u64>,
    /// From ask to answer, at most.
    pub longest_wait: Duration,
    /// Times that the provider had counted more than the ledger had charged.
    pub under_charged: u64,
    /// What must never happen, and how often it did.
    pub problems: BTreeMap<String, u64>,
    /// What each part has used that is expected of allocations, in percent.
    parts: Vec<u64>,
    /// The least that a workload got of its fair share of the first limit, in percent.
    least_share: u64,
    expects: Expects,
    delivery: Delivery,
}

impl Report {
    pub(crate) fn of(mut world: World) -> Report {
        let end = Moment(0) + world.scenario.length;
        let first = world.scenario.account.limits.first().cloned();
        let window = first.as_ref().map_or(Duration::ZERO, |limit| limit.window);
        let warm = if world.scenario.length >= window * 6 { window * 2 } else { window };
        let measured = (Moment(0) + warm, Moment(end.0.saturating_sub(window.as_nanos() as u64)));
        let hold = world.history.mean_hold();
        let late_writes: u64 = world.proxies.iter().map(|proxy| proxy.session.counters().late_writes).sum();
        world.check_leftovers();
        let by_consumer = world.completed_by_consumer(measured);
        let history = &world.history;
        Report {
            over: world.provider.over(),
            counted: world.provider.arrivals.len() as u64,
            counted_in_time: world.provider.arrivals.iter().filter(|at| **at < end).count() as u64,
            grants: history.grants,
            expired: world.proxies.iter().map(|proxy| proxy.session.counters().expired).sum(),
            breaches: history.late_counts + late_writes,
            completed: history.completed,
            refused: history.refused,
            hung_up: history.hung_up,
            died: history.died,
            lost: history.under_way,
            rejections: world.provider.rejections,
            untold: world.provider.untold(),
            proxy_crashes: history.proxy_crashes,
            restarts: history.restarts,
            takeovers: history.takeovers,
            handovers: history.handovers,
            asking_calls: history.asking_calls,
            used: first.as_ref().map_or(0, |limit| used(&world.provider, measured, limit)),
            tokens_peak: world.provider.tokens_peak(),
            tokens_used: world.provider.tokens_used(world.scenario.length),
            worst_window: world.provider.worst_window(world.scenario.length),
            tokens_steady: world.provider.tokens_steady(world.scenario.length),
            tokens_by_window: world.provider.tokens_by_window(world.scenario.length),
            tokens_in_flight: history.mean_in_flight(),
            ceiling: first.as_ref().map_or(0, |limit| ceiling(limit, hold)),
            least_share: first
                .as_ref()
                .map_or(0, |limit| least_share(&by_consumer, &world.scenario, measured, limit)),
            hold,
            fairness: fairness(&by_consumer, &world.scenario.account),
            by_consumer,
            longest_wait: history.longest_wait,
            under_charged: history.under_charged,
            problems: history.problems.clone(),
            parts: world.scenario.expects.parts.iter().map(|part| world.used_of(part)).collect(),
            expects: world.scenario.expects,
            delivery: world.scenario.upstream.delivery,
        }
    }

    /// Calls over the quota that the promise does not excuse.
    pub fn over_beyond_promise(&self) -> u64 {
        let Over { sliding, fixed, bucket, concurrent, told, tokens } = self.over;
        let tokens = if self.expects.tokens_peak_at_most.is_some() { 0 } else { tokens };
        // Each of them is alone, until its answer or a whole window.
        let logged = sliding.max(fixed).saturating_sub(self.asking_calls);
        let logged = logged.max(concurrent).max(told).max(tokens);
        match self.expects.excused {
            Excused::Nothing => logged.max(bucket),
            Excused::Bucket => logged.max(bucket.saturating_sub(self.breaches)),
            Excused::All => logged.max(bucket).saturating_sub(self.breaches),
        }
    }

    /// What is wrong, one sentence each; empty when all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> =
            self.problems.iter().map(|(what, times)| format!("{what} ({times} times)")).collect();
        let expects = self.expects;
        if self.over_beyond_promise() > 0 {
            faults.push(format!("{:?} over the quota, {} breaches", self.over, self.breaches));
        }
        if self.lost > 0 {
            faults.push(format!("{} calls never came to an end", self.lost));
        }
        if self.under_charged > 0 && self.delivery == Delivery::FromCheck {
            faults
                .push(format!("the provider had counted more than the ledger {} times", self.under_charged));
        }
        if self.refused > expects.refused_at_most {
            faults.push(format!(
                "{} calls were refused, at most {} may be",
                self.refused, expects.refused_at_most
            ));
        }
        if self.rejections < expects.rejections_at_least {
            faults.push(format!("only {} rejections: the scenario tries nothing", self.rejections));
        }
        if let Some(below) = expects.below_ceiling_at_most
            && self.used + below < self.ceiling
        {
            let (used, ceiling) = (self.used as f64 / 100.0, self.ceiling as f64 / 100.0);
            faults.push(format!(
                "used {used} %, more than {below} hundredths below the ceiling of {ceiling} %"
            ));
        }
        if let Some(most) = expects.longest_wait_at_most
            && self.longest_wait > most
        {
            faults.push(format!("a call took {:?}, {most:?} at most it should", self.longest_wait));
        }
        if let Some(least) = expects.used_at_least
            && self.used < least
        {
            faults.push(format!("used {} hundredths of a percent, at least {least} should be", self.used));
        }
        if let Some(least) = expects.share_at_least.filter(|least| self.least_share < *least) {
            let (got, by) = (self.least_share, &self.by_consumer);
            faults.push(format!("a workload got {got} % of its share, at least {least} it should: {by:?}"));
        }
        faults.extend(self.faults_of_tokens());
        faults.extend(self.faults_of_allocations());
        if let Some(least) = expects.fair_at_least
            && self.fairness < least
        {
            faults.push(format!(
                "fairness {} of a million, at least {least}: {:?}",
                self.fairness, self.by_consumer
            ));
        }
        faults
    }

    /// What each part has used that is expected of allocations, in percent.
    pub fn parts(&self) -> impl Iterator<Item = (&Part, u64)> {
        self.expects.parts.iter().zip(self.parts.iter().copied())
    }

    /// Rejections by the provider in 10,000 calls that came to it, rounded up.
    pub fn rejected_of_10_000(&self) -> u64 {
        (self.rejections * 10_000).div_ceil(self.counted.max(1))
    }

    fn faults_of_allocations(&self) -> impl Iterator<Item = String> {
        let parts = self.expects.parts.iter().zip(&self.parts);
        let wrong = parts.filter(|(part, used)| !(part.percent.0..=part.percent.1).contains(used));
        wrong.map(|(part, used)| {
            let Part { allocation, from, to, percent: (least, most) } = part;
            format!("{allocation} used {used} % from {from:?} to {to:?}, it should be {least} to {most}")
        })
    }

    fn faults_of_tokens(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let expects = &self.expects;
        if let Some(most) = expects.tokens_peak_at_most.filter(|most| self.tokens_peak > *most) {
            faults.push(format!("{} % of the limit of tokens counted, {most} at most may", self.tokens_peak));
        }
        if let Some(least) = expects.tokens_used_at_least
            && self.tokens_used.is_none_or(|used| used < least)
        {
            let used = self.tokens_used;
            faults.push(format!("tokens used: {used:?} hundredths of a percent, at least {least} should be"));
        }
        if let Some(least) = expects.worst_window_at_least
            && self.worst_window.is_none_or(|used| used < least)
        {
            let used = self.worst_window;
            faults.push(format!("{used:?} % of the tokens of a window used, at least {least} should be"));
        }
        let rejected = self.rejected_of_10_000();
        if let Some(most) = expects.rejected_at_most.filter(|most| rejected > *most) {
            faults.push(format!("{rejected} of 10,000 calls were rejected, {most} at most may"));
        }
        if self.refused < expects.refused_at_least {
            faults.push(format!("only {} calls were refused", self.refused));
        }
        faults
    }
}

impl World {
    /// When everything has ended the limiter must have heard of it.
    fn check_leftovers(&mut self) {
        let active = self.active;
        self.check_grants(active);
        if self.history.under_way > 0 || !self.limiters[active].up {
            return;
        }
        let now = self.time_of_active();
        let report = self.limiters[active].state.report(now);
        let (mut waiting, mut held) = (0, 0);
        for account in report.accounts {
            waiting += account.status.waiting_calls();
            held += account.status.under_way;
        }
        if waiting + held > 0 {
            self.history.problem(&format!(
                "the limiter believes that {waiting} calls wait and {held} are under way, none is"
            ));
        }
    }

    /// What an allocation has used, in percent of what the limit that is used most allows.
    fn used_of(&self, part: &Part) -> u64 {
        let limits = &self.scenario.account.limits;
        let Some(limit) = limits.iter().find(|limit| limit.tokens.is_some()).or(limits.first()) else {
            return 0;
        };
        let (from, to) = (Moment(0) + part.from, Moment(0) + part.to);
        let drawn = u128::from(self.provider.drawn_by(part.allocation, from, to)) * limit.window.as_nanos();
        let allowed = u128::from(limit.amount) * to.since(from).as_nanos();
        u64::try_from((drawn * 100 + allowed / 2) / allowed.max(1)).unwrap_or(u64::MAX)
    }

    fn time_of_active(&self) -> quotakeeper_engine::time::Time {
        quotakeeper_engine::time::Time(self.limiters[self.active].clock.read(self.now))
    }

    fn completed_by_consumer(&self, (from, to): (Moment, Moment)) -> BTreeMap<String, u64> {
        let mut by_consumer = BTreeMap::new();
        for (pod, completed) in self.history.by_pod.iter().enumerate() {
            let count = completed.iter().filter(|at| (from..to).contains(at)).count() as u64;
            *by_consumer.entry(self.scenario.pods[pod].clone()).or_default() += count;
        }
        by_consumer
    }
}

fn used(provider: &Provider, (from, to): (Moment, Moment), limit: &LimitConfig) -> u64 {
    let counted = u128::from(provider.counted_between(from, to));
    let allowed = u128::from(limit.amount) * to.since(from).as_nanos();
    u64::try_from(counted * 10_000 * limit.window.as_nanos() / allowed.max(1)).unwrap_or(u64::MAX)
}

/// What the workload that got least has got of its share, if each gets as much, in percent.
fn least_share(
    by_consumer: &BTreeMap<String, u64>,
    scenario: &Scenario,
    (from, to): (Moment, Moment),
    limit: &LimitConfig,
) -> u64 {
    let workloads = by_consumer.len() as u128 + u128::from(scenario.hostile.is_some());
    let allowed = u128::from(limit.amount) * to.since(from).as_nanos() / limit.window.as_nanos().max(1);
    let least = by_consumer.values().min().copied().unwrap_or_default();
    u64::try_from(u128::from(least) * 100 * workloads / allowed.max(1)).unwrap_or(u64::MAX)
}

fn ceiling(limit: &LimitConfig, hold: Duration) -> u64 {
    let (window, hold) = (limit.window.as_nanos(), hold.as_nanos().max(1));
    let log = 10_000 * window / (window + hold);
    let bucket = 10_000 * u128::from(limit.effective_burst()) * window / (u128::from(limit.amount) * hold);
    u64::try_from(log.min(bucket)).unwrap_or(u64::MAX)
}

/// (Σx)² / (n·Σx²) of what each workload got for its weight (Jain, Chiu, Hawe 1984).
fn fairness(by_consumer: &BTreeMap<String, u64>, account: &AccountConfig) -> u64 {
    let shares: Vec<f64> = by_consumer
        .iter()
        .map(|(name, got)| *got as f64 / f64::from(account.weights.get(name.as_str()).copied().unwrap_or(1)))
        .collect();
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 {
        return 0;
    }
    (sum * sum / (shares.len() as f64 * squares) * 1e6) as u64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  counted {}, granted {}, returned {}, over {:?}, breaches {}",
            self.counted, self.grants, self.expired, self.over, self.breaches
        )?;
        writeln!(
            f,
            "  completed {}, refused {}, hung up {}, died {}, lost {}, rejected by the provider {}, of these not told {}",
            self.completed, self.refused, self.hung_up, self.died, self.lost, self.rejections, self.untold
        )?;
        if let Some(used) = self.tokens_used {
            let (used, peak) = (used as f64 / 100.0, self.tokens_peak);
            writeln!(
                f,
                "  tokens: used {used:.2} %, at most {peak} % at any instant, {:?} % in the worst window; {} of 10,000 rejected",
                self.worst_window,
                self.rejected_of_10_000()
            )?;
        }
        for (part, used) in self.expects.parts.iter().zip(&self.parts) {
            writeln!(f, "  {} used {used} % from {:?} to {:?}", part.allocation, part.from, part.to)?;
        }
        write!(
            f,
            "  used {:.2} % (ceiling {:.2} %, hold {:.1} ms), fairness {:.4}, longest {:.1} s, restarts {}, takeovers {} ({} by plan)",
            self.used as f64 / 100.0,
            self.ceiling as f64 / 100.0,
            self.hold.as_secs_f64() * 1000.0,
            self.fairness as f64 / 1e6,
            self.longest_wait.as_secs_f64(),
            self.restarts,
            self.takeovers,
            self.handovers
        )
    }
}
