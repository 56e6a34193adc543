//! Events of budgets that come near their end: those of the quota at four fifths, those of allocations also when they
//! are used up. That a budget of the quota is used up is an obstacle of all its calls.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{PlannedEvent, on_quota};
use crate::event_reason::EventReason;
use crate::status::{BudgetUse, Subject, budgets, words};

/// From here on a budget is nearly used, in thousandths.
const NEARLY: u64 = 800;
/// Below this it is another period's, or room has come back to a rolling window.
const OVER: u64 = 600;

/// The budgets that have had their Events.
#[derive(Clone, Debug, Default)]
pub(super) struct BudgetEvents {
    /// By their names.
    told: BTreeMap<String, Step>,
}

/// How far a budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Nearly,
    Exhausted,
}

impl Step {
    fn of(budget: &BudgetUse) -> Option<Step> {
        match budget.spent.is_some() {
            true => Some(Step::Exhausted),
            false => (budget.permille >= NEARLY).then_some(Step::Nearly),
        }
    }
}

impl BudgetEvents {
    /// As if what is the case now had been told.
    pub(super) fn told(subject: &Subject<'_>) -> BudgetEvents {
        let told = budgets(subject).into_iter();
        BudgetEvents { told: told.filter_map(|it| Some((it.name.clone(), Step::of(&it)?))).collect() }
    }

    /// Each step has one Event, and no second before the budget is well below it again.
    pub(super) fn next(&mut self, quota: &str, subject: &Subject<'_>) -> Vec<PlannedEvent> {
        let mut events = Vec::new();
        let budgets = budgets(subject);
        for budget in &budgets {
            let BudgetUse { name, of_allocation, permille, spent, .. } = budget;
            let (before, step) = (self.told.get(name).copied(), Step::of(budget));
            // That one of the quota's is used up is told elsewhere.
            let told_here = |step| step == Step::Nearly || *of_allocation;
            if let Some(step) = step.filter(|_| before < step) {
                events.extend(told_here(step).then(|| begun(quota, budget, subject.now)));
                self.told.insert(name.clone(), step);
            } else if *permille < OVER && spent.is_none() {
                self.told.remove(name);
                let over = before == Some(Step::Exhausted) && *of_allocation;
                let note = || format!("{quota}: {name} has room again");
                events.extend(over.then(|| on_quota(EventReason::Resumed, note())));
            }
        }
        // One that is not reported has been used no more, or is gone.
        if subject.report().is_some() {
            self.told.retain(|told, _| budgets.iter().any(|budget| budget.name == *told));
        }
        events
    }
}

fn begun(quota: &str, budget: &BudgetUse, now: Timestamp) -> PlannedEvent {
    let BudgetUse { name, usage, permille, spent, next_period, .. } = budget;
    let (reason, what) = match spent {
        Some(spent) => (EventReason::BudgetExhausted, spent.clone()),
        None => (EventReason::BudgetNearlyUsed, format!("{} % of {name} is used: {usage}.", permille / 10)),
    };
    let next = next_period.map(|at| format!(" Its next period begins by {}.", words::until_utc(at, now)));
    on_quota(reason, format!("{quota}: {what}{}", next.unwrap_or_default()))
}
