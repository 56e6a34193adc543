//! Requests find their accounts, or a sentence that says what is served.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::profile::BaseUrl;
use quotakeeper_engine::config::{AccountConfig, Mode, OnExceeded, PauseConfig, QueueConfig};
use quotakeeper_wire::account::{Admitted, CompiledAccount, FORMAT};

use crate::settings::Quota;

use super::*;

fn endpoint(index: u32, provider: &str, hosts: &[&str], upstream: Option<&str>) -> Arc<QuotaEndpoint> {
    let profile = Profile {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        base_url: upstream.map(|upstream| BaseUrl {
            upstream: upstream.to_owned(),
            path_prefix: None,
            variables: vec![],
        }),
        ..Profile::default()
    };
    let account = compiled(provider, profile);
    Arc::new(QuotaEndpoint::new(index, &Quota::from(account)).unwrap())
}

/// An account without limits.
pub(crate) fn compiled(provider: &str, profile: Profile) -> CompiledAccount {
    CompiledAccount {
        format: FORMAT,
        generation: 1,
        key: format!("{provider}/test").into(),
        quota: provider.into(),
        tier: String::new(),
        engine: AccountConfig {
            mode: Mode::Enforce,
            on_exceeded: OnExceeded::Queue,
            validity: Duration::from_secs(2),
            limits: Vec::new(),
            assumed: false,
            extent: Default::default(),
            queue: QueueConfig {
                max_wait: Duration::from_secs(1),
                max_absence: None,
                max_budget_wait: None,
                max_calls: 10,
            },
            pause: PauseConfig {
                fallback: Duration::from_secs(1),
                cap: Duration::from_secs(60),
                probe_patience: Duration::from_secs(5),
                max_call: Duration::from_secs(600),
            },
            weights: BTreeMap::new(),
            sharing: Default::default(),
            models: Default::default(),
            any_model: Default::default(),
        },
        undeclared: None,
        not_enforced: Vec::new(),
        admitted: Admitted::Everyone,
        warnings: Vec::new(),
        organization: None,
        allocations: Vec::new(),
        in_force_since: None,
        paused_until: None,
        resumed_at: None,
        checkpoint: None,
        used: Vec::new(),
        profile,
    }
}

fn endpoints() -> Vec<Arc<QuotaEndpoint>> {
    vec![
        endpoint(0, "salesforce", &["*.my.salesforce.com"], None),
        endpoint(1, "openai", &["api.openai.com"], Some("https://api.openai.com")),
        endpoint(2, "internal", &["crm.my.salesforce.com"], Some("http://localhost:8080")),
    ]
}

fn go(door: Door, uri: &str, host: Option<&str>) -> Result<(u32, String), (StatusCode, String)> {
    let mut headers = HeaderMap::new();
    if let Some(host) = host {
        headers.insert(header::HOST, host.parse().unwrap());
    }
    route(&endpoints(), door, &uri.parse().unwrap(), &headers)
        .map(|Route { endpoint, origin, path }| {
            let origin = origin.or_else(|| endpoint.account().unwrap().upstream.clone()).unwrap();
            (endpoint.index.0, format!("{origin}{path}"))
        })
        .map_err(|own| (own.status, own.message))
}

#[test]
fn the_base_urls_first_segment_names_the_provider() {
    for (path, index, url) in [
        ("/openai/v1/models?limit=2", 1, "https://api.openai.com/v1/models?limit=2"),
        ("/openai", 1, "https://api.openai.com/"),
        ("/openai?x=1", 1, "https://api.openai.com/?x=1"),
        ("/internal//a/../b", 2, "http://localhost:8080//a/../b"),
    ] {
        assert_eq!(go(Door::BaseUrl, path, Some("127.0.0.1:15801")), Ok((index, url.to_owned())));
    }
    let (status, message) = go(Door::BaseUrl, "/v1/models?key=secret", None).unwrap_err();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(message.contains("serves /openai, /internal here, not \"/v1\""), "{message}");
    assert!(!message.contains("secret"));
    assert!(go(Door::BaseUrl, "/openaix/v1", None).is_err());
    assert!(go(Door::BaseUrl, "/salesforce/x", None).is_err());
}

