//! Rules of allocations.

use kube::core::Rule;

use super::{Found, NAME, is_name, of_limit, required, rule};
use crate::bounded;
use crate::quota::Allocation;

/// An allocation that selects nothing in particular.
pub const PODS_NEEDED: &str = "is required, or namespaces; write which labels the pods have, for example \
    {matchLabels: {app: chat}}";
/// A guarantee above the maximum.
pub const GUARANTEE_FITS: &str = "is more than maxPercent; lower it, or raise maxPercent";
/// All guarantees together.
pub const GUARANTEES_FIT: &str = "are guaranteed more than 100 % together; lower their guaranteedPercent";

/// An allocation names its pods.
pub fn pods_needed() -> Rule {
    required("has(self.pods) || has(self.namespaces)", PODS_NEEDED, ".pods")
}

/// What is guaranteed is at most the maximum.
pub fn guarantee_fits() -> Rule {
    rule(
        "!has(self.guaranteedPercent) || !has(self.maxPercent) || self.guaranteedPercent <= self.maxPercent",
        GUARANTEE_FITS,
    )
    .field_path(".guaranteedPercent")
}

/// No more than all is guaranteed.
pub fn guarantees_fit() -> Rule {
    rule(
        "!has(self.allocations) || self.allocations.map(each, \
         has(each.guaranteedPercent) ? each.guaranteedPercent : 0).sum() <= 100",
        GUARANTEES_FIT,
    )
    .field_path(".allocations")
}

/// The same rules.
pub(super) fn of_allocations(allocations: &[Allocation], found: &mut Found) {
    for (index, allocation) in allocations.iter().enumerate() {
        of_allocation(allocation, &format!("spec.allocations[{index}]"), found);
    }
    let guaranteed: i64 = allocations.iter().filter_map(|it| it.guaranteed_percent).map(i64::from).sum();
    found.unless(guaranteed <= 100, "spec.allocations", GUARANTEES_FIT);
}

fn of_allocation(allocation: &Allocation, at: &str, found: &mut Found) {
    found.unless(is_name(&allocation.name), format!("{at}.name"), NAME);
    let selectors = [("namespaces", &allocation.namespaces), ("pods", &allocation.pods)];
    found.unless(selectors.iter().any(|(_, it)| it.is_some()), format!("{at}.pods"), PODS_NEEDED);
    for (field, selector) in selectors {
        let problems = |it| bounded::selector_problems(it, &format!("{at}.{field}"));
        found.0.extend(selector.iter().flat_map(problems));
    }
    if let (Some(guaranteed), Some(most)) = (allocation.guaranteed_percent, allocation.max_percent) {
        found.unless(guaranteed <= most, format!("{at}.guaranteedPercent"), GUARANTEE_FITS);
    }
    for (index, limit) in allocation.limits.iter().enumerate() {
        of_limit(limit, &format!("{at}.limits[{index}]"), found);
    }
}
