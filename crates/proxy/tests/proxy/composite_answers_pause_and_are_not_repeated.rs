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
