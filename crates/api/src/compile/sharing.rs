//! How a quota is shared: its allocations, and a bound of single workloads.

use quotakeeper_dialects::Profile;
use quotakeeper_engine::config::LimitConfig;
use quotakeeper_engine::sharing::{AllocationConfig, Priority, Sharing};

use super::limits;
use crate::problem::Problem;
use crate::quota::{self, Allocation, ApiQuotaSpec};

/// How the quota is shared, beside the limits of its account.
pub(super) fn compile(
    spec: &ApiQuotaSpec,
    of_account: &[LimitConfig],
    profile: &Profile,
) -> Result<Sharing, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut allocations = Vec::new();
    for (index, allocation) in spec.allocations.iter().enumerate() {
        let at = format!("spec.allocations[{index}]");
        let mut of_one = declared(allocation);
        for (index, limit) in allocation.limits.iter().enumerate() {
            let at = format!("{at}.limits[{index}]");
            let known = of_account.iter().map(|limit| limit.name.as_str());
            let known =
                known.chain(profile.tiers.iter().flat_map(|tier| &tier.limits).map(|it| it.name.as_str()));
            if known.into_iter().any(|name| name == limit.name) {
                let message = format!(
                    "`{}` is a limit of the account, of which maxPercent bounds the allocation's part; give this limit \
                     another name, for example `{}-{}`",
                    limit.name, allocation.name, limit.name
                );
                problems.push(Problem::new(format!("{at}.name"), message));
                continue;
            }
            match limits::own(limit, profile, &at) {
                Ok(limit) => of_one.limits.push(limit),
                Err(problem) => problems.push(problem),
            }
        }
        allocations.push(of_one);
    }
    let max_concurrent_per_workload =
        spec.max_concurrent_per_workload.and_then(|most| u32::try_from(most).ok());
    if problems.is_empty() { Ok(Sharing { allocations, max_concurrent_per_workload }) } else { Err(problems) }
}

fn declared(allocation: &Allocation) -> AllocationConfig {
    let number = |field: Option<i32>, absent| field.and_then(|it| u32::try_from(it).ok()).unwrap_or(absent);
    AllocationConfig {
        name: allocation.name.as_str().into(),
        weight: number(allocation.weight, 1),
        guaranteed_percent: number(allocation.guaranteed_percent, 0),
        max_percent: number(allocation.max_percent, 100),
        priority: match allocation.priority {
            Some(quota::Priority::Interactive) => Priority::Interactive,
            Some(quota::Priority::Normal) | None => Priority::Normal,
            Some(quota::Priority::Batch) => Priority::Batch,
        },
        limits: Vec::new(),
    }
}
