//! A limiter that is killed or stopped is followed by one that knows what was charged; one that has
//! lost its ledger takes all to be used.

use crate::proxy::{Provider, Proxy};
use crate::world::{World, quota, until};

const AMOUNT: u64 = 60;

fn proxies(world: &World, provider: &Provider) -> Vec<Proxy> {
    (1..=3)
        .map(|number| {
            let token = world.pod("gtm", &format!("pod-{number}"));
            let consumer = format!("gtm/Job/job-{number}");
            let proxy = Proxy::drawing(world, (number, &token), &consumer, &["gtm/openai"], provider.clone());
            proxy.ask(0, 100);
            proxy
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_grants_no_more_than_the_quota() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = || vec![quota("gtm/openai", AMOUNT)];
    let mut world = World::start(folder.path(), accounts()).await;
    let provider = Provider::of(AMOUNT);
    let proxies = proxies(&world, &provider);
    let mut epoch = 0;
    // The first answer says what others have used.
    world.settled("gtm/openai").await;
    for kill in [5, 15, 30, 45] {
        until("some more calls are granted", || provider.counted() >= kill).await;
        world.kill().await;
        world.run(folder.path(), accounts(), None).await;
        until("all are back", || proxies.iter().all(|proxy| proxy.newest_epoch() > epoch)).await;
        epoch = proxies[0].newest_epoch();
    }
    until("the quota is used but for what the kills may have cost", || provider.counted() >= AMOUNT - 12)
        .await;
    // All proxies are heard again and again before it is believed that nothing more comes.
    for _ in 0..3 {
        let heard: Vec<u32> = proxies.iter().map(Proxy::sessions).collect();
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        assert_eq!(heard, proxies.iter().map(Proxy::sessions).collect::<Vec<_>>());
    }
    assert!(provider.counted() <= AMOUNT, "{} of {AMOUNT}", provider.counted());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_in_good_order_it_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = || vec![quota("gtm/openai", AMOUNT)];
    let mut world = World::start(folder.path(), accounts()).await;
    let provider = Provider::of(AMOUNT);
    let proxies = proxies(&world, &provider);
    until("some calls are granted", || provider.counted() >= 10).await;
    world.stop().await;
    world.run(folder.path(), accounts(), None).await;
    until("the quota is used", || provider.counted() >= AMOUNT - 1).await;
    until("all are back", || proxies.iter().all(|proxy| proxy.sessions() >= 2)).await;
    assert!(provider.counted() <= AMOUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_ledger_it_takes_all_to_be_used_and_is_still_listened_to() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let accounts = || vec![quota("gtm/openai", AMOUNT)];
    let mut world = World::start(first.path(), accounts()).await;
    let provider = Provider::of(AMOUNT);
    let proxies = proxies(&world, &provider);
    until("some calls are granted", || provider.counted() >= 20).await;
    let epoch = proxies[0].newest_epoch();
    world.kill().await;
    let before = provider.counted();
    // Another pod, on another node: what is left is the Lease.
    world.run(second.path(), accounts(), Some(epoch)).await;
    until("all are back", || proxies.iter().all(|proxy| proxy.newest_epoch() > epoch)).await;
    until("all is taken to be used", || proxies.iter().all(|proxy| proxy.in_force(0).is_some())).await;
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    let account = world.account("gtm/openai").await;
    assert!(account.limits[0].used >= AMOUNT - 1, "{account:?}");
    // What was under way when it was killed may have been counted after.
    assert!(provider.counted() <= AMOUNT && provider.counted() <= before + 30);
}
