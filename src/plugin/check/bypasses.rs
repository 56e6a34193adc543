//! Pods that go around their quotas, as far as their specs show it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use quotakeeper_api::names::{INJECT, QUOTAS};
use quotakeeper_api::provider::ApiProvider;

use super::Finding;
use crate::plugin::pods::{ended, injected, why_not_injected, workload_of};

/// How the names of variables end that hold a provider's credential.
const KEYS: [&str; 5] = ["_API_KEY", "_ACCESS_TOKEN", "_API_TOKEN", "_AUTH_TOKEN", "_PRIVATE_APP_TOKEN"];
const ABOUT: &str = "pods go through their proxies";

/// What there is to say of pods; of a workload once.
pub(super) fn of(pods: &[Pod], providers: &[ApiProvider]) -> Vec<Finding> {
    let known = variables(providers);
    let mut found: BTreeMap<String, Finding> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !ended(pod)) {
        let name = workload_of(&pod.metadata)
            .unwrap_or_else(|| format!("{}/Pod/{}", pod.namespace().unwrap_or_default(), pod.name_any()));
        let Some(status) = injected(pod) else {
            let asks = pod.annotations().contains_key(QUOTAS)
                || pod.labels().get(INJECT).is_some_and(|label| label == "enabled");
            if asks {
                let message = format!("{name} {}", why_not_injected(pod));
                found.insert(name, Finding::not_well(ABOUT, message));
            } else if let Some((variable, provider)) = key_of(pod, &known) {
                let message = format!(
                    "{name} has the variable {variable}, and no proxy: it may call {provider} without limits; give its \
                     pods' template the annotation {QUOTAS}: NAMESPACE/NAME"
                );
                found.entry(name).or_insert_with(|| Finding::warning(ABOUT, message));
            }
            continue;
        };
        for skip in &status.skipped {
            let message = format!(
                "{name}: calls of container {} bypass the quota {}: {}",
                skip.container, skip.quota, skip.reason
            );
            found.entry(name.clone()).or_insert_with(|| Finding::warning(ABOUT, message));
        }
    }
    if found.is_empty() {
        return vec![Finding::well(ABOUT)];
    }
    found.into_values().collect()
}

/// The variables by which clients of the providers usually get a credential, with the provider: `OPENAI_API_KEY` of a
/// provider with the variable `OPENAI_BASE_URL`, and `HUBSPOT_ACCESS_TOKEN` of the provider `hubspot`.
fn variables(providers: &[ApiProvider]) -> BTreeMap<String, String> {
    let mut known = BTreeMap::new();
    for provider in providers {
        let name = provider.name_any();
        let mut stems = BTreeSet::from([name.to_ascii_uppercase().replace('-', "_")]);
        let base = provider.spec.profile.base_url.iter().flat_map(|base| &base.variables);
        stems.extend(base.filter_map(|variable| Some(variable.name.strip_suffix("_BASE_URL")?.to_owned())));
        for stem in stems {
            for key in KEYS {
                known.entry(format!("{stem}{key}")).or_insert_with(|| name.clone());
            }
        }
    }
    known
}

fn key_of<'a>(pod: &Pod, known: &'a BTreeMap<String, String>) -> Option<(&'a str, &'a str)> {
    let spec = pod.spec.as_ref()?;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers
        .flat_map(|container| container.env.iter().flatten())
        .find_map(|entry| known.get_key_value(&entry.name))
        .map(|(variable, provider)| (variable.as_str(), provider.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::State;
    use super::*;

    fn pod(name: &str, annotations: serde_json::Value, env: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "gtm", "annotations": annotations},
            "spec": {"containers": [{"name": "app", "env": env}]},
            "status": {"phase": "Running"},
        }))
        .unwrap()
    }

    #[test]
    fn pods_with_keys_and_without_proxy_are_told() {
        let provider: ApiProvider = serde_json::from_value(json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiProvider", "metadata": {"name": "hubspot"}, "spec": {},
        }))
        .unwrap();
        let pods = [
            pod("asks", json!({"quotakeeper.dev/quotas": "gtm/hubspot"}), json!([])),
            pod("calls", json!({}), json!([{"name": "HUBSPOT_ACCESS_TOKEN", "value": "x"}])),
            pod("other", json!({}), json!([{"name": "LOG", "value": "x"}])),
        ];
        let found = of(&pods, &[provider]);
        let states: Vec<State> = found.iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::NotWell, State::Warning], "{found:?}");
        assert!(
            found[1].message.contains("gtm/Pod/calls has the variable HUBSPOT_ACCESS_TOKEN"),
            "{found:?}"
        );
        assert!(!format!("{found:?}").contains("\"x\""), "no value of a variable");
        assert_eq!(of(&pods[2..], &[]), [Finding::well(ABOUT)]);
    }
}
