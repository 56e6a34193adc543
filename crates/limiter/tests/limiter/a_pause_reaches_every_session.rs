//! One rejection holds all proxies of an account, also those that never met it, and its end lets all
//! of their calls go.

use std::time::Duration;

use quotakeeper_engine::event::{Rejection, RejectionClass, Scope};
use quotakeeper_wire::account::CompiledAccount;
use test_support::wait::until;

use crate::proxy::{Provider, Proxy};
use crate::world::{World, quota};

const QUOTA: &str = "gtm/openai";

/// With room for all calls of the story: it is the pause that holds them. The call that asks whether
/// it is over may be kept by the provider for as long as the story lasts, and no grant ends unwritten.
fn roomy() -> CompiledAccount {
    let mut account = quota(QUOTA, 1000);
    account.engine.validity = Duration::from_secs(60);
    account.engine.pause.probe_patience = Duration::from_secs(600);
    account
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_granted_before_the_provider_accepts_a_call() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), vec![roomy()]).await;
    let provider = Provider::of(1000);
    provider.keeps_calls(true);
    let [one, other] = [1, 2].map(|number| {
        let token = world.pod("gtm", &format!("pod-{number}"));
        let consumer = format!("gtm/Job/job-{number}");
        Proxy::drawing(&world, (number, &token), &consumer, &[QUOTA], provider.clone())
    });
    until("both are welcome", || one.in_force(0).is_some() && other.in_force(0).is_some()).await;

    // The first call asks how things stand; the others wait for its answer, which rejects it.
    one.ask(0, 1);
    until("it is at the provider", || one.kept() == 1).await;
    one.ask(0, 10);
    other.ask(0, 10);
    world.waiting(QUOTA, 20).await;
    one.reject_kept(&Rejection {
        shared_with: None,
        organization: None,
        class: RejectionClass::Quota,
        scope: Scope::account(),
        wait: Some(Duration::from_secs(2)),
        reason: "rate_limit_exceeded".to_owned(),
    });
    until("both have received the pause", || one.paused() >= 1 && other.paused() >= 1).await;

    // While the provider's time runs, nothing; after it one call, which asks whether it is over.
    let mut looks = 0..6000;
    while one.kept() + other.kept() == 0 {
        assert!(looks.next().is_some(), "never asked whether the pause is over");
        let account = world.account(QUOTA).await;
        let runs = account.status.pauses.iter().any(|pause| !pause.remaining.is_zero());
        assert!(account.totals.granted == 1 || !runs, "granted in a pause: {account:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.account(QUOTA).await.totals.granted, 2);
    // Both have sent heartbeats again, and still get nothing.
    one.ask(0, 1);
    other.ask(0, 1);
    world.waiting(QUOTA, 22).await;
    let account = world.account(QUOTA).await;
    assert_eq!((account.totals.granted, account.totals.rejected, account.status.pauses.len()), (2, 1, 1));
    assert_eq!(account.status.pauses[0].reason, "rate_limit_exceeded");
    assert_eq!((one.granted(0) + other.granted(0), one.kept() + other.kept()), (0, 1));
    assert_eq!((one.resumed(), other.resumed()), (0, 0));

    provider.keeps_calls(false);
    one.answer_kept();
    other.answer_kept();
    until("both have received its end", || one.resumed() >= 1 && other.resumed() >= 1).await;
    until("all of their calls are granted", || (one.granted(0), other.granted(0)) == (12, 11)).await;
    world.waiting(QUOTA, 0).await;
    let account = world.account(QUOTA).await;
    // The rejected call had two grants.
    assert_eq!((account.totals.granted, account.totals.refused, account.status.pauses.len()), (24, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_reports_whether_the_provider_is_overloaded() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), vec![roomy()]).await;
    let provider = Provider::of(1000);
    provider.keeps_calls(true);
    let token = world.pod("gtm", "pod-1");
    let proxy = Proxy::drawing(&world, (1, &token), "gtm/Job/job-1", &[QUOTA], provider.clone());
    until("it is welcome", || proxy.in_force(0).is_some()).await;
    for (class, overloaded) in [(RejectionClass::Capacity, true), (RejectionClass::Quota, false)] {
        proxy.ask(0, 1);
        until("it is at the provider", || proxy.kept() == 1).await;
        let wait = Some(Duration::from_secs(1));
        let reason = "status 503".to_owned();
        proxy.reject_kept(&Rejection {
            shared_with: None,
            organization: None,
            class,
            scope: Scope::account(),
            wait,
            reason,
        });
        let mut looks = 0..6000;
        while world
            .account(QUOTA)
            .await
            .status
            .pauses
            .first()
            .is_none_or(|pause| pause.overloaded != overloaded)
        {
            assert!(looks.next().is_some(), "{class:?} is not reported");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
