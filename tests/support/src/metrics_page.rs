//! The page of metrics, `docs/metrics.md`: a section for each program, made from what the program exposes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::golden::assert_part;

/// A family of metrics, as OpenMetrics describes it.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    labels: Vec<String>,
    name: String,
}

/// Compares the section of a program's metrics with what it exposes, in the format of OpenMetrics; `UPDATE_GOLDEN=1`
/// writes the section instead. `program` is the prefix of its metrics, such as `quotakeeper_proxy`.
///
/// # Panics
/// If they differ, if the section has no marks, or if a metric has no sample that shows its labels.
pub fn assert_section(program: &str, exposed: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    assert_part(&file, program, &table(exposed));
}

fn table(exposed: &str) -> String {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in exposed.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => families.entry(name.to_owned()).or_default().help = help.to_owned(),
            ["#", "TYPE", name, kind] => families.entry(name.to_owned()).or_default().kind = kind.to_owned(),
            ["#", ..] => {}
            _ => sample(line, &mut families),
        }
    }
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for Family { kind, help, labels, name } in families.values() {
        assert!(!name.is_empty(), "no sample of: {help}");
        let help = help.trim_end_matches('.');
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    table
}

fn sample(line: &str, families: &mut BTreeMap<String, Family>) {
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    let named = families.iter_mut().filter(|(family, _)| name.starts_with(family.as_str()));
    let Some((known, family)) = named.max_by_key(|(family, _)| family.len()) else { return };
    // A histogram is known by its family: it has several series.
    family.name = if family.kind == "histogram" { known.clone() } else { name.to_owned() };
    let labels =
        line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
    let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
    family.labels = names.filter(|name| *name != "le").map(str::to_owned).collect();
}
