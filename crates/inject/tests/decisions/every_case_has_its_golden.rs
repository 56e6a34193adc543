//! Each folder of `goldens` holds a pod, what was decided, and the pod as it became.

use std::fs;
use std::path::Path;

use quotakeeper_api::yaml;
use quotakeeper_inject::decide::Decision;

use crate::fixture::{Fixture, applied, document, goldens};

fn told(decision: &Decision) -> String {
    match decision {
        Decision::Patch { warnings, .. } => {
            let warnings: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            format!("patched\n{warnings}")
        }
        Decision::Unchanged => "unchanged\n".to_owned(),
        Decision::Skipped { reason } => format!("skipped: {reason}\n"),
        Decision::Denied { sentence, .. } => format!("denied: {sentence}\n"),
    }
}

/// Writes or compares a file; `None`: there is to be none.
fn hold(path: &Path, content: Option<&str>) -> Result<(), String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }
    let found = fs::read_to_string(path).ok();
    if found.as_deref() == content {
        return Ok(());
    }
    Err(format!("{}: is now\n{}", path.display(), content.unwrap_or("no file")))
}

#[test]
fn every_case_has_its_golden() {
    let fixture = Fixture::new();
    let mut wrong = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(goldens()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        cases += 1;
        let pod = document(&folder.join("pod.yaml"));
        let decision = fixture.decide(&pod);
        let patched = matches!(decision, Decision::Patch { .. })
            .then(|| yaml::write(&applied(&pod, &decision)).unwrap());
        wrong.extend(hold(&folder.join("decision.txt"), Some(&told(&decision))).err());
        wrong.extend(hold(&folder.join("patched.yaml"), patched.as_deref()).err());
    }
    assert!(cases > 40, "only {cases} cases");
    assert!(wrong.is_empty(), "{}\nif the change is intended, run: make generate", wrong.join("\n"));
}

/// A person reads a warning in a line of a terminal; the API server cuts what is longer than 256 characters.
#[test]
fn sentences_are_short() {
    let fixture = Fixture::new();
    for entry in fs::read_dir(goldens()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            let decision = fixture.decide(&document(&folder.join("pod.yaml")));
            for line in told(&decision).lines() {
                assert!(line.len() <= 256, "{} has {} letters: {line}", folder.display(), line.len());
            }
        }
    }
}
