//! Calls that are refused are told beside those that wait.

use super::super::refusals::RefusalCounter;
use super::*;

/// So many calls were refused within the last minute.
fn refused(mut story: Story, calls: u64) -> Story {
    let mut counter = RefusalCounter::default();
    let mut report = idle(&story.name);
    for (calls, seconds) in [(0, 50), (1, 49), (calls, 1)] {
        report.totals.refused = calls;
        story.refusals = counter.next(Some(&report), now() - jiff::SignedDuration::from_secs(seconds));
    }
    story
}

fn hubspot() -> Story {
    Story::new("gtm/hubspot", json!({"provider": {"name": "hubspot", "tier": "pro"}}))
}

fn brief(story: &Story) -> String {
    story.status().brief.unwrap()
}

#[test]
fn calls_that_are_refused_are_told_in_the_first_line() {
    let spent = refused(hubspot().uses("daily", 625_000, 80_000), 243);
    assert_eq!(
        brief(&spent),
        "BudgetExhausted until 4 Nov 12:16: All of daily is used. 100 % of daily (625k/day) is used; no calls wait, and 100 or more calls were refused since 14:02:11 UTC."
    );
    let paused = refused(hubspot().paused(Scope::account(), 90_000, "status 429", false), 7);
    assert!(
        brief(&paused).ends_with("; no calls wait, and calls were refused since 14:02:11 UTC."),
        "{}",
        brief(&paused)
    );
    let waiting = refused(hubspot().waits("gtm/Job/a", 12, 9000), 10);
    assert!(
        brief(&waiting).ends_with("; 12 calls of 1 workload wait, longest under 1 minute, and 10 or more calls were refused since 14:02:11 UTC."),
        "{}",
        brief(&waiting)
    );
    assert_eq!(
        [&spent, &paused, &waiting].map(|story| story.status().refused),
        [Some(100), Some(1), Some(10)]
    );
    assert!(brief(&hubspot()).ends_with("; no calls wait."));
}

#[test]
fn the_first_refusal_is_written_at_once_and_the_others_seldom() {
    let spent = || hubspot().uses("daily", 625_000, 80_000);
    let (none, few, some, many) = (spent(), refused(spent(), 2), refused(spent(), 9), refused(spent(), 10));
    let [none, few, some, many] = [none, few, some, many].map(|story| story.status());
    assert_eq!(worth(&none, &few), Worth::Now);
    assert_eq!(worth(&few, &some), Worth::Nothing);
    assert_eq!(worth(&some, &many), Worth::Later);
    assert_eq!(worth(&many, &none), Worth::Now);
}

#[test]
fn a_new_leader_shows_the_refusals_that_the_one_before_has_told() {
    let mut story = refused(hubspot().uses("daily", 625_000, 80_000), 243);
    let before = story.status();
    story.view.status = Arc::new(before.clone());
    (story.heard, story.refusals) = (false, None);
    assert_eq!((story.status().refused, story.status().brief), (Some(100), before.brief));
}
