//! `crds/*.yaml` is what the types say.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use quotakeeper_api::crds;

const REFRESH: &str = "UPDATE_CRDS=1 cargo test -p quotakeeper-api --test crds_are_fresh";

#[test]
fn the_checked_in_crds_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    let generated = crds::yaml().unwrap();
    for (name, yaml) in &generated {
        let path = folder.join(name);
        if std::env::var_os("UPDATE_CRDS").is_some() {
            std::fs::write(&path, yaml).unwrap();
        }
        let present = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(present == *yaml, "crds/{name} is stale; refresh it: {REFRESH}");
    }
    let present = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(present, generated.len(), "crds/ holds a file that no type generates");
}

#[test]
fn the_checked_in_reference_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    let generated = quotakeeper_api::reference::markdown();
    if std::env::var_os("UPDATE_CRDS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(present == generated, "docs/reference.md is stale; refresh it: {REFRESH}");
}
