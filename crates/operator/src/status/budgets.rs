//! How far the budgets of a quota and of its allocations are used.

use jiff::Timestamp;

use super::Subject;
use super::figures::{Figure, Figures};

/// A budget, and how far it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BudgetUse {
    /// The allocation whose own it is; none: the quota's.
    pub(crate) allocation: Option<String>,
    /// Its name.
    pub(crate) limit: String,
    /// Thousandths of it that are used.
    pub(crate) permille: u64,
    /// It has no room for calls that have come.
    pub(crate) spent: bool,
    /// How much is used, for people: `$412 of $500`.
    pub(crate) usage: String,
    /// When its next period begins; none: it counts none.
    pub(crate) next_period: Option<Timestamp>,
}

/// The budgets of which the limiter reports anything, but for those whose earlier use is not known.
pub(crate) fn budgets(subject: &Subject<'_>) -> Vec<BudgetUse> {
    let use_ = |figure: &Figure<'_>| BudgetUse {
        allocation: figure.allocation.map(ToString::to_string),
        limit: figure.config.name.clone(),
        permille: figure.permille(),
        spent: figure.is_spent(),
        usage: figure.usage().unwrap_or_default(),
        next_period: figure.config.period.as_ref().and_then(|_| figure.reset_at(subject.now)),
    };
    Figures::of(subject).budgets().map(use_).collect()
}
