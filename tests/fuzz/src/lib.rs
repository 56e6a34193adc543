//! What comes from outside, as functions of bytes that a fuzzer may make up: none of them may panic, hang or take much
//! memory, whatever the bytes are. `make fuzz` looks for bytes that do; `corpus` holds those that it found worth
//! keeping, which the tests try again.
//!
//! | room | holds |
//! |---|---|
//! | `http_head` | a client's connection, as the proxy's doors read it |
//! | `wire_frame` | the messages of a session, and what a limiter does with them |
//! | `account_document` | the document of an account, as limiter and proxy load it |
//! | `quota_file` | quota files, as `quotakeeper run -f` reads them |
//! | `admission_review` | reviews of pods, as the webhook decides them |

mod account_document;
mod admission_review;
mod http_head;
mod quota_file;
mod wire_frame;

use std::path::{Path, PathBuf};

/// One kind of input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its folder in `corpus`.
    pub name: &'static str,
    /// The longest input that is worth a try, in bytes.
    pub longest: usize,
    /// Reads bytes as such an input.
    pub read: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target { name: "http_head", longest: 4096, read: http_head::read, seeds: http_head::seeds },
    Target { name: "wire_frame", longest: 8192, read: wire_frame::read, seeds: wire_frame::seeds },
    Target {
        name: "account_document",
        longest: 16_384,
        read: account_document::read,
        seeds: account_document::seeds,
    },
    Target { name: "quota_file", longest: 4096, read: quota_file::read, seeds: quota_file::seeds },
    Target {
        name: "admission_review",
        longest: 8192,
        read: admission_review::read,
        seeds: admission_review::seeds,
    },
];

/// The one of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

impl Target {
    /// Good inputs to begin with, made from examples and goldens of this repository.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        (self.seeds)()
    }

    /// Where its corpus is.
    #[must_use]
    pub fn corpus(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }
}

/// Whether the pod of a review gets a proxy.
#[must_use]
pub fn is_injected(review: &[u8]) -> bool {
    admission_review::is_injected(review)
}

/// Whether a quota file declares accounts.
#[must_use]
pub fn declares_accounts(file: &[u8]) -> bool {
    !quota_file::accounts(file).is_empty()
}

/// The files of a folder of this repository that end so, by name.
fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}
