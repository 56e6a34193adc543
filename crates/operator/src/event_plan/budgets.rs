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
    told: BTreeMap<(Option<String>, String), Step>,
}

/// How far a budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Nearly,
    Exhausted,
}

impl Step {
    fn of(budget: &BudgetUse) -> Option<Step> {
        match budget.spent {
            true => Some(Step::Exhausted),
            false => (budget.permille >= NEARLY).then_some(Step::Nearly),
        }
    }
}

impl BudgetEvents {
    /// As if what is the case now had been told.
    pub(super) fn told(subject: &Subject<'_>) -> BudgetEvents {
        let told = budgets(subject).into_iter();
        BudgetEvents { told: told.filter_map(|it| Some((key(&it), Step::of(&it)?))).collect() }
    }

    /// Each step has one Event, and no second before the budget is well below it again.
    pub(super) fn next(&mut self, quota: &str, subject: &Subject<'_>) -> Vec<PlannedEvent> {
        let mut events = Vec::new();
        let budgets = budgets(subject);
        for budget in &budgets {
            let (key, step) = (key(budget), Step::of(budget));
            let before = self.told.get(&key).copied();
            // That one of the quota's is used up is told elsewhere.
            let told_here = |step| step == Step::Nearly || budget.allocation.is_some();
            if let Some(step) = step.filter(|_| before < step) {
                events.extend(told_here(step).then(|| begun(quota, budget, step, subject.now)));
                self.told.insert(key, step);
            } else if budget.permille < OVER && !budget.spent {
                self.told.remove(&key);
                let over = before == Some(Step::Exhausted) && told_here(Step::Exhausted);
                events.extend(over.then(|| has_room(quota, budget)));
            }
        }
        // One that is not reported has been used no more, or is gone.
        if subject.report().is_some() {
            self.told.retain(|told, _| budgets.iter().any(|budget| key(budget) == *told));
        }
        events
    }
}

fn key(budget: &BudgetUse) -> (Option<String>, String) {
    (budget.allocation.clone(), budget.limit.clone())
}

fn begun(quota: &str, budget: &BudgetUse, step: Step, now: Timestamp) -> PlannedEvent {
    let BudgetUse { usage, permille, next_period, .. } = budget;
    let budget = name(budget);
    let (reason, what) = match step {
        Step::Nearly => {
            (EventReason::BudgetNearlyUsed, format!("{} % of {budget} is used: {usage}.", permille / 10))
        }
        Step::Exhausted if *permille >= 1000 => {
            (EventReason::BudgetExhausted, format!("All of {budget} is used."))
        }
        Step::Exhausted => (
            EventReason::BudgetExhausted,
            format!("{usage} of {budget} is used, and calls don't fit into the rest."),
        ),
    };
    let next = next_period.map(|at| format!(" Its next period begins by {}.", words::until_utc(at, now)));
    on_quota(reason, format!("{quota}: {what}{}", next.unwrap_or_default()))
}

fn has_room(quota: &str, budget: &BudgetUse) -> PlannedEvent {
    on_quota(EventReason::Resumed, format!("{quota}: {} has room again", name(budget)))
}

fn name(budget: &BudgetUse) -> String {
    let BudgetUse { allocation, limit, .. } = budget;
    allocation.as_ref().map_or(limit.clone(), |of| format!("{limit} of allocation {of}"))
}
