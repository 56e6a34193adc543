//! Checks whether an installation works: its programs are ready, and a quota comes into force. `helm test` runs it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use quotakeeper_api::names::{API_VERSION, LIMITER, OPERATOR};
use quotakeeper_api::quota::ApiQuota;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::FIELD_MANAGER;
use crate::conditions::{TRUE, find, types};

/// Between two looks.
const AGAIN: Duration = Duration::from_secs(1);
/// The Deployments; the limiter's has the name of its Service.
const DEPLOYMENTS: [&str; 2] = [OPERATOR, LIMITER];

/// As [`missing`], with a quota of that name that is made for it and deleted afterwards. Nobody draws on it.
pub async fn missing_with_own_quota(
    client: &Client,
    namespace: &str,
    name: &str,
    patience: Duration,
) -> Vec<String> {
    let quotas: Api<ApiQuota> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "apiVersion": API_VERSION,
        "kind": "ApiQuota",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"provider": {"name": "demo"}},
    });
    let applied = quotas.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await;
    if let Err(error) = applied {
        return vec![format!("the ApiQuota {name} can't be made: {error}; are the CRDs installed?")];
    }
    let mut missing = missing(client, namespace, Some(name), patience).await;
    if let Err(error) = quotas.delete(name, &DeleteParams::default()).await {
        missing.push(format!("the ApiQuota {name} can't be deleted: {error}; delete it yourself"));
    }
    missing
}

/// Waits until nothing is missing, at most for `patience`; returns what was missing last, as
/// sentences. `quota` is the name of a quota in `namespace`.
pub async fn missing(
    client: &Client,
    namespace: &str,
    quota: Option<&str>,
    patience: Duration,
) -> Vec<String> {
    let until = Instant::now() + patience;
    loop {
        // What does not answer is missing too.
        let looked = timeout(patience.max(AGAIN), look(client, namespace, quota)).await;
        let missing = looked.unwrap_or_else(|_| vec!["the API server does not answer".to_owned()]);
        if missing.is_empty() || Instant::now() + AGAIN > until {
            return missing;
        }
        sleep(AGAIN).await;
    }
}

async fn look(client: &Client, namespace: &str, quota: Option<&str>) -> Vec<String> {
    let mut missing = Vec::new();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    for name in DEPLOYMENTS {
        match deployments.get(name).await {
            Ok(deployment) => missing.extend(of_deployment(&deployment)),
            Err(error) => missing.push(format!("the Deployment {name} can't be read: {error}")),
        }
    }
    if let Some(name) = quota {
        let quotas: Api<ApiQuota> = Api::namespaced(client.clone(), namespace);
        match quotas.get(name).await {
            Ok(quota) => missing.extend(of_quota(&quota)),
            Err(error) => missing.push(format!("the ApiQuota {name} can't be read: {error}")),
        }
    }
    missing
}

/// A pod is available once its `/readyz` says so.
fn of_deployment(deployment: &Deployment) -> Option<String> {
    let name = deployment.name_any();
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Some(format!("the Deployment {name} has just been changed"));
    }
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let (updated, available) = (status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    let ready = updated.min(available);
    (ready < wanted).then(|| {
        format!(
            "{ready} of {wanted} pods of the Deployment {name} are ready; kubectl describe tells what the others lack"
        )
    })
}

/// A quota is in force when the limiter has applied this generation.
fn of_quota(quota: &ApiQuota) -> Option<String> {
    let name = quota.name_any();
    let conditions = quota.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let Some(programmed) = find(conditions, types::PROGRAMMED) else {
        return Some(format!("the operator has not looked at the ApiQuota {name} yet"));
    };
    if programmed.observed_generation < quota.metadata.generation {
        return Some(format!("the operator has not looked at the ApiQuota {name} since it was changed"));
    }
    let message = &programmed.message;
    (programmed.status != TRUE).then(|| format!("the ApiQuota {name} is not in force: {message}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn deployment(generation: i64, updated: i32, available: i32) -> Option<String> {
        let object = json!({
            "metadata": {"name": "quotakeeper-operator", "generation": 2},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {
                "observedGeneration": generation,
                "updatedReplicas": updated,
                "availableReplicas": available,
            },
        });
        of_deployment(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn all_replicas_of_this_generation_have_to_be_ready() {
        assert_eq!(deployment(2, 2, 2), None);
        assert!(deployment(1, 2, 2).unwrap().contains("just been changed"));
        assert!(deployment(2, 2, 1).unwrap().starts_with("1 of 2 pods of the Deployment"));
        assert!(deployment(2, 0, 2).unwrap().starts_with("0 of 2 pods"), "the old ones still serve");
    }

    fn quota(conditions: Value) -> Option<String> {
        let object = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1",
            "kind": "ApiQuota",
            "metadata": {"name": "probe", "generation": 2},
            "spec": {"provider": {"name": "demo"}},
            "status": {"conditions": conditions},
        });
        of_quota(&serde_json::from_value(object).unwrap())
    }

    fn programmed(status: &str, generation: i64) -> Value {
        json!([{
            "type": "Programmed",
            "status": status,
            "observedGeneration": generation,
            "lastTransitionTime": "2026-11-03T14:03:10Z",
            "reason": "Some",
            "message": "The limiter has not applied it yet.",
        }])
    }

    #[test]
    fn the_limiter_has_to_have_applied_this_generation() {
        assert_eq!(quota(programmed("True", 2)), None);
        assert!(quota(json!([])).unwrap().contains("has not looked at"));
        assert!(quota(programmed("True", 1)).unwrap().contains("since it was changed"));
        let problem = quota(programmed("False", 2)).unwrap();
        assert!(problem.ends_with("is not in force: The limiter has not applied it yet."));
        assert!(quota(programmed("Unknown", 2)).is_some());
    }
}