#[test]
fn a_whole_url_goes_by_its_host() {
    assert_eq!(
        go(Door::BaseUrl, "https://api.openai.com/v1/models", Some("api.openai.com")),
        Ok((1, "https://api.openai.com/v1/models".to_owned()))
    );
    assert_eq!(
        go(Door::BaseUrl, "http://127.0.0.1:15801/openai/v1", None),
        Ok((1, "https://api.openai.com/v1".to_owned()))
    );
}

/// It would carry what is meant for another server, with its credentials, to a provider.
#[test]
fn a_whole_url_of_a_foreign_host_goes_nowhere() {
    for uri in
        ["http://evil.example/openai/v1", "https://10.0.0.7/openai/v1", "http://localhost.evil/openai/v1"]
    {
        let (status, message) = go(Door::BaseUrl, uri, Some("127.0.0.1:15801")).unwrap_err();
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{uri}");
        assert!(message.contains("no forward proxy") && message.contains("/openai"), "{message}");
    }
    for uri in
        ["http://localhost:15801/openai/v1", "http://[::1]:15801/openai/v1", "http://api.localhost/openai/v1"]
    {
        assert_eq!(go(Door::BaseUrl, uri, None), Ok((1, "https://api.openai.com/v1".to_owned())));
    }
}

#[test]
fn a_host_goes_to_its_account_the_exact_name_before_the_wildcard() {
    let tls = Door::Host { tls: true, port: 8443 };
    for (host, index) in
        [("acme.my.salesforce.com", 0), ("CRM.my.salesforce.com:8443", 2), ("api.openai.com.", 1)]
    {
        assert_eq!(go(tls, "/a", Some(host)).unwrap().0, index, "{host}");
    }
    let plain = Door::Host { tls: false, port: 81 };
    assert_eq!(go(plain, "/a", Some("api.openai.com:81")).unwrap().1, "http://api.openai.com/a");
    for host in [None, Some("evil.com"), Some("my.salesforce.com")] {
        assert_eq!(go(tls, "/a", host).unwrap_err().0, StatusCode::MISDIRECTED_REQUEST);
    }
}

#[test]
fn another_port_is_another_server() {
    let door = Door::Host { tls: true, port: 443 };
    for (door, uri, host) in [
        (Door::BaseUrl, "https://api.openai.com:8443/v1", None),
        (Door::BaseUrl, "http://api.openai.com:443/v1", None),
        (door, "/v1", Some("api.openai.com:8443")),
        (door, "https://acme.my.salesforce.com:80/v1", None),
    ] {
        let (status, message) = go(door, uri, host).unwrap_err();
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{uri}");
        assert!(message.contains(" here, not http") && message.contains("leave the port out"), "{message}");
    }
    for (uri, url) in [
        ("https://api.openai.com:443/v1", "https://api.openai.com/v1"),
        ("http://api.openai.com:80/v1", "http://api.openai.com/v1"),
        // Where a quota's base URL leads.
        ("http://localhost:8080/v1", "http://localhost:8080/v1"),
    ] {
        assert_eq!(go(Door::BaseUrl, uri, None).unwrap().1, url);
    }
    let (status, _) = go(Door::BaseUrl, "http://localhost:8081/v1", None).unwrap_err();
    assert_eq!(status, StatusCode::NOT_FOUND, "nobody has declared a quota for it");
}

/// What a endpoint's account allows isn't known before the limiter has spoken: such a call is held, not refused.
#[test]
fn a_place_without_an_account_takes_its_calls() {
    let quota = Quota {
        name: "gtm/openai".into(),
        provider: "openai".to_owned(),
        hosts: vec!["api.openai.com".to_owned()],
        upstream: None,
        account: None,
    };
    let endpoints = [Arc::new(QuotaEndpoint::new(0, &quota).unwrap())];
    let found = route(&endpoints, Door::BaseUrl, &"/openai/v1".parse().unwrap(), &HeaderMap::new());
    assert!(found.is_ok_and(|route| route.origin.is_none() && route.path == "/v1"));
}

#[test]
fn a_path_prefix_is_sent_once() {
    for (path, sent) in [
        ("/messages", "/v1/messages"),
        ("/v1/messages?beta=true", "/v1/messages?beta=true"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1", "/v1"),
        ("/v1?x", "/v1?x"),
        ("/v10/messages", "/v1/v10/messages"),
        ("/", "/v1/"),
    ] {
        assert_eq!(with_prefix(path, "/v1"), sent);
    }
}
