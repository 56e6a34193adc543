//! The columns of `kubectl get apiquotas`. To add one, add its field to [`StatusSummary`] and its row to
//! [`printer_columns`]; its value is computed in `quotakeeper-operator`, `status::summary`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Short texts for the columns of `kubectl get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusSummary {
    /// The tier in force; `(assumed)` or `(learned)` where the spec names none. Example: `pro (learned)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub tier: Option<String>,

    /// The limit of which the largest part is used; of an allocation's own limits `ALLOCATION/LIMIT`.
    /// Example: `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 127))]
    pub tightest: Option<String>,

    /// How much of that limit is used; of tokens and money with the amounts. Example: `97%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub used: Option<String>,

    /// How many calls wait. Example: `212`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub waiting: Option<String>,

    /// How long the longest of them has waited. Example: `<1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub wait: Option<String>,

    /// How many pods draw, of how many that should. Example: `6/9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub pods: Option<String>,

    /// The state in two or three words. Example: `Queueing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub status: Option<String>,

    /// Whether calls are held. Example: `Enforce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub mode: Option<String>,

    /// This cluster's part of the account, with the reserve. Example: `20%-10%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub share: Option<String>,

    /// When the tightest limit is free again. Example: `<1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub resets: Option<String>,

    /// The state in one sentence.
    /// Example: `97 % of requests (10k/min × 20 % share) is used; 212 calls of 2 workloads wait.`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// The columns, from left to right.
pub(crate) fn printer_columns() -> Vec<CustomResourceColumnDefinition> {
    vec![
        column("Provider", ".spec.provider.name"),
        column("Tier", ".status.summary.tier"),
        column("Tightest", ".status.summary.tightest"),
        column("Used", ".status.summary.used"),
        column("Waiting", ".status.summary.waiting"),
        column("Wait", ".status.summary.wait"),
        column("Pods", ".status.summary.pods"),
        column("Status", ".status.summary.status"),
        wide(column("Mode", ".status.summary.mode")),
        wide(column("Share", ".status.summary.share")),
        wide(column("Resets", ".status.summary.resets")),
        wide(column("Ready", ".status.conditions[?(@.type==\"Ready\")].status")),
        wide(column("Message", ".status.summary.message")),
        wide(time(column("Age", ".metadata.creationTimestamp"))),
    ]
}

/// A column of text, with the JSON path of its value.
fn column(heading: &str, path: &str) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: heading.to_owned(),
        json_path: path.to_owned(),
        type_: "string".to_owned(),
        ..CustomResourceColumnDefinition::default()
    }
}

/// The column is shown with `-o wide` only.
fn wide(column: CustomResourceColumnDefinition) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition { priority: Some(1), ..column }
}

/// The column's value is a time, which kubectl shows as an age.
fn time(column: CustomResourceColumnDefinition) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition { type_: "date".to_owned(), ..column }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_field_of_the_summary_has_a_column_and_every_column_a_field() {
        let schema = schemars::schema_for!(StatusSummary).to_value();
        let fields: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        let columns = printer_columns();
        let shown = columns.iter().filter_map(|column| column.json_path.strip_prefix(".status.summary."));
        let shown: BTreeSet<String> = shown.map(str::to_owned).collect();
        let without_row: Vec<_> = fields.difference(&shown).collect();
        assert!(without_row.is_empty(), "add rows to printer_columns for {without_row:?}");
        let without_field: Vec<_> = shown.difference(&fields).collect();
        assert!(without_field.is_empty(), "add fields to StatusSummary for {without_field:?}");
    }
}
