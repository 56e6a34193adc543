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
