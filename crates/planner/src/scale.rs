//! One simulated call for several, where a campaign has millions: it draws as much as they do, and is made by as many
//! workers as one. What differs is the order of some calls of the same second.

use quotakeeper_engine::config::{AccountConfig, CountedAs, LimitConfig, Unit};
use quotakeeper_engine::cost::{Amount, Demand};
use quotakeeper_engine::tokens::TokenUsage;
use quotakeeper_wire::account::CompiledAccount;

use crate::campaign::{Call, Campaign};

/// Calls that are simulated one by one.
const MOST_CALLS: u64 = 100_000;
/// So many simulated calls fit into a window at least: coarser ones would wait where none of theirs did.
const IN_A_WINDOW: u64 = 10;
/// The same where a campaign takes very many windows: whether the calls of one come at once makes no difference then, but
/// an amount may have a rest that is too small for another.
const IN_ONE_OF_MANY: u64 = 2;
const AMOUNTS_IN_ONE_OF_MANY: u64 = 5;
const MANY_WINDOWS: u64 = 1_000;
/// The same of calls under way, where nothing but the order of calls depends on it.
const PARTS_OF_SLOTS: u64 = 2;
/// Sizes that are compared, to find one of which windows hold whole numbers.
const COMPARED: u64 = 1_000;

/// How many calls are simulated for a campaign.
pub(crate) fn simulated(campaign: &Campaign, accounts: &[CompiledAccount]) -> u64 {
    all_calls(campaign) / factor(campaign, accounts)
}

/// For how many calls a simulated one stands.
pub(crate) fn factor(campaign: &Campaign, accounts: &[CompiledAccount]) -> u64 {
    let calls = all_calls(campaign);
    let (mut windows, mut finest) = (Vec::new(), u64::MAX);
    for step in &campaign.steps {
        let engine = &accounts[step.call.account].engine;
        let model = step.call.demand.class.model.as_deref();
        for (limit, Amount(drawn)) in engine.drawn(&step.call.demand, &step.call.usage) {
            let amount = limit.amount_of(model.filter(|_| limit.per_model)).amount;
            match limit.unit {
                Unit::ConcurrentRequests => finest = finest.min(amount / PARTS_OF_SLOTS),
                _ if drawn > 0 => {
                    let window = amount / drawn;
                    let in_one = match limit.unit {
                        _ if calls / window.max(1) <= MANY_WINDOWS => IN_A_WINDOW,
                        Unit::Requests => IN_ONE_OF_MANY,
                        _ => AMOUNTS_IN_ONE_OF_MANY,
                    };
                    finest = finest.min(window / in_one);
                    windows.push(window);
                }
                _ => {}
            }
        }
    }
    let most = calls.div_ceil(MOST_CALLS).min(finest).max(1);
    // What is left of a window that another simulated call does not fit into is used by none of them.
    let rest_of =
        |window: u64, factor: u64| u128::from(window % factor) * 1_000_000_000 / u128::from(window.max(1));
    let rest = |factor: u64| windows.iter().map(|window| rest_of(*window, factor)).max();
    let least = (most / 2 + 1).max(most.saturating_sub(COMPARED));
    (least..=most).rev().min_by_key(|factor| rest(*factor)).unwrap_or(1)
}

fn all_calls(campaign: &Campaign) -> u64 {
    campaign.calls().iter().fold(0, |all, calls| all.saturating_add(*calls))
}

/// How a simulated call is made: by a worker that stands for several, or, where there are fewer workers than calls in
/// one, for as long as they take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// For how many calls a simulated one stands.
    pub(crate) factor: u64,
    /// Workers that are simulated.
    pub(crate) workers: u64,
    /// Workers that they stand for.
    real: u64,
}

impl Scale {
    /// How calls of so many workers are simulated.
    pub(crate) fn of(campaign: &Campaign, accounts: &[CompiledAccount], workers: u64) -> Scale {
        let factor = factor(campaign, accounts);
        Scale { factor, workers: (workers / factor).max(1), real: workers.max(1) }
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
        let Scale { factor, workers, real } = self;
        let at_once = real.div_ceil(workers).min(factor);
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
        let answer = call.answer.mul_f64((factor * workers) as f64 / real as f64);
        Call { demand: Demand { class, costs, size }, usage, answer, ..call.clone() }
    }
}

/// Whether less than a window's amount of it may come at once.
fn has_burst(limit: &LimitConfig) -> bool {
    let by_window = matches!(limit.counted_as, CountedAs::FixedWindow | CountedAs::SlidingWindow);
    limit.unit == Unit::Requests && (limit.burst.is_some() || !by_window)
}
