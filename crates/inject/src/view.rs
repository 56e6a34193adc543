//! What admission reads of the cluster, and which namespaces a quota admits.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use quotakeeper_api::names::QUOTAS_FROM;
use quotakeeper_api::quota::{ApiQuota, NamespacesFrom};
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::profile::Problem;
use quotakeeper_wire::name::QuotaName;

use crate::policies::Policies;

/// The namespace of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What admission reads of the cluster. The operator implements it by the caches that it has anyway, so
/// that a process watches every kind of object once.
pub trait View: Send + Sync {
    /// Whether everything has been read once. Before that, reviews are refused.
    fn is_synced(&self) -> bool;

    /// The namespace of that name; none: it has not been seen yet.
    fn namespace(&self, name: &str) -> Option<Namespace>;

    /// What the LimitRanges and ResourceQuotas of a namespace demand; nothing where they are not known.
    fn policies(&self, namespace: &str) -> Policies;

    /// All quotas of the cluster, in any order.
    fn quotas(&self) -> Vec<Arc<ApiQuota>>;

    /// The profile of a provider as it is written: that of the cluster, else the built-in one.
    fn provider(&self, name: &str) -> Option<Profile>;

    /// Why calls on a quota won't go for now and what to do, as a sentence; none: nothing is known to keep them.
    fn holdup(&self, _quota: &QuotaName) -> Option<String> {
        None
    }
}

/// Why a quota's provider can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// There is none of that name.
    #[error("the ApiProvider {0} does not exist; create it, or name another in the quota")]
    Missing(String),
    /// It extends one that can't be used.
    #[error("the ApiProvider {provider} is wrong: {problem}")]
    Invalid {
        /// Its name.
        provider: String,
        /// What is wrong with it, with the remedy.
        problem: String,
    },
}

/// The profile of a provider, with all that it inherits.
///
/// # Errors
/// [`ProviderError`].
pub fn profile(view: &dyn View, provider: &str) -> Result<Profile, ProviderError> {
    let found = view.provider(provider).ok_or_else(|| ProviderError::Missing(provider.to_owned()))?;
    let invalid = |problem: String| ProviderError::Invalid { provider: provider.to_owned(), problem };
    let profile = found.resolve(|name| view.provider(name)).map_err(|error| invalid(error.to_string()))?;
    // What else is wrong with it is no reason to refuse a pod: the operator keeps its last good configuration.
    let leads_calls = |problem: &&Problem| problem.field == "baseUrl.upstream";
    match profile
        .validate()
        .err()
        .and_then(|problems| problems.iter().find(leads_calls).map(Problem::to_string))
    {
        Some(problem) => Err(invalid(problem)),
        None => Ok(profile),
    }
}

/// Whether a pod of `namespace` that does not write out a quota's namespace means quotas of `place`: its own, and those
/// that the platform's label on its namespace names.
pub fn consents_to(place: &str, namespace: &Namespace) -> bool {
    let named = namespace.labels.get(QUOTAS_FROM).map_or("", String::as_str);
    place == namespace.name || named.split('.').any(|named| named == place)
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

    /// One provider, whose calls go to this origin.
    struct LedTo(&'static str);

    impl View for LedTo {
        fn is_synced(&self) -> bool {
            true
        }

        fn namespace(&self, _: &str) -> Option<Namespace> {
            None
        }

        fn policies(&self, _: &str) -> Policies {
            Policies::default()
        }

        fn quotas(&self) -> Vec<Arc<ApiQuota>> {
            Vec::new()
        }

        fn provider(&self, _: &str) -> Option<Profile> {
            let base_url = json!({"upstream": self.0, "variables": [{"name": "BASE"}]});
            // What is wrong with the tier is the operator's to say.
            let tiers = json!([{"name": "t", "limits": [{"name": "l", "unit": "Requests", "amount": 0, "window": "1s"}]}]);
            let profile = json!({"hosts": ["api.example.com"], "baseUrl": base_url, "tiers": tiers});
            Some(serde_json::from_value(profile).unwrap())
        }
    }

    #[test]
    fn no_pod_is_led_over_other_networks_without_tls() {
        assert!(profile(&LedTo("https://api.example.com"), "demo").is_ok());
        assert!(profile(&LedTo("http://proxy.gtm.svc:8080"), "demo").is_ok());
        let refused = profile(&LedTo("http://api.example.com"), "demo").unwrap_err();
        assert!(refused.to_string().contains("baseUrl.upstream"), "{refused}");
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
