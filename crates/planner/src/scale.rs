//! One simulated call for several, where a campaign has millions: it draws as much as they do, and is made by as many
//! workers as one. What differs is the order of some calls of the same second.

use quotakeeper_engine::config::{AccountConfig, CountedAs, LimitConfig, Unit};
use quotakeeper_engine::cost::{Amount, Demand};
use quotakeeper_engine::tokens::TokenUsage;
use quotakeeper_wire::account::CompiledAccount;

use crate::campaign::{Call, Campaign};

/// Calls that are simulated one by one.
const MOST_CALLS: u64 = 100_000;
/// A simulated call draws at most one of so many parts of a limit's window: a coarser one would wait where none of its
/// calls did.
const PARTS_OF_A_WINDOW: u64 = 10;
/// After so many windows it makes no difference whether the calls of one come at once.
const MANY_WINDOWS: u64 = 1_000;
/// The same of tokens, credits and money, of which a window may have a rest that is too small for a simulated call.
const PARTS_OF_AN_AMOUNT: u64 = 40;
/// The same of calls under way, where nothing but the order of calls depends on it.
const PARTS_OF_SLOTS: u64 = 2;

/// How many calls are simulated for a campaign.
pub(crate) fn simulated(campaign: &Campaign, accounts: &[CompiledAccount]) -> u64 {
    all_calls(campaign) / factor(campaign, accounts)
}

/// For how many calls a simulated one stands.
pub(crate) fn factor(campaign: &Campaign, accounts: &[CompiledAccount]) -> u64 {
    let calls = all_calls(campaign);
    let limits = accounts.iter().flat_map(|account| &account.engine.limits);
    let parts = limits.filter_map(|limit| match limit.unit {
        Unit::Requests if calls / limit.amount.max(1) > MANY_WINDOWS => Some(limit.amount),
        Unit::Requests => Some(limit.amount / PARTS_OF_A_WINDOW),
        Unit::ConcurrentRequests => Some(limit.amount / PARTS_OF_SLOTS),
        _ => None,
    });
    let drawn = campaign.steps.iter().flat_map(|step| {
        let drawn = accounts[step.call.account].engine.drawn(&step.call.demand, &step.call.usage);
        let amounts = drawn.into_iter().filter(|(limit, _)| counts_amounts(limit.unit));
        amounts.map(|(limit, Amount(drawn))| limit.amount / drawn.saturating_mul(PARTS_OF_AN_AMOUNT).max(1))
    });
    let finest = parts.chain(drawn).min().unwrap_or(u64::MAX);
    round(calls.div_ceil(MOST_CALLS).min(finest).max(1))
}

fn all_calls(campaign: &Campaign) -> u64 {
    campaign.calls().iter().fold(0, |all, calls| all.saturating_add(*calls))
}

/// How a simulated call is made: by a worker that stands for several, or, where there are fewer workers than calls in
/// one, for so long as they take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// For how many calls a simulated one stands.
    pub(crate) factor: u64,
    /// Workers that are simulated.
    pub(crate) workers: u64,
    /// How many of the calls are under way at the same time.
    at_once: u64,
}

impl Scale {
    /// How calls of so many workers are simulated.
    pub(crate) fn of(campaign: &Campaign, accounts: &[CompiledAccount], workers: u64) -> Scale {
        let factor = factor(campaign, accounts);
        let simulated = (workers / factor).max(1);
        Scale { factor, workers: simulated, at_once: (workers / simulated).clamp(1, factor) }
    }

    /// An account of which a call may draw so many times as much.
    pub(crate) fn account(self, config: &AccountConfig) -> AccountConfig {
        let mut config = config.clone();
        for facts in config.models.values_mut().chain([&mut config.any_model]) {
            facts.max_output = facts.max_output.map(|most| most.saturating_mul(self.factor));
            facts.context = facts.context.map(|most| most.saturating_mul(self.factor));
            if let Some(prices) = &mut facts.prices {
                prices.call = prices.call.saturating_mul(self.factor);
            }
        }
        for limit in config.limits.iter_mut().filter(|limit| self.factor > 1 && has_burst(limit)) {
            limit.burst = Some(limit.effective_burst().max(self.factor * 2).min(limit.amount.max(1)));
        }
        config
    }

    /// A call that stands for so many.
    pub(crate) fn call(self, call: &Call) -> Call {
        let Scale { factor, at_once, .. } = self;
        let Demand { class, mut costs, mut size } = call.demand.clone();
        costs.requests = Amount(costs.requests.0.saturating_mul(factor));
        costs.credits = Amount(costs.credits.0.saturating_mul(factor));
        costs.concurrent_requests = Amount(costs.concurrent_requests.0.saturating_mul(at_once));
        if let Some(size) = &mut size {
            size.text_bytes = size.text_bytes.saturating_mul(factor);
            size.max_output = size.max_output.map(|most| most.saturating_mul(factor));
        }
        let usage = TokenUsage {
            input: call.usage.input.saturating_mul(factor),
            output: call.usage.output.saturating_mul(factor),
            ..call.usage
        };
        let rounds = u32::try_from(factor.div_ceil(at_once)).unwrap_or(u32::MAX);
        let answer = call.answer.saturating_mul(rounds);
        Call { demand: Demand { class, costs, size }, usage, answer, ..call.clone() }
    }
}

fn counts_amounts(unit: Unit) -> bool {
    unit.counts_tokens() || unit == Unit::Credits
}

/// Whether less than a window's amount of it may come at once.
fn has_burst(limit: &LimitConfig) -> bool {
    let by_window = matches!(limit.counted_as, CountedAs::FixedWindow | CountedAs::SlidingWindow);
    limit.unit == Unit::Requests && (limit.burst.is_some() || !by_window)
}

/// 1, 2 or 5 with zeros behind, at most this number: people's amounts are multiples of that, so that no window has a rest
/// too small for a simulated call.
fn round(number: u64) -> u64 {
    let power = 10_u64.pow(number.ilog10());
    [5, 2, 1].into_iter().map(|digit| digit * power).find(|round| *round <= number).unwrap_or(1)
}
