//! The table: `documents/accepted` and `documents/refused`.
//!
//! A refused document begins with comments: `field:` (the field that every judge must name),
//! `message:` (what Rust says), and where the API server words it otherwise, `server:`.

use std::path::{Path, PathBuf};

use quotakeeper_api::yaml;
use serde_json::Value;

/// A document of the table, and what is expected of its judges.
pub struct Case {
    pub path: PathBuf,
    pub document: Value,
    /// What the cluster had before.
    pub old: Option<Value>,
    pub field: Option<String>,
    pub message: Option<String>,
    pub server: Option<String>,
}

/// The documents of a folder, by name.
pub fn cases(folder: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/documents").join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(read).collect()
}

/// A file's last document; one before it is what the cluster had.
fn read(path: PathBuf) -> Case {
    let text = std::fs::read_to_string(&path).unwrap();
    let comment = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("# "));
        let found = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        found.map(str::to_owned)
    };
    let mut documents = yaml::read(&text).unwrap();
    let document = documents.pop().unwrap().value;
    Case {
        document,
        old: documents.pop().map(|document| document.value),
        field: comment("field"),
        message: comment("message"),
        server: comment("server"),
        path,
    }
}

impl Case {
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap().to_string_lossy().into_owned()
    }
}
