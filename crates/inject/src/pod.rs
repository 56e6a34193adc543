//! Reading a pod as raw JSON: fields that this version does not know stay what they are.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// Its metadata, typed, for reading only. The API server has checked the types; a pod that it has not sent
/// has no metadata here.
pub(crate) fn metadata(pod: &Value) -> ObjectMeta {
    serde_json::from_value(pod["metadata"].clone()).unwrap_or_default()
}

/// A label's value.
pub(crate) fn label<'p>(pod: &'p Value, name: &str) -> Option<&'p str> {
    pod["metadata"]["labels"][name].as_str()
}

/// An annotation's value.
pub(crate) fn annotation<'p>(pod: &'p Value, name: &str) -> Option<&'p str> {
    pod["metadata"]["annotations"][name].as_str()
}

/// The items of a list that may be absent.
pub(crate) fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The item of a list whose field `name` says `name`.
pub(crate) fn named<'v>(list: &'v Value, name: &str) -> Option<&'v Value> {
    items(list).iter().find(|item| item["name"] == name)
}

/// A container's name.
pub(crate) fn name(container: &Value) -> &str {
    container["name"].as_str().unwrap_or_default()
}

/// The lists in a pod's spec that hold containers.
pub(crate) const LISTS: [&str; 2] = ["initContainers", "containers"];

/// All containers, with the list that they stand in and their place there.
pub(crate) fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    LISTS.into_iter().flat_map(|list| {
        items(&pod["spec"][list]).iter().enumerate().map(move |(index, container)| (list, index, container))
    })
}

/// Labels of nodes that name their operating system; the second one is the first one's old name.
const OS_LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

/// Whether a pod's spec leads it to nodes with Windows and to no others.
pub(crate) fn only_on_windows(spec: &Value) -> bool {
    let selected = OS_LABELS.iter().any(|label| spec["nodeSelector"][label] == "windows");
    let required = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    // One of the terms has to hold, and of a term all of its expressions.
    let terms = items(&required["nodeSelectorTerms"]);
    let excludes_linux = |expression: &Value| {
        let linux = items(&expression["values"]).iter().any(|value| value == "linux");
        let named = OS_LABELS.iter().any(|label| expression["key"] == *label);
        let (operator, windows) =
            (&expression["operator"], items(&expression["values"]).contains(&"windows".into()));
        named && ((operator == "In" && windows && !linux) || (operator == "NotIn" && linux))
    };
    let affine = |term: &Value| items(&term["matchExpressions"]).iter().any(excludes_linux);
    selected || (!terms.is_empty() && terms.iter().all(affine))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn affine(terms: &Value) -> bool {
        let required =
            json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
        only_on_windows(&json!({"affinity": {"nodeAffinity": required}}))
    }

    #[test]
    fn a_pod_that_only_windows_can_run_is_told_from_others() {
        assert!(only_on_windows(&json!({"nodeSelector": {"kubernetes.io/os": "windows"}})));
        assert!(only_on_windows(&json!({"nodeSelector": {"beta.kubernetes.io/os": "windows"}})));
        assert!(!only_on_windows(&json!({"nodeSelector": {"kubernetes.io/os": "linux", "pool": "windows"}})));
        assert!(!only_on_windows(&json!({})));
        let os = |operator: &str, values: Value| {
            json!({"matchExpressions": [
                {"key": "zone", "operator": "Exists"},
                {"key": "kubernetes.io/os", "operator": operator, "values": values},
            ]})
        };
        let windows = os("In", json!(["windows"]));
        assert!(affine(&json!([windows])));
        assert!(affine(&json!([windows, os("NotIn", json!(["linux"]))])));
        assert!(!affine(&json!([windows, os("In", json!(["linux"]))])), "one of the terms has to hold");
        assert!(!affine(&json!([os("In", json!(["windows", "linux"]))])));
        assert!(!affine(
            &json!([{"matchExpressions": [{"key": "pool", "operator": "In", "values": ["windows"]}]}])
        ));
        assert!(!affine(&json!([])));
    }
}
