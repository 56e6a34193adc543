//! What a campaign draws of each limit, and how long that takes at least, whoever else draws: arithmetic alone.

use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_dialects::calendar::Calendar;
use quotakeeper_dialects::profile::Period;
use quotakeeper_engine::config::{CalendarPeriod, LimitConfig, PeriodKind, Unit};
use quotakeeper_engine::cost::Amount;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::QuotaName;

use crate::campaign::{Campaign, WHOLE, times};

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
    /// How much all calls draw; of calls under way, how many seconds they take together.
    pub draws: u64,
    /// How long that takes at least.
    pub least: Duration,
    /// A single call draws more than there is: it never fits.
    pub never: bool,
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
                    draws,
                    least: Duration::ZERO,
                    never,
                }),
            }
        }
    }
    for need in &mut needs {
        need.least = least(&need.limit, need.amount, need.draws, campaign.start);
    }
    needs
}

/// How long all answers take at least with so many workers.
pub fn answers(campaign: &Campaign, workers: u64) -> Duration {
    let steps = campaign.steps.iter().zip(campaign.calls());
    let all: f64 = steps.map(|(step, calls)| step.call.answer.as_secs_f64() * calls as f64).sum();
    Duration::try_from_secs_f64(all / workers.max(1) as f64).unwrap_or(Duration::MAX)
}

/// How long the calls of a single record take, one after the other, if nothing holds them.
pub fn one_record(campaign: &Campaign) -> Duration {
    let steps = campaign.steps.iter();
    let millis: u64 = steps.map(|step| times(step.call.answer.as_millis() as u64, step.calls, WHOLE)).sum();
    Duration::from_millis(millis)
}

/// The least time in which a limit lets through so much: what its first window holds passes at once.
fn least(limit: &LimitConfig, amount: u64, draws: u64, start: Timestamp) -> Duration {
    if limit.unit == Unit::ConcurrentRequests {
        return Duration::try_from_secs_f64(draws as f64 / amount.max(1) as f64).unwrap_or(Duration::MAX);
    }
    if let Some(calendar) = limit.period.as_ref().and_then(calendar) {
        return periods(&calendar, draws.saturating_sub(1) / amount.max(1), start, limit.window);
    }
    let rest = draws.saturating_sub(amount);
    let seconds = limit.window.as_secs_f64() * rest as f64 / amount.max(1) as f64;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
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

/// The calendar of a limit's period; none: its zone is not known.
pub(crate) fn calendar(period: &CalendarPeriod) -> Option<Calendar> {
    let kind = match period.kind {
        PeriodKind::Day => Period::Day,
        PeriodKind::Week => Period::Week,
        PeriodKind::Month => Period::Month,
    };
    Calendar::new(kind, &period.time_zone).ok()
}
