//! Each input that a fuzzer found worth keeping, and each good one that it began with, is read without a panic.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use fuzzed_input::TARGETS;

/// Generous: the slowest takes milliseconds. What takes longer than that is a way to keep a process busy.
const AT_MOST: Duration = Duration::from_secs(20);

#[test]
fn all_inputs_are_read() {
    for target in TARGETS {
        let kept = std::fs::read_dir(target.corpus()).unwrap().map(|entry| entry.unwrap().path());
        let mut kept: Vec<_> = kept.filter(|path| path.is_file()).collect();
        kept.sort();
        assert!(!kept.is_empty(), "{} has a corpus", target.name);
        let seeds = target.seeds();
        assert!(!seeds.is_empty());
        let inputs = kept.iter().map(|path| std::fs::read(path).unwrap()).chain(seeds);
        for input in inputs {
            let begun = Instant::now();
            (target.read)(&input);
            assert!(begun.elapsed() < AT_MOST, "{}: {}", target.name, input.escape_ascii());
        }
    }
}

/// The good inputs lead to where the decisions are: else the fuzzer tries nothing but the first check.
#[test]
fn good_inputs_are_taken() {
    let reviews = TARGETS.iter().find(|target| target.name == "admission_review").unwrap();
    assert!(reviews.seeds().iter().any(|seed| fuzzed_input::is_injected(seed)));
    let files = TARGETS.iter().find(|target| target.name == "quota_file").unwrap();
    assert!(files.seeds().iter().filter(|seed| fuzzed_input::declares_accounts(seed)).count() >= 4);
}
