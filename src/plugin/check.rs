//! `kubectl apiquota check`: whether an installation works, which quotas are not in force, and which pods go around it.

mod before;
mod bypasses;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use quotakeeper_api::provider::ApiProvider;
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_operator::check as installation;
use quotakeeper_operator::conditions::{TRUE, find, types};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::NOT_WELL;
use super::cluster::Cluster;
use crate::tables::{Format, print_as};

/// Between two looks while it waits.
const AGAIN: Duration = Duration::from_secs(2);

/// The options of `check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Before an installation: whether this cluster can have one, and whether you may install it.
    #[arg(long)]
    pre: bool,

    /// Look again for so many seconds, until everything is well.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    wait: u64,
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    /// What was looked at.
    about: String,
    /// How it is.
    state: State,
    /// What is wrong, and what to do; empty where it is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum State {
    Well,
    /// It may be meant so.
    Warning,
    NotWell,
}

impl Finding {
    fn well(about: &str) -> Finding {
        Finding { about: about.to_owned(), state: State::Well, message: String::new() }
    }

    fn warning(about: &str, message: String) -> Finding {
        Finding { about: about.to_owned(), state: State::Warning, message }
    }

    fn not_well(about: &str, message: String) -> Finding {
        Finding { about: about.to_owned(), state: State::NotWell, message }
    }

    /// Of sentences that say what is missing: one for each, or that nothing is.
    fn of(about: &str, missing: Vec<String>) -> Vec<Finding> {
        if missing.is_empty() {
            return vec![Finding::well(about)];
        }
        missing.into_iter().map(|message| Finding::not_well(about, message)).collect()
    }
}

/// Checks it. The exit code is 3 if something is not well.
pub(super) async fn run(
    cluster: &Cluster,
    arguments: &CheckArguments,
    output: Format,
) -> anyhow::Result<ExitCode> {
    let until = Instant::now() + Duration::from_secs(arguments.wait);
    let findings = loop {
        let findings = if arguments.pre { before::look(cluster).await? } else { look(cluster).await };
        if Instant::now() + AGAIN > until || !is_amiss(&findings) {
            break findings;
        }
        sleep(AGAIN).await;
    };
    let printed = print_as(output, || json!(findings), |_| text(&findings));
    Ok(if is_amiss(&findings) { ExitCode::from(NOT_WELL) } else { printed })
}

fn is_amiss(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.state == State::NotWell)
}

async fn look(cluster: &Cluster) -> Vec<Finding> {
    let missing = installation::missing(&cluster.client, &cluster.installation, None, Duration::ZERO).await;
    let mut findings = Finding::of("operator and limiter are ready", missing);
    findings.extend(Finding::of("quotas are in force", not_in_force(cluster).await));
    match pods(cluster).await {
        Ok((pods, providers)) => findings.extend(bypasses::of(&pods, &providers)),
        Err(error) => findings.push(Finding::not_well("pods go through their proxies", format!("{error:#}"))),
    }
    findings
}

async fn not_in_force(cluster: &Cluster) -> Vec<String> {
    let api: Api<ApiQuota> = match &cluster.namespace {
        Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
        None => Api::all(cluster.client.clone()),
    };
    let quotas = match api.list(&ListParams::default()).await {
        Ok(quotas) => quotas.items,
        Err(error) => return vec![format!("ApiQuotas can't be read ({error}); are the CRDs installed?")],
    };
    quotas.iter().filter_map(unready).collect()
}

/// Why a quota is not in force.
fn unready(quota: &ApiQuota) -> Option<String> {
    let name = format!("{}/{}", quota.namespace().unwrap_or_default(), quota.name_any());
    let conditions = quota.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match find(conditions, types::READY) {
        None => Some(format!("{name}: the operator has not looked at it yet")),
        Some(ready) if ready.status != TRUE => Some(format!("{name}: {}", ready.message)),
        Some(ready) if ready.observed_generation < quota.metadata.generation => {
            Some(format!("{name}: the operator has not looked at it since it was changed"))
        }
        Some(_) => None,
    }
}

async fn pods(cluster: &Cluster) -> anyhow::Result<(Vec<Pod>, Vec<ApiProvider>)> {
    let client = cluster.client.clone();
    let api: Api<Pod> = match &cluster.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let pods = api.list(&ListParams::default()).await.context("pods can't be listed")?.items;
    // Who may not read them still learns of pods whose annotations are not followed.
    let providers = Api::<ApiProvider>::all(client).list(&ListParams::default()).await;
    Ok((pods, providers.map(|listed| listed.items).unwrap_or_default()))
}

fn text(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let mark = match finding.state {
            State::Well => "√",
            State::Warning => "!",
            State::NotWell => "×",
        };
        match finding.message.as_str() {
            "" => format!("{mark} {}\n", finding.about),
            message => format!("{mark} {}: {message}\n", finding.about),
        }
    };
    findings.iter().map(line).collect()
}
