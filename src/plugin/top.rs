//! `kubectl apiquota top`: who uses and waits now, from the active limiter's metrics.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::pods::runs;
use super::sidecar;
use super::words::about;
use crate::output::printed;
use crate::tables::{Format, figure, table, text_as};

/// The port of the limiter's metrics.
const METRICS_PORT: u16 = 9090;
/// Between the two looks whose difference is the rate.
const RATE_OVER: Duration = Duration::from_secs(2);

/// What the metrics say of a workload's use of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    calls: f64,
    tokens: f64,
    waiting: f64,
    longest_wait: f64,
}

/// The same by quota and workload.
type Sample = BTreeMap<(String, String), Figures>;

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    quota: String,
    workload: String,
    /// Since the limiter knows of it: it forgets a workload an hour after its last call.
    calls: u64,
    calls_per_second: f64,
    tokens_per_second: f64,
    waiting_calls: u64,
    longest_wait_seconds: f64,
}

/// Shows it once, or again and again.
pub(super) async fn run(cluster: &Cluster, watch: Option<u64>, output: Format) -> anyhow::Result<ExitCode> {
    let interval = watch.map_or(RATE_OVER, |seconds| Duration::from_secs(seconds.max(1)));
    let mut before = (look(cluster).await?, Instant::now());
    loop {
        sleep(interval).await;
        let now = (look(cluster).await?, Instant::now());
        let rows = rows(&before.0, &now.0, (now.1 - before.1).as_secs_f64(), cluster.namespace.as_deref());
        before = now;
        let text = text_as(output, || json!(rows), |_| text(&rows))?;
        let stays = printed(&text);
        if watch.is_none() || !stays {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// What the active limiter says.
async fn look(cluster: &Cluster) -> anyhow::Result<Sample> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.installation);
    let limiters = ListParams::default().labels("app.kubernetes.io/component=limiter");
    let limiters = pods.list(&limiters).await;
    let limiters = limiters.with_context(|| {
        format!("the limiter's pods in namespace {} can't be listed", cluster.installation)
    })?;
    if limiters.items.is_empty() {
        bail!(
            "namespace {} has no limiter; name that of Quotakeeper with --installation",
            cluster.installation
        );
    }
    let mut last = None;
    for pod in limiters.items.iter().filter(|pod| runs(pod)) {
        match sidecar::get(&pods, &pod.name_any(), METRICS_PORT, "/metrics").await {
            Ok(body) => {
                let text = String::from_utf8_lossy(&body);
                if is_active(&text) {
                    return Ok(sample(&text));
                }
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error.context("the limiter can't be asked")),
        None => bail!("no limiter is active; kubectl apiquota check says why"),
    }
}

fn is_active(text: &str) -> bool {
    text.lines()
        .filter_map(series)
        .any(|(name, _, value)| name == "quotakeeper_limiter_active" && value == 1.0)
}

fn sample(text: &str) -> Sample {
    let mut sample = Sample::new();
    for (name, labels, value) in text.lines().filter_map(series) {
        let (Some(quota), Some(workload)) = (labels.get("quota"), labels.get("workload")) else { continue };
        let entry = sample.entry((quota.clone(), workload.clone())).or_default();
        match name {
            "quotakeeper_limiter_workload_used_calls_total" => entry.calls += value,
            "quotakeeper_limiter_workload_waiting_calls" => entry.waiting += value,
            "quotakeeper_limiter_workload_longest_wait_seconds" => {
                entry.longest_wait = entry.longest_wait.max(value);
            }
            // Cached tokens are input too.
            "quotakeeper_limiter_workload_tokens_total"
                if labels.get("kind").is_some_and(|kind| ["input", "output"].contains(&kind.as_str())) =>
            {
                entry.tokens += value;
            }
            _ => {}
        }
    }
    sample
}

/// A line of the OpenMetrics text: name, labels, value.
fn series(line: &str) -> Option<(&str, BTreeMap<String, String>, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut characters = after.char_indices();
            let closed = loop {
                match characters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next()?.1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            };
            labels.insert(label.to_owned(), value);
            rest = after.get(closed + 1..)?;
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// Those of a namespace's quotas and workloads, the busiest first.
fn rows(before: &Sample, now: &Sample, seconds: f64, namespace: Option<&str>) -> Vec<Row> {
    let within = |name: &str| namespace.is_none_or(|it| name.split('/').next() == Some(it));
    let concerns = now.iter().filter(|((quota, workload), _)| within(quota) || within(workload));
    let mut rows: Vec<Row> = concerns
        .map(|(key, figures)| {
            let earlier = before.get(key).copied().unwrap_or(*figures);
            // A limiter that took over counts anew.
            let rate = |now: f64, before: f64| ((now - before).max(0.0) / seconds * 10.0).round() / 10.0;
            Row {
                quota: key.0.clone(),
                workload: key.1.clone(),
                calls: figures.calls as u64,
                calls_per_second: rate(figures.calls, earlier.calls),
                tokens_per_second: rate(figures.tokens, earlier.tokens),
                waiting_calls: figures.waiting as u64,
                longest_wait_seconds: figures.longest_wait,
            }
        })
        .collect();
    rows.sort_by(|one, other| {
        let busy = |row: &Row| (row.waiting_calls, row.calls_per_second);
        one.quota
            .cmp(&other.quota)
            .then(busy(other).partial_cmp(&busy(one)).unwrap_or(std::cmp::Ordering::Equal))
    });
    rows
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "No workload has called within the last hour; -A shows those of all namespaces\n".to_owned();
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.quota.clone(),
                row.workload.clone(),
                format!("{:.1}", row.calls_per_second),
                figure(row.tokens_per_second as u64),
                figure(row.calls),
                figure(row.waiting_calls),
                if row.waiting_calls == 0 { "-".to_owned() } else { about(row.longest_wait_seconds) },
            ]
        })
        .collect();
    table(&["QUOTA", "WORKLOAD", "CALLS/S", "TOKENS/S", "CALLS", "WAITING", "LONGEST WAIT"], &cells)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const METRICS: &str = r#"# TYPE quotakeeper_limiter_active gauge
quotakeeper_limiter_active 1
quotakeeper_limiter_workload_used_calls_total{quota="gtm/openai",workload="gtm/Job/enrich"} 120
quotakeeper_limiter_workload_waiting_calls{quota="gtm/openai",workload="gtm/Job/enrich"} 7
quotakeeper_limiter_workload_longest_wait_seconds{quota="gtm/openai",workload="gtm/Job/enrich"} 4.25
quotakeeper_limiter_workload_tokens_total{quota="gtm/openai",workload="gtm/Job/enrich",model="a \"b\", c",kind="input"} 900
quotakeeper_limiter_workload_tokens_total{quota="gtm/openai",workload="gtm/Job/enrich",model="a",kind="cached"} 500
quotakeeper_limiter_workload_used_calls_total{quota="other/x",workload="other/Job/y"} 5
# EOF
"#;

    #[test]
    fn metrics_are_read_by_quota_and_workload() {
        assert!(is_active(METRICS) && !is_active("quotakeeper_limiter_active 0\n"));
        let before = sample(METRICS);
        let figures = before[&("gtm/openai".to_owned(), "gtm/Job/enrich".to_owned())];
        let expected = Figures { calls: 120.0, tokens: 900.0, waiting: 7.0, longest_wait: 4.25 };
        assert_eq!(figures, expected);
        let now = sample(&METRICS.replace("} 120", "} 140"));
        let shown = rows(&before, &now, 2.0, Some("gtm"));
        assert_eq!((shown.len(), shown[0].calls_per_second, shown[0].calls), (1, 10.0, 140));
        assert_eq!(rows(&before, &now, 2.0, None).len(), 2);
        let text = text(&shown);
        assert!(
            text.contains("gtm/openai   gtm/Job/enrich   10.0      0          140     7         4.2 s"),
            "{text}"
        );
    }
}
