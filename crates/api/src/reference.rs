//! `docs/reference.md`: every field of the resources, from the same schemas as the CRDs.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use crate::crds;

const INTRODUCTION: &str = "# Reference

Every field of `ApiQuota` and `ApiProvider`, as `kubectl explain` tells it, and of `ApiCampaign`, which `quotakeeper plan`
reads from a file. Generated from the types.
Fields marked with * are required. Columns of `kubectl get` are the fields of `status.summary`.
";

/// The page, as Markdown.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for crd in [crds::api_quota(), crds::api_provider(), crds::api_campaign()] {
        let kind = text(&crd["spec"]["names"]["kind"]);
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let scope = text(&crd["spec"]["scope"]).to_lowercase();
        let _infallible =
            write!(page, "\n## {kind}\n\n{} ({scope})\n", one_line(text(&schema["description"])));
        for part in ["spec", "status"] {
            let properties = &schema["properties"][part];
            if properties.is_object() {
                let _infallible = write!(page, "\n### {kind}: {part}\n\n| field | type | |\n|---|---|---|\n");
                fields(&mut page, "", properties);
            }
        }
    }
    page
}

/// A row for each field below `schema`, depth first.
fn fields(page: &mut String, path: &str, schema: &Value) {
    let required: BTreeSet<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let mark = if required.contains(name.as_str()) { "\\*" } else { "" };
        let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let words = one_line(text(&field["description"])).replace('|', "\\|");
        let _infallible = writeln!(page, "| `{here}`{mark} | {} | {words} |", kind(field));
        fields(page, &here, field);
        fields(page, &format!("{here}[]"), &field["items"]);
        fields(page, &format!("{here}.KEY"), &field["additionalProperties"]);
    }
}

fn kind(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    let of = match text(&field["type"]) {
        "array" => format!("list of {}", kind(&field["items"])),
        "object" if field["additionalProperties"].is_object() => {
            format!("map of {}", kind(&field["additionalProperties"]))
        }
        "string" if field["format"] == "date-time" => "time".to_owned(),
        other => other.to_owned(),
    };
    let range = match (field["minimum"].as_f64(), field["maximum"].as_f64()) {
        (Some(least), Some(most)) => format!(", {least}–{most}"),
        _ => String::new(),
    };
    format!("{of}{range}")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
