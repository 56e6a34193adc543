//! What a person states of the use of an account's limits, and of those that its allocations declare.

use quotakeeper_engine::config::{LimitConfig, NANODOLLARS, Unit};
use quotakeeper_engine::sharing::{AllocationLimitKind, Sharing};
use quotakeeper_wire::account::StatedUse;

use crate::problem::Problem;
use crate::quota;

pub(super) fn compile(
    used: &[quota::StatedUse],
    enforced: &[LimitConfig],
    sharing: &Sharing,
) -> Result<Vec<StatedUse>, Vec<Problem>> {
    let units = units(enforced, sharing);
    let unit_of = |limit: &str| units.iter().find(|(name, _)| name == limit).map(|(_, unit)| *unit);
    let unknown = used.iter().enumerate().filter(|(_, stated)| unit_of(&stated.limit).is_none());
    let problems: Vec<Problem> = unknown
        .map(|(index, stated)| {
            let names: Vec<&str> = units.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!(
                "no limit named {} with a window or period is in force; use one of: {}, or remove the entry",
                stated.limit,
                names.join(", ")
            );
            Problem::new(format!("spec.used[{index}].limit"), message)
        })
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let stated = used.iter().map(|stated| {
        let amount = u64::try_from(stated.amount).unwrap_or(0);
        let factor = if unit_of(&stated.limit) == Some(Unit::Dollars) { NANODOLLARS } else { 1 };
        StatedUse { limit: stated.limit.clone(), amount: amount.saturating_mul(factor), at: stated.at.0 }
    });
    Ok(stated.collect())
}

/// The limits of which something can be stated, under the names that the engine has for them, and what they count.
fn units(enforced: &[LimitConfig], sharing: &Sharing) -> Vec<(String, Unit)> {
    let own = sharing.limits(enforced).filter(|limit| limit.kind == AllocationLimitKind::Own);
    let all = enforced.iter().cloned().chain(own.map(|limit| limit.config));
    all.filter(|config| !config.window.is_zero()).map(|config| (config.name, config.unit)).collect()
}
