//! The limiter's metrics for Prometheus, made from a report when they are scraped. Labels are bounded:
//! quotas, their limits, the models that providers count separately, and workloads, of which a report has a thousand.
//!
//! | room | holds |
//! |---|---|
//! | `usage` | what limits and workloads have used |

mod usage;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use quotakeeper_engine::AccountStatus;
use quotakeeper_listen::Doors;
use quotakeeper_wire::name::Consumer;
use quotakeeper_wire::status::AccountReport;

use crate::door::Began;
use crate::epoch::Change;
use crate::task::Health;

/// All metrics as text, in the format of OpenMetrics 1.0. `health`: none of a limiter on standby; `began`: how the one in
/// a cluster has become active; `doors`: those at which it listens.
pub fn text(health: Option<Health>, began: Option<&Began>, doors: &Doors) -> String {
    let mut registry = Registry::with_prefix("quotakeeper_limiter");
    registry.register_collector(Box::new(doors.clone()));
    let began = began.map(|began| (began.change, began.at, began.desk.waiting()));
    registry.register_collector(Box::new(RoleCollector { active: health.is_some(), began }));
    if let Some(health) = health {
        registry.register_collector(Box::new(HealthCollector(health)));
    }
    let mut text = String::new();
    // Writing into a string does not fail.
    let _written = encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct RoleCollector {
    active: bool,
    began: Option<(Change, Timestamp, usize)>,
}

impl Collector for RoleCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        gauge(
            &mut encoder,
            "active",
            "1 if this limiter is active, 0 if it is on standby",
            vec![(Labels::new(), u64::from(self.active))],
        )?;
        let since = self.began.map(|(_, at, _)| u64::try_from(at.as_second()).unwrap_or_default());
        gauge(
            &mut encoder,
            "active_since_timestamp_seconds",
            "When this limiter has become the active one, in seconds since 1970",
            since.map(|since| (Labels::new(), since)).into_iter().collect(),
        )?;
        let standbys = self.began.map(|(.., standbys)| (Labels::new(), standbys as u64));
        gauge(
            &mut encoder,
            "standbys",
            "Limiters on standby that get the active one's state when it ends",
            standbys.into_iter().collect(),
        )?;
        let how = |change: Change| self.began.map(|(began, ..)| (change, u64::from(began == change)));
        let values = Change::ALL.into_iter().filter_map(how);
        gauge(
            &mut encoder,
            "began",
            "How the active limiter has begun: 1 for Handover (by plan), Takeover (what the one before has granted is presumed), Restart (from its own ledger) or First",
            values.map(|(change, value)| (vec![("how", change.to_string())], value)).collect(),
        )
    }
}

#[derive(Debug)]
struct HealthCollector(Health);

/// The labels of an account, or of one of its limits.
type Labels = Vec<(&'static str, String)>;

impl Collector for HealthCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encode_accounts(&mut encoder, &self.0.report.accounts)?;
        encode_health(&mut encoder, &self.0)
    }
}

fn encode_accounts(
    encoder: &mut DescriptorEncoder<'_>,
    accounts: &[AccountReport],
) -> Result<(), fmt::Error> {
    usage::encode_limits(encoder, accounts)?;
    gauge(
        encoder,
        "waiting_calls",
        "Calls that are waiting for a grant",
        each(accounts, |account| account.status.waiting_calls()),
    )?;
    usage::encode_waits(encoder, accounts)?;
    encode_workloads(encoder, accounts)?;
    gauge(
        encoder,
        "inflight_calls",
        "Calls that were granted and have not ended",
        each(accounts, |account| account.status.under_way),
    )?;
    gauge(
        encoder,
        "active_pauses",
        "Pauses of an account or of a part of it that are in force",
        each(accounts, |account| account.status.pauses.len() as u64),
    )?;
    gauge(
        encoder,
        "connected_proxies",
        "Proxies that are connected and use the quota",
        each(accounts, |account| u64::from(account.proxies.connected)),
    )?;
    counter(encoder, "calls", "Calls by decision: granted or refused", decisions(accounts))?;
    counter(
        encoder,
        "provider_rejections",
        "Responses by which the provider rejected a call, by class: Quota, Concurrency, Capacity (it is overloaded) or Terminal (until a person acts)",
        rejections(accounts),
    )?;
    counter(
        encoder,
        "late_calls",
        "Calls that were written after their grant had expired, so that the quota is not guaranteed",
        each(accounts, |account| account.totals.breaches),
    )
}

