//! What a campaign draws of each limit, and how long that takes at least, whoever else draws: arithmetic alone.

use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_dialects::calendar::Calendar;
use quotakeeper_engine::config::{CountedAs, LimitConfig, Unit};
use quotakeeper_engine::cost::Amount;
use quotakeeper_wire::account::{CompiledAccount, calendar};
use quotakeeper_wire::name::QuotaName;

use crate::campaign::{Campaign, Step, WHOLE, times};

/// Periods that are looked at one by one; after that all are taken to be as long as the longest.
const EXACT_PERIODS: u64 = 1_000;

/// What is drawn of one limit, of one model where models are counted apart.
#[derive(Clone, Debug)]
pub struct Need {
    /// The quota.
    pub quota: QuotaName,
    /// The limit.
    pub limit: LimitConfig,
    /// The model, where models are counted apart and the calls name one.
    pub model: Option<String>,
    /// How much may be drawn in a window, or be under way.
    pub amount: u64,
    /// How much of it is used already.
    pub used: u64,
    /// How much all calls draw; of calls under way, how many seconds they take together.
    pub draws: u64,
    /// How long that takes at least.
    pub least: Duration,
    /// A single call draws more than there is: it never fits.
    pub never: bool,
}

impl Need {
    /// How much of it may come at once.
    pub(crate) fn at_once(&self) -> u64 {
        match self.limit.counted_as {
            CountedAs::FixedWindow | CountedAs::SlidingWindow => self.amount,
            // A bucket, or one of our own where nobody knows how the provider counts.
            _ => self.limit.effective_burst().min(self.amount),
        }
    }
}

/// What a campaign draws of the limits of its accounts.
pub fn needs(campaign: &Campaign, accounts: &[CompiledAccount]) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    for (step, calls) in campaign.steps.iter().zip(campaign.calls()) {
        let account = &accounts[step.call.account];
        let model = step.call.demand.class.model.as_deref();
        for (limit, drawn) in account.engine.drawn(&step.call.demand, &step.call.usage) {
            let own = model.filter(|_| limit.per_model);
            let amount = limit.amount_of(own).amount;
            let draws = match limit.unit {
                Unit::ConcurrentRequests => times(calls, step.call.answer.as_millis() as u64, 1_000),
                _ => calls.saturating_mul(drawn.0),
            };
            let same = |need: &&mut Need| {
                need.quota == account.quota && need.limit.name == limit.name && need.model.as_deref() == own
            };
            let never = drawn > Amount(amount) && limit.unit != Unit::ConcurrentRequests;
            match needs.iter_mut().find(same) {
                Some(need) => {
                    need.draws = need.draws.saturating_add(draws);
                    need.never |= never;
                }
                None => needs.push(Need {
                    quota: account.quota.clone(),
                    limit: limit.clone(),
                    model: own.map(str::to_owned),
                    amount,
                    used: used(campaign, accounts, step.call.account, &limit.name),
                    draws,
                    least: Duration::ZERO,
                    never,
                }),
            }
        }
    }
    for need in &mut needs {
        need.least = least(need, campaign.start);
    }
    needs
}

/// How long all answers take at least with so many workers.
pub fn answers(campaign: &Campaign, workers: u64) -> Duration {
    answers_of(campaign, workers, |_| true)
}

/// How long the calls to an account take at least that lets so many calls of one workload be under way.
pub fn at_once(campaign: &Campaign, account: usize, most: u32) -> Duration {
    answers_of(campaign, most.into(), |step| step.call.account == account)
}

fn answers_of(campaign: &Campaign, at_once: u64, are_meant: impl Fn(&Step) -> bool) -> Duration {
    let steps = campaign.steps.iter().zip(campaign.calls()).filter(|(step, _)| are_meant(step));
    let all: f64 = steps.map(|(step, calls)| step.call.answer.as_secs_f64() * calls as f64).sum();
    Duration::try_from_secs_f64(all / at_once.max(1) as f64).unwrap_or(Duration::MAX)
}

/// How long the calls of a single record take, one after the other, if nothing holds them.
pub fn one_record(campaign: &Campaign) -> Duration {
    let steps = campaign.steps.iter();
    let millis: u64 = steps.map(|step| times(step.call.answer.as_millis() as u64, step.calls, WHOLE)).sum();
    Duration::from_millis(millis)
}

/// What is used of a limit when the campaign begins, as far as that is known.
fn used(campaign: &Campaign, accounts: &[CompiledAccount], account: usize, limit: &str) -> u64 {
    let present = campaign.present.get(account).and_then(|present| present.used.get(limit).copied());
    let stated =
        accounts[account].used.iter().filter(|used| used.limit == limit && used.at <= campaign.start);
    let newest = stated.max_by_key(|used| used.at).map(|used| used.amount);
    present.or(newest).unwrap_or(0)
}

/// The least time in which a limit lets through what is needed: what is left of its first window passes at once.
fn least(need: &Need, start: Timestamp) -> Duration {
    let Need { limit, amount, used, draws, .. } = need;
    let per = (*amount).max(1);
    let after = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    if limit.unit == Unit::ConcurrentRequests {
        return after(*draws as f64 / per as f64);
    }
    let all = draws.saturating_add(*used);
    if let Some(calendar) = limit.period.as_ref().and_then(calendar) {
        return periods(&calendar, all.saturating_sub(1) / per, start, limit.window);
    }
    // What is used comes back, so that a rate of an hour ago holds nothing up for longer than a window.
    after(limit.window.as_secs_f64() * all.saturating_sub(need.at_once()) as f64 / per as f64)
}

/// How long it is until so many periods have begun after the one that is open at `start`.
fn periods(calendar: &Calendar, count: u64, start: Timestamp, longest: Duration) -> Duration {
    let mut open = calendar.at(start);
    let mut begun = start;
    for _ in 0..count.min(EXACT_PERIODS) {
        begun = open.end;
        open = calendar.at(open.end);
    }
    let exact: Duration = begun.duration_since(start).try_into().unwrap_or_default();
    let rest = u32::try_from(count.saturating_sub(EXACT_PERIODS)).unwrap_or(u32::MAX);
    exact.saturating_add(longest.saturating_mul(rest))
}
