//! Before an installation: whether a cluster can have one, and whether this user may install it.

use anyhow::Context;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;

use super::Finding;
use crate::plugin::cluster::Cluster;

/// The oldest Kubernetes with native sidecars that are stable (KEP-753).
const OLDEST: u32 = 33;

/// What an installation creates, by group and resource.
const CREATED: [(&str, &str); 6] = [
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("apps", "deployments"),
];

pub(super) async fn look(cluster: &Cluster) -> anyhow::Result<Vec<Finding>> {
    let version = cluster.client.apiserver_version().await.context("the API server does not answer")?;
    let minor = minor(&version.minor);
    let about = "Kubernetes is new enough";
    let mut findings = vec![match minor {
        Some(minor) if version.major == "1" && minor < OLDEST => {
            let message = format!(
                "it is {}; the proxy is a native sidecar, which needs 1.{OLDEST}",
                version.git_version
            );
            Finding::not_well(about, message)
        }
        _ => Finding::well(about),
    }];
    let mut refused = Vec::new();
    for (group, resource) in CREATED {
        if !may_create(cluster, group, resource).await? {
            let of_group = if group.is_empty() { String::new() } else { format!(".{group}") };
            refused.push(format!(
                "you may not create {resource}{of_group}; ask whoever administers the cluster"
            ));
        }
    }
    findings.extend(Finding::of("you may install it", refused));
    Ok(findings)
}

/// The minor version: providers append to it, as in `33+`.
fn minor(text: &str) -> Option<u32> {
    text.trim_end_matches(|character: char| !character.is_ascii_digit()).parse().ok()
}

async fn may_create(cluster: &Cluster, group: &str, resource: &str) -> anyhow::Result<bool> {
    let namespaced = (resource == "deployments").then(|| cluster.installation.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                verb: Some("create".to_owned()),
                namespace: namespaced,
                ..Default::default()
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let answer = api.create(&PostParams::default(), &review).await.context("rights can't be asked for")?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_providers_are_read() {
        assert_eq!([minor("33"), minor("33+"), minor("")], [Some(33), Some(33), None]);
    }
}
