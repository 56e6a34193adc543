//! `kubectl apiquota status`: the quotas of a namespace with all of their limits.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Context;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use quotakeeper_api::names::OPERATOR;
use quotakeeper_api::quota::{ApiQuota, ApiQuotaStatus};
use serde_json::json;

use super::cluster::{BadInput, Cluster, is_unknown};
use super::words::about;
use crate::tables::{Format, print_as, table};

/// An operator that leads renews its Lease more often than that.
const STALE_SECONDS: i64 = 60;

/// Shows a quota, or all of them.
pub(super) async fn run(cluster: &Cluster, name: Option<&str>, output: Format) -> anyhow::Result<ExitCode> {
    let quotas = match name {
        Some(name) => vec![one(cluster, name).await?],
        None => all(cluster).await?,
    };
    let age = age_of_status(cluster).await;
    let mut shown: Vec<ApiQuota> = quotas;
    for quota in &mut shown {
        quota.metadata.managed_fields = None;
    }
    let value = || json!({"statusAgeSeconds": age, "items": shown});
    Ok(print_as(output, value, |wide| text(&shown, age, cluster.namespace.as_deref(), wide)))
}

async fn one(cluster: &Cluster, name: &str) -> anyhow::Result<ApiQuota> {
    let namespace = cluster.one_namespace()?;
    let api: Api<ApiQuota> = Api::namespaced(cluster.client.clone(), namespace);
    api.get(name).await.map_err(|error| match is_unknown(&error) {
        true => BadInput(format!(
            "namespace {namespace} has no ApiQuota {name}; kubectl get apiquotas -A lists all"
        ))
        .into(),
        false => anyhow::Error::from(error).context(format!("the ApiQuota {namespace}/{name} can't be read")),
    })
}

async fn all(cluster: &Cluster) -> anyhow::Result<Vec<ApiQuota>> {
    let client = cluster.client.clone();
    let api: Api<ApiQuota> = match &cluster.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let listed = api.list(&ListParams::default()).await;
    Ok(listed.context("ApiQuotas can't be read; are the CRDs installed, and may you read them?")?.items)
}

/// How long ago an operator has shown that it leads; none: nobody may look.
async fn age_of_status(cluster: &Cluster) -> Option<i64> {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.installation);
    let renewed = leases.get(OPERATOR).await.ok()?.spec?.renew_time?.0;
    Some((Timestamp::now().as_second() - renewed.as_second()).max(0))
}

fn text(quotas: &[ApiQuota], age: Option<i64>, namespace: Option<&str>, wide: bool) -> String {
    let mut text = String::new();
    // Writing into a string does not fail, here and below.
    if quotas.is_empty() {
        let place = namespace.map_or("this cluster".to_owned(), |namespace| format!("namespace {namespace}"));
        let _ = writeln!(text, "{place} has no ApiQuotas; -A shows those of all namespaces");
    }
    if let Some(age) = age.filter(|age| *age > STALE_SECONDS) {
        let _ = writeln!(
            text,
            "The operator was last heard of {} ago: what is shown may be as old. Calls are held all the same; \
             kubectl apiquota check says what is wrong.\n",
            about(age as f64)
        );
    }
    for (index, quota) in quotas.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        of_quota(&mut text, quota, wide);
    }
    text
}

