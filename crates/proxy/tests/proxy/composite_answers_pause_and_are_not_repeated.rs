//! An answer of several parts, some of which a limit has rejected, reaches the client once, and the others pause. How
//! far behind the rejection stands, and how the answer is framed, makes no difference.

use std::collections::BTreeMap;

use counting_provider::Force;
use quotakeeper_proxy::Event;
use quotakeeper_wire::message::AccountUpdate;
use serde_json::{Value, json};

use crate::{client, limiter, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_part_behind_half_a_megabyte_pauses_the_others() {
    let (provider, url) = world::provider().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("hubspot", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let mut events = proxy.subscribe();
    let results = vec![json!({"id": "x".repeat(1000)}); 500];
    let body = json!({"results": results, "status": "COMPLETE", "errors": [{"category": "RATE_LIMITS"}]});
    // In this order: the errors stand last.
    let text = format!(
        r#"{{"results":{},"status":"COMPLETE","numErrors":1,"errors":{}}}"#,
        body["results"], body["errors"]
    );
    let headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
    let force = Force { status: 207, headers, body: Some(Value::String(text.clone())), ..Force::default() };
    provider.force(force).unwrap();
    let path = "/hubspot/crm/v3/objects/contacts/batch/read";
    let got = client::send(proxy.base_url_addr(), client::request("POST", path, r#"{"inputs":[]}"#)).await;
    assert_eq!((got.status.as_u16(), got.text() == text), (207, true));
    loop {
        if let Event::Quota { update: AccountUpdate::Paused { reason, .. }, .. } =
            events.recv().await.unwrap()
        {
            assert_eq!(reason, "RATE_LIMITS");
            break;
        }
    }
    assert_eq!((provider.log("key").len(), proxy.stats().forced), (1, 0), "it was sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_failed_for_want_of_room_pauses_the_queue_of_batches_alone() {
    let (provider, url) = world::provider().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let mut events = proxy.subscribe();
    let failed = |at: i64| {
        let error =
            json!({"code": "token_limit_exceeded", "message": "Enqueued token limit reached for gpt-4o."});
        let errors = json!({"object": "list", "data": [error]});
        let batch = json!({"object": "batch", "status": "failed", "failed_at": at, "errors": errors});
        provider.force(Force { status: 200, body: Some(batch), ..Force::default() }).unwrap();
    };
    let call = async |method, path, body| {
        let mut request = client::request(method, path, body);
        request.headers_mut().insert("x-quotakeeper-patience", "5".parse().unwrap());
        client::send(proxy.base_url_addr(), request).await
    };
    let poll = async || call("GET", "/openai/v1/batches/batch_1", "").await;
    let now = jiff::Timestamp::now().as_second();
    // One that failed yesterday says nothing of now.
    failed(now - 86_400);
    assert!(poll().await.text().contains("token_limit_exceeded"));
    let submitted = call("POST", "/openai/v1/batches", "{}").await;
    assert_eq!(submitted.header("x-quotakeeper-reason"), None, "{}", submitted.text());
    failed(now);
    assert!(poll().await.text().contains("token_limit_exceeded"));
    loop {
        if let Event::Quota { update: AccountUpdate::Paused { scope, reason, .. }, .. } =
            events.recv().await.unwrap()
        {
            assert_eq!(format!("{scope}: {reason}"), "endpoint batch-queue: token_limit_exceeded");
            break;
        }
    }
    let submitted = call("POST", "/openai/v1/batches", "{}").await;
    assert!(submitted.header("x-quotakeeper-reason").is_some(), "{}", submitted.text());
    assert!(poll().await.text().contains("in_progress"));
    let chat = call("POST", "/openai/v1/chat/completions", r#"{"messages":[],"model":"gpt-4o"}"#).await;
    assert_eq!(chat.status, 200);
}
