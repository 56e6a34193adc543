//! A path that a document names exists: after a file is moved, its documents are corrected too.

#![allow(clippy::unwrap_used)]

use std::path::Path;

const DOCUMENTS: [&str; 7] = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/concepts.md",
    "docs/engine.md",
    "docs/how-it-fails.md",
    "docs/performance.md",
    "docs/quickstart.md",
];

/// What paths of this repository begin with.
const TOP: [&str; 9] =
    ["benches/", "charts/", "crates/", "crds/", "demo/", "docs/", "examples/", "src/", "tests/"];

/// The paths in backquotes and in links; those with placeholders (`NAME`, `*`) stand for many.
fn paths(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let linked = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    quoted
        .chain(linked)
        .flat_map(str::split_whitespace)
        .filter(|path| TOP.iter().any(|top| path.starts_with(top)))
        .filter(|path| !path.contains(['*', ':']) && !path.contains("NAME"))
        .collect()
}

#[test]
fn every_path_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (mut found, mut missing) = (0, Vec::new());
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for path in paths(&text) {
            found += 1;
            if !root.join(path).exists() {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "these paths do not exist; correct the documents: {missing:#?}");
    assert!(found > 30, "only {found} paths were found in the documents");
}

#[test]
fn paths_are_found_in_code_and_in_links() {
    let text =
        "run `tests/a.sh --all` and read `docs/b.md`, [this](crates/c.rs#part) or `crates/*/x` and `cargo`";
    assert_eq!(paths(text), ["tests/a.sh", "docs/b.md", "crates/c.rs"]);
}
