//! Many large bodies wait at the same time: memory and disk bound what is read of them, and all are answered.

use std::time::Duration;

use counting_provider::Verdict;
use quotakeeper_proxy::BodyBounds;

use crate::{client, limiter, world};

const BODIES: u64 = 40;
/// 1/16 of what providers take: the bounds are smaller in proportion.
const BODY: usize = 2 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn forty_bodies_are_answered_although_few_have_room_at_once() {
    let (provider, url) = world::provider().await;
    let quota = world::engine(vec![world::limit(20, Duration::from_secs(1))]);
    let folder = tempfile::tempdir().unwrap();
    let mut settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    settings.bodies = BodyBounds {
        memory: 8 << 20,
        disk: 40 << 20,
        folder: Some(folder.path().to_owned()),
        ..BodyBounds::default()
    };
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..BODIES {
        let text = format!(r#"{{"messages":[{{"content":"{}"}}],"model":"gpt-4o"}}"#, "A".repeat(BODY));
        let mut request = client::request("POST", "/openai/v1/chat/completions", "");
        *request.body_mut() = client::body(text);
        calls.spawn(client::send(proxy.base_url_addr(), request));
    }
    for got in calls.join_all().await {
        assert_eq!(got.status, 200, "{}", got.text());
    }
    let log = provider.log("key");
    assert_eq!(log.iter().filter(|entry| entry.verdict == Verdict::Ok).count() as u64, BODIES);
    assert!(log.iter().all(|entry| entry.model.as_deref() == Some("gpt-4o")));
}
