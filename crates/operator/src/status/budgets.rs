//! How far the budgets of a quota and of its allocations are used.

use jiff::Timestamp;

use super::Subject;
use super::figures::{Figure, Figures};

/// A budget, and how far it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BudgetUse {
    /// Its name; of one that an allocation declares `sales/sales-budget`.
    pub(crate) name: String,
    /// An allocation declares it; else it is the quota's.
    pub(crate) of_allocation: bool,
    /// Thousandths of it that are used.
    pub(crate) permille: u64,
    /// How much is used, for people: `$412 of $500`.
    pub(crate) usage: String,
    /// That it has no room for calls that have come, as a sentence; none: it has.
    pub(crate) spent: Option<String>,
    /// When its next period begins; none: it counts none.
    pub(crate) next_period: Option<Timestamp>,
}

/// The budgets of which the limiter reports anything, but for those whose earlier use is not known.
pub(crate) fn budgets(subject: &Subject<'_>) -> Vec<BudgetUse> {
    let use_ = |figure: &Figure<'_>| BudgetUse {
        name: figure.name(),
        of_allocation: figure.allocation.is_some(),
        permille: figure.permille(),
        usage: figure.usage().unwrap_or_default(),
        spent: figure.is_spent().then(|| figure.exhausted_words()),
        next_period: figure.config.period.as_ref().and_then(|_| figure.reset_at(subject.now)),
    };
    Figures::of(subject).budgets().map(use_).collect()
}
