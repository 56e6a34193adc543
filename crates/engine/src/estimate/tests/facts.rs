//! Single estimates, with figures.

use super::*;
use crate::config::{AccountConfig, ModelFacts};
use crate::estimate::bound;

fn account() -> AccountConfig {
    let facts = |max_output, context| ModelFacts { max_output, context, ..ModelFacts::default() };
    let json = r#"{"mode": "Enforce", "onExceeded": "Queue", "validity": {"secs": 1, "nanos": 0}, "limits": [],
        "queue": {"maxWait": {"secs": 60, "nanos": 0}, "maxCalls": 10},
        "pause": {"fallback": {"secs": 1, "nanos": 0}, "cap": {"secs": 60, "nanos": 0},
            "probePatience": {"secs": 30, "nanos": 0}, "maxCall": {"secs": 600, "nanos": 0}}}"#;
    let mut account: AccountConfig = serde_json::from_str(json).unwrap();
    account.models.insert("mini".to_owned(), facts(Some(4_096), Some(128_000)));
    account.models.insert("half".to_owned(), facts(None, Some(2_000)));
    account.any_model = facts(Some(64_000), Some(1_000_000));
    account
}

#[test]
fn a_bound_counts_every_choice_and_all_text() {
    let size = CallSize {
        text_bytes: 1_000,
        media_tokens: 500,
        max_output: Some(100),
        choices: 3,
        stored_input: false,
    };
    assert_eq!(bound(&account(), Some("mini"), Some(&size)), most(1_500, 300));
}

#[test]
fn a_bound_without_a_figure_of_the_request_is_the_models() {
    let output = |model, size: CallSize| bound(&account(), Some(model), Some(&size)).output;
    assert_eq!(output("mini", text(10)), 4_096);
    assert_eq!(output("mini", CallSize { max_output: Some(1_000_000_000), ..text(10) }), 4_096);
    assert_eq!(output("half", text(10)), 2_000, "its context bounds its output");
    assert_eq!(output("unheard-of", text(10)), 64_000);
    assert_eq!(output("unheard-of", CallSize { max_output: Some(90_000), ..text(10) }), 90_000);
}

#[test]
fn a_bound_of_stored_or_unreadable_input_is_the_context() {
    let stored = CallSize { stored_input: true, ..text(10) };
    assert_eq!(bound(&account(), Some("mini"), Some(&stored)).input, 128_000);
    assert_eq!(bound(&account(), Some("mini"), None).input, 128_000);
    assert_eq!(bound(&account(), None, None).input, 1_000_000);
    let nothing_known = AccountConfig { any_model: ModelFacts::default(), ..account() };
    assert_eq!(bound(&nothing_known, None, None), most(u64::MAX, u64::MAX));
}

#[test]
fn the_first_sixteen_calls_are_at_the_bound() {
    let mut estimates = Estimates::default();
    let job = key(&mut estimates, "job", "m");
    let at_most = TokenUsage { exact: false, ..usage(4_000, 4_096) };
    let unknown = Likely { usage: at_most, known: false };
    for ended in 0..16 {
        let likely = likely(&estimates, job, 4_096);
        assert_eq!(likely, unknown, "after {ended}");
        call(&mut estimates, job, text(4_000), usage(1_000, 50));
    }
    let likely = likely(&estimates, job, 4_096);
    assert!(likely.known);
    // One of 33 is an imaginary call at the bound: so far nobody knows how long they can get.
    assert!((150..400).contains(&likely.usage.output), "{likely:?}");
    assert!((1_000..1_300).contains(&likely.usage.input), "{likely:?}");
}

#[test]
fn a_new_consumer_begins_with_what_is_known_of_the_others() {
    let mut estimates = Estimates::default();
    let old = key(&mut estimates, "old", "m");
    (0..500).for_each(|_| call(&mut estimates, old, text(4_000), usage(1_000, 200)));
    let new = key(&mut estimates, "new", "m");
    let likely_of_new = likely(&estimates, new, 64_000).usage.output;
    assert!((200..500).contains(&likely_of_new), "{likely_of_new}");
    // 30 calls of its own outweigh them.
    (0..30).for_each(|_| call(&mut estimates, new, text(4_000), usage(1_000, 5_000)));
    let likely_of_new = likely(&estimates, new, 64_000).usage.output;
    assert!((5_000..6_500).contains(&likely_of_new), "{likely_of_new}");
    let other_model = key(&mut estimates, "old", "other");
    assert!(!likely(&estimates, other_model, 64_000).known);
}

#[test]
fn calls_that_run_long_are_known_to_be_long_before_they_end() {
    let mut estimates = Estimates::default();
    let job = key(&mut estimates, "job", "m");
    (0..100).for_each(|_| call(&mut estimates, job, text(4_000), usage(1_000, 50)));
    let before = likely(&estimates, job, 16_000).usage.output;
    let mut running: Vec<_> = (0..30).map(|_| estimates.began(job, NOW)).collect();
    running.iter_mut().for_each(|call| estimates.produced(call, 3_000));
    let now = likely(&estimates, job, 16_000).usage.output;
    assert!(before < 300 && now > 3_000, "{before}, {now}");
    running.into_iter().for_each(|call| estimates.ended(call, None, None, NOW));
    assert_eq!(likely(&estimates, job, 16_000).usage.output, before, "calls that never ran teach nothing");
}

