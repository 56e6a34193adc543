//! Limits of tokens and money, as people read them.

use quotakeeper_api::quota::Unit;

use super::*;

/// A quota with limits of tokens and money.
fn budgets() -> Story {
    let limits = json!([
        {"name": "tokens", "unit": "TotalTokens", "amount": "2M", "windowSeconds": 60},
        {"name": "budget", "unit": "Dollars", "amount": "500", "period": "Month", "timeZone": "America/New_York"},
    ]);
    Story::new("platform/openai", json!({"provider": {"name": "openai", "tier": "tier-4"}, "limits": limits}))
}

#[test]
fn tokens_and_money_are_shown_with_their_amounts() {
    const DOLLAR: u64 = 1_000_000_000;
    let mut tokens = budgets().uses("tokens", 1_234_567, 40);
    tokens.report().status.limits[0].reserved = 4096;
    assert_eq!(tokens.row(), "tier-4 | tokens | 1.2M of 2.0M | 0 | - | 0 | Ready");
    assert_eq!(tokens.message(), "61 % of tokens (2M/min) is used; no calls wait.");
    let money = budgets().uses("budget", 412 * DOLLAR + DOLLAR / 4, 27 * 86_400);
    assert_eq!(money.row(), "tier-4 | budget | $412 of $500 | 0 | - | 0 | Ready");
    assert_eq!(money.message(), "82 % of budget ($500/month) is used; no calls wait.");
    let spent = budgets().uses("budget", 500 * DOLLAR, 27 * 86_400 + 36_000);
    assert_eq!(spent.row(), "tier-4 | budget | $500 of $500 | 0 | - | 0 | BudgetExhausted until 1 Dec");
    let mut small = budgets().uses("budget", 499 * DOLLAR, 27 * 86_400 + 36_000);
    small.report().status.limits[0].spent = true;
    assert_eq!(small.row(), "tier-4 | budget | $499 of $500 | 0 | - | 0 | BudgetExhausted until 1 Dec");
    let words = "$499 of $500 of budget is used, and calls don't fit into the rest.";
    assert!(small.message().starts_with(words), "{}", small.message());

    let of = |story: &Story, name: &str| {
        let limit = story.status().limits.into_iter().find(|limit| limit.name == name).unwrap();
        let figures = [Some(limit.hard), limit.used, limit.reserved, limit.remaining];
        (limit.usage.unwrap(), limit.unit.unwrap(), figures)
    };
    let expected = [Some(2_000_000), Some(1_234_567), Some(4096), Some(765_433)];
    assert_eq!(of(&tokens, "tokens"), ("1.2M of 2.0M".to_owned(), Unit::TotalTokens, expected));
    let expected = [Some(500), Some(413), Some(0), Some(87)];
    assert_eq!(
        of(&money, "budget"),
        ("$412 of $500".to_owned(), Unit::Dollars, expected),
        "rounded against us"
    );
}

#[test]
fn a_budget_that_one_call_can_use_up_is_told() {
    let budget = json!({"name": "budget", "unit": "Dollars", "amount": 20, "period": "Day"});
    let spec = json!({"provider": {"name": "anthropic", "tier": "tier-4"}, "limits": [budget]});
    let conditions = Story::new("platform/anthropic", spec).conditions();
    assert!(conditions.contains("Beware: a call of model "), "{conditions}");
    assert!(
        conditions.contains(" of budget ($20), which is held until it ends; set max_tokens."),
        "{conditions}"
    );
}

/// A quota of which a team has a budget of its own.
fn team_budget() -> Story {
    let budget = json!({"name": "sales-budget", "unit": "Dollars", "amount": 200, "period": "Month"});
    let sales = json!({"name": "sales", "pods": {"matchLabels": {"team": "sales"}}, "limits": [budget]});
    let provider = json!({"name": "openai", "tier": "tier-4"});
    let account = json!({"sharePercent": 20});
    let spec = json!({"provider": provider, "account": account, "allocations": [sales]});
    Story::new("platform/openai", spec).uses("requests", 100, 40)
}

#[test]
fn the_tightest_limit_may_be_one_that_an_allocation_declares() {
    const DOLLAR: u64 = 1_000_000_000;
    let mut story = team_budget();
    let row = story.row();
    assert!(row.starts_with("tier-4 | requests | "), "nothing is used of the budget: {row}");
    let budget = ReportedLimit {
        name: "sales-budget".to_owned(),
        unit: quotakeeper_engine::config::Unit::Dollars,
        amount: 200 * DOLLAR,
        used: 112 * DOLLAR,
        reserved: 3 * DOLLAR,
        resets_in: Duration::from_secs(27 * 86_400 + 36_000),
        ..story.report().status.limits[0].clone()
    };
    let requests = ReportedLimit { used: 40, ..story.report().status.limits[0].clone() };
    story.report().status.allocations = vec![quotakeeper_engine::AllocationStatus {
        name: "sales".into(),
        waiting: 0,
        under_way: 1,
        limits: vec![budget, requests],
    }];
    assert_eq!(story.row(), "tier-4 | sales/sales-budget | $112 of $200 | 0 | - | 0 | Ready");
    let message = "56 % of sales/sales-budget ($200/month) is used; no calls wait.";
    assert_eq!(story.message(), message, "the share of the account is not taken off it");
    let status = story.status();
    let shown: Vec<_> = status.allocations[0]
        .limits
        .iter()
        .map(|it| {
            let reset = it.reset_time.as_ref().map(|time| time.0.to_string());
            (it.name.as_str(), it.usage.as_str(), [it.most, it.used, it.remaining], it.reserved, reset)
        })
        .collect();
    let resets = "2026-12-01T00:03:00Z".to_owned();
    assert_eq!(shown[1], ("sales-budget", "$112 of $200", [200, 112, 88], Some(3), Some(resets)));
    assert_eq!((shown[0].0, &shown[0].4), ("requests", &None), "a minute's limit has no reset time");
}

#[test]
fn a_closed_budget_of_an_allocation_is_told_with_the_command_that_opens_it() {
    const DOLLAR: u64 = 1_000_000_000;
    let mut story = team_budget();
    story.report().past = PastUse::Lost;
    let budget = ReportedLimit {
        name: "sales-budget".to_owned(),
        unit: quotakeeper_engine::config::Unit::Dollars,
        amount: 200 * DOLLAR,
        used: 200 * DOLLAR,
        assumed: 200 * DOLLAR,
        resets_in: Duration::from_secs(27 * 86_400 + 36_000),
        ..story.report().status.limits[0].clone()
    };
    story.report().status.allocations = vec![quotakeeper_engine::AllocationStatus {
        name: "sales".into(),
        waiting: 4,
        under_way: 0,
        limits: vec![budget],
    }];
    assert_eq!(
        story.row(),
        "tier-4 | sales/sales-budget | unknown | 0 | - | 0 | Ready",
        "others' calls go on"
    );
    assert_eq!(
        story.message(),
        "All of sales/sales-budget ($200/month) counts as used, because its earlier use is not known; the condition UsageKnown says how to open it; no calls wait."
    );
    let conditions = story.conditions();
    let told = "How much of sales/sales-budget was used is not known, because the limiter's ledger was lost: all of it counts as used until 1 Dec, and calls of the allocation sales wait. It opens before when you state what was used: kubectl patch aq openai -n platform --type=merge -p '{\"spec\":{\"used\":[{\"limit\":\"sales/sales-budget\",\"amount\":UNITS,\"at\":\"2026-11-03T14:03:00Z\"}]}}'.";
    assert!(conditions.contains(told), "{conditions}");
}
