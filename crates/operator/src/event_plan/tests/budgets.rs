//! Budgets that come near their end.

use quotakeeper_engine::LimitStatus;
use quotakeeper_engine::config::{NANODOLLARS, Unit};

use super::*;

fn money(name: &str, dollars: u64, amount: u64) -> LimitStatus {
    LimitStatus {
        window: Duration::from_secs(86_400),
        name: name.to_owned(),
        unit: Unit::Dollars,
        amount: amount * NANODOLLARS,
        used: dollars * NANODOLLARS,
        resets_in: Duration::from_secs(3 * 3600),
        ..spent()
    }
}

fn monthly() -> Scene {
    Scene::of(json!({
        "provider": {"name": "openai", "tier": "tier-4"},
        "limits": [{"name": "budget", "unit": "Dollars", "amount": "500", "period": "Month"}],
        "allocations": [{
            "name": "sales",
            "namespaces": {"matchLabels": {"team": "sales"}},
            "limits": [{"name": "sales-budget", "unit": "Dollars", "amount": "200", "period": "Month"}],
        }],
    }))
}

#[test]
fn four_fifths_of_a_budget_are_told_once_a_period() {
    let (mut scene, mut state) = (monthly(), EventState::default());
    let mut seen = report();
    let mut at = |state: &mut EventState, dollars: u64, second: i64| {
        seen.status.limits = vec![money("budget", dollars, 500)];
        scene.written(&seen, second);
        scene.next(state, &seen, second)
    };
    assert!(at(&mut state, 399, 0).is_empty());
    let nearly =
        "Quota BudgetNearlyUsed: gtm/crm: 82 % of budget is used: $412 of $500. Its next period begins by ";
    let events = at(&mut state, 412, 2);
    assert!(events.len() == 1 && events[0].starts_with(nearly), "{events:?}");
    assert!(at(&mut state, 430, 4).is_empty(), "once");
    assert!(at(&mut state, 380, 6).is_empty(), "what a call gave back is no new period");
    assert!(at(&mut state, 401, 8).is_empty());
    let all = at(&mut state, 500, 10);
    assert!(
        all.iter().all(|event| event.contains(" BudgetExhausted: gtm/crm: All of budget is used.")),
        "{all:?}"
    );
    assert_eq!(all.len(), 2, "an obstacle, which is told at the workloads too: {all:?}");
    at(&mut state, 3, 200);
    let again = at(&mut state, 450, 210);
    assert!(
        again.len() == 1 && again[0].starts_with("Quota BudgetNearlyUsed: "),
        "the next period: {again:?}"
    );
}

#[test]
fn an_allocations_own_budget_is_told_at_the_quota_alone_and_holds_nobody_else_up() {
    let (mut scene, mut state) = (monthly(), EventState::default());
    let mut seen = report();
    let mut at = |state: &mut EventState, dollars: u64, no_room: bool, second: i64| {
        let own = LimitStatus { spent: no_room, ..money("sales-budget", dollars, 200) };
        let (name, limits) = ("sales".into(), vec![own]);
        seen.status.allocations =
            vec![quotakeeper_engine::AllocationStatus { name, waiting: 0, under_way: 0, limits }];
        scene.written(&seen, second);
        assert_ne!(scene.view.status.summary.as_ref().unwrap().status.as_deref(), Some("BudgetExhausted"));
        scene.next(state, &seen, second)
    };
    let nearly = "Quota BudgetNearlyUsed: gtm/crm: 80 % of sales/sales-budget is used: $160 of $200.";
    let events = at(&mut state, 160, false, 0);
    assert!(events.len() == 1 && events[0].starts_with(nearly), "{events:?}");
    let spent = "Quota BudgetExhausted: gtm/crm: $196 of $200 of sales/sales-budget is used, and calls don't fit into the rest.";
    let events = at(&mut state, 196, true, 2);
    assert!(events.len() == 1 && events[0].starts_with(spent), "{events:?}");
    assert!(at(&mut state, 200, true, 4).is_empty());
    assert_eq!(at(&mut state, 0, false, 6), ["Quota Resumed: gtm/crm: sales/sales-budget has room again"]);
}
