//! Whether a new status is written. Comparison is coarse, with hysteresis, so that an idle or steady quota is not
//! written at all.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use quotakeeper_api::quota::{
    AllocationLimitStatus, AllocationStatus, ApiQuotaStatus, LimitStatus, StatusSummary, WaitingStatus,
};

use crate::conditions::types;

/// A change of use by this many percentage points is written.
const POINTS: i64 = 10;
/// Less use than this, in percent, counts as none.
const LITTLE: i64 = 5;
/// Ends of pauses that differ by no more seconds count as equal.
const SAME_PAUSE: i64 = 2;
/// Reset times of budgets that differ by no more seconds count as equal.
const SAME_RESET: i64 = 3600;

/// When a new status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Not at all: nothing has changed.
    Nothing,
    /// Later, with other changes: figures have changed.
    Later,
    /// Now: something has begun or ended.
    Now,
}

/// When `new` is written in place of `old`.
pub fn worth(old: &ApiQuotaStatus, new: &ApiQuotaStatus) -> Worth {
    if turned(old, new) {
        Worth::Now
    } else if moved(old, new) {
        Worth::Later
    } else {
        Worth::Nothing
    }
}

fn turned(old: &ApiQuotaStatus, new: &ApiQuotaStatus) -> bool {
    let essence = |status: &ApiQuotaStatus| -> Vec<_> { status.conditions.iter().map(essence).collect() };
    let columns = |status: &ApiQuotaStatus| steady_columns(status.summary.clone().unwrap_or_default());
    let allocations = |status: &ApiQuotaStatus| -> Vec<_> {
        let limits = |it: &AllocationStatus| -> Vec<_> {
            it.limits.iter().map(|limit| (limit.name.clone(), limit.most)).collect()
        };
        status.allocations.iter().map(|it| (it.name.clone(), limits(it))).collect()
    };
    let limits = |status: &ApiQuotaStatus| -> Vec<_> {
        status.limits.iter().map(|it| (it.name.clone(), it.source, it.hard, it.effective)).collect()
    };
    old.observed_generation != new.observed_generation
        || essence(old) != essence(new)
        || columns(old) != columns(new)
        || limits(old) != limits(new)
        || old.refused.is_some() != new.refused.is_some()
        || allocations(old) != allocations(new)
        || apart(old.paused_until.as_ref(), new.paused_until.as_ref(), SAME_PAUSE)
}

/// The columns that are written whenever they change. The columns left out show figures that move all the
/// time, or what conditions say too: the figures and conditions themselves are compared. Of the state, its word is
/// compared. A new column is compared unless it is named here.
fn steady_columns(summary: StatusSummary) -> StatusSummary {
    StatusSummary {
        tightest: None,
        used: None,
        waiting: None,
        wait: None,
        resets: None,
        pods: None,
        status: summary.status.as_deref().and_then(word),
        message: None,
        ..summary
    }
}

/// The word of a state, without its end; none where it begins with a figure.
fn word(state: &str) -> Option<String> {
    let word = state.split(' ').next()?;
    word.starts_with(|first: char| first.is_ascii_uppercase()).then(|| word.to_owned())
}

/// The parts of a condition whose change is written at once.
#[derive(PartialEq)]
struct Essence {
    type_: String,
    status: String,
    reason: String,
    generation: Option<i64>,
    /// Only where it holds no figures.
    message: Option<String>,
}

fn essence(condition: &Condition) -> Essence {
    let Condition { type_, status, reason, observed_generation, message, .. } = condition.clone();
    let fixed = types::WITH_FIXED_SENTENCES.contains(&type_.as_str());
    Essence { type_, status, reason, generation: observed_generation, message: fixed.then_some(message) }
}

fn moved(old: &ApiQuotaStatus, new: &ApiQuotaStatus) -> bool {
    old.proxies != new.proxies
        || old.refused != new.refused
        || old.checkpoint != new.checkpoint
        || waiting(old.waiting.as_ref(), new.waiting.as_ref())
        || old.limits.iter().zip(&new.limits).any(|(old, new)| {
            used(old, new)
                || apart(old.reset_time.as_ref(), new.reset_time.as_ref(), SAME_RESET) && much(old, new)
        })
        || old.allocations.iter().zip(&new.allocations).any(|(old, new)| allocation(old, new))
}

fn allocation(old: &AllocationStatus, new: &AllocationStatus) -> bool {
    let percent = |limit: &AllocationLimitStatus| limit.used.saturating_mul(100) / limit.most.max(1);
    let moved = |(old, new): (&AllocationLimitStatus, &AllocationLimitStatus)| {
        let (old, new) = (percent(old), percent(new));
        (old - new).abs() >= POINTS || new == 0 && old >= LITTLE
    };
    doubled(old.waiting, new.waiting) || old.limits.iter().zip(&new.limits).any(moved)
}

fn waiting(old: Option<&WaitingStatus>, new: Option<&WaitingStatus>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old.is_some() != new.is_some() };
    old.longest_seconds != new.longest_seconds
        || doubled(old.calls, new.calls)
        || doubled(old.workloads, new.workloads)
}

/// One is none and the other is not, or one is twice the other.
fn doubled(old: i32, new: i32) -> bool {
    let (less, more) = (old.min(new), old.max(new));
    (less == 0) != (more == 0) || more >= less.saturating_mul(2) && more > less && more - less >= 2
}

fn used(old: &LimitStatus, new: &LimitStatus) -> bool {
    match (percent(old), percent(new)) {
        (Some(old), Some(new)) => (old - new).abs() >= POINTS || new == 0 && old >= LITTLE,
        (old, new) => old != new,
    }
}

/// Whether enough of a limit is used for its reset time to matter.
fn much(old: &LimitStatus, new: &LimitStatus) -> bool {
    percent(old).max(percent(new)).is_some_and(|percent| percent >= LITTLE)
}

fn percent(limit: &LimitStatus) -> Option<i64> {
    limit.used.map(|used| used.saturating_mul(100) / limit.effective.max(1))
}

/// One is there and the other is not, or they are more than `seconds` apart.
fn apart(old: Option<&Time>, new: Option<&Time>, seconds: i64) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => (old.0.as_second() - new.0.as_second()).abs() > seconds,
        (old, new) => old.is_some() != new.is_some(),
    }
}
