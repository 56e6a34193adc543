//! A person holds all calls of a quota, and has them go on, also after the provider's word.

use std::time::Duration;

use k8s_openapi::jiff::{Timestamp, ToSpan};
use quotakeeper_engine::event::{Rejection, RejectionClass, Scope};
use quotakeeper_wire::account::CompiledAccount;
use test_support::wait::until;

use crate::proxy::{Provider, Proxy};
use crate::world::{World, quota};

const QUOTA: &str = "gtm/openai";

fn in_seconds(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp::now() + seconds.seconds())
}

fn roomy() -> CompiledAccount {
    let mut account = quota(QUOTA, 1000);
    account.engine.validity = Duration::from_secs(60);
    account
}

async fn scene(folder: &std::path::Path, account: CompiledAccount) -> (World, Provider, Proxy) {
    let world = World::start(folder, vec![account]).await;
    let provider = Provider::of(1000);
    let token = world.pod("gtm", "pod-1");
    let proxy = Proxy::drawing(&world, (1, &token), "gtm/Job/job-1", &[QUOTA], provider.clone());
    until("it is welcome", || proxy.in_force(0).is_some()).await;
    (world, provider, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_until_a_person_has_them_go_on() {
    let folder = tempfile::tempdir().unwrap();
    // It is paused when the limiter begins: as after a takeover.
    let paused = CompiledAccount { paused_until: in_seconds(3600), ..roomy() };
    let (mut world, provider, proxy) = scene(folder.path(), paused.clone()).await;
    proxy.ask(0, 5);
    world.waiting(QUOTA, 5).await;
    let account = world.account(QUOTA).await;
    assert_eq!((account.totals.granted, account.status.pauses.len()), (0, 1));
    assert!(account.status.pauses[0].by_hand, "{account:?}");
    assert_eq!(proxy.in_force(0).unwrap().paused_until, None, "proxies are not told");

    // A restarted limiter has it still, and an end that is past is none.
    world.stop().await;
    world.run(folder.path(), vec![paused], None).await;
    world.waiting(QUOTA, 5).await;
    assert!(world.account(QUOTA).await.status.pauses[0].by_hand);
    assert_eq!(provider.counted(), 0);
    world.configure(vec![CompiledAccount { paused_until: in_seconds(-5), ..roomy() }]).await;
    until("all calls are made", || provider.counted() == 5).await;
    assert!(world.account(QUOTA).await.status.pauses.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_ends_the_providers_pause() {
    let folder = tempfile::tempdir().unwrap();
    let resumed = CompiledAccount { resumed_at: in_seconds(-60), ..roomy() };
    let (world, provider, proxy) = scene(folder.path(), resumed.clone()).await;
    provider.keeps_calls(true);
    proxy.ask(0, 1);
    until("it is at the provider", || proxy.kept() == 1).await;
    proxy.reject_kept(&Rejection {
        shared_with: None,
        organization: None,
        class: RejectionClass::Quota,
        scope: Scope::account(),
        wait: Some(Duration::from_secs(200)),
        reason: "rate_limit_exceeded".to_owned(),
    });
    world.waiting(QUOTA, 1).await;
    provider.keeps_calls(false);
    let account = world.account(QUOTA).await;
    assert_eq!((account.status.pauses.len(), account.status.pauses[0].by_hand), (1, false));
    // The same word again is none.
    world.configure(vec![CompiledAccount { generation: 2, ..resumed.clone() }]).await;
    assert_eq!(world.account(QUOTA).await.status.pauses.len(), 1);
    // Nor does a pause by hand end the provider's, when it is over or taken back, or shorten it.
    for paused_until in [in_seconds(-5), None, in_seconds(20)] {
        world.configure(vec![CompiledAccount { paused_until, ..resumed.clone() }]).await;
        let pauses = world.account(QUOTA).await.status.pauses;
        assert!(pauses[0].remaining > Duration::from_secs(30), "{paused_until:?}: {pauses:?}");
    }
    // The rejected one.
    assert_eq!(provider.counted(), 1);
    world.configure(vec![CompiledAccount { resumed_at: in_seconds(0), ..resumed }]).await;
    until("the call is made", || provider.counted() == 2).await;
    assert!(world.account(QUOTA).await.status.pauses.is_empty());
}
