//! A program that can make no call may end within a second, and its pod with it: what its proxy has seen is reported all
//! the same.

use quotakeeper_wire::message::NoticeKind;
use quotakeeper_wire::status::AccountReport;
use test_support::wait::until;

use crate::proxy::Proxy;
use crate::world::{World, quota};

const QUOTA: &str = "gtm/openai";

async fn reported(world: &World, what: &str, so: impl Fn(&AccountReport) -> bool) -> AccountReport {
    for _ in 0..6000 {
        let account = world.account(QUOTA).await;
        if so(&account) {
            return account;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_has_seen_is_reported_after_it_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), vec![quota(QUOTA, 1000)]).await;
    let [short, long] = ["short", "long"].map(|pod| {
        let (number, token) = (pod.len() as u64, world.pod("gtm", pod));
        Proxy::start(&world, (number, &token), &format!("gtm/Job/{pod}"), &[QUOTA])
    });
    until("both are welcome", || short.in_force(0).is_some() && long.in_force(0).is_some()).await;
    short.notice(0, NoticeKind::DistrustedCa);
    long.notice(0, NoticeKind::DistrustedCa);
    long.notice(0, NoticeKind::NoCalls);
    reported(&world, "three notices", |account| {
        account.notices.iter().map(|notice| notice.proxies).sum::<u32>() == 3
    })
    .await;
    short.leave();
    long.leave();
    let account = reported(&world, "both have left", |account| account.proxies.connected == 0).await;
    let told: Vec<_> = account.notices.iter().map(|it| (&*it.consumer, it.kind, it.proxies)).collect();
    let (long, short) = ("gtm/Job/long", "gtm/Job/short");
    let (distrusted, no_calls) = (NoticeKind::DistrustedCa, NoticeKind::NoCalls);
    assert_eq!(told, [(long, distrusted, 1), (long, no_calls, 1), (short, distrusted, 1)]);
}
