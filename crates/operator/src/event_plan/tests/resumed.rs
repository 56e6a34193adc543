//! When an obstacle is over, or concerns nobody.

use std::sync::Arc;

use quotakeeper_engine::event::Scope;

use super::*;

#[test]
fn a_limiter_that_is_being_replaced_concerns_no_workload_before_it_takes_long() {
    let (mut scene, mut state) = (Scene::of_tier("pro"), EventState::default());
    (scene.lost, scene.replaced) = (true, true);
    let begins = "Quota LimiterUnavailable: gtm/crm: The limiter's pod is being replaced, as in an upgrade.";
    let events = scene.next(&mut state, &report(), 8);
    assert!(events.len() == 1 && events[0].starts_with(begins), "{events:?}");
    assert_eq!(state.standing().count(), 0, "nor a Job that is created now");
    // It is back within a minute.
    let mut quick = state.clone();
    scene.lost = false;
    let over = "Resumed: gtm/crm: the limiter reports again, after 30s";
    assert_eq!(scene.next(&mut quick, &report(), 30), [format!("Quota {over}")]);
    // Another leader begins meanwhile.
    scene.lost = true;
    let reported = status(&scene.subject(None, 10));
    scene.view.status = Arc::new(reported);
    let mut later = EventState::published_before("gtm/crm", &scene.unheard(12));
    scene.lost = false;
    let events = scene.next(&mut later, &report(), 30);
    assert!(events.len() == 1 && events[0].starts_with("Quota Resumed: "), "{events:?}");
    // It takes longer, and stays told when another pod is tried.
    (scene.lost, scene.replaced) = (true, false);
    let event = "LimiterUnavailable: gtm/crm: The limiter has not reported since 14:03:00 UTC, and calls wait until it is back; look at it with `kubectl get pods -n quotakeeper`.";
    assert_eq!(scene.next(&mut state, &report(), 60), both(event));
    scene.replaced = true;
    assert!(scene.next(&mut state, &report(), 70).is_empty());
    scene.lost = false;
    assert_eq!(
        scene.next(&mut state, &report(), 80),
        both("Resumed: gtm/crm: the limiter reports again, after 80s")
    );
}

#[test]
fn calls_that_pass_are_not_told_to_wait() {
    for (reason, ends) in [
        ("Disabled", "the quota is disabled and its calls pass, after 9s"),
        ("GateOpen", "the gate is open and calls pass, after 9s"),
    ] {
        for told in ["BudgetExhausted", "UsageUnknown"] {
            let (mut scene, mut state) = (Scene::of_tier("pro"), EventState::default());
            scene.view.status = throttled("True", told, "It is told.");
            assert_eq!(scene.next(&mut state, &report(), 0).len(), 2, "{told}");
            assert_eq!(state.standing().count(), 1);
            scene.view.status = throttled("False", reason, "");
            let events = scene.next(&mut state, &report(), 9);
            let resumed: Vec<_> = events.iter().filter(|event| event.contains("Resumed")).cloned().collect();
            assert_eq!(resumed, both(&format!("Resumed: gtm/crm: {ends}")), "{told}");
            assert_eq!(state.standing().count(), 0, "for a Job that is created now");
        }
        let (mut scene, mut state) = (Scene::of_tier("pro"), EventState::default());
        let mut paused = report();
        paused.status.pauses.push(pause(Scope::account(), 60_000, "429"));
        assert_eq!(scene.next(&mut state, &paused, 0).len(), 2);
        scene.view.status = throttled("False", reason, "");
        let events = scene.next(&mut state, &paused, 9);
        assert!(
            events.contains(&both("Resumed: gtm/crm: calls go again after 9s, 0 calls refused meanwhile")[1])
        );
        assert_eq!(state.standing().count(), 0);
    }
}
