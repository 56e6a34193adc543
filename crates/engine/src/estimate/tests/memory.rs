//! What is kept and forgotten, and what of it the ledger keeps.

use super::*;
use crate::estimate::{EstimatesSnapshot, MOST_CLASSES, MOST_CONSUMERS};

fn learn(estimates: &mut Estimates, consumer: &str, model: &str, output: u64) -> EstimateKey {
    let key = key(estimates, consumer, model);
    (0..20).for_each(|_| call(estimates, key, text(4_000), usage(1_000, output)));
    key
}

#[test]
fn the_consumer_that_was_used_least_recently_is_forgotten_first() {
    let mut estimates = Estimates::default();
    let first = learn(&mut estimates, "first", "m", 5_000);
    let second = learn(&mut estimates, "second", "m", 5_000);
    let own = likely(&estimates, first, 64_000);
    for number in 0..MOST_CONSUMERS - 2 {
        key(&mut estimates, &format!("job {number}"), "m");
    }
    assert_eq!(key(&mut estimates, "first", "m"), first);
    key(&mut estimates, "one more", "m");
    assert_eq!(likely(&estimates, first, 64_000), own);
    assert_ne!(key(&mut estimates, "second", "m"), second, "forgotten, and new again");
    // Its old key is good for what everybody's calls tell.
    let running = estimates.began(second, NOW);
    assert!(likely(&estimates, second, 64_000).known);
    estimates.ended(running, None, Some(&usage(1, 1)), NOW);
    assert_eq!(estimates.consumers.len(), MOST_CONSUMERS);
}

#[test]
fn a_consumer_with_running_calls_is_forgotten_last() {
    let mut estimates = Estimates::default();
    let busy = key(&mut estimates, "busy", "m");
    let running = estimates.began(busy, NOW);
    (0..2 * MOST_CONSUMERS).for_each(|number| {
        key(&mut estimates, &format!("job {number}"), "m");
    });
    assert_eq!(key(&mut estimates, "busy", "m"), busy);
    estimates.lost(running);
}

#[test]
fn names_that_clients_invent_take_bounded_memory() {
    let mut estimates = Estimates::default();
    let mut first = Vec::new();
    for number in 0..2 * MOST_CLASSES {
        let invented = key(&mut estimates, "job", &format!("model {number}"));
        first.push(estimates.began(invented, NOW));
    }
    assert_eq!(estimates.classes.len(), MOST_CLASSES);
    assert!(estimates.consumers.len() <= MOST_CLASSES);
    // Calls of forgotten models end like others.
    for mut call in first {
        estimates.produced(&mut call, 100);
        assert!(estimates.rest(&call, 50, 1_000) > 0);
        estimates.ended(call, None, Some(&usage(1, 1)), NOW);
    }
}

#[test]
fn a_snapshot_takes_a_few_hundred_bytes_a_consumer() {
    let mut estimates = Estimates::default();
    for number in 0_u64..200 {
        let job = key(&mut estimates, &format!("namespace/job-{number}"), "m");
        for call_number in 0..100 {
            let output = 50 + (call_number * 7_919 + number * 104_729) % 2_000;
            call(&mut estimates, job, text(4_000), usage(900 + output % 200, output));
        }
    }
    let bytes = serde_json::to_string(&estimates.snapshot(usize::MAX)).unwrap().len();
    assert!(bytes < 200 * 400, "{} a consumer", bytes / 200);
    let some = estimates.snapshot(10);
    assert!(serde_json::to_string(&some).unwrap().len() < 20 * 400);
    let mut restored = Estimates::restored(some);
    let last = key(&mut restored, "namespace/job-199", "m");
    let known = key(&mut estimates, "namespace/job-199", "m");
    assert_eq!(likely(&restored, last, 9_000), likely(&estimates, known, 9_000));
    assert_eq!(restored.consumers.len(), 10);
    assert_eq!(estimates.snapshot(0).classes_and_consumers(), (1, 0));
}

#[test]
fn a_snapshot_that_is_damaged_is_read_as_far_as_it_makes_sense() {
    let json = r#"[{"class": {"endpoint": null, "model": "m"},
        "everybody": {"outputs": {"ended": [200, 5, 3, 65535, 4, 65535, 7]}, "unheardOf": 1},
        "consumers": [{"consumer": "job", "learned": {}}]}]"#;
    let mut restored = Estimates::restored(serde_json::from_str::<EstimatesSnapshot>(json).unwrap());
    let job = key(&mut restored, "job", "m");
    assert!(!likely(&restored, job, 100).known, "nothing is known of the input");
    (0..20).for_each(|_| call(&mut restored, job, text(4_000), usage(1_000, 50)));
    assert!(likely(&restored, job, 100).known);
}
