//! Two limiters with one Lease: one is active, and the other takes over when it is killed, stands still, or ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use quotakeeper_engine::config::{LimitConfig, Unit};
use quotakeeper_wire::gate;
use serde_json::json;
use test_support::accounts::requests;
use test_support::certificates::Ca;
use test_support::kubectl::apply;
use test_support::wait::until;

use super::proxy::{Provider, Proxy};
use super::world::{admitting, quota};
use super::{
    ALONE, AMOUNT, Limiter, NAMESPACE, install, kubectl, pod, write_account, write_certificate, write_pod,
};

const QUOTA: &str = "gtm/two";

fn is_active(limiter: &Limiter) -> bool {
    limiter.metric("quotakeeper_limiter_active 1")
}

fn is_on_standby(limiter: &Limiter) -> bool {
    limiter.metric("quotakeeper_limiter_active 0")
}

fn took_over(limiter: &Limiter, how: &str) -> bool {
    limiter.metric(&format!(r#"quotakeeper_limiter_began{{how="{how}"}} 1"#))
}

/// A pod of another namespace that says of itself that it was injected.
fn write_stranger() {
    apply(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "stranger", "namespace": NAMESPACE, "labels": {"quotakeeper.dev/injected": "true"},
        },
        "spec": {
            "serviceAccountName": "quotakeeper-limiter", "automountServiceAccountToken": false, "nodeName": "node",
            "containers": [{"name": "app", "image": "localhost/none:1"}],
        },
    }));
}

/// Every call passes from now on.
fn open_gate() {
    apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": gate::NAME, "namespace": NAMESPACE},
        "data": gate::Opening::beginning(Timestamp::now()).data(),
    }));
}

/// Who holds the Lease, or nobody, or there is none.
fn holder() -> String {
    let holder = "jsonpath={.spec.holderIdentity}";
    kubectl(&["get", "lease", "quotakeeper-limiter", "-n", NAMESPACE, "--ignore-not-found", "-o", holder])
}

/// Asks for some calls and waits until they are granted by the limiter of an epoch after this one.
async fn goes_on(what: &str, proxy: &Proxy, provider: &Provider, since: Instant, epoch: u64) {
    let before = provider.counted();
    proxy.ask(0, 3);
    until("calls are granted", || provider.counted() >= before + 3).await;
    assert!(provider.counted() <= AMOUNT, "{} of {AMOUNT}", provider.counted());
    println!(
        "{what}: three calls were granted after {:?}; epochs {epoch} to {}",
        since.elapsed(),
        proxy.newest_epoch()
    );
    assert!(proxy.newest_epoch() > epoch, "{what}: another limiter granted them");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make cluster-test"]
async fn of_two_limiters_one_is_active() {
    let _alone = ALONE.lock().await;
    install();
    let ca = Arc::new(Ca::new());
    write_certificate(&ca);
    let mut account = quota(QUOTA, AMOUNT);
    let slots = LimitConfig { unit: Unit::ConcurrentRequests, ..requests(3, Duration::ZERO) };
    account.engine.limits.push(LimitConfig { name: "slots".to_owned(), ..slots });
    write_account(&admitting(account, &["gtm"]));
    // They were granted nothing that a limiter would have to hold slots for: the one runs nowhere, the other is a
    // stranger's.
    write_pod("nowhere", true, None);
    write_stranger();
    let mut limiters = ["limiter-a", "limiter-b"].map(|identity| Limiter::new(ca.clone(), identity, Some(3)));
    let [a, b] = &mut limiters;
    a.spawn();
    until("the first is active", || is_active(a)).await;
    b.spawn();
    b.ready().await;
    until("the second is on standby", || is_on_standby(b)).await;

    // It knows the one on standby alone.
    let provider = Provider::of(AMOUNT);
    let token = pod("two", true);
    let proxy = Proxy::drawing(b, (31, &token), "gtm/Job/two", &[QUOTA], provider.clone());
    proxy.ask(0, 5);
    until("its calls are granted by the active one", || provider.counted() == 5).await;
    assert!(is_active(a) && is_on_standby(b));

    let (since, epoch) = (Instant::now(), proxy.newest_epoch());
    a.kill();
    goes_on("killed", &proxy, &provider, since, epoch).await;
    assert!(is_active(b) && took_over(b, "Takeover"));
    a.spawn();
    until("the first is on standby", || is_on_standby(a)).await;

    // One that stands still for longer than its Lease grants nothing when it goes on.
    let (since, epoch) = (Instant::now(), proxy.newest_epoch());
    b.signal("-STOP");
    goes_on("stopped", &proxy, &provider, since, epoch).await;
    assert!(is_active(a));
    b.signal("-CONT");
    until("the second knows that it is on standby", || is_on_standby(b)).await;
    assert!(is_active(a));

    until("the second waits for its state", || a.metric("quotakeeper_limiter_standbys 1")).await;
    let (since, epoch) = (Instant::now(), proxy.newest_epoch());
    a.stop();
    goes_on("ended", &proxy, &provider, since, epoch).await;
    assert!(is_active(b) && took_over(b, "Handover"));

    // A process that is killed and starts again in its pod goes on with its ledger, and does not wait for its own Lease.
    let (since, epoch) = (Instant::now(), proxy.newest_epoch());
    b.kill();
    b.spawn();
    goes_on("restarted", &proxy, &provider, since, epoch).await;
    assert_eq!(holder(), "limiter-b");
    b.stop();
    assert_eq!(holder(), "", "it was given up");
}

/// As when `limiter.replicas` is raised from 1: the one that is there holds no Lease that it would have to renew.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make cluster-test"]
async fn one_that_renews_no_lease_is_followed_when_its_pod_is_gone() {
    let _alone = ALONE.lock().await;
    install();
    let ca = Arc::new(Ca::new());
    write_certificate(&ca);
    write_account(&quota(QUOTA, AMOUNT));
    apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "limiter-q", "namespace": NAMESPACE},
        "spec": {
            "serviceAccountName": "quotakeeper-limiter", "automountServiceAccountToken": false,
            "containers": [{"name": "limiter", "image": "localhost/none:1"}],
        },
    }));
    let mut alone = Limiter::new(ca.clone(), "limiter-q", None);
    let mut next = Limiter::new(ca.clone(), "limiter-r", Some(3));
    alone.spawn();
    until("the first is active", || is_active(&alone)).await;
    next.spawn();
    next.ready().await;
    until("the second is on standby", || is_on_standby(&next)).await;
    let provider = Provider::of(AMOUNT);
    let token = pod("raised", true);
    let proxy = Proxy::drawing(&next, (35, &token), "gtm/Job/raised", &[QUOTA], provider.clone());
    proxy.ask(0, 5);
    until("the first grants", || provider.counted() == 5).await;
    alone.stop();
    assert!(is_on_standby(&next), "its pod is there");
    kubectl(&["delete", "pod", "limiter-q", "-n", NAMESPACE, "--grace-period=0", "--force"]);
    let (since, epoch) = (Instant::now(), proxy.newest_epoch());
    goes_on("raised", &proxy, &provider, since, epoch).await;
    assert!(is_active(&next) && took_over(&next, "Takeover"));
}