/// By workload, of a thousand of an account at most: those that wait, whose clients have hung up, that have called.
fn encode_workloads(
    encoder: &mut DescriptorEncoder<'_>,
    accounts: &[AccountReport],
) -> Result<(), fmt::Error> {
    gauge(
        encoder,
        "workload_waiting_calls",
        "Calls of a workload that are waiting for a grant",
        workloads(accounts, |status| &status.waiting, |wait| (&wait.consumer, wait.calls)),
    )?;
    gauge(
        encoder,
        "workload_longest_wait_seconds",
        "Time that the call of a workload has waited which has waited longest",
        workloads(accounts, |status| &status.waiting, |wait| (&wait.consumer, wait.longest.as_secs())),
    )?;
    counter(
        encoder,
        "workload_hung_up_calls",
        "Calls of a workload whose clients hung up while they waited; ends an hour after the last",
        workloads(accounts, |status| &status.hang_ups, |hang_ups| (&hang_ups.consumer, hang_ups.calls)),
    )?;
    counter(
        encoder,
        "workload_used_calls",
        "Calls of a workload that the provider has counted or may have, rejected ones too; ends an hour after the last",
        workloads(accounts, |status| &status.workloads, |of_one| (&of_one.consumer, of_one.calls)),
    )?;
    usage::encode_models(encoder, accounts)?;
    usage::encode_estimates(encoder, accounts)
}

