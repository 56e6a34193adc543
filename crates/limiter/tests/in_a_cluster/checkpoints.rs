//! What the limiter stores of an hour in the Kubernetes API, and what becomes of the hour when ledgers and checkpoints
//! get lost.

use jiff::{SignedDuration, Timestamp};
use quotakeeper_wire::account::CompiledAccount;
use serde_json::{Value, json};
use test_support::kubectl::{apply, get};
use test_support::wait::until;

use super::proxy::{Provider, Proxy};
use super::world::quota;
use super::{Limiter, NAMESPACE, kubectl, pod, write_account};

/// An account that came into force just now, with 200 calls an hour.
fn hourly(name: &str) -> CompiledAccount {
    let in_force_since = Some(Timestamp::now() + SignedDuration::from_secs(10));
    CompiledAccount { in_force_since, ..quota(name, 200) }
}

/// The ConfigMap with a quota's checkpoint.
fn stored(quota: &str) -> Value {
    let maps = get(&["configmaps", "-n", NAMESPACE, "-l", "quotakeeper.dev/config=checkpoint"]);
    let of_quota = |map: &&Value| map["metadata"]["annotations"]["quotakeeper.dev/quota"] == quota;
    maps["items"].as_array().unwrap().iter().find(of_quota).unwrap().clone()
}

fn document(map: &Value) -> Value {
    serde_json::from_str(map["data"]["checkpoint.json"].as_str().unwrap()).unwrap()
}

fn number(map: &Value) -> u64 {
    document(map)["number"].as_u64().unwrap()
}

/// It knows of all calls that it may not grant.
async fn all_wait(limiter: &Limiter, quota: &str, asked: u64, provider: &Provider) {
    let line = |left: u64| format!(r#"quotakeeper_limiter_waiting_calls{{quota="{quota}"}} {left}"#);
    until("it knows of all calls that it may not grant", || {
        limiter.metric(&line(asked - provider.counted()))
    })
    .await;
}

/// Somebody restores an older checkpoint, whose number is lower than the one that the account's document tells.
pub async fn a_rolled_back_one_closes_the_window(limiter: &mut Limiter) {
    const QUOTA: &str = "gtm/backup";
    let account = hourly(QUOTA);
    write_account(&account);
    let silent = Provider::silent();
    let token = pod("backup", true);
    let proxy = Proxy::drawing(limiter, (21, &token), "gtm/Job/backup", &[QUOTA], silent.clone());
    proxy.ask(0, 40);
    until("some calls are granted", || silent.counted() == 40).await;
    let backup = stored(QUOTA);
    proxy.ask(0, 80);
    until("more calls are granted", || silent.counted() == 120).await;
    let told = number(&stored(QUOTA));
    assert!(told > number(&backup));

    let restored = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": backup["data"],
        "metadata": {
            "name": backup["metadata"]["name"], "namespace": NAMESPACE,
            "labels": backup["metadata"]["labels"], "annotations": backup["metadata"]["annotations"],
        },
    });
    let name = restored["metadata"]["name"].as_str().unwrap();
    let restore = || {
        kubectl(&["delete", "configmap", name, "-n", NAMESPACE]);
        apply(&restored);
        write_account(&CompiledAccount { checkpoint: Some(told), ..account });
    };
    limiter.lose_ledger(&proxy, restore).await;
    proxy.ask(0, 50);
    until("one call asks the provider", || silent.counted() == 121).await;
    all_wait(limiter, QUOTA, 170, &silent).await;
    assert_eq!(silent.counted(), 121);
    until("it is the newest from now on", || number(&stored(QUOTA)) > told).await;
}

/// Twice in mid-campaign the process is killed and its ledger deleted; then the limit gets another name, and the quota is
/// deleted and applied again. The checkpoint says what is left of the hour: no call beyond it is granted, and no more of
/// it is lost than two blocks. Returns the epoch before the last start.
pub async fn lost_ledgers_reopen_no_window(limiter: &mut Limiter) -> u64 {
    const QUOTA: &str = "gtm/hourly";
    const ASKED: u64 = 400;
    let mut account = hourly(QUOTA);
    write_account(&account);
    let silent = Provider::silent();
    let token = pod("hourly", true);
    let proxy = Proxy::drawing(limiter, (20, &token), "gtm/Job/hourly", &[QUOTA], silent.clone());
    proxy.ask(0, usize::try_from(ASKED).unwrap());
    for granted in [60, 120] {
        until("the campaign is under way", || silent.counted() > granted).await;
        limiter.lose_ledger(&proxy, || {}).await;
    }
    until("most of the hour is used", || silent.counted() >= 200 - 2 * 13 - 2).await;
    all_wait(limiter, QUOTA, ASKED, &silent).await;
    let used = silent.counted();
    assert!(used <= 200, "{used}");

    // The checkpoint belongs to nobody, and an end in good order gives back what was charged ahead.
    let before = stored(QUOTA);
    assert_eq!(before["metadata"]["ownerReferences"], Value::Null);
    limiter.stop();
    let last = document(&stored(QUOTA));
    assert!(last["number"].as_u64().unwrap() > number(&before));
    assert_eq!(last["limits"][0]["counts"][0]["block"], 0);
    limiter.spawn();
    limiter.ready().await;
    let used = silent.counted();
    assert!(used <= 200, "{used}");

    // The limit is renamed while no limiter runs, and its ledger is lost.
    account.generation = 2;
    account.engine.limits[0].name = "per-hour".to_owned();
    limiter.lose_ledger(&proxy, || write_account(&account)).await;
    all_wait(limiter, QUOTA, ASKED, &silent).await;
    assert!(silent.counted() <= 200, "a renamed limit: {} after {used}", silent.counted());

    // The quota is deleted and applied again, and the ledger is lost meanwhile.
    kubectl(&["delete", "configmap", "quotakeeper-account-gtm-hourly", "-n", NAMESPACE]);
    until("it is absent", || proxy.absence(0).is_some()).await;
    let epoch = proxy.newest_epoch();
    limiter.lose_ledger(&proxy, || {}).await;
    until("it is absent still", || proxy.absence(0).is_some()).await;
    account.in_force_since = Some(Timestamp::now());
    write_account(&account);
    until("it is in force again", || proxy.in_force(0).is_some()).await;
    all_wait(limiter, QUOTA, ASKED, &silent).await;
    assert!(silent.counted() <= 200, "a quota that was applied again: {} after {used}", silent.counted());
    epoch
}
