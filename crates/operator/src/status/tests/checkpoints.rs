//! What the status says of the checkpoints of long windows.

use quotakeeper_api::quota::CheckpointStatus;
use quotakeeper_wire::status::CheckpointReport;

use super::assumed::{amount_of, assumes, condition, daily};
use super::*;

fn told(number: i64) -> Option<CheckpointStatus> {
    Some(CheckpointStatus { account: "hubspot/gtm/hubspot".to_owned(), number })
}

fn number(number: u64) -> Option<CheckpointReport> {
    Some(CheckpointReport { number, ..CheckpointReport::default() })
}

#[test]
fn the_number_of_the_newest_checkpoint_is_repeated() {
    let mut story = daily();
    assert_eq!(story.status().checkpoint, None);
    story.view.status = Arc::new(story.status());
    story.report().checkpoint = number(3);
    assert_eq!(story.status().checkpoint, told(3));
    assert_eq!(story.worth(), Worth::Later, "with other changes");
    story.view.status = Arc::new(story.status());
    assert_eq!(story.worth(), Worth::Nothing);
    story.report().checkpoint = number(2);
    assert_eq!(story.status().checkpoint, told(3), "a limiter that has not heard of it yet");
    story.report().checkpoint = None;
    assert_eq!(story.status().checkpoint, told(3), "no limit of an hour or more any more");
    story.report().key = "hubspot/portal-1".into();
    story.report().checkpoint = number(1);
    assert_eq!(story.status().checkpoint.unwrap().account, "hubspot/portal-1");
}

#[test]
fn a_lost_checkpoint_is_named_and_opened_by_a_person() {
    let amount = amount_of(&daily(), "daily");
    for past in [PastUse::Lost, PastUse::New] {
        let mut story = assumes(daily(), past, "daily", amount - 1, 80_000);
        story.report().checkpoint =
            Some(CheckpointReport { number: 9, lost: true, ..CheckpointReport::default() });
        let status = story.status();
        assert_eq!(status.summary.clone().unwrap().status.as_deref(), Some("UsageUnknown until 4 Nov 12:16"));
        let (known, reason, message) = condition(&status, "UsageKnown");
        assert_eq!((known.as_str(), reason.as_str()), ("False", "CheckpointLost"));
        for words in
            ["the checkpoint of it is missing, or an earlier one is in its place", "kubectl patch aq"]
        {
            assert!(message.contains(words), "{words}: {message}");
        }
        assert!(!message.contains("ledger"), "{message}");
    }
}

#[test]
fn a_checkpoint_in_place_of_a_lost_ledger_is_all_that_is_needed() {
    let mut story = daily().uses("daily", 100_000, 80_000);
    story.report().past = PastUse::Lost;
    story.report().checkpoint =
        Some(CheckpointReport { number: 9, began: true, ..CheckpointReport::default() });
    let status = story.status();
    let (known, reason, message) = condition(&status, "UsageKnown");
    assert_eq!((known.as_str(), reason.as_str()), ("True", "Checkpointed"));
    assert!(message.contains("All that this cluster had used of daily is known"), "{message}");
    assert_eq!(status.summary.unwrap().status.as_deref(), Some("Ready"));
}

#[test]
fn checkpoints_that_can_t_be_stored_are_an_obstacle_with_a_remedy() {
    let mut story = daily();
    let mut events = EventState::default();
    let mut news = |story: &Story| story.news(&mut events);
    assert!(news(&story).is_empty());
    let problem = Some("configmaps is forbidden".to_owned());
    let failing = CheckpointReport { number: 9, failing: true, problem, ..CheckpointReport::default() };
    story.report().checkpoint = Some(failing);
    let status = story.status();
    assert_eq!(status.summary.clone().unwrap().status.as_deref(), Some("CheckpointsUnavailable"));
    let (throttled, reason, message) = condition(&status, "Throttled");
    assert_eq!(
        (throttled.as_str(), reason.as_str()),
        ("False", "CheckpointsUnavailable"),
        "no call waits yet"
    );
    for words in ["of daily can't be stored: configmaps is forbidden.", "Role, a ResourceQuota or a policy"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_eq!(condition(&status, "Ready").0, "True");
    let begun = news(&story);
    assert!(
        begun[0].starts_with("CheckpointsUnavailable: gtm/hubspot: What calls use of daily"),
        "{begun:?}"
    );
    assert!(news(&story).is_empty());
    story.report().checkpoint = number(10);
    let over = news(&story);
    assert!(over[0].starts_with("Resumed: gtm/hubspot: its use is stored again"), "{over:?}");
}
