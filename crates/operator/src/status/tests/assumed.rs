//! What the status says of tiers that nobody declared and of use that nobody knows.

use super::*;

#[test]
fn a_tier_that_is_not_declared_is_asked_for_and_then_learned() {
    let mut story = hubspot();
    let mut events = EventState::default();
    let mut news = |story: &Story| story.news(&mut events);
    assert!(story.row().starts_with("free (assumed) | ten-seconds | 0%"), "{}", story.row());
    let conditions = story.conditions();
    let question = "LimitsInSync=Unknown TierUnknown: No tier is declared: the lowest, free, is assumed until an answer \
                    of the provider tells its limits; declare the account's own as spec.provider.tier, one of: free \
                    (100 ten-seconds per 10 s, 250000 daily per day, 5 search per second), ";
    assert!(conditions.contains(question), "{conditions}");
    assert!(news(&story).is_empty());

    let tiers = story.verdict.account().unwrap().undeclared.clone().unwrap().tiers;
    let pro = tiers.into_iter().find(|tier| tier.name == "pro").unwrap();
    let told = |workloads| ToldLimit {
        limit: "ten-seconds".to_owned(),
        model: None,
        amount: 190,
        header: "x-hubspot-ratelimit-max".to_owned(),
        workloads,
        by: None,
        since: None,
    };
    let learned = |workloads| LearnedTier {
        basis: TierBasis::Matched,
        tier: pro.name.clone(),
        told: vec![told(workloads)],
        limits: pro.limits.clone(),
    };
    story.report().learned = Some(learned(1));
    assert_eq!(story.worth(), Worth::Now);
    assert!(story.row().starts_with("pro (learned) | ten-seconds | 0%"), "{}", story.row());
    let sentence = "No tier is declared; tier learned: pro, from x-hubspot-ratelimit-max 190 of 1 workload.";
    let conditions = story.conditions();
    assert!(conditions.contains(&format!("LimitsInSync=True TierLearned: {sentence}\n")), "{conditions}");
    let limits = story.status().limits;
    assert_eq!((limits[0].hard, limits[0].effective, limits[0].source), (190, 190, LimitSource::Headers));
    assert_eq!((limits[1].hard, limits[1].source), (625_000, LimitSource::Tier));
    assert_eq!(news(&story), [format!("TierLearned: {sentence}")]);
    story.report().learned = Some(learned(2));
    assert!(news(&story).is_empty(), "another witness is no news");
}

/// Right after an installation nothing is used of a short window, whatever the limiter has to take for used.
#[test]
fn what_is_only_assumed_is_not_shown_as_used() {
    let mut story = hubspot().uses("ten-seconds", 99, 10);
    story.report().status.limits[0].assumed = 99;
    let status = story.status();
    let limit = status.limits.iter().find(|limit| limit.name == "ten-seconds").unwrap();
    assert_eq!((limit.used, limit.remaining, &limit.reset_time), (Some(0), None, &None));
    assert!(story.row().contains(" 0% "), "{}", story.row());
    assert!(
        story.message().ends_with("earlier use of ten-seconds is not known yet, so calls begin one by one."),
        "{}",
        story.message()
    );
}

/// So much of a limit is assumed to be used, because the past is not known.
pub(super) fn assumes(mut story: Story, past: PastUse, name: &str, assumed: u64, resets: u64) -> Story {
    story = story.uses(name, assumed, resets);
    story.report().past = past;
    story.report().status.limits.last_mut().unwrap().assumed = assumed;
    story
}

pub(super) fn daily() -> Story {
    Story::new("gtm/hubspot", json!({"provider": {"name": "hubspot", "tier": "free"}}))
}

pub(super) fn amount_of(story: &Story, name: &str) -> u64 {
    let limits = &story.verdict.account().unwrap().engine.limits;
    limits.iter().find(|limit| limit.name == name).unwrap().amount
}

pub(super) fn condition(status: &ApiQuotaStatus, type_: &str) -> (String, String, String) {
    let found = find(&status.conditions, type_).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

#[test]
fn a_budget_that_is_closed_by_assumption_never_reads_as_unused() {
    let amount = amount_of(&daily(), "daily");
    for (past, reason, why) in [
        (PastUse::Lost, "LedgerLost", "the limiter's ledger was lost"),
        (PastUse::Unknown, "NotRecorded", "it is not recorded"),
    ] {
        // With and without the call that may ask the provider.
        for assumed in [amount, amount - 1] {
            let status = assumes(daily(), past, "daily", assumed, 80_000).status();
            let summary = status.summary.clone().unwrap();
            assert_eq!(summary.tightest.as_deref(), Some("daily"));
            assert_eq!(summary.used.as_deref(), Some("unknown"));
            assert_eq!(summary.status.as_deref(), Some("UsageUnknown until 4 Nov 12:16"));
            let (known, got, message) = condition(&status, "UsageKnown");
            assert_eq!((known.as_str(), got.as_str()), ("False", reason));
            for words in [
                why,
                "until 4 Nov 12:16 UTC",
                "an answer of the provider",
                "kubectl patch aq hubspot -n gtm",
                r#"{"spec":{"used":[{"limit":"daily","amount":UNITS,"at":"2026-11-03T14:03:00Z"}]}}"#,
            ] {
                assert!(message.contains(words), "{words}: {message}");
            }
            let brief = "UsageUnknown until 4 Nov 12:16: What was used of daily is not known, so all of it counts as used; the condition UsageKnown says how to open it; no calls wait.";
            assert_eq!(status.brief.as_deref(), Some(brief));
            assert_eq!(condition(&status, "Throttled").1, "UsageUnknown");
            let limit = status.limits.iter().find(|limit| limit.name == "daily").unwrap();
            assert_eq!((limit.assumed, limit.remaining), (Some(i64::try_from(assumed).unwrap()), None));
        }
    }
}

#[test]
fn what_is_known_of_the_past_is_said() {
    let mut new = daily();
    new.report().past = PastUse::New;
    let mut recorded = daily();
    recorded.report().past = PastUse::Recorded;
    let mut learned = daily();
    learned.report().past = PastUse::Lost;
    for (story, reason) in [(new, "NewAccount"), (recorded, "Recorded"), (learned, "Learned")] {
        let (known, got, message) = condition(&story.status(), "UsageKnown");
        assert_eq!((known.as_str(), got.as_str()), ("True", reason));
        assert!(message.contains("daily"), "{message}");
        assert_eq!(story.status().summary.unwrap().status.as_deref(), Some("Ready"));
    }
    // A short window fills by itself: no word for it, but it is said.
    let short = daily().verdict.account().unwrap().engine.limits[0].name.clone();
    let half = amount_of(&daily(), &short) / 2;
    let status = assumes(daily(), PastUse::Lost, &short, half, 10).status();
    let (known, reason, message) = condition(&status, "UsageKnown");
    assert_eq!((known.as_str(), reason.as_str()), ("False", "LedgerLost"));
    assert!(message.contains(&short), "{message}");
    assert_eq!(status.summary.unwrap().status.as_deref(), Some("Ready"));
}
