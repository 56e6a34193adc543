//! What a person states of the use of an account's limits.

use quotakeeper_engine::config::{LimitConfig, NANODOLLARS, Unit};
use quotakeeper_wire::account::StatedUse;

use crate::problem::Problem;
use crate::quota;

pub(super) fn compile(
    used: &[quota::StatedUse],
    enforced: &[LimitConfig],
) -> Result<Vec<StatedUse>, Vec<Problem>> {
    let has_window = |limit: &&LimitConfig| !limit.window.is_zero();
    let names: Vec<&str> = enforced.iter().filter(has_window).map(|limit| limit.name.as_str()).collect();
    let unknown = used.iter().enumerate().filter(|(_, stated)| !names.contains(&stated.limit.as_str()));
    let problems: Vec<Problem> = unknown
        .map(|(index, stated)| {
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
    let dollars = |name: &str| enforced.iter().any(|limit| limit.name == name && limit.unit == Unit::Dollars);
    let stated = used.iter().map(|stated| {
        let amount = u64::try_from(stated.amount).unwrap_or(0);
        let factor = if dollars(&stated.limit) { NANODOLLARS } else { 1 };
        StatedUse { limit: stated.limit.clone(), amount: amount.saturating_mul(factor), at: stated.at.0 }
    });
    Ok(stated.collect())
}
