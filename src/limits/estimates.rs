//! What was learned of the tokens of calls: what is held for a call until it is known what it has used.

use quotakeeper_engine::EstimateStatus;
use quotakeeper_wire::status::AccountReport;
use serde_json::{Value, json};

use crate::tables::{figure, table};

/// As a table below a heading; nothing where nothing was learned.
pub fn text(reports: &[&AccountReport]) -> String {
    let mut rows = Vec::new();
    for report in reports {
        rows.extend(report.status.estimates.iter().map(|it| row(&report.quota.to_string(), it)));
    }
    if rows.is_empty() {
        return String::new();
    }
    let headings = [
        "QUOTA",
        "MODEL",
        "ENDPOINT",
        "WORKLOAD",
        "CALLS",
        "LOST",
        "OUTPUT, 9 OF 10",
        "MEAN",
        "INPUT PER KB",
    ];
    format!("\nTokens that calls use, as learned:\n{}", table(&headings, &rows))
}

fn row(quota: &str, it: &EstimateStatus) -> Vec<String> {
    let or = |name: Option<&str>, other: &str| name.unwrap_or(other).to_owned();
    let learned = |amount: u64| if it.known { figure(amount) } else { "not enough calls".to_owned() };
    let input =
        if it.input_per_thousand_bytes == 0 { String::new() } else { learned(it.input_per_thousand_bytes) };
    vec![
        quota.to_owned(),
        or(it.model.as_deref(), "any"),
        or(it.endpoint.as_deref(), "any other"),
        it.consumer.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string),
        figure(it.samples),
        figure(it.lost),
        learned(it.output_quantile),
        if it.known { figure(it.output_mean) } else { String::new() },
        input,
    ]
}

/// For programs.
pub fn value(report: &AccountReport) -> Value {
    let one = |it: &EstimateStatus| {
        json!({
            "model": it.model, "endpoint": it.endpoint, "workload": it.consumer, "samples": it.samples,
            "lost": it.lost, "running": it.running, "known": it.known,
            "output": {"quantile90": it.output_quantile, "mean": it.output_mean},
            "inputTokensPerThousandBytes": it.input_per_thousand_bytes,
        })
    };
    report.status.estimates.iter().map(one).collect()
}
