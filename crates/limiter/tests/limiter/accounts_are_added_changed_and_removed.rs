//! Accounts come, change and go while proxies wait for them: no pod has to be restarted, and no
//! call is lost.

use std::collections::BTreeMap;

use quotakeeper_limiter::Configuration;
use test_support::wait::until;

use crate::proxy::Proxy;
use crate::world::{World, at_once, quota};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_until_its_quota_is_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), vec![quota("gtm/other", 5)]).await;
    let token = world.pod("gtm", "pod-1");
    let proxy = Proxy::start(&world, (1, &token), "gtm/Job/enrich", &["gtm/openai", "gtm/other"]);
    proxy.ask(0, 3);
    until("the quota is absent", || proxy.absence(0).is_some()).await;
    let reason = proxy.absence(0).unwrap();
    assert!(
        reason.starts_with(
            "quota gtm/openai is not in force; `kubectl describe apiquota openai -n gtm` says why"
        ),
        "{reason}"
    );
    until("the other is in force", || proxy.in_force(1).is_some()).await;
    // Absent quotas hold up nobody else.
    proxy.ask(1, 1);
    until("the other's call is granted", || proxy.granted(1) == 1).await;
    assert_eq!((proxy.granted(0), proxy.sessions()), (0, 1));

    world.configure(vec![quota("gtm/openai", 5), quota("gtm/other", 5)]).await;
    until("all calls are granted", || proxy.granted(0) == 3).await;
    assert_eq!(proxy.in_force(0).unwrap().quota, "gtm/openai");
    assert_eq!(proxy.sessions(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_account_is_sent_in_the_same_session_and_enforced() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), vec![quota("gtm/openai", 5)]).await;
    let token = world.pod("gtm", "pod-1");
    let proxy = Proxy::start(&world, (1, &token), "gtm/Job/enrich", &["gtm/openai"]);
    proxy.ask(0, 20);
    until("the quota is used up", || proxy.granted(0) == at_once(5)).await;
    let mut more = quota("gtm/openai", 9);
    more.generation = 2;
    world.configure(vec![more]).await;
    until("the change has arrived", || proxy.in_force(0).is_some_and(|account| account.generation == 2))
        .await;
    assert_eq!(world.account("gtm/openai").await.generation, Some(2));
    assert_eq!(world.account("gtm/openai").await.status.limits[0].amount, 9);
    assert_eq!(proxy.sessions(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_removed_and_added_again_still_counts_its_calls() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), vec![quota("gtm/openai", 5)]).await;
    let token = world.pod("gtm", "pod-1");
    let proxy = Proxy::start(&world, (1, &token), "gtm/Job/enrich", &["gtm/openai"]);
    proxy.ask(0, 20);
    until("the quota is used up", || proxy.granted(0) == at_once(5)).await;

    world.configure(Vec::new()).await;
    until("its removal has arrived", || proxy.absence(0).is_some()).await;
    assert!(world.limiter().health().await.unwrap().report.accounts.is_empty());

    world.configure(vec![quota("gtm/openai", 5)]).await;
    until("it is in force again", || proxy.in_force(0).is_some()).await;
    // kubectl delete and apply is no way to twice the quota.
    assert!(world.account("gtm/openai").await.status.limits[0].used >= 5);
    assert_eq!(proxy.granted(0), at_once(5));
    assert_eq!(proxy.sessions(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_waiting_calls_get_the_problem_of_their_quota() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), Vec::new()).await;
    let token = world.pod("gtm", "pod-1");
    let proxy = Proxy::start(&world, (1, &token), "gtm/Job/enrich", &["gtm/openai"]);
    until("the quota is absent", || proxy.absence(0).is_some()).await;

    let problem = "the account has format 9".to_owned();
    let problems = BTreeMap::from([("gtm/openai".into(), problem.clone())]);
    world.configure(Configuration { problems, ..Configuration::default() }).await;
    until("the problem has arrived", || proxy.absence(0).is_some_and(|reason| reason.contains(&problem)))
        .await;
    assert_eq!(proxy.sessions(), 1);
    let account = world.account("gtm/openai").await;
    assert_eq!((account.generation, account.problem), (None, Some(problem)));
}
