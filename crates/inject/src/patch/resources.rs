//! The resources of the proxy's container: the installation's defaults, the pod's QoS class, what the namespace's
//! policies demand, and the pod's annotation.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::names::PROXY;
use crate::pod;
use crate::policies::Policies;
use crate::quantity;
use crate::settings::ProxyResources;
use quotakeeper_api::names::RESOURCES;

/// The resources that decide a pod's QoS class.
const COUNTED: [&str; 2] = ["cpu", "memory"];
/// With less memory the proxy would be killed.
const LEAST_MEMORY: &str = "48Mi";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    requests: BTreeMap<String, Value>,
    #[serde(default)]
    limits: BTreeMap<String, Value>,
}

/// Why the pod's annotation can't be followed.
#[derive(Debug, Error)]
pub(crate) enum ResourcesError {
    #[error(
        "the annotation {RESOURCES} can't be read: {0}; write JSON such as \
         {{\"requests\": {{\"cpu\": \"50m\"}}, \"limits\": {{\"memory\": \"512Mi\"}}}}"
    )]
    Unreadable(#[from] serde_json::Error),
    #[error("the annotation {RESOURCES} says {value} for {resource}; write a quantity such as \"256Mi\"")]
    NoQuantity { resource: String, value: Value },
    #[error(
        "the proxy needs {LEAST_MEMORY} of memory, and a LimitRange of the namespace allows a container {0}; raise its \
         max, or leave the pod without a proxy"
    )]
    TooLittleMemory(String),
}

/// The `resources` of the proxy's container in this pod, in a namespace with these policies.
///
/// # Errors
/// [`ResourcesError`].
pub(crate) fn of(
    pod: &Value,
    installation: &ProxyResources,
    policies: &Policies,
) -> Result<Value, ResourcesError> {
    let ProxyResources { cpu, cpu_limit, memory, memory_limit, guaranteed_cpu } = installation;
    let mut resources = match guaranteed(pod) {
        true => {
            let all = json!({"cpu": guaranteed_cpu, "memory": memory_limit});
            json!({"requests": all, "limits": all})
        }
        false => json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory_limit}}),
    };
    if resources["limits"]["cpu"].is_null() {
        let demanded = policies.demand_a_cpu_limit().then_some(guaranteed_cpu);
        if let Some(limit) = cpu_limit.as_ref().or(demanded) {
            resources["limits"]["cpu"] = json!(limit);
        }
    }
    for name in COUNTED {
        let amount = |kind: &str| resources[kind][name].as_str().map(str::to_owned);
        let (request, limit) = policies.fit(name, amount("requests"), amount("limits"));
        for (kind, amount) in [("requests", request), ("limits", limit)] {
            if let Some(amount) = amount {
                resources[kind][name] = json!(amount);
            }
        }
    }
    for kind in ["requests", "limits"] {
        // Where the pod as a whole has an amount, it stands for the proxy too, and the sum must not exceed it.
        for name in COUNTED {
            let whole = &pod["spec"]["resources"];
            if whole["requests"][name].is_string() || whole["limits"][name].is_string() {
                remove(&mut resources, kind, name);
            }
        }
    }
    if let Some(annotation) = pod::annotation(pod, RESOURCES) {
        let Written { requests, limits } = serde_json::from_str(annotation)?;
        for (kind, written) in [("requests", requests), ("limits", limits)] {
            for (name, value) in written {
                let Some(quantity) = written_quantity(&value) else {
                    return Err(ResourcesError::NoQuantity { resource: name, value });
                };
                resources[kind][name] = json!(quantity);
            }
        }
    }
    if let Some(memory) = resources["limits"]["memory"].as_str()
        && quantity::is_more(LEAST_MEMORY, memory)
        && policies.bounds.iter().any(|bounds| bounds.max.get("memory").is_some_and(|max| max == memory))
    {
        return Err(ResourcesError::TooLittleMemory(memory.to_owned()));
    }
    if let Some(kinds) = resources.as_object_mut() {
        kinds.retain(|_, amounts| amounts.as_object().is_some_and(|amounts| !amounts.is_empty()));
    }
    Ok(resources)
}

fn remove(resources: &mut Value, kind: &str, name: &str) {
    if let Some(amounts) = resources.get_mut(kind).and_then(Value::as_object_mut) {
        amounts.remove(name);
    }
}

fn written_quantity(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    quantity::read(&text).is_some().then_some(text)
}