#[test]
fn lost_calls_were_longer_than_what_they_had_produced() {
    let mut estimates = Estimates::default();
    let job = key(&mut estimates, "job", "m");
    (0..80).for_each(|_| call(&mut estimates, job, text(4_000), usage(1_000, 50)));
    for _ in 0..20 {
        let mut lost = estimates.began(job, NOW);
        estimates.produced(&mut lost, 2_000);
        estimates.lost(lost);
    }
    assert_eq!(likely(&estimates, job, 8_000).usage.output, 8_000, "a fifth may be at the bound");
}

#[test]
fn the_rest_of_a_call_is_that_of_calls_as_long() {
    let mut estimates = Estimates::default();
    let job = key(&mut estimates, "job", "m");
    for _ in 0..100 {
        call(&mut estimates, job, text(4_000), usage(1_000, 50));
        call(&mut estimates, job, text(4_000), usage(1_000, 8_000));
    }
    let mut running = estimates.began(job, NOW);
    estimates.produced(&mut running, 100);
    let rest = estimates.rest(&running, 60, 16_000);
    assert!((7_900..10_000).contains(&rest), "{rest}");
    estimates.produced(&mut running, 8_000);
    estimates.produced(&mut running, 7_000);
    assert_eq!(running.produced, 8_000, "it does not go back");
    assert!(estimates.rest(&running, 60, 16_000) >= 800, "at least a tenth of what came");
    assert_eq!(estimates.rest(&running, 60, 8_001), 1, "no more than the bound");
    assert_eq!(estimates.rest(&running, 60, 7_000), 800, "the bound was wrong");
}

#[test]
fn input_that_a_cache_knew_is_learned() {
    let mut estimates = Estimates::default();
    let job = key(&mut estimates, "agent", "m");
    let used = TokenUsage { cached: 900, cache_write: 50, ..usage(1_000, 50) };
    (0..64).for_each(|_| call(&mut estimates, job, text(4_000), used));
    let likely = likely(&estimates, job, 4_096).usage;
    let share = |tokens: u64| tokens * 100 / likely.input;
    assert!((88..=90).contains(&share(likely.cached)), "{likely:?}");
    assert!((5..=6).contains(&share(likely.cache_write)), "{likely:?}");
    // One call in five that reads nothing from the cache: what the others read can't be relied on.
    (0..16).for_each(|_| call(&mut estimates, job, text(4_000), usage(1_000, 50)));
    assert_eq!(super::likely(&estimates, job, 4_096).usage.cached, 0);
}

#[test]
fn input_that_text_does_not_tell_is_learned_by_itself() {
    let mut estimates = Estimates::default();
    let job = key(&mut estimates, "job", "m");
    let stored = CallSize { stored_input: true, ..text(100) };
    (0..64).for_each(|_| call(&mut estimates, job, stored, usage(20_000, 50)));
    let most = most(128_000, 4_096);
    let likely = estimates.likely(job, Some(&stored), most);
    assert!(likely.known && (20_000..25_000).contains(&likely.usage.input), "{likely:?}");
    assert!(
        !estimates.likely(job, Some(&text(100)), most).known,
        "nothing is known of calls with text alone"
    );
}

#[test]
fn usage_that_is_only_estimated_says_nothing_of_the_input() {
    let mut estimates = Estimates::default();
    let job = key(&mut estimates, "job", "m");
    let estimated = TokenUsage { exact: false, ..usage(1, 50) };
    (0..64).for_each(|_| call(&mut estimates, job, text(4_000), estimated));
    assert!(!likely(&estimates, job, 4_096).known);
}

#[test]
fn a_slow_tenth_decides_how_long_a_rest_takes() {
    let mut estimates = Estimates::default();
    let job = key(&mut estimates, "job", "m");
    assert_eq!(estimates.time_to_produce(job, 100), None);
    for number in 0..100 {
        let running = estimates.began(job, NOW);
        let took = Duration::from_secs(if number % 5 == 0 { 40 } else { 10 });
        estimates.ended(running, None, Some(&usage(10, 1_000)), NOW + took);
    }
    let time = estimates.time_to_produce(job, 1_000).unwrap();
    assert!((40..48).contains(&time.as_secs()), "{time:?}");
    // Short answers say nothing of it: most of their time goes by before the first token.
    (0..1_000).for_each(|_| call(&mut estimates, job, text(10), usage(10, 1)));
    assert_eq!(estimates.time_to_produce(job, 1_000), Some(time));
}

#[test]
fn absurd_figures_leave_estimates_within_the_bound() {
    let mut estimates = Estimates::default();
    let job = key(&mut estimates, "job", "m");
    let absurd = TokenUsage { cached: u64::MAX, cache_write: u64::MAX, ..usage(u64::MAX, u64::MAX) };
    (0..64).for_each(|_| call(&mut estimates, job, text(u64::MAX), absurd));
    let huge = estimates.likely(job, Some(&text(u64::MAX)), most(u64::MAX, u64::MAX)).usage;
    assert!(huge.cached + huge.cache_write <= huge.input, "{huge:?}");
    let likely = likely(&estimates, job, 4_096).usage;
    assert_eq!((likely.input, likely.output), (4_000, 4_096));
}

#[test]
fn a_call_that_nothing_bounds_is_expected_to_be_like_the_others() {
    let mut estimates = Estimates::default();
    let job = key(&mut estimates, "job", "m");
    (0..500).for_each(|_| call(&mut estimates, job, text(4_000), usage(1_000, 200)));
    let likely = estimates.likely(job, Some(&text(4_000)), most(u64::MAX, u64::MAX));
    assert!(likely.known && (200..300).contains(&likely.usage.output), "{likely:?}");
}
