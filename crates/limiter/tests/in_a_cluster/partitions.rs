//! Limiters that are cut off from the API server, each alone or both, while proxies reach them.

use std::sync::Arc;
use std::time::Duration;

use quotakeeper_wire::account::CompiledAccount;
use test_support::accounts::requests;
use test_support::certificates::Ca;
use test_support::wait::until;

use super::proxy::{Provider, Proxy};
use super::world::quota;
use super::{ALONE, Limiter, NAMESPACE, install, kubectl, pod, write_account, write_certificate};

const WINDOW: Duration = Duration::from_secs(8);
const AMOUNT: u64 = 40;
/// What is granted without the Lease, in percent.
const OFFLINE: u32 = 25;
const OFFLINE_AMOUNT: u64 = 10;

/// A quota of a short window, all of which may come at once.
fn short(name: &str) -> CompiledAccount {
    let mut account = quota(name, AMOUNT);
    account.engine.limits = vec![requests(AMOUNT, WINDOW)];
    account
}

/// Two limiters, the first active, that reach the API server by links of their own.
async fn two(names: [&'static str; 2], offline: Option<(u32, u32)>) -> [Limiter; 2] {
    install();
    let ca = Arc::new(Ca::new());
    write_certificate(&ca);
    let new = |name| {
        let mut limiter = Limiter::new(ca.clone(), name, Some(3));
        limiter.offline = offline;
        limiter
    };
    let mut limiters = [new(names[0]).by_a_link().await, new(names[1]).by_a_link().await];
    limiters[0].spawn();
    until("the first is active", || is_active(&limiters[0])).await;
    limiters[1].spawn();
    limiters[1].ready().await;
    until("the second is on standby", || is_on_standby(&limiters[1])).await;
    limiters
}

fn is_active(limiter: &Limiter) -> bool {
    limiter.metric("quotakeeper_limiter_active 1")
}

fn is_on_standby(limiter: &Limiter) -> bool {
    limiter.metric("quotakeeper_limiter_active 0")
}

fn is_degraded(limiter: &Limiter, reason: &str) -> bool {
    limiter.metric(&format!(r#"quotakeeper_limiter_degraded{{reason="{reason}"}} 1"#))
}

fn judge(provider: &Provider) {
    let most = provider.most_within(WINDOW);
    println!("{} calls, at most {most} of {AMOUNT} in a window", provider.counted());
    assert!(most <= usize::try_from(AMOUNT).unwrap(), "{most} of {AMOUNT} in a window");
}

/// It is not told, and proxies stay connected to it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make cluster-test"]
async fn an_active_limiter_that_is_cut_off_grants_nothing_beside_another() {
    let _alone = ALONE.lock().await;
    let limiters = two(["limiter-e", "limiter-f"], None).await;
    let [a, b] = &limiters;
    write_account(&short("gtm/cut"));
    let provider = Provider::silent();
    let (one, other) = (pod("cut-1", true), pod("cut-2", true));
    let stays = Proxy::drawing(a, (41, &one), "gtm/Job/cut-1", &["gtm/cut"], provider.clone());
    stays.ask(0, 5);
    until("its calls are granted", || stays.granted(0) == 5).await;
    a.cut_off(true);
    stays.ask(0, 2000);
    until("the other is active", || is_active(b)).await;
    let granted = stays.granted(0);
    let comes = Proxy::drawing(b, (42, &other), "gtm/Job/cut-2", &["gtm/cut"], provider.clone());
    comes.ask(0, 300);
    until("the other grants", || comes.granted(0) >= 100).await;
    judge(&provider);
    let since = stays.granted(0) - granted;
    a.cut_off(false);
    until("the first knows that it is on standby", || is_on_standby(a)).await;
    until("its proxy has found the other", || stays.newest_epoch() == comes.newest_epoch()).await;
    let before = stays.granted(0);
    until("its proxy's calls are granted by the other", || stays.granted(0) > before + 20).await;
    judge(&provider);
    println!("{since} calls of the proxy that stayed were granted meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make cluster-test"]
async fn an_active_limiter_that_is_cut_off_goes_on_with_its_part_beside_another() {
    let _alone = ALONE.lock().await;
    let limiters = two(["limiter-g", "limiter-h"], Some((OFFLINE, 30))).await;
    let [a, b] = &limiters;
    let mut account = short("gtm/part");
    // What another has granted is left out until no call can be under way.
    account.engine.pause.max_call = Duration::from_secs(5);
    write_account(&account);
    let provider = Provider::silent();
    let (one, other) = (pod("part-1", true), pod("part-2", true));
    let stays = Proxy::drawing(a, (43, &one), "gtm/Job/part-1", &["gtm/part"], provider.clone());
    stays.ask(0, 5);
    until("its calls are granted", || stays.granted(0) == 5).await;
    a.cut_off(true);
    until("it goes on with a part", || is_degraded(a, "Offline")).await;
    until("the other is active", || is_active(b)).await;
    assert!(is_active(a) && is_degraded(b, "OfflinePartLeftOut"));
    let epoch = stays.newest_epoch();
    let comes = Proxy::drawing(b, (44, &other), "gtm/Job/part-2", &["gtm/part"], provider.clone());
    let granted = stays.granted(0);
    stays.ask(0, 1000);
    comes.ask(0, 1000);
    until("both grant", || stays.granted(0) >= granted + 2 * OFFLINE_AMOUNT && comes.granted(0) >= 60).await;
    assert_eq!(stays.newest_epoch(), epoch, "by the one that is cut off");
    assert!(comes.newest_epoch() > epoch);
    judge(&provider);

    // It comes back, and is on standby; when its part can count no more the other grants all.
    a.cut_off(false);
    until("the first knows that it is on standby", || is_on_standby(a)).await;
    until("nothing is left out any more", || !is_degraded(b, "OfflinePartLeftOut")).await;
    let lease = ["get", "lease", "quotakeeper-limiter", "-n", NAMESPACE, "-o"];
    let of_lease = |path: &str| kubectl(&[&lease[..], &[path]].concat());
    until("the other may go on without the Lease now", || {
        let claim = of_lease(r"jsonpath={.metadata.annotations.quotakeeper\.dev/offline}");
        let epoch = of_lease(r"jsonpath={.metadata.annotations.quotakeeper\.dev/epoch}");
        claim == format!("{epoch} {OFFLINE} 30")
    })
    .await;
    judge(&provider);
}

/// As when the API server is stopped: nobody takes over, and the active one is whole again when it is back.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make cluster-test"]
async fn without_the_api_server_the_active_limiter_goes_on_with_its_part() {
    let _alone = ALONE.lock().await;
    let limiters = two(["limiter-i", "limiter-j"], Some((OFFLINE, 600))).await;
    let [a, b] = &limiters;
    write_account(&short("gtm/away"));
    let provider = Provider::silent();
    let token = pod("away", true);
    let proxy = Proxy::drawing(a, (45, &token), "gtm/Job/away", &["gtm/away"], provider.clone());
    proxy.ask(0, 5);
    until("its calls are granted", || proxy.granted(0) == 5).await;
    let epoch = proxy.newest_epoch();
    limiters.iter().for_each(|limiter| limiter.cut_off(true));
    until("it goes on with a part", || is_degraded(a, "Offline")).await;
    let granted = proxy.granted(0);
    proxy.ask(0, 1000);
    until("its part is granted", || proxy.granted(0) >= granted + 3 * OFFLINE_AMOUNT).await;
    assert!(is_active(a) && is_on_standby(b));
    assert_eq!(proxy.newest_epoch(), epoch);
    judge(&provider);
    limiters.iter().for_each(|limiter| limiter.cut_off(false));
    until("it has its Lease again", || !is_degraded(a, "Offline")).await;
    let granted = proxy.granted(0);
    until("all of the quota is granted", || proxy.granted(0) >= granted + 2 * AMOUNT).await;
    assert_eq!(proxy.newest_epoch(), epoch);
    judge(&provider);
}
