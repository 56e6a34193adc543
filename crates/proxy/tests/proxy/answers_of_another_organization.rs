//! A key of another account: what its answers say of limits and rejections stops nobody.

use counting_provider::{CountedAs, Force, Limit, Rules};
use http::Request;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::{NoticeKind, ProxyMessage, Report};

use crate::limiter::Hand;
use crate::{client, limiter, world};

const CHAT: &str = "/openai/v1/chat/completions";
/// Seconds for which the calls would wait.
const PAUSE: &str = "30";

fn chat(path: &'static str, key: &str) -> Request<client::Body> {
    let mut request = client::request("POST", path, r#"{"model":"gpt-4o","messages":[]}"#);
    let headers = request.headers_mut();
    headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
    headers.insert("content-type", "application/json".parse().unwrap());
    request
}

/// An account of the provider's whose organisation is that of `key`.
async fn account_of(provider: &counting_provider::Provider, url: String, key: &str) -> CompiledAccount {
    let answer = client::send(provider.http().unwrap(), chat("/v1/chat/completions", key)).await;
    let organization = answer.header("openai-organization").map(str::to_owned);
    assert!(organization.is_some(), "{}", answer.text());
    CompiledAccount { organization, ..world::account("openai", Some(url), world::plenty()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_rejections_and_figures_hold_nobody() {
    let (provider, url) = world::provider().await;
    let account = account_of(&provider, url, "own").await;
    // Nothing is left of the other account's limit.
    let limit = Limit::new("requests", 1, 300_000, CountedAs::Sliding);
    provider.set_rules("foreign", Rules { limits: Some(vec![limit]), ..Rules::default() }).unwrap();
    let quota = account.engine.clone();
    let (proxy, peer) = world::start(world::settings(vec![account])).await;
    limiter::engine(peer, vec![quota]);

    let address = proxy.base_url_addr();
    assert_eq!(client::send(address, chat(CHAT, "foreign")).await.status, 200);
    for _ in 0..3 {
        let force = Force {
            account: Some("foreign".to_owned()),
            retry_after: Some(PAUSE.to_owned()),
            requests: Some(1),
            ..Force::default()
        };
        provider.force(force).unwrap();
        let got = client::send(address, chat(CHAT, "foreign")).await;
        assert_eq!((got.status.as_u16(), got.header("retry-after")), (429, Some(PAUSE)), "{}", got.text());
        for _ in 0..3 {
            assert_eq!(client::send(address, chat(CHAT, "own")).await.status, 200);
        }
    }
    assert_eq!(proxy.stats().forced, 0, "nothing was paused");
    let count = r#"quotakeeper_proxy_other_organization_answers_total{quota="gtm/openai"} 4"#;
    let metrics = proxy.metrics_text();
    assert!(metrics.lines().any(|line| line == count), "{count} in\n{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limiter_is_told_of_the_first() {
    let (provider, url) = world::provider().await;
    let account = account_of(&provider, url, "own").await;
    let (proxy, peer) = world::start(world::settings(vec![account])).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move { client::send(address, chat(CHAT, "foreign")).await.status });
    let asked = hand.asked().await;
    hand.grant(asked, 1).await;
    let notice = loop {
        match hand.hear().await {
            ProxyMessage::Notice { notice, .. } => break notice,
            ProxyMessage::Report { attempt, report: Report::Unused { again: true }, .. } => {
                hand.grant(asked, attempt + 1).await;
            }
            _ => {}
        }
    };
    assert_eq!(notice.kind, NoticeKind::AnotherOrganization);
    let detail = "An answer with status 200 names the organisation org-";
    assert!(notice.detail.starts_with(detail), "{}", notice.detail);
    assert_eq!(call.await.unwrap(), 200);
}
