//! A plan for people, as JSON, and as Markdown.

use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_api::words::amount_of;
use quotakeeper_engine::config::{LimitConfig, Unit};
use quotakeeper_engine::cost::Amount;
use quotakeeper_planner::forecast::{Bottleneck, Verdict, Wait};
use quotakeeper_planner::need::Need;
use quotakeeper_wire::name::QuotaName;
use serde_json::{Value, json};

use super::Plan;
use super::remedies::Remedy;
use crate::run::words::duration;
use crate::tables::{figure, number, shown, table, window_of};

/// Plans for people.
pub fn text(plans: &[Plan]) -> String {
    let one = |plan: &Plan| {
        let mut text = format!("{}\n\n", headline(plan));
        text += &table(&HEADINGS, &rows(plan));
        text += "\n";
        for line in lines(plan) {
            text += &format!("{line}\n");
        }
        text
    };
    plans.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Plans for a pull request.
pub fn markdown(plans: &[Plan]) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let one = |plan: &Plan| {
        let mut text = format!("### {}\n\n", headline(plan));
        text += &row(&HEADINGS.map(str::to_owned));
        text += &row(&HEADINGS.map(|_| "---".to_owned()));
        text.extend(rows(plan).iter().map(|cells| row(cells)));
        text += "\n";
        text.extend(lines(plan).iter().map(|line| format!("- {line}\n")));
        text
    };
    plans.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Plans for programs; times are in seconds after the beginning.
pub fn value(plans: &[Plan]) -> Value {
    let one = |plan: &Plan| {
        let Plan { campaign, forecast, .. } = plan;
        let seconds = |time: Duration| time.as_secs();
        let need = |need: &Need| {
            json!({
                "quota": need.quota, "limit": need.limit.name, "unit": need.limit.unit, "model": need.model,
                "draws": number(need.limit.unit, need.draws), "used": number(need.limit.unit, need.used),
                "amount": number(need.limit.unit, need.amount),
                "windowSeconds": need.limit.window.as_secs(), "period": need.limit.period,
                "leastSeconds": seconds(need.least),
            })
        };
        let calls = forecast.calls.iter().map(|(quota, calls, cost)| {
            json!({"quota": quota, "calls": calls, "dollars": cost.map(|Amount(cost)| number(Unit::Dollars, cost))})
        });
        let bottleneck = match forecast.bottleneck {
            Bottleneck::Workers => json!({"workers": forecast.workers}),
            Bottleneck::PerWorkload { ref quota, most } => {
                json!({"quota": quota, "maxConcurrentPerWorkload": most})
            }
            Bottleneck::Limit(at) => {
                json!({"quota": forecast.needs[at].quota, "limit": forecast.needs[at].limit.name})
            }
        };
        json!({
            "campaign": campaign.name, "records": campaign.records, "start": campaign.start.to_string(),
            "deadline": campaign.deadline.map(|deadline| deadline.to_string()),
            "fits": forecast.verdict.is_good(), "verdict": verdict_name(&forecast.verdict), "never": forecast.never,
            "end": forecast.end.map(|end| json!({
                "earliestSeconds": seconds(end.earliest), "expectedSeconds": seconds(end.expected),
                "latestSeconds": end.latest.map(seconds),
            })),
            "waits": forecast.waits.iter().map(|wait| json!({
                "quota": wait.quota, "longestSeconds": seconds(wait.longest),
                "clientsWaitSeconds": wait.patience.map(seconds),
            })).collect::<Vec<_>>(),
            "bottleneck": bottleneck, "workers": forecast.workers, "callsUnderWay": forecast.under_way,
            "needs": forecast.needs.iter().map(need).collect::<Vec<_>>(),
            "calls": calls.collect::<Vec<_>>(),
            "remedies": plan.remedies.iter().map(remedy_value).collect::<Vec<_>>(),
            "warnings": plan.warnings,
        })
    };
    json!({"plans": plans.iter().map(one).collect::<Vec<_>>()})
}

const HEADINGS: [&str; 8] = ["QUOTA", "TIER", "LIMIT", "DRAWS", "USED", "OF", "PER", "TAKES AT LEAST"];

fn rows(plan: &Plan) -> Vec<Vec<String>> {
    let tier = |need: &Need| {
        let account = plan.accounts.iter().find(|account| account.quota == need.quota);
        account.map(|account| account.tier.clone()).unwrap_or_default()
    };
    let row = |need: &Need| {
        let LimitConfig { name, unit, .. } = &need.limit;
        let model = need.model.as_ref().map(|model| format!(" ({model})")).unwrap_or_default();
        let draws = match unit {
            Unit::ConcurrentRequests => format!("{} s", figure(need.draws)),
            _ => shown(*unit, need.draws),
        };
        let least = match need.least {
            _ if need.never => "for ever".to_owned(),
            Duration::ZERO => "no time".to_owned(),
            least => duration(least),
        };
        vec![
            need.quota.to_string(),
            tier(need),
            format!("{name}{model}"),
            draws,
            shown(*unit, need.used),
            shown(*unit, need.amount),
            window_of(&need.limit),
            least,
        ]
    };
    plan.forecast.needs.iter().map(row).collect()
}

fn headline(plan: &Plan) -> String {
    let Plan { campaign, forecast, .. } = plan;
    let records = if campaign.records == 1 { "record" } else { "records" };
    let what = format!("{}: {} {records}", campaign.name, figure(campaign.records));
    let within = campaign.time().map(duration).unwrap_or_default();
    match &forecast.verdict {
        Verdict::Ends => format!("{what} are done in {}", range(plan)),
        Verdict::Fits => format!("{what} fit into {within}: they are done in {}", range(plan)),
        Verdict::Tight => {
            format!("{what} fit into {within} by a narrow margin: they are done in {}", range(plan))
        }
        Verdict::Late => {
            let late = forecast.end.zip(campaign.time()).map(|(end, time)| end.expected.saturating_sub(time));
            let late = duration(late.unwrap_or_default());
            format!("{what} do not fit into {within}: they are done in {}, {late} too late", range(plan))
        }
        Verdict::Impossible => {
            let end = forecast.end.map(|_| format!("they are done in {}", range(plan)));
            let end = end.or(forecast.never.clone()).unwrap_or_default();
            format!("{what} are mathematically impossible in {within}: {end}")
        }
        Verdict::Never => format!("{what} are never done: {}", forecast.never.as_deref().unwrap_or_default()),
    }
}

/// When it ends: how long it takes, from when to when, and the time of day.
fn range(plan: &Plan) -> String {
    let Some(end) = plan.forecast.end else { return "no time that can be foreseen".to_owned() };
    let at = moment(plan.campaign.start, end.expected);
    let latest = end.latest.map_or_else(|| "never".to_owned(), duration);
    format!("{} ({} to {latest}), at {at}", duration(end.expected), duration(end.earliest))
}

fn moment(start: Timestamp, after: Duration) -> Timestamp {
    let at = start.saturating_add(after).unwrap_or(start);
    at.round(jiff::Unit::Second).unwrap_or(at)
}

fn lines(plan: &Plan) -> Vec<String> {
    let forecast = &plan.forecast;
    let mut lines = vec![bottleneck(plan)];
    let calls = forecast.calls.iter().map(|(quota, calls, cost)| {
        let cost =
            cost.map(|Amount(cost)| format!(", {}", amount_of(Unit::Dollars, cost))).unwrap_or_default();
        let named = if *calls == 1 { "call" } else { "calls" };
        format!("{} {named} to {quota}{cost}", figure(*calls))
    });
    lines.push(format!("Calls: {}.", calls.collect::<Vec<_>>().join("; ")));
    if forecast.under_way > 0 && matches!(forecast.bottleneck, Bottleneck::Limit(_)) {
        let planned = plan.campaign.workers.map(|workers| format!(", {} are planned", figure(workers)));
        let planned = planned.unwrap_or_default();
        lines.push(format!(
            "Workers: about {} {} busy at the same time{planned}; more would only wait.",
            figure(forecast.under_way),
            if forecast.under_way == 1 { "is" } else { "are" }
        ));
    }
    lines.extend(waits(plan));
    lines.extend(plan.remedies.iter().map(|remedy| remedy_line(remedy, plan)));
    lines.extend(plan.warnings.iter().map(|warning| format!("Note: {}.", warning.trim_end_matches('.'))));
    lines
}

/// How long calls wait, and whether their clients do.
fn waits(plan: &Plan) -> Vec<String> {
    let line = |wait: &Wait| {
        let over = |bound: Option<Duration>| bound.filter(|bound| wait.longest > *bound).map(duration);
        let refused = match (over(wait.maximum), over(wait.patience)) {
            (Some(maximum), _) => format!(
                "; the quota lets calls wait for {maximum} (enforcement.maxQueueSeconds), and refuses others with a 429: \
                 raise it, or use fewer workers"
            ),
            (None, Some(patience)) => format!(
                "; clients that give up earlier, as the usual ones of this provider do after {patience}, are refused with \
                 a 429: give them a longer timeout, or use fewer workers"
            ),
            (None, None) => String::new(),
        };
        format!("Waits: a call to {} waits up to {}{}.", wait.quota, duration(wait.longest), refused)
    };
    plan.forecast.waits.iter().map(line).collect()
}

fn bottleneck(plan: &Plan) -> String {
    let forecast = &plan.forecast;
    match forecast.bottleneck {
        Bottleneck::Workers => {
            let named = if plan.campaign.workers.is_some() { "" } else { " (none are named)" };
            format!(
                "Bottleneck: the workers, {} at a time{named}; with more it would be done sooner.",
                figure(forecast.workers)
            )
        }
        Bottleneck::PerWorkload { ref quota, most } => {
            format!(
                "Bottleneck: maxConcurrentPerWorkload of {quota}, {most} calls under way at the same time."
            )
        }
        Bottleneck::Limit(at) => {
            let need = &forecast.needs[at];
            let unit = need.limit.unit;
            let per = match unit {
                Unit::ConcurrentRequests => "at the same time".to_owned(),
                _ => format!("per {}", window_of(&need.limit)),
            };
            let least = match need.never {
                true => "a single call draws more".to_owned(),
                false => format!("all calls take {} at least", duration(need.least)),
            };
            format!(
                "Bottleneck: {} of {}, {} {per}; {least}.",
                need.limit.name,
                need.quota,
                shown(unit, need.amount)
            )
        }
    }
}

fn tiers_named(tiers: &[(QuotaName, String)]) -> String {
    tiers.iter().map(|(quota, tier)| format!("tier {tier} of {quota}")).collect::<Vec<_>>().join(" and ")
}

fn remedy_line(remedy: &Remedy, plan: &Plan) -> String {
    let then = |end: &Duration| format!("it is done in {}", duration(*end));
    match remedy {
        Remedy::Tiers { tiers, end } => format!("Fits with {}: {}.", tiers_named(tiers), then(end)),
        Remedy::NoTier { quota, tiers, end } => {
            let best = end.map(|end| format!("; with {} {}", tiers_named(tiers), then(&end)));
            format!("No tier of {quota} is enough{}.", best.unwrap_or_default())
        }
        Remedy::Share { quota, percent, end } => {
            format!("Fits with sharePercent: {percent} of {quota}: {}.", then(end))
        }
        Remedy::Workers { workers, end } => format!("Fits with {workers} workers: {}.", then(end)),
        Remedy::Deadline(end) => {
            format!(
                "Fits with a deadline {} after the beginning, {}.",
                duration(*end),
                moment(plan.campaign.start, *end)
            )
        }
        Remedy::Records(records) => format!("Fits with {} records.", figure(*records)),
    }
}

fn remedy_value(remedy: &Remedy) -> Value {
    match remedy {
        Remedy::Tiers { tiers, end } => {
            let tiers = tiers.iter().map(|(quota, tier)| json!({"quota": quota, "tier": tier}));
            json!({"tiers": tiers.collect::<Vec<_>>(), "expectedSeconds": end.as_secs()})
        }
        Remedy::NoTier { quota, tiers, end } => {
            let tiers = tiers.iter().map(|(quota, tier)| json!({"quota": quota, "tier": tier}));
            json!({
                "quota": quota, "fits": false, "bestTiers": tiers.collect::<Vec<_>>(),
                "expectedSeconds": end.map(|end| end.as_secs()),
            })
        }
        Remedy::Share { quota, percent, end } => {
            json!({"quota": quota, "sharePercent": percent, "expectedSeconds": end.as_secs()})
        }
        Remedy::Workers { workers, end } => json!({"workers": workers, "expectedSeconds": end.as_secs()}),
        Remedy::Deadline(end) => json!({"deadlineSeconds": end.as_secs()}),
        Remedy::Records(records) => json!({"records": records}),
    }
}

fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Ends => "Ends",
        Verdict::Fits => "Fits",
        Verdict::Tight => "Tight",
        Verdict::Late => "Late",
        Verdict::Impossible => "Impossible",
        Verdict::Never => "Never",
    }
}
