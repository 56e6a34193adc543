//! A pod draws only where its namespace is admitted, in its own name, and on its own session.
use std::time::Duration;

use kube::runtime::watcher::Event;
use quotakeeper_engine::config::{LimitConfig, Unit};
use test_support::accounts::{compiled, enforced, requests};
use test_support::wait::until;

use crate::cluster::{object, uid};
use crate::proxy::{Provider, Proxy};
use crate::world::{World, admitting, at_once, quota};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_another_namespace_waits_until_it_is_admitted() {
    let folder = tempfile::tempdir().unwrap();
    let mine = admitting(quota("platform/openai", 50), &["platform"]);
    let world = World::start(folder.path(), vec![mine]).await;
    let (own, other) = (world.pod("platform", "own"), world.pod("gtm", "other"));
    let own = Proxy::start(&world, (1, &own), "platform/Job/a", &["platform/openai"]);
    let other = Proxy::start(&world, (2, &other), "gtm/Job/b", &["platform/openai"]);
    own.ask(0, 1);
    other.ask(0, 1);
    until("its own pod draws", || own.granted(0) == 1).await;
    until("the other has received the reason", || other.absence(0).is_some()).await;
    let reason = other.absence(0).unwrap();
    assert!(reason.contains("does not admit pods of namespace gtm"), "{reason}");
    assert!(reason.contains("spec.consumers.namespaces"), "{reason}");
    assert_eq!(other.granted(0), 0);

    world.configure(vec![admitting(quota("platform/openai", 50), &["platform", "gtm"])]).await;
    until("the other draws", || other.granted(0) == 1).await;
    assert_eq!((own.sessions(), other.sessions()), (1, 2));

    world.configure(vec![admitting(quota("platform/openai", 50), &["platform"])]).await;
    until("the other is out again", || other.absence(0).is_some()).await;
    own.ask(0, 1);
    until("its own pod draws on", || own.granted(0) == 2).await;
    assert_eq!(own.sessions(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_learns_neither_whether_a_foreign_quota_exists_nor_whom_it_admits() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = admitting(quota("finance/openai", 50), &["finance", "platform"]);
    let world = World::start(folder.path(), vec![theirs]).await;
    let (stranger, admitted) = (world.pod("gtm", "stranger"), world.pod("platform", "admitted"));
    let names = ["finance/openai", "finance/hubspot"];
    let stranger = Proxy::start(&world, (1, &stranger), "gtm/Job/a", &names);
    let admitted = Proxy::start(&world, (2, &admitted), "platform/Job/b", &["finance/openai"]);
    until("it has both reasons", || (0..2).all(|index| stranger.absence(index).is_some())).await;
    let [existing, missing] = [0, 1].map(|index| stranger.absence(index).unwrap());
    assert_eq!(existing.replace("openai", "hubspot"), missing);
    until("the other draws", || admitted.in_force(0).is_some()).await;
    assert!(!format!("{:?}", admitted.in_force(0)).contains("platform"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_draws_as_its_own_workload_whatever_its_proxy_claims() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), vec![quota("platform/openai", 5)]).await;
    let token = world.pod("gtm", "pod-1");
    // As many sessions as a pod may have.
    let claims = ["platform/Job/a", "gtmx/Job/a", "", "gtm/Job/pod-1"];
    let mut proxies = Vec::new();
    for (session, claim) in (1..).zip(claims) {
        let proxy = Proxy::start(&world, (session, &token), claim, &["platform/openai"]);
        until("it is welcome", || proxy.in_force(0).is_some()).await;
        proxy.ask(0, 5);
        proxies.push(proxy);
    }
    let granted = || proxies.iter().map(|proxy| proxy.granted(0)).sum::<u64>();
    until("the quota is used up", || granted() == at_once(5)).await;
    world.knows_all("platform/openai", || 20 - at_once(5)).await;
    let waiting = world.account("platform/openai").await.status.waiting;
    let consumers: Vec<&str> = waiting.iter().map(|waiting| waiting.consumer.as_str()).collect();
    assert_eq!(consumers, ["gtm/Job/pod-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_can_not_take_the_session_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), vec![quota("gtm/openai", 50)]).await;
    let (victim, thief) = (world.pod("gtm", "victim"), world.pod("gtm", "thief"));
    let victim = Proxy::start(&world, (7, &victim), "gtm/Job/a", &["gtm/openai"]);
    victim.ask(0, 1);
    until("the first is welcome", || victim.granted(0) == 1).await;
    // Its clock and its hello are newer than all of the victim's.
    let thief = Proxy::start(&world, (7, &thief), "gtm/Job/a", &["gtm/openai"]);
    until("the thief has tried twice", || thief.sessions() >= 2).await;
    assert_eq!(thief.received(), 0);
    victim.ask(0, 1);
    until("the first draws on", || victim.granted(0) == 2).await;
    assert_eq!(victim.sessions(), 1);
    assert_eq!(world.account("gtm/openai").await.proxies.connected, 1);
}

/// The operator may be late with a quota, and the list of pods comes once.
#[tokio::test(flavor = "multi_thread")]
async fn slots_of_a_deleted_pod_are_free_in_an_account_that_comes_into_force_later() {
    let slots = |name: &str| {
        let limit = LimitConfig { unit: Unit::ConcurrentRequests, ..requests(2, Duration::ZERO) };
        compiled(&format!("demo/{name}"), name, enforced(vec![limit]))
    };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder.path(), vec![slots("gtm/openai")]).await;
    let provider = Provider::of(2);
    provider.keeps_calls(true);
    let token = world.pod("gtm", "pod-1");
    let proxy = Proxy::drawing(&world, (7, &token), "gtm/Job/a", &["gtm/openai"], provider.clone());
    proxy.ask(0, 2);
    until("both slots are taken", || proxy.kept() == 2).await;
    world.stop().await;

    drop(proxy);
    world.pods.apply(Event::Delete(object("gtm", "pod-1")));
    world.run(folder.path(), Vec::new(), None).await;
    world.limiter().pod_deleted(uid("pod-1")).await.unwrap();
    world.configure(vec![slots("gtm/openai")]).await;
    let next = world.pod("gtm", "pod-2");
    let next = Proxy::start(&world, (8, &next), "gtm/Job/a", &["gtm/openai"]);
    next.ask(0, 2);
    until("the next pod draws", || next.granted(0) == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_a_deleted_pod_ends_and_its_number_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), vec![quota("gtm/openai", 50)]).await;
    let token = world.pod("gtm", "pod-1");
    let proxy = Proxy::start(&world, (7, &token), "gtm/Job/a", &["gtm/openai"]);
    proxy.ask(0, 1);
    until("it draws", || proxy.granted(0) == 1).await;
    world.settled("gtm/openai").await;

    world.pods.apply(Event::Delete(object("gtm", "pod-1")));
    world.limiter().pod_deleted(uid("pod-1")).await.unwrap();
    until("its token opens no session any more", || world.cluster.reviews() >= 1).await;
    assert_eq!(world.account("gtm/openai").await.proxies.connected, 0);

    // Should another pod draw the same number, it is a session of its own.
    let next = world.pod("gtm", "pod-2");
    let next = Proxy::start(&world, (7, &next), "gtm/Job/a", &["gtm/openai"]);
    next.ask(0, 1);
    until("the next pod draws", || next.granted(0) == 1).await;
    drop(proxy);
}
