//! `examples/*.yaml` is what a person copies: each one loads, alone and all together.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quotakeeper_api::{crds, load, yaml};
use serde_json::Value;

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut quotas: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    quotas.sort();
    quotas
}

#[test]
fn each_example_loads_alone() {
    let examples = examples();
    assert!(examples.len() >= 4, "{examples:?}");
    for path in examples {
        let accounts =
            load::accounts(std::slice::from_ref(&path)).unwrap_or_else(|refused| panic!("{refused}"));
        assert_eq!(accounts.len(), 1, "{}", path.display());
        assert!(!accounts[0].engine.limits.is_empty(), "{}", path.display());
    }
}

#[test]
fn all_examples_load_together() {
    let accounts = load::accounts(&examples()).unwrap_or_else(|refused| panic!("{refused}"));
    let keys: Vec<&str> = accounts.iter().map(|account| account.key.as_str()).collect();
    assert_eq!(keys, ["anthropic/org-9f2c", "hubspot/hubspot", "openai/openai", "acme-llm/acme-llm"]);
}

#[test]
fn the_smallest_quota_has_five_lines() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/openai.yaml"));
    let text = text.unwrap();
    assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 5);
}

#[test]
fn the_full_example_has_every_field_that_exists() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/every-field.yaml");
    let document = yaml::read(&std::fs::read_to_string(path).unwrap()).unwrap().remove(0).value;
    let mut shown = BTreeSet::new();
    shown_fields(&document["spec"], "", &mut shown);
    let mut known = BTreeSet::new();
    known_fields(&crds::schema(crds::api_quota())["properties"]["spec"], "", &mut known);
    let missing: Vec<&String> = known.difference(&shown).collect();
    assert!(missing.is_empty(), "the full example lacks {missing:?}");
}

fn shown_fields(value: &Value, at: &str, fields: &mut BTreeSet<String>) {
    for (name, field) in value.as_object().into_iter().flatten() {
        fields.insert(format!("{at}.{name}"));
        shown_fields(field, &format!("{at}.{name}"), fields);
    }
    for item in value.as_array().into_iter().flatten() {
        shown_fields(item, at, fields);
    }
}

fn known_fields(schema: &Value, at: &str, fields: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        fields.insert(format!("{at}.{name}"));
        known_fields(field, &format!("{at}.{name}"), fields);
    }
    if schema["items"].is_object() {
        known_fields(&schema["items"], at, fields);
    }
}
