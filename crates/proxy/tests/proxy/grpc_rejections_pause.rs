//! gRPC says in trailers that a resource is exhausted, or in the head where it sends nothing else. Before any message
//! that is like a 429; after one the client gets what came, and the others pause.

use std::collections::BTreeMap;

use counting_provider::{Force, Verdict};
use quotakeeper_proxy::Event;
use quotakeeper_wire::message::AccountUpdate;
use serde_json::Value;

use crate::client::{Client, Got};
use crate::{client, limiter, world};

/// The status, with the wait in words.
const EXHAUSTED: [(&str, &str); 2] =
    [("grpc-status", "8"), ("grpc-message", "Quota%20exceeded, retry in 1.5s")];
/// What the calls come to in the end.
const PATH: &str = "http://127.0.0.1:15801/demo/anything";

fn fields(lines: &[(&str, &str)]) -> BTreeMap<String, String> {
    lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn forced(headers: &[(&str, &str)], trailers: &[(&str, &str)], message: &str) -> Force {
    let content_type = [("content-type", "application/grpc+proto")];
    Force {
        status: 200,
        headers: fields(&[&content_type, headers].concat()),
        trailers: fields(trailers),
        body: Some(Value::String(message.to_owned())),
        ..Force::default()
    }
}

/// What two calls get, one after the other, how often the provider was called by then, and the pauses.
async fn calls(force: Force) -> ([Got; 2], usize, Vec<String>) {
    let (provider, url) = world::provider().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let mut events = proxy.subscribe();
    provider.force(force).unwrap();
    let mut client = Client::http2(proxy.base_url_addr()).await;
    let mut call = async || client.send(client::request("POST", PATH, "hello")).await;
    let got = [call().await, call().await];
    let log = provider.log("key");
    assert_eq!(log.iter().filter(|entry| entry.verdict == Verdict::Forced).count(), 1);
    let events = std::iter::from_fn(|| events.try_recv().ok());
    let paused = events.filter_map(|event| match event {
        Event::Quota { update: AccountUpdate::Paused { scope, reason, .. }, .. } => {
            Some(format!("{scope}: {reason}"))
        }
        _ => None,
    });
    (got, log.len(), paused.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_resource_before_any_message_is_a_429() {
    for force in [forced(&EXHAUSTED, &[], ""), forced(&[], &EXHAUSTED, "")] {
        let (got, sent, paused) = calls(force).await;
        for got in got {
            assert_eq!((got.status.as_u16(), got.header("grpc-status")), (200, None), "{}", got.text());
            assert!(got.text().contains("\"bytes\":5"), "{}", got.text());
        }
        assert_eq!((sent, paused), (3, vec!["limit requests: RESOURCE_EXHAUSTED".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_resource_after_a_message_reaches_the_client_and_pauses_the_others() {
    let ([first, second], sent, paused) = calls(forced(&[], &EXHAUSTED, "a message")).await;
    assert_eq!((first.status.as_u16(), first.text()), (200, "a message"));
    assert_eq!(first.trailers.unwrap()["grpc-status"], "8");
    assert!(second.text().contains("\"bytes\":5"), "{}", second.text());
    assert_eq!((sent, paused), (2, vec!["limit requests: RESOURCE_EXHAUSTED".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_end_passes_unchanged() {
    let ended = [("grpc-status", "5"), ("grpc-message", "no such thing, retry in 1.5s")];
    let ([first, _], sent, paused) = calls(forced(&[], &ended, "")).await;
    assert_eq!((first.status.as_u16(), first.text()), (200, ""));
    assert_eq!(first.trailers.unwrap()["grpc-status"], "5");
    assert_eq!((sent, paused), (2, vec![]));
}
