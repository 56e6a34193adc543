//! `kubectl apiquota pause` and `resume`: holds all calls of a quota for a while, or has them go on.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use jiff::{Timestamp, ToSpan};
use kube::Api;
use kube::api::{Patch, PatchParams};
use quotakeeper_api::names::{PAUSED_UNTIL, RESUMED_AT};
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_operator::conditions::reasons;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::cluster::{BadInput, Cluster, is_unknown};
use crate::output::{print, say};

/// How long the status has to follow: the operator writes at most every ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);

/// Holds all calls of a quota for so long.
pub(super) async fn pause(cluster: &Cluster, name: &str, length: Duration) -> anyhow::Result<ExitCode> {
    if length > LONGEST {
        return Err(BadInput(
            "a pause lasts 31 days at most; set enforcement.mode or delete the quota".to_owned(),
        )
        .into());
    }
    let now = Timestamp::now();
    let until = now.checked_add(length).context("the end of the pause is no time")?;
    // Whole seconds, never shorter than asked for.
    let until = until.checked_add(1.second())?.round(jiff::Unit::Second)?;
    annotate(cluster, name, json!({PAUSED_UNTIL: until.to_string()})).await?;
    let followed = followed(cluster, name, true).await?;
    let full = format!("{}/{name}", cluster.one_namespace()?);
    match followed {
        true => Ok(print(&format!(
            "{full} is paused until {until}; calls wait, and kubectl apiquota resume {name} ends it\n"
        ))),
        false => {
            say(&format!(
                "{full} is to be paused until {until}, and its status does not say so within {} s: another pause may last \
                 longer, or operator or limiter are away; kubectl apiquota check says",
                PATIENCE.as_secs()
            ));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Ends the pauses of a quota, of a person or of the provider.
pub(super) async fn resume(cluster: &Cluster, name: &str) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    annotate(cluster, name, json!({PAUSED_UNTIL: Value::Null, RESUMED_AT: now.to_string()})).await?;
    let full = format!("{}/{name}", cluster.one_namespace()?);
    match followed(cluster, name, false).await? {
        true => Ok(print(&format!("{full} goes on\n"))),
        false => {
            say(&format!(
                "{full} is to go on, and its status does not say so within {} s: the provider may have said no again, or \
                 operator or limiter are away; kubectl apiquota status {name} says",
                PATIENCE.as_secs()
            ));
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn annotate(cluster: &Cluster, name: &str, annotations: Value) -> anyhow::Result<()> {
    let namespace = cluster.one_namespace()?;
    let api: Api<ApiQuota> = Api::namespaced(cluster.client.clone(), namespace);
    let patch = json!({"metadata": {"annotations": annotations}});
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(error) if is_unknown(&error) => Err(BadInput(format!(
            "namespace {namespace} has no ApiQuota {name}; kubectl get apiquotas -A lists all"
        ))
        .into()),
        Err(error) => Err(error).context(format!("the ApiQuota {namespace}/{name} can't be changed")),
    }
}

/// Waits until the status says that a person has paused, or that nothing is.
async fn followed(cluster: &Cluster, name: &str, paused: bool) -> anyhow::Result<bool> {
    let api: Api<ApiQuota> = Api::namespaced(cluster.client.clone(), cluster.one_namespace()?);
    let until = Instant::now() + PATIENCE;
    loop {
        let quota = api.get(name).await.context("the ApiQuota can't be read")?;
        let status = quota.status.unwrap_or_default();
        let by_hand = status.conditions.iter().any(|it| it.reason == reasons::PAUSED_BY_HAND);
        let follows = if paused { by_hand } else { !by_hand && status.paused_until.is_none() };
        if follows || Instant::now() >= until {
            return Ok(follows);
        }
        sleep(AGAIN).await;
    }
}
