//! When a status is written anew.

use super::*;

#[test]
fn a_condition_keeps_its_time_until_it_turns() {
    let mut story = hubspot();
    story.written();
    let since = |story: &Story, type_: &str| {
        let status = story.status();
        let condition = status.conditions.iter().find(|it| it.type_ == type_).unwrap();
        condition.last_transition_time.0.to_string()
    };
    story.now = "2026-11-03T15:00:00.123Z".parse().unwrap();
    assert_eq!(since(&story, "Throttled"), NOW);
    let story = Story { queueing: true, ..story }.waits("gtm/Job/a", 5, 9000);
    assert_eq!(since(&story, "Throttled"), "2026-11-03T15:00:00Z");
    assert_eq!(since(&story, "Ready"), NOW);
}

#[test]
fn what_is_steady_is_not_written() {
    let mut story = hubspot().uses("ten-seconds", 60, 9).uses("daily", 100_000, 9 * 3600).pods(5, 0);
    story.written();
    let with = |used: u64| {
        let mut report = story.report.clone().unwrap();
        report.status.limits[0].used = used;
        let again = Story { report: Some(report), view: story.view.clone(), ..hubspot() };
        again.worth()
    };
    for used in 51..=69 {
        assert_eq!(with(used), Worth::Nothing, "{used} of 100, when 60 was written");
    }
    assert_eq!([with(50), with(70), with(0)], [Worth::Later; 3]);
    // An hour later the daily limit is told to be free at another time, with a little more of it used.
    let mut report = story.report.clone().unwrap();
    report.status.limits[1].used = 101_000;
    let later = Story { report: Some(report), view: story.view.clone(), ..hubspot() };
    assert_eq!(later.worth(), Worth::Nothing);
}

#[test]
fn a_queue_that_hovers_is_written_seldom() {
    let mut story = hubspot().waits("gtm/Job/a", 100, 20_000);
    story.written();
    let with = |calls: u64, millis: u64| {
        let mut again = hubspot().waits("gtm/Job/a", calls, millis);
        again.view = story.view.clone();
        again.worth()
    };
    for calls in 51..200 {
        assert_eq!(with(calls, 1500 + calls * 100), Worth::Nothing, "{calls} calls");
    }
    assert_eq!(with(200, 20_000), Worth::Later);
    assert_eq!(with(100, 60_000), Worth::Later);
    let mut ended = hubspot();
    ended.view = story.view.clone();
    assert_eq!(ended.worth(), Worth::Now, "the queue is gone");
}
