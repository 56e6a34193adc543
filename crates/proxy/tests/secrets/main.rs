//! With every log line switched on, no credential and no query string is in any.
//!
//! A program of its own, because logs have one ear in a process.
#![allow(clippy::unwrap_used)]

// The stories' rooms; this one needs a part of each.
#[allow(dead_code)]
#[path = "../proxy/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../proxy/limiter.rs"]
mod limiter;
#[allow(dead_code)]
#[path = "../proxy/world.rs"]
mod world;

use std::io;
use std::sync::{Arc, Mutex};

use counting_provider::Force;
use quotakeeper_proxy::HostsListeners;
use tracing_subscriber::fmt::MakeWriter;

use client::Client;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Captured;
    fn make_writer(&'a self) -> Captured {
        self.clone()
    }
}

const TOKEN: &str = "sk-tr0ub4dor";
const QUERY: &str = "hapikey=hunter2";

fn secret(method: &str, path: &str) -> http::Request<client::Body> {
    let mut request = client::request(method, &format!("{path}?{QUERY}"), r#"{"a":"b0dy-secret"}"#);
    let headers = request.headers_mut();
    // A key of the counting provider belongs to one of the APIs that it plays.
    let api = if path.contains("crm") { "hubspot" } else { "demo" };
    headers.insert("authorization", format!("Bearer {TOKEN}-{api}").parse().unwrap());
    headers.insert("x-private", TOKEN.parse().unwrap());
    headers.insert("x-quotakeeper-patience", "5".parse().unwrap());
    headers.insert("cookie", format!("session={TOKEN}").parse().unwrap());
    request
}

/// Everything that a call can run into: success, rejection, refusal, no provider, no such path, TLS.
async fn busy() {
    let (provider, url) = world::provider().await;
    let (dead, dead_url) = world::socket().await;
    drop(dead);
    let quota = world::plenty();
    let accounts = vec![
        world::account("demo", Some(url), quota.clone()),
        world::account("openai", Some(dead_url), quota.clone()),
        world::account("hubspot", None, quota.clone()),
    ];
    let mut settings = world::settings(accounts);
    settings.hosts = Some(HostsListeners { https: vec![world::free()], http: vec![] });
    settings.extra_cas = vec![provider.ca_pem().to_owned()];
    settings.resolve = vec![format!("api.hubapi.com:443:{}", provider.https().unwrap()).parse().unwrap()];
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota.clone(), quota.clone(), quota]);
    let address = proxy.base_url_addr();
    let force = Force { retry_after: Some("1".to_owned()), ..Force::default() };
    provider.force(force).unwrap();
    for (method, path, status) in [
        ("POST", "/demo/anything", 200),
        ("GET", "/demo/anything", 200),
        ("GET", "/nobody/anything", 404),
        ("POST", "/openai/v1/chat/completions", 502),
    ] {
        assert_eq!(client::send(address, secret(method, path)).await.status, status, "{path}");
    }
    let root = proxy.root_pem().unwrap().to_owned();
    for http2 in [false, true] {
        let tls = Client::tls(proxy.https_addrs()[0], "api.hubapi.com", &root, http2).await;
        let path = "https://api.hubapi.com/crm/v3/objects/contacts";
        let path = if http2 { path } else { "/crm/v3/objects/contacts" };
        let mut request = secret("GET", path);
        request.headers_mut().insert("host", "api.hubapi.com".parse().unwrap());
        assert_eq!(tls.unwrap().send(request).await.status, 200);
    }
    world::until("all are told", || proxy.stats().ended == 5).await;
    proxy.shutdown(std::time::Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_and_no_query_is_in_any_log_line() {
    let captured = Captured::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(captured.clone())
        .init();
    busy().await;
    let log = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    for expected in [
        "quotakeeper::access: provider=demo quota=gtm/demo method=POST path=/anything status=200 outcome=\"answered\" why=rejected: ",
        "outcome=\"unreachable\"",
        "outcome=\"UnknownProvider\"",
        "path=/crm/v3/objects/contacts",
        "paused",
    ] {
        assert!(log.contains(expected), "{expected:?} is not in\n{log}");
    }
    // Other crates trace too; what they say counts as ours.
    assert!(log.contains("TRACE"), "the log is not complete");
    for secret in [TOKEN, QUERY, "hunter2", "b0dy-secret"] {
        let found: Vec<_> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(found.is_empty(), "{secret} is in {found:#?}");
    }
}
