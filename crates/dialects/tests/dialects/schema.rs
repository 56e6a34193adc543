//! The types make a schema that a CRD can have: structural, bounded, described, without defaults or floats.

use quotakeeper_dialects::Profile;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// Calls `look` with the path of every property and its schema, references inlined.
fn properties(look: &mut dyn FnMut(&str, &Value)) {
    let generator =
        SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true).into_generator();
    walk("", &serde_json::to_value(generator.into_root_schema_for::<Profile>()).unwrap(), look);
}

fn walk(path: &str, schema: &Value, look: &mut dyn FnMut(&str, &Value)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        look(&path, property);
        walk(&path, property, look);
    }
    if let Some(items) = schema.get("items") {
        let path = format!("{path}[]");
        look(&path, items);
        walk(&path, items, look);
    }
    // An optional struct or enum is `anyOf: [it, null]` until the CRD's own transforms flatten it.
    for choice in ["anyOf", "allOf"] {
        for inner in schema[choice].as_array().into_iter().flatten() {
            walk(path, inner, look);
        }
    }
}

#[test]
fn nothing_has_a_default_or_a_float() {
    let mut seen = 0;
    properties(&mut |path, schema| {
        seen += 1;
        assert!(schema.get("default").is_none(), "{path} has a default");
        assert_ne!(schema["type"], "number", "{path} is a float");
        assert!(schema.get("additionalProperties").is_none(), "{path}");
    });
    assert!(seen > 80, "only {seen} properties were looked at");
}

#[test]
fn every_field_is_described() {
    properties(&mut |path, schema| {
        if !path.ends_with("[]") {
            assert!(
                schema["description"].as_str().is_some_and(|text| text.len() > 10),
                "{path} is not described"
            );
        }
    });
}

#[test]
fn every_string_list_and_number_is_bounded() {
    properties(&mut |path, schema| match schema["type"].as_str() {
        Some("string") if schema.get("enum").is_none() => {
            assert!(schema.get("maxLength").is_some(), "{path} has no maxLength");
        }
        Some("array") => assert!(schema.get("maxItems").is_some(), "{path} has no maxItems"),
        Some("integer") => {
            assert!(
                schema.get("minimum").is_some() && schema.get("maximum").is_some(),
                "{path} has no range"
            );
            if let Some(format) = schema["format"].as_str() {
                assert!(["int32", "int64"].contains(&format), "{path} has the format {format}");
            }
        }
        _ => {}
    });
}