fn of_quota(text: &mut String, quota: &ApiQuota, wide: bool) {
    let name = format!("{}/{}", quota.namespace().unwrap_or_default(), quota.name_any());
    let provider = &quota.spec.provider.name;
    let Some(status) = &quota.status else {
        let _ = writeln!(text, "{name} ({provider})\n  The operator has not looked at it yet.");
        return;
    };
    let summary = status.summary.clone().unwrap_or_default();
    let tier = summary.tier.filter(|tier| tier != "-").map(|tier| format!(" {tier}")).unwrap_or_default();
    let _ = writeln!(
        text,
        "{name} ({provider}{tier}): {}",
        summary.status.unwrap_or_else(|| "unknown".to_owned())
    );
    if let Some(message) = &summary.message {
        let _ = writeln!(text, "  {message}");
    }
    let rows = limits(status, wide);
    if !rows.is_empty() {
        let mut headings = vec!["LIMIT", "USED", "OF", "LEFT", "WAITING", "FREE AT"];
        if wide {
            headings.extend(["BY OTHERS", "ASSUMED", "FROM"]);
        }
        text.push_str(&indented(&table(&headings, &rows)));
    }
    let pods = summary.pods.filter(|pods| pods != "-" && pods != "0");
    if let Some(pods) = pods {
        let _ = writeln!(text, "  Pods: {pods}");
    }
    for condition in status.conditions.iter().filter(|it| wide || is_amiss(&it.type_, &it.status)) {
        let _ = writeln!(
            text,
            "  {}={} ({}): {}",
            condition.type_, condition.status, condition.reason, condition.message
        );
    }
}

/// Whether a condition tells of something that is not as it should be.
fn is_amiss(kind: &str, status: &str) -> bool {
    let good = if kind == "Throttled" { "False" } else { "True" };
    status != good
}

fn limits(status: &ApiQuotaStatus, wide: bool) -> Vec<Vec<String>> {
    let figure = |number: Option<i64>| {
        number.map_or("-".to_owned(), |number| crate::tables::figure(number.max(0) as u64))
    };
    let row = |limit: &quotakeeper_api::quota::LimitStatus| {
        let free = limit.reset_time.as_ref().map_or("-".to_owned(), |time| time.0.to_string());
        let waiting = figure(limit.waiting.map(i64::from));
        let mut row = vec![
            limit.name.clone(),
            figure(limit.used),
            figure(Some(limit.effective)),
            figure(limit.remaining),
            waiting,
            free,
        ];
        if wide {
            row.extend([figure(limit.used_by_others), figure(limit.assumed), format!("{:?}", limit.source)]);
        }
        row
    };
    status.limits.iter().map(row).collect()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn quota() -> ApiQuota {
        serde_json::from_value(json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": "openai", "namespace": "gtm"},
            "spec": {"provider": {"name": "openai", "tier": "tier-1"}},
            "status": {
                "summary": {"tier": "tier-1", "status": "Queueing", "message": "97 % of requests is used.", "pods": "2/3"},
                "limits": [{"name": "requests", "source": "Tier", "hard": 500, "effective": 500, "used": 485,
                    "remaining": 15, "waiting": 212}],
                "conditions": [
                    {"type": "Throttled", "status": "True", "reason": "Queueing", "message": "212 calls wait.",
                        "lastTransitionTime": "2026-11-03T14:03:10Z"},
                    {"type": "Ready", "status": "True", "reason": "Ready", "message": "It is enforced.",
                        "lastTransitionTime": "2026-11-03T14:03:10Z"},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_quota_is_shown_with_its_limits_and_what_is_amiss() {
        let shown = text(&[quota()], Some(3), Some("gtm"), false);
        assert_eq!(
            shown,
            "gtm/openai (openai tier-1): Queueing\n  97 % of requests is used.\n  LIMIT      USED   OF    LEFT   WAITING   \
             FREE AT\n  requests   485    500   15     212       -\n  Pods: 2/3\n  Throttled=True (Queueing): 212 calls wait.\n"
        );
        assert!(text(&[quota()], None, None, true).contains("Ready=True (Ready): It is enforced."));
    }

    #[test]
    fn an_old_status_is_said() {
        let shown = text(&[quota()], Some(600), None, false);
        assert!(shown.starts_with("The operator was last heard of 10 min ago"), "{shown}");
        let mut new = quota();
        new.status = None;
        assert!(text(&[new], None, None, false).contains("The operator has not looked at it yet."));
        assert!(text(&[], None, Some("gtm"), false).starts_with("namespace gtm has no ApiQuotas"));
    }
}
