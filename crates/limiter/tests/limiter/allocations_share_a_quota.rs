//! Which part of a quota a pod draws on is decided by its labels, whatever its proxy says.

use kube::runtime::watcher::Event;
use quotakeeper_engine::sharing::{AllocationConfig, Priority};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::allocation::AllocationPods;
use test_support::wait::until;

use crate::cluster::object;
use crate::proxy::Proxy;
use crate::world::{World, quota};

/// An allocation of the pods with this label `app`, of which `percent` percent may be used.
fn with_allocation(mut account: CompiledAccount, app: &str, percent: u32) -> CompiledAccount {
    account.engine.sharing.allocations.push(AllocationConfig {
        name: app.into(),
        weight: 1,
        guaranteed_percent: 0,
        max_percent: percent,
        priority: Priority::Normal,
        limits: Vec::new(),
    });
    account.allocations.push(AllocationPods {
        allocation: app.into(),
        namespaces: None,
        labels: [("app".to_owned(), app.to_owned())].into(),
        expressions: Vec::new(),
    });
    account
}

fn labelled(world: &World, pod: &str, app: &str) -> String {
    let mut known = object("gtm", pod);
    known.metadata.labels.get_or_insert_default().insert("app".to_owned(), app.to_owned());
    world.pods.apply(Event::Apply(known));
    world.cluster.token("gtm", pod)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_draws_on_the_allocation_of_its_labels_and_status_says_what_each_uses() {
    let folder = tempfile::tempdir().unwrap();
    let account = with_allocation(with_allocation(quota("gtm/openai", 50), "nightly", 10), "chat", 100);
    let world = World::start(folder.path(), vec![account]).await;
    let (nightly, chat) = (labelled(&world, "nightly", "nightly"), labelled(&world, "chat", "chat"));
    let nightly = Proxy::start(&world, (1, &nightly), "gtm/Job/nightly", &["gtm/openai"]);
    let chat = Proxy::start(&world, (2, &chat), "gtm/Job/chat", &["gtm/openai"]);
    until("both are welcome", || nightly.in_force(0).is_some() && chat.in_force(0).is_some()).await;
    assert!(chat.in_force(0).unwrap().allocations.is_empty(), "proxies aren't told whose pods others are");

    nightly.ask(0, 20);
    until("its part of five is used", || nightly.granted(0) == 5).await;
    world.waiting("gtm/openai", 15).await;
    chat.ask(0, 10);
    until("the other's calls pass", || chat.granted(0) == 10).await;
    assert_eq!(nightly.granted(0), 5);

    let status = world.account("gtm/openai").await.status;
    let used: Vec<_> = status
        .allocations
        .iter()
        .map(|it| (it.name.as_str(), it.waiting, it.limits[0].used, it.limits[0].amount))
        .collect();
    assert_eq!(used, [("nightly", 15, 5, 5), ("chat", 0, 10, 50)]);
}
