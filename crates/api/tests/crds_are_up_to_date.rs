//! `crds/*.yaml`, the chart's copy of them, and `docs/reference.md` are what the types say.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use quotakeeper_api::crds;

/// For `kubectl apply`, and for the chart: Helm reads nothing outside of a chart's folder.
const FOLDERS: [&str; 2] = ["crds", "charts/quotakeeper/files/crds"];

#[test]
fn crds_match_the_types() {
    let generated = crds::yaml().unwrap();
    for name in FOLDERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
        for (file, yaml) in &generated {
            let path = folder.join(file);
            if std::env::var_os("UPDATE_CRDS").is_some() {
                std::fs::write(&path, yaml).unwrap();
            }
            let present = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(present == *yaml, "{name}/{file} is stale; run: make generate");
        }
        let present = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(present, generated.len(), "{name}/ holds a file that no type generates");
    }
}

#[test]
fn the_reference_matches_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    let generated = quotakeeper_api::reference::markdown();
    if std::env::var_os("UPDATE_CRDS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(present == generated, "docs/reference.md is stale; run: make generate");
}
