//! However clients come and go, every slot of the quota comes back.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use counting_provider::Rules;
use http_body_util::BodyExt;
use quotakeeper_engine::config::Unit;

use crate::client::Client;
use crate::{client, limiter, world};

const SLOTS: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn after_four_hundred_calls_of_impatient_clients_all_slots_are_free() {
    let (provider, url) = world::provider().await;
    let rules = Rules { answer_millis: Some(20), stream_millis: Some(5), ..Rules::default() };
    world::set_limit(&provider, 100_000, Duration::from_secs(1));
    provider.set_rules("key", rules).unwrap();
    let mut slots = world::limit(SLOTS, Duration::from_secs(1));
    slots.unit = Unit::ConcurrentRequests;
    let quota = world::engine(vec![slots]);
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let address = proxy.base_url_addr();
    let random = RandomState::new();

    let clients: Vec<_> = (0..400_u64)
        .map(|number| {
            let dice = random.hash_one(number);
            tokio::spawn(async move {
                let http2 = dice % 2 == 0;
                let mut client = match http2 {
                    true => Client::http2(address).await,
                    false => Client::http1(address).await,
                };
                let path = if http2 { "http://127.0.0.1:15801/openai" } else { "/openai" };
                let stream =
                    r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
                let path = format!("{path}/v1/chat/completions");
                let call = async {
                    let request = client::request("POST", &path, stream);
                    let answer = client.begin(request).await.unwrap();
                    answer.into_body().collect().await.unwrap();
                };
                // From before the question to after the answer.
                let patience = Duration::from_millis(dice / 2 % 3000);
                tokio::time::timeout(patience, call).await.is_ok()
            })
        })
        .collect();
    let mut served = 0;
    for client in clients {
        served += u64::from(client.await.unwrap());
    }
    println!("{served} clients were patient enough");
    world::until("all calls are over", || proxy.stats().ended == proxy.stats().calls).await;
    let stats = proxy.stats();
    assert_eq!((stats.waiting, stats.failed, stats.refused), (0, 0, 0), "{stats:?}");
    assert!(stats.client_gone > 0 && stats.sent > SLOTS, "{stats:?}");

    // All slots are used at the same time again: a leaked one would make the last of these wait for ever.
    let slow = Rules { answer_millis: Some(1500), ..Rules::default() };
    provider.set_rules("key", slow).unwrap();
    let before = provider.log("key").len();
    let calls: Vec<_> = (0..SLOTS)
        .map(|_| {
            tokio::spawn(async move {
                let ask = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#;
                let request = client::request("POST", "/openai/v1/chat/completions", ask);
                client::send(address, request).await.status
            })
        })
        .collect();
    world::until("all slots are used", || provider.log("key").len() == before + SLOTS as usize).await;
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
}
