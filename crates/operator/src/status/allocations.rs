//! What allocations use, in the order of the quota.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use quotakeeper_api::quota::{AllocationLimitStatus, AllocationStatus};
use quotakeeper_api::words::used_of;
use quotakeeper_engine::LimitStatus as ReportedLimit;
use quotakeeper_engine::config::LimitConfig;

use super::figures::{figure, known, permille, reset_at};
use super::{Subject, bounded};

/// The allocations as the limiter reports them; none where it does not.
pub(super) fn of(subject: &Subject<'_>) -> Vec<AllocationStatus> {
    let reported = subject.report().map(|report| report.status.allocations.as_slice()).unwrap_or_default();
    let status = |of_one: &quotakeeper_engine::AllocationStatus| AllocationStatus {
        name: of_one.name.to_string(),
        waiting: if subject.queueing() { bounded(of_one.waiting, 1_000_000_000) } else { 0 },
        limits: limits(subject, of_one),
    };
    reported.iter().map(status).collect()
}

/// Of each limit the partition that is the fullest.
fn limits(
    subject: &Subject<'_>,
    of_one: &quotakeeper_engine::AllocationStatus,
) -> Vec<AllocationLimitStatus> {
    let mut fullest: BTreeMap<&str, &ReportedLimit> = BTreeMap::new();
    for limit in &of_one.limits {
        let known = fullest.entry(&limit.name).or_insert(limit);
        if permille(limit) > permille(known) {
            *known = limit;
        }
    }
    let sharing = subject.account().map(|account| &account.engine.sharing);
    let of_allocation = sharing.and_then(|it| it.allocations.iter().find(|it| it.name == of_one.name));
    let own = of_allocation.map(|it| it.limits.as_slice()).unwrap_or_default();
    let config = |name: &str| own.iter().chain(subject.limits()).find(|config| config.name == name);
    let status = |reported: &ReportedLimit| limit(reported, config(&reported.name), subject.now);
    fullest.into_values().map(status).collect()
}

fn limit(reported: &ReportedLimit, config: Option<&LimitConfig>, now: Timestamp) -> AllocationLimitStatus {
    let (unit, amount, used) = (reported.unit, reported.amount, known(reported));
    let resets = config.filter(|_| used > 0).and_then(|config| reset_at(config, reported.resets_in, now));
    AllocationLimitStatus {
        name: reported.name.clone(),
        usage: used_of(unit, used, amount),
        most: figure(amount, unit, false),
        used: figure(used, unit, true),
        reserved: unit.counts_tokens().then(|| figure(reported.reserved, unit, true)),
        remaining: figure(amount.saturating_sub(reported.used), unit, false),
        reset_time: resets.map(Time),
    }
}