/// What it said still holds: the active one writes it again, and the other takes it no sooner than if it were there, and
/// knows that another has granted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make cluster-test"]
async fn a_lease_that_is_deleted_makes_no_limiter_active() {
    let _alone = ALONE.lock().await;
    install();
    let ca = Arc::new(Ca::new());
    write_certificate(&ca);
    write_account(&quota(QUOTA, AMOUNT));
    let mut limiters = ["limiter-m", "limiter-n"].map(|identity| Limiter::new(ca.clone(), identity, Some(3)));
    let [a, b] = &mut limiters;
    a.spawn();
    until("the first is active", || is_active(a)).await;
    b.spawn();
    until("the second waits for its state", || a.metric("quotakeeper_limiter_standbys 1")).await;
    let provider = Provider::of(AMOUNT);
    let token = pod("deleted", true);
    let proxy = Proxy::drawing(b, (33, &token), "gtm/Job/deleted", &[QUOTA], provider.clone());
    proxy.ask(0, 5);
    until("its calls are granted", || provider.counted() == 5).await;

    let epoch = proxy.newest_epoch();
    for deleted in 1..=3 {
        kubectl(&["delete", "lease", "quotakeeper-limiter", "-n", NAMESPACE]);
        until("the first has written it again", || holder() == "limiter-m").await;
        proxy.ask(0, 1);
        until("it grants", || provider.counted() == 5 + deleted).await;
    }
    assert!(is_active(a) && is_on_standby(b));
    assert_eq!(proxy.newest_epoch(), epoch, "nothing has begun anew");

    // Nobody writes it again now.
    a.signal("-STOP");
    kubectl(&["delete", "lease", "quotakeeper-limiter", "-n", NAMESPACE]);
    until("the second is active", || is_active(b)).await;
    assert!(took_over(b, "Takeover"), "it knows that another has granted");
    a.signal("-CONT");
    until("the first knows that it is on standby", || is_on_standby(a)).await;
    goes_on("deleted", &proxy, &provider, Instant::now(), epoch).await;
    assert_eq!(holder(), "limiter-n");
}

