//! Each clause of the rule is there for something: without it calls go over the quota, or wait for nothing, in a world in
//! which they don't with it.
#![allow(clippy::unwrap_used)]

use quotakeeper_simulator::mutants::{MUTANTS, noticed, run_broken};

const SEEDS: std::ops::Range<u64> = 0..100;

#[test]
fn every_mutant_is_noticed_where_the_rule_holds() {
    let mut unnoticed = Vec::new();
    for (fault, story) in MUTANTS {
        let Some((seed, faults)) = noticed(fault, story, SEEDS) else {
            unnoticed.push(format!("{fault:?} in {story}"));
            continue;
        };
        let rule = run_broken(None, story, seed).unwrap();
        assert_eq!(rule.complaint(), None);
        println!("{fault:?} in {story} with seed {seed}: {}", faults.join("; "));
    }
    assert!(unnoticed.is_empty(), "broken and not noticed: {unnoticed:?}");
}
