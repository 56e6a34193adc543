//! A quota without a tier: the first answer tells the limits, no workload alone raises them for the others, and the next
//! limiter knows them.

use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::tier::{Share, TierBasis, TierLimits, UndeclaredTier};
use serde_json::json;
use std::time::Duration;
use test_support::accounts::requests;
use test_support::wait::until;

use crate::proxy::{Provider, Proxy};
use crate::world::{World, quota};

const QUOTA: &str = "gtm/openai";

/// An account of a provider with tiers of 5, 500 and 5,000 calls a minute.
fn undeclared() -> CompiledAccount {
    let amounts = [("small", 5), ("medium", 500), ("large", 5000)];
    let tier = |(name, amount): (&str, u64)| json!({"name": name, "limits": [{"name": "requests", "unit": "Requests", "amount": amount, "windowSeconds": 60}]});
    let profile = json!({
        "tiers": amounts.map(tier),
        "headers": [{"limit": "requests", "hard": "x-limit", "remaining": "x-remaining"}],
    });
    let enforced = |(name, amount): (&str, u64)| TierLimits {
        name: name.to_owned(),
        limits: vec![requests(amount, Duration::from_secs(60))],
        not_enforced: Vec::new(),
    };
    CompiledAccount {
        tier: "small".to_owned(),
        profile: serde_json::from_value(profile).unwrap(),
        undeclared: Some(UndeclaredTier {
            tiers: amounts.map(enforced).to_vec(),
            share: Share { percent: 100, reserve_percent: 0 },
            declared: Default::default(),
            told_by_answers: true,
        }),
        ..quota(QUOTA, 5)
    }
}

fn proxy(world: &World, number: u64, job: &str, told: u64) -> Proxy {
    let token = world.pod("gtm", &format!("pod-{number}"));
    Proxy::drawing(world, (number, &token), &format!("gtm/Job/{job}"), &[QUOTA], Provider::of(told))
}

/// The tier and the amount in force, as a proxy and as the operator know them.
async fn in_force(world: &World, proxy: &Proxy) -> (String, u64) {
    let account = world.account(QUOTA).await;
    let known = proxy.in_force(0).unwrap();
    assert_eq!(known.undeclared, None, "proxies are not told what else may come into force");
    let learned = account.learned.unwrap();
    assert_eq!((&known.tier, &known.engine.limits), (&learned.tier, &learned.limits));
    assert_eq!(known.tier, account.tier);
    (known.tier, known.engine.limits[0].amount)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_tells_and_a_second_workload_raises() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder.path(), vec![undeclared()]).await;
    let honest = proxy(&world, 1, "enrich", 500);
    until("it is in force", || honest.in_force(0).is_some()).await;
    assert_eq!(in_force(&world, &honest).await, ("small".to_owned(), 5));
    assert_eq!(world.account(QUOTA).await.learned.unwrap().basis, TierBasis::Assumed);
    honest.ask(0, 40);
    until("the first answer has opened the limit", || honest.granted(0) == 40).await;
    assert_eq!(in_force(&world, &honest).await, ("medium".to_owned(), 500));
    let sentence = world.account(QUOTA).await.learned.unwrap().sentence().unwrap();
    assert_eq!(sentence, "tier learned: medium, from x-limit 500 of 1 workload");

    let alone = proxy(&world, 2, "score", 5000);
    alone.ask(0, 20);
    until("it has been told more twenty times", || alone.granted(0) == 20).await;
    assert_eq!(
        in_force(&world, &honest).await,
        ("medium".to_owned(), 500),
        "one workload alone raises nothing"
    );

    let witness = proxy(&world, 3, "export", 5000);
    witness.ask(0, 1);
    until("the raise is sent", || honest.in_force(0).is_some_and(|it| it.tier == "large")).await;
    assert_eq!(in_force(&world, &honest).await, ("large".to_owned(), 5000));

    world.stop().await;
    let epoch = honest.newest_epoch();
    world.run(folder.path(), vec![undeclared()], None).await;
    until("it is back", || honest.newest_epoch() > epoch && honest.in_force(0).is_some()).await;
    assert_eq!(in_force(&world, &honest).await, ("large".to_owned(), 5000), "the ledger knows it");

    let declared = CompiledAccount { generation: 2, undeclared: None, ..undeclared() };
    world.configure(vec![declared]).await;
    until("the declared tier is in force", || honest.in_force(0).is_some_and(|it| it.tier == "small")).await;
    assert_eq!(world.account(QUOTA).await.learned, None, "a declared tier is never exceeded");
}
