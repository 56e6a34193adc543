//! The quotas as one namespace sees them, and whom a quota admits.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use quotakeeper_api::quota::{ApiQuota, NamespacesFrom};
use quotakeeper_dialects::Profile;

/// The namespace of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What a decision may look at beside the pod.
pub trait View {
    /// All quotas of the cluster, in any order.
    fn quotas(&self) -> Vec<Arc<ApiQuota>>;

    /// The profile of the provider of that name, with all that it inherits.
    ///
    /// # Errors
    /// Why there is none, as a sentence with the remedy.
    fn profile(&self, provider: &str) -> Result<Profile, String>;
}

/// Whether pods of `namespace` may draw on `quota`.
pub fn admits(quota: &ApiQuota, namespace: &Namespace) -> bool {
    let own = quota.namespace().is_some_and(|own| own == namespace.name);
    let Some(chosen) = quota.spec.consumers.as_ref().and_then(|consumers| consumers.namespaces.as_ref())
    else {
        return own;
    };
    match chosen.from {
        NamespacesFrom::Same => own,
        NamespacesFrom::All => true,
        NamespacesFrom::Selector => {
            let selector = chosen.selector.clone().map(Selector::try_from);
            selector.is_some_and(|selector| selector.is_ok_and(|it| it.matches(&namespace.labels)))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn quota(consumers: Value) -> ApiQuota {
        let spec = json!({"provider": {"name": "openai"}, "consumers": consumers});
        let metadata = json!({"name": "openai", "namespace": "platform"});
        serde_json::from_value(json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota", "metadata": metadata, "spec": spec,
        }))
        .unwrap()
    }

    fn namespace(name: &str, labels: &[(&str, &str)]) -> Namespace {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Namespace { name: name.to_owned(), labels }
    }

    #[test]
    fn a_quota_admits_its_own_namespace_unless_it_says_otherwise() {
        for consumers in [Value::Null, json!({}), json!({"namespaces": {"from": "Same"}})] {
            let quota = quota(consumers);
            assert!(admits(&quota, &namespace("platform", &[])));
            assert!(!admits(&quota, &namespace("gtm", &[])));
        }
        assert!(admits(&quota(json!({"namespaces": {"from": "All"}})), &namespace("gtm", &[])));
    }

    #[test]
    fn a_selector_admits_what_it_matches_and_not_the_quotas_own_namespace_besides() {
        let selector =
            json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["gtm", "ops"]}]});
        let quota = quota(json!({"namespaces": {"from": "Selector", "selector": selector}}));
        assert!(admits(&quota, &namespace("gtm", &[("team", "gtm")])));
        assert!(!admits(&quota, &namespace("gtm", &[("team", "sales")])));
        assert!(!admits(&quota, &namespace("platform", &[])));
    }
}
