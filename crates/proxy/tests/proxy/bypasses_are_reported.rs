//! A client that does not trust the proxy's CA, or goes around the proxy, makes no call that could fail: the metrics
//! tell of it all the same.

use std::time::Duration;

use quotakeeper_proxy::HostsListeners;
use quotakeeper_wire::message::{NoticeKind, ProxyMessage};

use crate::client::{self, Client};
use crate::limiter::Hand;
use crate::{limiter, world};

const HOST: &str = "api.hubapi.com";
const DISTRUSTED: &str = r#"quotakeeper_proxy_failed_handshakes_total{reason="DistrustedCA"} 2"#;
const LEFT: &str = r#"quotakeeper_proxy_failed_handshakes_total{reason="NoRequest"} 1"#;
const NO_CALLS: &str = r#"quotakeeper_proxy_degraded{reason="NoCalls"} 1"#;

fn says(proxy: &quotakeeper_proxy::Proxy, line: &str) -> bool {
    proxy.metrics_text().lines().any(|found| found == line)
}

/// What the limiter is told next besides heartbeats.
async fn noticed(hand: &mut Hand) -> quotakeeper_wire::message::Notice {
    loop {
        match hand.hear().await {
            ProxyMessage::Heartbeat { .. } => {}
            ProxyMessage::Notice { notice, .. } => return notice,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_trust_the_proxy_are_counted() {
    let mut settings = world::settings(vec![world::account("hubspot", None, world::plenty())]);
    settings.hosts = Some(HostsListeners { https: vec![world::free()], http: vec![] });
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let address = proxy.https_addrs()[0];
    let stranger = test_support::certificates::Ca::new().pem();
    for http2 in [false, true] {
        assert!(Client::tls(address, HOST, &stranger, http2).await.is_err());
    }
    world::until("the alerts to arrive", || says(&proxy, DISTRUSTED)).await;
    // As GnuTLS does: first the handshake, then a look at the certificate.
    drop(Client::tls(address, HOST, proxy.root_pem().unwrap(), false).await.unwrap());
    world::until("the client to have left", || says(&proxy, LEFT)).await;
    assert_eq!((proxy.stats().distrusted, proxy.stats().calls), (3, 0));
    let notice = noticed(&mut hand).await;
    assert_eq!(notice.kind, NoticeKind::DistrustedCa);
    assert!(notice.detail.contains("its call to api.hubapi.com failed"), "{}", notice.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_without_calls_says_so_until_the_first_one() {
    let (_provider, url) = world::provider().await;
    let quota = world::plenty();
    let mut settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    settings.silence = Duration::from_millis(100);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    world::until("the proxy to notice", || says(&proxy, NO_CALLS)).await;
    let got = client::send(proxy.base_url_addr(), client::request("GET", "/demo/anything", "")).await;
    assert_eq!(got.status, 200, "{}", got.text());
    world::until("the proxy to notice the call", || !says(&proxy, NO_CALLS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limiter_is_notified_that_no_call_has_come() {
    let mut settings = world::settings(vec![world::account("demo", None, world::plenty())]);
    settings.silence = Duration::from_millis(100);
    let (_proxy, peer) = world::start(settings).await;
    let notice = noticed(&mut Hand::connect(&peer, 1).await).await;
    assert_eq!(notice.kind, NoticeKind::NoCalls);
    assert!(
        notice.detail.contains("does not read the variables that name the base URL"),
        "{}",
        notice.detail
    );
}
