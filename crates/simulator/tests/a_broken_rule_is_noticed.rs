//! Each clause of the rule is there for something: without it calls go over the quota in a world in which
//! the rule itself keeps within it.
#![allow(clippy::unwrap_used)]

use quotakeeper_simulator::mutants::{MUTANTS, caught, run_broken};

const SEEDS: std::ops::Range<u64> = 0..100;

#[test]
fn every_mutant_goes_over_and_the_rule_does_not() {
    let mut unnoticed = Vec::new();
    for (fault, story) in MUTANTS {
        let Some((seed, over)) = caught(fault, story, SEEDS) else {
            unnoticed.push(format!("{fault:?} in {story}"));
            continue;
        };
        let rule = run_broken(None, story, seed).unwrap();
        assert_eq!(rule.report.over_beyond_promise(), 0, "{:?}", rule.complaint());
        println!("{fault:?}: {over} over in {story} with seed {seed}");
    }
    assert!(unnoticed.is_empty(), "broken and not noticed: {unnoticed:?}");
}