/// Of a window without a checkpoint, which a successor otherwise takes for used.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make cluster-test"]
async fn a_limiter_that_ends_hands_over_all_that_it_knows() {
    let _alone = ALONE.lock().await;
    install();
    let ca = Arc::new(Ca::new());
    write_certificate(&ca);
    let (amount, window) = (40, Duration::from_secs(600));
    let mut account = quota("gtm/handed", amount);
    account.engine.limits = vec![requests(amount, window)];
    let mut limiters = ["limiter-c", "limiter-d"].map(|identity| Limiter::new(ca.clone(), identity, Some(3)));
    limiters[0].spawn();
    until("the first is active", || is_active(&limiters[0])).await;
    // Later than all limiters before this one, by any clock: nothing was used until then.
    account.in_force_since = Some(Timestamp::now() + SignedDuration::from_secs(10));
    write_account(&account);
    limiters[1].spawn();
    limiters[1].ready().await;
    let provider = Provider::silent();
    let token = pod("handed", true);
    let proxy =
        Proxy::drawing(&limiters[1], (32, &token), "gtm/Job/handed", &["gtm/handed"], provider.clone());
    let mut asked = 0;
    for round in 0..6 {
        let [first, second] = &mut limiters;
        let (active, other) = if round % 2 == 0 { (first, second) } else { (second, first) };
        until("the other is on standby", || is_on_standby(other)).await;
        asked += 6;
        proxy.ask(0, 6);
        until("calls are granted", || provider.counted() == asked.min(amount)).await;
        until("the other waits for its state", || active.metric("quotakeeper_limiter_standbys 1")).await;
        let (since, epoch) = (Instant::now(), proxy.newest_epoch());
        active.stop();
        proxy.ask(0, 1);
        asked += 1;
        until("calls are granted", || provider.counted() == asked.min(amount)).await;
        println!("handed over: a call was granted after {:?}", since.elapsed());
        until("the other is active", || is_active(other)).await;
        assert!(took_over(other, "Handover"));
        until("the proxy has found it", || proxy.newest_epoch() > epoch).await;
        active.spawn();
        if round == 2 {
            // Killed after a handover: it goes on with what it has on its own disk.
            other.kill();
            other.spawn();
            until("it is active again", || is_active(other)).await;
            assert!(took_over(other, "Restart"));
        }
    }
    let waiting = format!(r#"quotakeeper_limiter_waiting_calls{{quota="gtm/handed"}} {}"#, asked - amount);
    until("it knows of all calls that it may not grant", || limiters[0].metric(&waiting)).await;
    assert_eq!(provider.counted(), amount);
}

/// An uninstall opens the gate, and deletes everything then, in any order.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make cluster-test"]
async fn calls_pass_while_an_uninstall_deletes_everything() {
    let _alone = ALONE.lock().await;
    install();
    let ca = Arc::new(Ca::new());
    write_certificate(&ca);
    write_account(&quota("gtm/gone", 1));
    let mut limiters = ["limiter-o", "limiter-p"].map(|identity| Limiter::new(ca.clone(), identity, Some(3)));
    let [a, b] = &mut limiters;
    a.spawn();
    until("the first is active", || is_active(a)).await;
    b.spawn();
    until("the second waits for its state", || a.metric("quotakeeper_limiter_standbys 1")).await;
    let provider = Provider::silent();
    let token = pod("uninstalled", true);
    let proxy = Proxy::drawing(a, (34, &token), "gtm/Job/uninstalled", &["gtm/gone"], provider.clone());
    proxy.ask(0, 4);
    until("one call is granted", || provider.counted() > 0).await;
    open_gate();
    until("the others pass", || provider.counted() == 4).await;
    let epoch = proxy.newest_epoch();
    for round in 1..=5 {
        kubectl(&["delete", "lease", "quotakeeper-limiter", "-n", NAMESPACE]);
        if round == 1 {
            kubectl(&["delete", "configmap", "quotakeeper-account-gtm-gone", "-n", NAMESPACE]);
        }
        until("it is written again", || holder() == "limiter-o").await;
        proxy.ask(0, 2);
        until("they pass", || provider.counted() == 4 + 2 * round).await;
    }
    assert_eq!(proxy.newest_epoch(), epoch, "nothing has begun anew");
    a.stop();
    b.stop();
}

/// An uninstall opens the gate, and then ends all limiters: none is asked to go on. Calls pass meanwhile.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make cluster-test"]
async fn a_limiter_that_ends_while_the_gate_is_open_hands_nothing_over() {
    let _alone = ALONE.lock().await;
    install();
    let ca = Arc::new(Ca::new());
    write_certificate(&ca);
    let mut limiters = ["limiter-k", "limiter-l"].map(|identity| Limiter::new(ca.clone(), identity, Some(3)));
    let [a, b] = &mut limiters;
    a.spawn();
    until("the first is active", || is_active(a)).await;
    b.spawn();
    until("the second waits for its state", || a.metric("quotakeeper_limiter_standbys 1")).await;
    open_gate();
    let open = r#"quotakeeper_limiter_degraded{reason="GateOpen"} 1"#;
    until("the gate is open", || a.metric(open)).await;
    a.stop();
    assert_eq!(holder(), "limiter-k", "it was not given up");
    until("the second takes over", || is_active(b)).await;
    assert!(took_over(b, "Takeover"));
    kubectl(&["delete", "configmap", gate::NAME, "-n", NAMESPACE]);
    b.stop();
}
