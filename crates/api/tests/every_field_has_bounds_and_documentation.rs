//! What `kubectl explain` shows is complete, and nothing that a person can write is unbounded: an
//! API server refuses rules over unbounded fields, and a huge object hurts everyone.

#![allow(clippy::unwrap_used)]

use quotakeeper_api::crds;
use serde_json::Value;

/// Calls `visit` with each schema node and its path.
fn walk(schema: &Value, path: &str, visit: &mut dyn FnMut(&Value, &str)) {
    visit(schema, path);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(field, &format!("{path}.{name}"), visit);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], &format!("{path}{{}}"), visit);
    }
}

fn faults(judge: impl Fn(&Value, &str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for crd in [crds::api_quota(), crds::api_provider()] {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        walk(&crds::schema(crd), &kind, &mut |node, path| {
            if judge(node, path) {
                faults.push(path.to_owned());
            }
        });
    }
    faults
}

#[test]
fn every_text_list_map_and_number_has_a_bound() {
    let unbounded = faults(|node, _| match node["type"].as_str() {
        Some("string") => node["enum"].is_null() && node["maxLength"].is_null(),
        Some("array") => node["maxItems"].is_null(),
        Some("object") => node["additionalProperties"].is_object() && node["maxProperties"].is_null(),
        Some("integer") => node["minimum"].is_null() || node["maximum"].is_null(),
        Some("boolean") => false,
        _ => node["x-kubernetes-int-or-string"].is_null() || node["pattern"].is_null(),
    });
    assert_eq!(unbounded, [] as [&str; 0]);
}

#[test]
fn no_field_has_a_schema_default_or_keeps_a_null_or_unknown_fields() {
    let words = ["default", "nullable", "x-kubernetes-preserve-unknown-fields", "oneOf", "anyOf"];
    let found = faults(|node, _| words.iter().any(|word| !node[*word].is_null()));
    assert_eq!(found, [] as [&str; 0]);
}

#[test]
fn every_field_has_a_description_and_optional_ones_a_default() {
    let mute = faults(|node, path| {
        let text = node["description"].as_str().unwrap_or_default();
        !path.ends_with("[]") && !path.ends_with("{}") && text.len() < 10
    });
    assert_eq!(mute, [] as [&str; 0], "fields without a description");

    let silent = faults(|node, path| {
        // The fields of what a person writes; `spec` itself and the status have no defaults.
        let inside = path.starts_with("ApiQuota.spec");
        let required: Vec<&str> =
            node["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = node["properties"].as_object().into_iter().flatten();
        inside
            && fields.any(|(name, field)| {
                let text = field["description"].as_str().unwrap_or_default();
                let optional = !required.contains(&name.as_str());
                optional && !text.contains("Default: ")
            })
    });
    assert_eq!(silent, [] as [&str; 0], "groups with an optional field whose default is not told");
}

#[test]
fn every_field_of_a_quota_has_an_example() {
    let mut without = Vec::new();
    walk(&crds::schema(crds::api_quota())["properties"]["spec"], "spec", &mut |node, path| {
        for (name, field) in node["properties"].as_object().into_iter().flatten() {
            let text = field["description"].as_str().unwrap_or_default();
            let is_group = field["properties"].is_object() || field["items"]["properties"].is_object();
            if !text.contains("Example: `") && !is_group {
                without.push(format!("{path}.{name}"));
            }
        }
    });
    assert_eq!(without, [] as [&str; 0]);
}
