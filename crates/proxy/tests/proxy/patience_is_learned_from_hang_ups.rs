//! Clients that hang up earlier than they announce are believed to wait as long as they do, and no longer.

use std::time::Duration;

use quotakeeper_wire::message::ProxyMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::limiter::{Asked, Hand};
use crate::{client, world};

/// What the client below the SDK keeps, whatever the SDK announces.
const TIMEOUT: Duration = Duration::from_millis(1_200);
const ANNOUNCED: Duration = Duration::from_secs(300);

fn request(agent: &str) -> http::Request<client::Body> {
    let mut request = client::request("POST", "/openai/v1/files", "{}");
    request.headers_mut().insert("user-agent", agent.parse().unwrap());
    request.headers_mut().insert("x-stainless-timeout", "300".parse().unwrap());
    request
}

/// The next question, and the patience that it names.
async fn asked(hand: &mut Hand) -> (Asked, Duration) {
    loop {
        if let ProxyMessage::Ask { account, call, patience, .. } = hand.hear().await {
            return (Asked { account, call }, patience.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_some_hang_ups_calls_wait_no_longer_until_a_client_stays() {
    let (listener, url) = world::socket().await;
    let settings = world::settings(vec![world::account("openai", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let address = proxy.base_url_addr();

    // More than three only where the machine stalls: ages that differ much are no timeout.
    let mut believed = ANNOUNCED;
    for _ in 0..20 {
        let call = client::send(address, request("undici/6.2"));
        let (got, (_, patience)) = tokio::join!(tokio::time::timeout(TIMEOUT, call), asked(&mut hand));
        assert!(got.is_err(), "nobody grants it");
        believed = patience;
        if believed < ANNOUNCED / 2 {
            break;
        }
        let gone = proxy.stats().client_gone;
        world::until("it is gone", || proxy.stats().client_gone > gone || gone == proxy.stats().calls).await;
    }
    assert!(believed < 2 * TIMEOUT, "{believed:?} is believed of clients that leave after {TIMEOUT:?}");
    let metric = r#"quotakeeper_proxy_learned_patience_seconds{quota="gtm/openai",client="undici"}"#;
    assert!(proxy.metrics_text().contains(metric));

    // Clients of another kind are not concerned.
    let other = tokio::spawn(client::send(address, request("OpenAI/Python 2.1")));
    let (_, patience) = asked(&mut hand).await;
    assert!(patience > ANNOUNCED / 2, "{patience:?}");
    other.abort();

    // One that stays for a late answer is believed again.
    let staying = tokio::spawn(client::send(address, request("undici/6.2")));
    let (question, _) = asked(&mut hand).await;
    hand.grant(question, 1).await;
    let (mut provider, _) = listener.accept().await.unwrap();
    let mut seen = [0; 4096];
    assert_ne!(provider.read(&mut seen).await.unwrap(), 0);
    tokio::time::sleep(4 * TIMEOUT).await;
    provider.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(staying.await.unwrap().status, 200);
    world::until("it is over", || proxy.stats().answered == 1).await;
    let again = tokio::spawn(client::send(address, request("undici/6.2")));
    let (_, patience) = asked(&mut hand).await;
    assert!(patience > ANNOUNCED / 2, "{patience:?}");
    again.abort();
    assert!(!proxy.metrics_text().contains(metric));
}
