//! 300 worlds over all stories: nothing over the quota, nothing lost, nothing granted while paused, use and
//! fairness where a story promises them. `simulate soak` runs thousands.

use std::collections::BTreeMap;

use quotakeeper_simulator::campaign::campaign;
use quotakeeper_simulator::stories;

#[test]
fn three_hundred_worlds_hold() {
    let stories = stories::all();
    let (mut complaints, mut calls, mut ran) = (Vec::new(), 0, BTreeMap::new());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let total = campaign(&stories, 0..300, cores, None, |outcome| {
        calls += outcome.report.counted;
        *ran.entry(outcome.story).or_insert(0) += 1;
        complaints.extend(outcome.complaint());
    });
    println!("{total} worlds, {calls} calls counted by the provider");
    assert_eq!(ran.len(), stories.len(), "each story has its turn");
    assert!(complaints.is_empty(), "{} failed\n{}", complaints.len(), complaints.join("\n"));
}
