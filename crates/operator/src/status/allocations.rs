//! What allocations use, in the order of the quota.

use std::collections::BTreeMap;

use quotakeeper_api::quota::{AllocationLimitStatus, AllocationStatus};
use quotakeeper_api::words::used_of;
use quotakeeper_engine::LimitStatus as ReportedLimit;

use super::figures::{figure, known, permille};
use super::{Subject, bounded};

/// The allocations as the limiter reports them; none where it does not.
pub(super) fn of(subject: &Subject<'_>) -> Vec<AllocationStatus> {
    let reported = subject.report().map(|report| report.status.allocations.as_slice()).unwrap_or_default();
    let status = |of_one: &quotakeeper_engine::AllocationStatus| AllocationStatus {
        name: of_one.name.to_string(),
        waiting: if subject.queueing() { bounded(of_one.waiting, 1_000_000_000) } else { 0 },
        limits: limits(&of_one.limits),
    };
    reported.iter().map(status).collect()
}

/// Of each limit the partition that is the fullest.
fn limits(reported: &[ReportedLimit]) -> Vec<AllocationLimitStatus> {
    let mut fullest: BTreeMap<&str, &ReportedLimit> = BTreeMap::new();
    for limit in reported {
        let known = fullest.entry(&limit.name).or_insert(limit);
        if permille(limit) > permille(known) {
            *known = limit;
        }
    }
    fullest.into_values().map(limit).collect()
}

fn limit(reported: &ReportedLimit) -> AllocationLimitStatus {
    let (unit, amount, used) = (reported.unit, reported.amount, known(reported));
    AllocationLimitStatus {
        name: reported.name.clone(),
        usage: used_of(unit, used, amount),
        most: figure(amount, unit, false),
        used: figure(used, unit, true),
        reserved: unit.counts_tokens().then(|| figure(reported.reserved, unit, true)),
        remaining: figure(amount.saturating_sub(reported.used), unit, false),
    }
}
