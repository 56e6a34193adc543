//! Requests find their accounts, or a sentence that says what is served.
#![allow(clippy::unwrap_used)]

use http::HeaderMap;
use quotakeeper_dialects::profile::BaseUrl;

use super::*;

fn account(index: u32, provider: &str, hosts: &[&str], upstream: Option<&str>) -> Arc<Account> {
    let profile = Profile {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        base_url: upstream.map(|upstream| BaseUrl { upstream: upstream.to_owned(), variables: vec![] }),
        ..Profile::default()
    };
    let mut hosts: Vec<_> = profile.hosts.iter().map(|host| HostPattern::new(host)).collect();
    hosts.sort_by_key(|host| host.exact().is_none());
    Arc::new(Account {
        index: AccountIndex(index),
        provider: provider.to_owned(),
        quota: provider.into(),
        upstream: upstream.map(|upstream| Origin::parse(upstream).unwrap()),
        profile,
        hosts,
        max_wait: Duration::from_secs(1),
        budget: AtomicU32::new(REPETITION),
    })
}

fn accounts() -> Vec<Arc<Account>> {
    vec![
        account(0, "salesforce", &["*.my.salesforce.com"], None),
        account(1, "openai", &["api.openai.com"], Some("https://api.openai.com")),
        account(2, "internal", &["crm.my.salesforce.com"], Some("http://localhost:8080")),
    ]
}

fn go(door: Door, uri: &str, host: Option<&str>) -> Result<(u32, String), (StatusCode, String)> {
    let mut headers = HeaderMap::new();
    if let Some(host) = host {
        headers.insert(header::HOST, host.parse().unwrap());
    }
    route(&accounts(), door, &uri.parse().unwrap(), &headers)
        .map(|route| (route.account.index.0, format!("{}{}", route.origin, route.path)))
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
        assert_eq!(go(Door::BaseUrl, path, Some("127.0.0.1:15001")), Ok((index, url.to_owned())));
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
        go(Door::BaseUrl, "http://127.0.0.1:15001/openai/v1", None),
        Ok((1, "https://api.openai.com/v1".to_owned()))
    );
}

#[test]
fn a_host_goes_to_its_account_the_exact_name_before_the_wildcard() {
    let tls = Door::Host { tls: true };
    for (host, index) in
        [("acme.my.salesforce.com", 0), ("CRM.my.salesforce.com:8443", 2), ("api.openai.com.", 1)]
    {
        assert_eq!(go(tls, "/a", Some(host)).unwrap().0, index, "{host}");
    }
    assert_eq!(
        go(Door::Host { tls: false }, "/a", Some("api.openai.com:81")).unwrap().1,
        "http://api.openai.com/a"
    );
    for host in [None, Some("evil.com"), Some("my.salesforce.com")] {
        assert_eq!(go(tls, "/a", host).unwrap_err().0, StatusCode::MISDIRECTED_REQUEST);
    }
}

#[test]
fn one_call_in_five_may_be_repeated() {
    let account = account(0, "demo", &[], None);
    assert!(account.spend() && !account.spend());
    for _ in 0..REPETITION - 1 {
        account.earn();
    }
    assert!(!account.spend());
    account.earn();
    assert!(account.spend());
}