fn workloads<'a, T: 'a>(
    accounts: &'a [AccountReport],
    all: impl Fn(&'a AccountStatus) -> &'a [T],
    value: impl Fn(&'a T) -> (&'a Consumer, u64),
) -> Vec<(Labels, u64)> {
    let mut values = Vec::new();
    for account in accounts {
        for of_one in all(&account.status) {
            let (workload, value) = value(of_one);
            let mut labels = of(account);
            labels.push(("workload", workload.to_string()));
            values.push((labels, value));
        }
    }
    values
}

fn encode_health(encoder: &mut DescriptorEncoder<'_>, health: &Health) -> Result<(), fmt::Error> {
    let Health { report, ledger, panics, offline, leaves_out } = health;
    let accounts = &report.accounts;
    let help = "Panics of the limiter's state, which was recovered from the ledger each time";
    counter(encoder, "panics", help, vec![(Labels::new(), *panics)])?;
    let mut degraded =
        vec![(reason("ConfigurationProblem"), u64::from(accounts.iter().any(|one| one.problem.is_some())))];
    if let Some(ledger) = ledger {
        degraded.push((reason("LedgerUnavailable"), u64::from(ledger.failing)));
        ledger_commit(encoder, ledger.took)?;
    }
    let failing = |one: &AccountReport| one.checkpoint.as_ref().is_some_and(|it| it.failing);
    degraded.push((reason("CheckpointsUnavailable"), u64::from(accounts.iter().any(failing))));
    degraded.push((reason("GateOpen"), u64::from(report.gate_open)));
    degraded.push((reason("Offline"), u64::from(*offline)));
    degraded.push((reason("OfflinePartLeftOut"), u64::from(*leaves_out)));
    gauge(encoder, "degraded", "1 while the limiter is degraded for this reason", degraded)
}

fn reason(reason: &str) -> Labels {
    vec![("reason", reason.to_owned())]
}

fn of(account: &AccountReport) -> Labels {
    vec![("quota", account.quota.to_string())]
}

fn each(accounts: &[AccountReport], value: impl Fn(&AccountReport) -> u64) -> Vec<(Labels, u64)> {
    accounts.iter().map(|account| (of(account), value(account))).collect()
}

fn decisions(accounts: &[AccountReport]) -> Vec<(Labels, u64)> {
    let mut values = Vec::new();
    for account in accounts {
        for (decision, count) in [("granted", account.totals.granted), ("refused", account.totals.refused)] {
            let mut labels = of(account);
            labels.push(("decision", decision.to_owned()));
            values.push((labels, count));
        }
    }
    values
}

fn rejections(accounts: &[AccountReport]) -> Vec<(Labels, u64)> {
    let mut values = Vec::new();
    for account in accounts {
        let totals = account.totals;
        for (class, count) in [
            ("Quota", totals.rejected.saturating_sub(totals.rejected_for_concurrency)),
            ("Concurrency", totals.rejected_for_concurrency),
            ("Capacity", totals.rejected_for_capacity),
            ("Terminal", totals.rejected_terminally),
        ] {
            let mut labels = of(account);
            labels.push(("class", class.to_owned()));
            values.push((labels, count));
        }
    }
    values
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: Vec<(Labels, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: Vec<(Labels, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn ledger_commit(encoder: &mut DescriptorEncoder<'_>, took: Duration) -> Result<(), fmt::Error> {
    let help = "Duration of the last commit to the ledger";
    let metric = encoder.encode_descriptor("ledger_commit", help, Some(&Unit::Seconds), MetricType::Gauge)?;
    ConstGauge::new(took.as_secs_f64()).encode(metric)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quotakeeper_listen::{ClosedConnections, Reason};
    use quotakeeper_wire::status::Report;
    use serde_json::json;

    use super::*;
    use crate::handover::desk;
    use quotakeeper_limiter_core::LedgerHealth;

    #[test]
    fn metric_names_are_documented() {
        let workloads = json!([
            {"consumer": "gtm/Job/a", "calls": 40, "models": [{
                "model": "gpt-4o", "calls": 40, "refused": 3, "lost": 2, "estimated": 5, "unpriced": 1,
                "input": 1000, "cached": 200, "cacheWrite": 10, "output": 300, "nanodollars": 12_500_000,
            }]},
            {"consumer": "gtm/Job/b", "calls": 19},
        ]);
        let report: Report = serde_json::from_value(json!({
            "epoch": 7, "gateOpen": false, "proxies": {"current": 2, "connected": 3},
            "accounts": [{
                "key": "openai/a", "quota": "gtm/openai", "tier": "tier-1", "generation": 3, "mode": "Enforce",
                "limits": [{
                    "name": "requests", "amount": 100, "used": 40, "usedByOthers": 0, "assumed": 0,
                    "waiting": 5, "resetsInMillis": 10,
                }, {
                    "name": "budget", "unit": "Dollars", "amount": 500_000_000_000_u64, "used": 412_250_000_000_u64,
                    "reserved": 250_000_000, "usedByOthers": 0, "assumed": 0, "waiting": 0, "resetsInMillis": 10,
                }],
                "allocations": [{"name": "sales", "waiting": 1, "underWay": 0, "limits": [{
                    "name": "sales-budget", "unit": "Dollars", "amount": 200_000_000_000_u64, "used": 112_500_000_000_u64,
                    "reserved": 0, "usedByOthers": 0, "assumed": 0, "waiting": 1, "resetsInMillis": 10,
                }]}],
                "checkpoint": {"number": 4, "failing": true},
                "pauses": [], "underWay": 2, "proxies": {"current": 2, "connected": 3},
                "waiting": [
                    {"consumer": "gtm/Job/a", "calls": 2, "longestMillis": 7900},
                    {"consumer": "gtm/Job/b", "calls": 3, "longestMillis": 1},
                ],
                "hangUps": [{"consumer": "gtm/Job/a", "calls": 20, "shortestMillis": 5000, "longestMillis": 5000, "waitMillis": 40000}],
                "workloads": workloads,
                "estimateRatios": {"calls": [1, 0, 0, 2, 3, 0, 0, 0, 0, 1], "sum": 15_500},
                "granted": 60, "unused": 0, "refused": 1, "rejected": 9,
                "rejectedForConcurrency": 2, "rejectedForCapacity": 5, "rejectedTerminally": 3, "breaches": 4,
            }],
        }))
        .unwrap();
        let ledger = LedgerHealth { failing: true, took: Duration::from_millis(250) };
        let sessions = ClosedConnections::default();
        sessions.count(Reason::Handshake);
        let began = Began { change: Change::Handover, at: Timestamp::UNIX_EPOCH, desk: desk().1 };
        let text = text(
            Some(Health { report, ledger: Some(ledger), panics: 2, offline: true, leaves_out: false }),
            Some(&began),
            &Doors(vec![("sessions", sessions)]),
        );
        test_support::metrics_page::assert_section("quotakeeper_limiter", &text);
        for line in [
            r#"quotakeeper_limiter_limit_amount{quota="gtm/openai",limit="requests",model=""} 100"#,
            r#"quotakeeper_limiter_limit_used{quota="gtm/openai",limit="requests",model=""} 40"#,
            r#"quotakeeper_limiter_limit_used{quota="gtm/openai",limit="budget",model=""} 412.25"#,
            r#"quotakeeper_limiter_limit_reserved{quota="gtm/openai",limit="budget",model=""} 0.25"#,
            r#"quotakeeper_limiter_allocation_limit_amount{quota="gtm/openai",allocation="sales",limit="sales-budget",model=""} 200.0"#,
            r#"quotakeeper_limiter_allocation_limit_used{quota="gtm/openai",allocation="sales",limit="sales-budget",model=""} 112.5"#,
            r#"quotakeeper_limiter_waiting_calls{quota="gtm/openai"} 5"#,
            r#"quotakeeper_limiter_workload_waiting_calls{quota="gtm/openai",workload="gtm/Job/b"} 3"#,
            r#"quotakeeper_limiter_workload_longest_wait_seconds{quota="gtm/openai",workload="gtm/Job/a"} 7"#,
            r#"quotakeeper_limiter_workload_hung_up_calls_total{quota="gtm/openai",workload="gtm/Job/a"} 20"#,
            r#"quotakeeper_limiter_workload_used_calls_total{quota="gtm/openai",workload="gtm/Job/b"} 19"#,
            r#"quotakeeper_limiter_workload_model_calls_total{quota="gtm/openai",workload="gtm/Job/a",model="gpt-4o",kind="lost"} 2"#,
            r#"quotakeeper_limiter_workload_tokens_total{quota="gtm/openai",workload="gtm/Job/a",model="gpt-4o",kind="cached"} 200"#,
            r#"quotakeeper_limiter_workload_dollars_total{quota="gtm/openai",workload="gtm/Job/a",model="gpt-4o"} 0.0125"#,
            r#"quotakeeper_limiter_token_estimate_ratio_sum{quota="gtm/openai"} 15.5"#,
            r#"quotakeeper_limiter_token_estimate_ratio_bucket{le="1.25",quota="gtm/openai"} 6"#,
            r#"quotakeeper_limiter_token_estimate_ratio_bucket{le="+Inf",quota="gtm/openai"} 7"#,
            r#"quotakeeper_limiter_calls_total{quota="gtm/openai",decision="granted"} 60"#,
            r#"quotakeeper_limiter_calls_total{quota="gtm/openai",decision="refused"} 1"#,
            r#"quotakeeper_limiter_provider_rejections_total{quota="gtm/openai",class="Quota"} 7"#,
            r#"quotakeeper_limiter_provider_rejections_total{quota="gtm/openai",class="Concurrency"} 2"#,
            r#"quotakeeper_limiter_provider_rejections_total{quota="gtm/openai",class="Capacity"} 5"#,
            r#"quotakeeper_limiter_provider_rejections_total{quota="gtm/openai",class="Terminal"} 3"#,
            r#"quotakeeper_limiter_late_calls_total{quota="gtm/openai"} 4"#,
            r#"quotakeeper_limiter_connected_proxies{quota="gtm/openai"} 3"#,
            r#"quotakeeper_limiter_degraded{reason="LedgerUnavailable"} 1"#,
            r#"quotakeeper_limiter_degraded{reason="ConfigurationProblem"} 0"#,
            r#"quotakeeper_limiter_degraded{reason="CheckpointsUnavailable"} 1"#,
            r#"quotakeeper_limiter_degraded{reason="Offline"} 1"#,
            r#"quotakeeper_limiter_degraded{reason="OfflinePartLeftOut"} 0"#,
            "quotakeeper_limiter_ledger_commit_seconds 0.25",
            "quotakeeper_limiter_panics_total 2",
            r#"quotakeeper_limiter_closed_connections_total{door="sessions",reason="Handshake"} 1"#,
            r#"quotakeeper_limiter_closed_connections_total{door="sessions",reason="GaveWay"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
