//! The limiter's state panics: a new one begins from the ledger, in the same process. An account that panics again and
//! again is closed, and the others go on.
//!
//! Faults are armed for a thread, so these tests have one.

use k8s_openapi::jiff::Timestamp;
use quotakeeper_limiter_core::blame::fault;
use quotakeeper_wire::account::CompiledAccount;
use test_support::wait::until;

use crate::proxy::{Provider, Proxy};
use crate::world::{World, quota};

const AMOUNT: u64 = 60;

/// New accounts, of which nothing is assumed.
fn accounts() -> Vec<CompiledAccount> {
    let new = |name| CompiledAccount { in_force_since: Some(Timestamp::UNIX_EPOCH), ..quota(name, AMOUNT) };
    vec![new("gtm/openai"), new("gtm/hubspot")]
}

fn draws(world: &World, session: u64, quota: &str, provider: &Provider) -> Proxy {
    let token = world.pod("gtm", &format!("pod-{session}"));
    Proxy::drawing(world, (session, &token), "gtm/Job/job", &[quota], provider.clone())
}

async fn panics(world: &World) -> u64 {
    world.limiter().health().await.map_or(0, |health| health.panics)
}

#[tokio::test]
async fn a_panic_loses_no_call_and_no_charge() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder.path(), accounts()).await;
    let (crm, llm) = (Provider::of(AMOUNT), Provider::of(AMOUNT));
    let proxies = [draws(&world, 1, "gtm/hubspot", &crm), draws(&world, 2, "gtm/openai", &llm)];
    proxies.iter().for_each(|proxy| proxy.ask(0, 20));
    until("some calls are granted", || crm.counted() == 20 && llm.counted() == 20).await;
    let epoch = proxies[0].newest_epoch();
    fault::arm("demo/gtm/openai".into(), 1);
    proxies.iter().for_each(|proxy| proxy.ask(0, 20));
    until("both are back", || proxies.iter().all(|proxy| proxy.newest_epoch() > epoch)).await;
    until("the calls are granted", || crm.counted() == 40 && llm.counted() == 40).await;
    assert_eq!(panics(&world).await, 1);
    proxies.iter().for_each(|proxy| proxy.ask(0, 100));
    world.knows_all("gtm/openai", || 140 - llm.counted()).await;
    world.knows_all("gtm/hubspot", || 140 - crm.counted()).await;
    assert!(crm.counted() <= AMOUNT && llm.counted() <= AMOUNT, "{} and {}", crm.counted(), llm.counted());
    // The next process trusts the ledger.
    world.stop().await;
    world.run(folder.path(), accounts(), None).await;
    assert!(world.account("gtm/openai").await.status.limits[0].used >= llm.counted());
}

#[tokio::test]
async fn an_account_that_panics_again_is_closed_until_its_quota_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), accounts()).await;
    let (crm, llm) = (Provider::of(AMOUNT), Provider::of(AMOUNT));
    let proxies = [draws(&world, 1, "gtm/hubspot", &crm), draws(&world, 2, "gtm/openai", &llm)];
    proxies.iter().for_each(|proxy| proxy.ask(0, 5));
    until("some calls are granted", || crm.counted() == 5 && llm.counted() == 5).await;
    fault::arm("demo/gtm/openai".into(), u32::MAX);
    proxies.iter().for_each(|proxy| proxy.ask(0, 5));
    until("its proxy is told why", || proxies[1].absence(0).is_some()).await;
    let why = proxies[1].absence(0).unwrap();
    assert!(why.contains("panicked 2 times"), "{why}");
    until("the others go on", || crm.counted() == 10).await;
    assert_eq!((panics(&world).await, llm.counted()), (2, 5));
    let report = world.limiter().health().await.unwrap().report;
    let closed = report.accounts.iter().find(|account| account.quota == "gtm/openai").unwrap();
    assert_eq!((closed.generation, closed.problem.is_some()), (None, true));

    fault::arm("demo/gtm/openai".into(), 0);
    let mut changed = accounts();
    changed[0].generation = 2;
    world.configure(changed).await;
    until("it is tried again", || llm.counted() == 10).await;
}

#[tokio::test]
async fn a_record_that_panics_when_it_is_read_closes_its_account_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder.path(), accounts()).await;
    world.stop().await;
    fault::arm("demo/gtm/openai".into(), u32::MAX);
    world.run(folder.path(), accounts(), None).await;
    let crm = Provider::of(AMOUNT);
    let proxy = draws(&world, 1, "gtm/hubspot", &crm);
    proxy.ask(0, 5);
    until("the others go on", || crm.counted() == 5).await;
    assert_eq!(panics(&world).await, 2);
    fault::arm("demo/gtm/openai".into(), 0);
}
