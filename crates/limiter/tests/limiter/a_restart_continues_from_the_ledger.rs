//! A limiter that was killed or stopped is followed by one that knows what was charged; one that has lost
//! its ledger counts all as used.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use quotakeeper_wire::account::{CompiledAccount, StatedUse};
use quotakeeper_wire::status::PastUse;
use test_support::wait::until;

use crate::proxy::{Provider, Proxy};
use crate::world::{World, quota};

const AMOUNT: u64 = 60;

/// The account of these tests, in force since then.
fn recorded(since: Timestamp) -> CompiledAccount {
    CompiledAccount { in_force_since: Some(since), ..quota("gtm/openai", AMOUNT) }
}

fn proxies(world: &World, provider: &Provider) -> Vec<Proxy> {
    (1..=3)
        .map(|number| {
            let token = world.pod("gtm", &format!("pod-{number}"));
            let consumer = format!("gtm/Job/job-{number}");
            Proxy::drawing(world, (number, &token), &consumer, &["gtm/openai"], provider.clone())
        })
        .collect()
}

fn ask(proxies: &[Proxy], calls: usize) {
    for proxy in proxies {
        proxy.ask(0, calls);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limiter_that_is_killed_repeatedly_stays_within_the_quota() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = || vec![quota("gtm/openai", AMOUNT)];
    let mut world = World::start(folder.path(), accounts()).await;
    let provider = Provider::of(AMOUNT);
    let proxies = proxies(&world, &provider);
    let mut epoch = 0;
    ask(&proxies, 5);
    until("some calls are granted", || provider.counted() > 0).await;
    for _ in 0..4 {
        world.kill().await;
        ask(&proxies, 5);
        // Killed before it has written what it learned, it may count all as used: then it grants nothing.
        world.run(folder.path(), accounts(), None).await;
        until("all are back", || proxies.iter().all(|proxy| proxy.newest_epoch() > epoch)).await;
        epoch = proxies[0].newest_epoch();
    }
    ask(&proxies, 100);
    world.knows_all("gtm/openai", || 375 - provider.counted()).await;
    assert!(provider.counted() <= AMOUNT, "{} of {AMOUNT}", provider.counted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_delays_calls_only_until_all_proxies_have_reconnected() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = || vec![quota("gtm/openai", AMOUNT)];
    let mut world = World::start(folder.path(), accounts()).await;
    let provider = Provider::of(AMOUNT);
    let proxies = proxies(&world, &provider);
    // The first response reports what others have used, and a stop leaves it in the ledger.
    ask(&proxies, 1);
    world.settled("gtm/openai").await;
    for asked in [3, 18, 33] {
        until("all calls are granted", || provider.counted() == asked).await;
        // What was charged ahead of the kill is given back.
        world.uses("gtm/openai", asked + 1).await;
        world.stop().await;
        world.run(folder.path(), accounts(), None).await;
        ask(&proxies, 5);
        until("some more calls are granted", || provider.counted() > asked).await;
        world.kill().await;
        world.run(folder.path(), accounts(), None).await;
    }
    until("all calls are granted", || provider.counted() == 48).await;
    ask(&proxies, 100);
    world.knows_all("gtm/openai", || 348 - provider.counted()).await;
    assert!(provider.counted() <= AMOUNT, "{} of {AMOUNT}", provider.counted());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_costs_no_capacity() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = || vec![quota("gtm/openai", AMOUNT)];
    let mut world = World::start(folder.path(), accounts()).await;
    let provider = Provider::of(AMOUNT);
    let proxies = proxies(&world, &provider);
    ask(&proxies, 1);
    world.settled("gtm/openai").await;
    ask(&proxies, 5);
    until("some calls are granted", || provider.counted() >= 10).await;
    world.stop().await;
    ask(&proxies, 100);
    world.run(folder.path(), accounts(), None).await;
    until("the quota is used", || provider.counted() >= AMOUNT - 1).await;
    until("all are back", || proxies.iter().all(|proxy| proxy.sessions() >= 2)).await;
    world.knows_all("gtm/openai", || 318 - provider.counted()).await;
    assert!(provider.counted() <= AMOUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limiter_without_its_ledger_counts_all_as_used_and_proxies_accept_it() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let accounts = || vec![quota("gtm/openai", AMOUNT)];
    let mut world = World::start(first.path(), accounts()).await;
    let provider = Provider::of(AMOUNT);
    let proxies = proxies(&world, &provider);
    ask(&proxies, 10);
    until("some calls are granted", || provider.counted() >= 20).await;
    let epoch = proxies[0].newest_epoch();
    world.kill().await;
    // Another pod, on another node: what is left is the Lease.
    world.run(second.path(), accounts(), Some(epoch)).await;
    ask(&proxies, 100);
    until("all are back", || proxies.iter().all(|proxy| proxy.newest_epoch() > epoch)).await;
    until("all counts as used", || proxies.iter().all(|proxy| proxy.in_force(0).is_some())).await;
    world.knows_all("gtm/openai", || 330 - provider.counted()).await;
    let account = world.account("gtm/openai").await;
    assert!(account.status.limits[0].used >= AMOUNT - 1, "{account:?}");
    // What it had granted before it was killed was among the first calls.
    assert!(provider.counted() <= 30, "{}", provider.counted());
}

/// The limiter's pod was replaced, and then a quota was created.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_came_into_force_after_a_lost_ledger_is_new() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut world = World::start(first.path(), Vec::new()).await;
    let provider = Provider::silent();
    world.stop().await;
    world.run(second.path(), Vec::new(), Some(1)).await;
    world.configure(vec![recorded(Timestamp::now() + SignedDuration::from_secs(5))]).await;
    let proxies = proxies(&world, &provider);
    ask(&proxies, 20);
    until("the whole quota is granted", || provider.counted() == AMOUNT).await;
    assert_eq!(world.account("gtm/openai").await.past, PastUse::New);
}

/// What a person states replaces what is assumed of a daily limit whose ledger is lost, and is applied once.
#[tokio::test(flavor = "multi_thread")]
async fn stated_use_opens_a_daily_limit_whose_ledger_was_lost() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old = || recorded(Timestamp::UNIX_EPOCH);
    let mut world = World::start(first.path(), vec![old()]).await;
    world.stop().await;
    world.run(second.path(), vec![old()], Some(1)).await;
    assert_eq!(world.account("gtm/openai").await.past, PastUse::Lost);
    let provider = Provider::silent();
    let proxies = proxies(&world, &provider);
    ask(&proxies, 20);
    until("one call asks the provider", || provider.counted() == 1).await;
    let at = Timestamp::now() + SignedDuration::from_secs(5);
    let used = vec![StatedUse { limit: "requests".to_owned(), amount: 40, at }];
    world.configure(vec![CompiledAccount { generation: 2, used, ..old() }]).await;
    until("what is left is granted", || provider.counted() == AMOUNT - 40).await;
    world.knows_all("gtm/openai", || 60 - provider.counted()).await;
    assert_eq!(provider.counted(), AMOUNT - 40);
}

/// The quota of an account whose ledger is lost, with what is stated of its use.
fn stating(amount: u64, at: Timestamp) -> CompiledAccount {
    let used = vec![StatedUse { limit: "requests".to_owned(), amount, at }];
    CompiledAccount { generation: 2, used, ..recorded(Timestamp::UNIX_EPOCH) }
}

/// The document stays in the cluster: it is read again after each restart, and whenever the quota is edited.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_applied_once_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder.path(), vec![recorded(Timestamp::now())]).await;
    let provider = Provider::silent();
    let proxies = proxies(&world, &provider);
    ask(&proxies, 4);
    until("own calls are granted", || provider.counted() == 12).await;
    world.settled("gtm/openai").await;
    let stated = stating(40, Timestamp::now() + SignedDuration::from_secs(1));
    world.configure(vec![stated.clone()]).await;
    let used = world.account("gtm/openai").await.status.limits[0].clone();
    assert_eq!((used.used, used.used_by_others), (40, 28));
    for _ in 0..2 {
        world.stop().await;
        world.run(folder.path(), vec![stated.clone()], None).await;
        world.configure(vec![CompiledAccount { generation: 3, ..stated.clone() }]).await;
    }
    let epoch = proxies[0].newest_epoch();
    ask(&proxies, 20);
    until("what is left is granted", || provider.counted() == AMOUNT - 28).await;
    until("all are back", || proxies.iter().all(|proxy| proxy.newest_epoch() >= epoch)).await;
    world.knows_all("gtm/openai", || 72 - provider.counted()).await;
    assert_eq!(provider.counted(), AMOUNT - 28);
}

/// A person's clock is ahead, or the day's import of another system is stated before it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_a_time_to_come_is_applied_then() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut world = World::start(first.path(), vec![recorded(Timestamp::UNIX_EPOCH)]).await;
    world.stop().await;
    let soon = Timestamp::now() + SignedDuration::from_secs(62);
    world.run(second.path(), vec![stating(40, soon)], Some(1)).await;
    let used = world.account("gtm/openai").await.status.limits[0].used;
    assert!(used >= AMOUNT - 1, "{used}");
    world.uses("gtm/openai", 45).await;
}
