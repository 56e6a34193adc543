//! What a version wrote is read by all that follow it: a proxy in a running pod is as old as the pod.
//!
//! `tests/recorded/vN/*.bin` are the bytes that version N wrote. A file is written once, by
//! `RECORD=1 cargo test -p quotakeeper-wire --test codec recorded`, and never again: when one is not read any more,
//! the reader is wrong.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use quotakeeper_wire::codec::{Coded, NEWEST};

use crate::samples::{samples_to_limiter, samples_to_proxy};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recorded/v{NEWEST}"))
}

fn replay<M: Coded + Clone + Debug + PartialEq>(name: &str, message: M) {
    let path = folder().join(name);
    if std::env::var_os("RECORD").is_some() && !path.exists() {
        std::fs::write(&path, message.clone().to_bytes()).unwrap();
    }
    let recorded = std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{name} is not recorded ({error}); RECORD=1 cargo test -p quotakeeper-wire --test codec recorded"
        )
    });
    assert_eq!(M::decode(&recorded), Ok(Some(message)), "{name} is read as something else");
}

#[test]
fn recorded_messages_decode_to_their_values() {
    let mut names = BTreeSet::new();
    for (name, message) in samples_to_limiter() {
        let name = format!("to_limiter_{name}.bin");
        replay(&name, message);
        names.insert(name);
    }
    for (name, message) in samples_to_proxy() {
        let name = format!("to_proxy_{name}.bin");
        replay(&name, message);
        names.insert(name);
    }
    let present = std::fs::read_dir(folder()).unwrap();
    let present: BTreeSet<String> =
        present.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(present, names, "every recorded file is held against what was meant");
}
