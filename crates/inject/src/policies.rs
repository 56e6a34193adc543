//! What the policies of a namespace demand of a container: its LimitRanges' bounds, and whether it needs a CPU limit.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

/// The kind of a LimitRange's item that bounds containers.
const CONTAINER: &str = "Container";
/// The scope of a ResourceQuota for pods without requests and limits, which a pod with a proxy never is.
const BEST_EFFORT: &str = "BestEffort";
const CPU: &str = "cpu";

/// Amounts by resource, such as `memory`.
pub type Amounts = BTreeMap<String, String>;

/// The bounds that one item of a LimitRange sets for containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The least that may be requested.
    pub min: Amounts,
    /// The most that a limit may be. A container without a limit is refused.
    pub max: Amounts,
    /// How many times the request a limit may be.
    pub ratio: Amounts,
    /// The limit of containers without one.
    pub default: Amounts,
}

/// The policies of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// The bounds of all LimitRanges.
    pub bounds: Vec<Bounds>,
    /// A ResourceQuota counts CPU limits, and so refuses a container without one.
    pub counts_cpu_limits: bool,
}

impl Policies {
    /// Whether a container without a CPU limit is refused, or gets a limit that was not made for it.
    pub(crate) fn demand_a_cpu_limit(&self) -> bool {
        let bounded = |bounds: &Bounds| bounds.max.contains_key(CPU) || bounds.default.contains_key(CPU);
        self.counts_cpu_limits || self.bounds.iter().any(bounded)
    }

    /// The request and the limit that are nearest to these and within all bounds. None: there is no such amount.
    pub(crate) fn fit(
        &self,
        resource: &str,
        request: Option<String>,
        limit: Option<String>,
    ) -> (Option<String>, Option<String>) {
        let (mut request, mut limit) = (request, limit);
        for bounds in &self.bounds {
            let (min, max) = (bounds.min.get(resource), bounds.max.get(resource));
            request = request.map(|amount| quantity::between(amount, min, max));
            limit = limit.map(|amount| quantity::between(amount, min, max));
            if let (Some(requested), Some(most), Some(ratio)) = (&request, &limit, bounds.ratio.get(resource))
                && quantity::exceeds_ratio(most, requested, ratio)
            {
                request = limit.clone();
            }
        }
        if let (Some(requested), Some(most)) = (&request, &limit)
            && quantity::is_more(requested, most)
        {
            request = limit.clone();
        }
        (request, limit)
    }
}

/// The bounds that a LimitRange sets for containers.
pub fn bounds(range: &LimitRange) -> Vec<Bounds> {
    let items = range.spec.iter().flat_map(|spec| &spec.limits).filter(|item| item.type_ == CONTAINER);
    let bounds = items.map(|item| Bounds {
        min: amounts(item.min.as_ref()),
        max: amounts(item.max.as_ref()),
        ratio: amounts(item.max_limit_request_ratio.as_ref()),
        default: amounts(item.default.as_ref()),
    });
    bounds.collect()
}

/// Whether a ResourceQuota counts CPU limits of pods that have requests.
pub fn counts_cpu_limits(quota: &ResourceQuota) -> bool {
    let Some(spec) = &quota.spec else { return false };
    let best_effort = spec.scopes.iter().flatten().any(|scope| scope == BEST_EFFORT);
    !best_effort && spec.hard.iter().flatten().any(|(name, _)| name == "limits.cpu")
}

fn amounts(amounts: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    amounts.into_iter().flatten().map(|(name, amount)| (name.clone(), amount.0.clone())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_concerns_a_container_with_requests_is_read() {
        let range = json!({"metadata": {}, "spec": {"limits": [
            {"type": "Pod", "max": {"cpu": "1"}},
            {"type": "Container", "max": {"memory": "256Mi"}, "default": {"cpu": "100m"}},
        ]}});
        let read = bounds(&serde_json::from_value(range).unwrap());
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].max["memory"], "256Mi");
        assert!(Policies { bounds: read, counts_cpu_limits: false }.demand_a_cpu_limit());
        assert!(!Policies::default().demand_a_cpu_limit());
        let counts =
            |spec| counts_cpu_limits(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap());
        assert!(counts(json!({"hard": {"limits.cpu": "10"}})));
        assert!(!counts(json!({"hard": {"requests.cpu": "10", "pods": "4"}})));
        assert!(!counts(json!({"hard": {"limits.cpu": "10"}, "scopes": ["BestEffort"]})));
        assert!(!counts_cpu_limits(&ResourceQuota::default()));
    }

    #[test]
    fn amounts_are_moved_into_all_bounds() {
        let bounds = |min: &str, max: &str, ratio: &str| {
            let one = |amount: &str| {
                let name = "memory".to_owned();
                (!amount.is_empty()).then(|| (name, amount.to_owned())).into_iter().collect()
            };
            Bounds { min: one(min), max: one(max), ratio: one(ratio), ..Bounds::default() }
        };
        let fit = |all: Vec<Bounds>| {
            let policies = Policies { bounds: all, counts_cpu_limits: false };
            let (request, limit) = policies.fit("memory", Some("64Mi".to_owned()), Some("384Mi".to_owned()));
            format!("{} {}", request.unwrap(), limit.unwrap())
        };
        assert_eq!(fit(Vec::new()), "64Mi 384Mi");
        assert_eq!(fit(vec![bounds("", "256Mi", "")]), "64Mi 256Mi");
        assert_eq!(fit(vec![bounds("", "268435456", ""), bounds("128Mi", "1Gi", "")]), "128Mi 268435456");
        assert_eq!(fit(vec![bounds("0.5Gi", "", "")]), "0.5Gi 0.5Gi");
        assert_eq!(fit(vec![bounds("", "", "2")]), "384Mi 384Mi");
        assert_eq!(fit(vec![bounds("", "", "6")]), "64Mi 384Mi");
        assert_eq!(Policies::default().fit("cpu", None, None), (None, None));
    }
}