/// Whether each container of the pod has limits of CPU and memory, and requests as much. The API server has filled in
/// requests that were left out, and writes equal quantities alike.
fn guaranteed(pod: &Value) -> bool {
    let equal = |container: &Value| {
        let resources = &container["resources"];
        let amounts = |kind: &str| resources[kind].as_object().cloned().unwrap_or_default();
        let (requests, limits): (Map<_, _>, Map<_, _>) = (amounts("requests"), amounts("limits"));
        COUNTED.iter().all(|name| {
            let limit = limits.get(*name);
            limit.is_some() && requests.get(*name).is_none_or(|request| Some(request) == limit)
        })
    };
    let mut own = pod::containers(pod).filter(|(_, _, container)| pod::name(container) != PROXY).peekable();
    own.peek().is_some() && own.all(|(_, _, container)| equal(container))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policies::bounds;

    fn pod(resources: Value) -> Value {
        json!({"metadata": {}, "spec": {"containers": [{"name": "app", "resources": resources}]}})
    }

    fn proxy(pod: &Value) -> Value {
        of(pod, &ProxyResources::default(), &Policies::default()).unwrap()
    }

    fn range(kind: &str, amounts: Value) -> Policies {
        let range = json!({"metadata": {}, "spec": {"limits": [{"type": "Container", (kind): amounts}]}});
        Policies { bounds: bounds(&serde_json::from_value(range).unwrap()), counts_cpu_limits: false }
    }

    #[test]
    fn a_namespace_gets_the_limits_that_it_demands() {
        let own = pod(json!({}));
        let with = |policies: &Policies| of(&own, &ProxyResources::default(), policies);
        let counting = Policies { counts_cpu_limits: true, ..Policies::default() };
        for policies in
            [counting, range("default", json!({"cpu": "100m"})), range("max", json!({"cpu": "2"}))]
        {
            let given = with(&policies).unwrap();
            assert_eq!(given["limits"], json!({"cpu": "200m", "memory": "384Mi"}), "{policies:?}");
            assert_eq!(given["requests"], json!({"cpu": "20m", "memory": "64Mi"}));
        }
        let small = with(&range("max", json!({"cpu": "10m", "memory": "256Mi"}))).unwrap();
        assert_eq!(small["limits"], json!({"cpu": "10m", "memory": "256Mi"}));
        assert_eq!(small["requests"], json!({"cpu": "10m", "memory": "64Mi"}));
        let large = with(&range("min", json!({"cpu": "100m", "memory": "512Mi"}))).unwrap();
        assert_eq!(large["requests"], json!({"cpu": "100m", "memory": "512Mi"}));
        assert_eq!(large["limits"], json!({"memory": "512Mi"}));
        let refused = with(&range("max", json!({"memory": "32Mi"}))).unwrap_err().to_string();
        assert!(refused.contains("allows a container 32Mi; raise its max"), "{refused}");
        let limited = ProxyResources { cpu_limit: Some("1".to_owned()), ..ProxyResources::default() };
        assert_eq!(of(&own, &limited, &Policies::default()).unwrap()["limits"]["cpu"], "1");
    }

    #[test]
    fn a_guaranteed_pod_stays_one_within_bounds() {
        let limits = json!({"cpu": "1", "memory": "1Gi"});
        let policies = range("max", json!({"cpu": "150m", "memory": "256Mi"}));
        let given = of(&pod(json!({"limits": limits})), &ProxyResources::default(), &policies).unwrap();
        assert_eq!(given["limits"], json!({"cpu": "150m", "memory": "256Mi"}));
        assert_eq!(given["requests"], given["limits"]);
    }

    #[test]
    fn a_guaranteed_pod_stays_one_and_others_have_no_cpu_limit() {
        let limits = json!({"cpu": "1", "memory": "1Gi"});
        for resources in [json!({"limits": limits}), json!({"limits": limits, "requests": limits})] {
            let given = proxy(&pod(resources));
            assert_eq!(given["requests"], given["limits"]);
            assert_eq!(given["limits"], json!({"cpu": "200m", "memory": "384Mi"}));
        }
        let less = json!({"limits": limits, "requests": {"cpu": "500m", "memory": "1Gi"}});
        for resources in [json!({}), less] {
            let given = proxy(&pod(resources));
            assert_eq!(given["requests"], json!({"cpu": "20m", "memory": "64Mi"}));
            assert_eq!(given["limits"], json!({"memory": "384Mi"}));
        }
    }

    #[test]
    fn an_amount_of_the_whole_pod_stands_for_the_proxy_too() {
        let mut pod = pod(json!({}));
        pod["spec"]["resources"] = json!({"limits": {"memory": "1Gi"}});
        assert_eq!(proxy(&pod), json!({"requests": {"cpu": "20m"}}));
        pod["spec"]["resources"] = json!({"limits": {"memory": "1Gi", "cpu": "1"}});
        assert_eq!(proxy(&pod), json!({}));
    }

    #[test]
    fn the_annotation_comes_before_the_installation() {
        let mut pod = pod(json!({}));
        let annotate =
            |pod: &mut Value, text: &str| pod["metadata"]["annotations"] = json!({(RESOURCES): text});
        annotate(
            &mut pod,
            r#"{"requests": {"cpu": "0.1"}, "limits": {"cpu": 1, "ephemeral-storage": "1Gi"}}"#,
        );
        let expected = json!({
            "requests": {"cpu": "0.1", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "384Mi", "ephemeral-storage": "1Gi"},
        });
        assert_eq!(proxy(&pod), expected);
        for (wrong, said) in [
            ("cpu: 1", "can't be read"),
            (r#"{"request": {}}"#, "unknown field `request`"),
            (r#"{"limits": {"cpu": "lots"}}"#, "says \"lots\" for cpu; write a quantity"),
            (r#"{"limits": {"memory": "1GB"}}"#, "says \"1GB\" for memory"),
        ] {
            annotate(&mut pod, wrong);
            let refused = of(&pod, &ProxyResources::default(), &Policies::default()).unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
