//! The model is found wherever SDKs write it: behind megabytes, in compressed bodies, in forms. While another model is
//! paused, such a call goes at once.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use counting_provider::{Force, Provider, Verdict};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Request;
use quotakeeper_engine::config::LimitConfig;
use quotakeeper_proxy::{Event, Proxy};
use quotakeeper_wire::message::{AccountUpdate, NoticeKind, ProxyMessage};
use serde_json::json;

use crate::client::Got;
use crate::limiter::Hand;
use crate::{client, limiter, world};

const CHAT: &str = "/openai/v1/chat/completions";
/// Far less than the pause, far more than a call.
const SOON: Duration = Duration::from_secs(30);

/// An OpenAI account whose model gpt-4o is paused for a minute.
struct Scene {
    provider: Provider,
    proxy: Proxy,
    paused: tokio::task::JoinHandle<Got>,
}

impl Scene {
    async fn new() -> Self {
        let (provider, url) = world::provider().await;
        let limit = world::limit(100_000, Duration::from_secs(1));
        let quota = world::engine(vec![LimitConfig { per_model: true, ..limit }]);
        let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
        let (proxy, peer) = world::start(settings).await;
        limiter::engine(peer, vec![quota]);
        let mut events = proxy.subscribe();
        force(&provider, "gpt-4o", 60);
        let address = proxy.base_url_addr();
        let paused = tokio::spawn(client::send(address, chat(r#"{"model":"gpt-4o","messages":[]}"#)));
        loop {
            if let Event::Quota { update: AccountUpdate::Paused { .. }, .. } = events.recv().await.unwrap() {
                break;
            }
        }
        Self { provider, proxy, paused }
    }

    async fn send(&self, request: Request<client::Body>) -> Got {
        let sent = tokio::time::timeout(SOON, client::send(self.proxy.base_url_addr(), request));
        sent.await.expect("the call waits, although its model is not paused")
    }

    fn unreadable(&self) -> Vec<String> {
        let unreadable = |line: &&str| line.starts_with("quotakeeper_proxy_unreadable_requests_total{");
        self.proxy.metrics_text().lines().filter(unreadable).map(str::to_owned).collect()
    }

    /// The verdicts on a model's calls, as the provider has it.
    fn verdicts(&self, model: &str) -> Vec<Verdict> {
        let log = self.provider.log("key").into_iter();
        log.filter(|entry| entry.model.as_deref() == Some(model)).map(|entry| entry.verdict).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.paused.abort();
    }
}

fn force(provider: &Provider, model: &str, seconds: u64) {
    let body = Some(json!({"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}));
    let (model, retry_after) = (Some(model.to_owned()), Some(seconds.to_string()));
    provider.force(Force { model, retry_after, body, headers: BTreeMap::new(), ..Force::default() }).unwrap();
}

fn chat(body: impl Into<Bytes>) -> Request<client::Body> {
    post(CHAT, &[("content-type", "application/json")], body)
}

fn post(path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<client::Body> {
    let mut request = client::request("POST", path, "");
    for (name, value) in headers {
        request.headers_mut().insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    *request.body_mut() = client::body(body);
    request
}

/// As openai-python writes it: the model last.
fn with_image(model: &str, bytes: usize) -> String {
    let image = "A".repeat(bytes);
    let part = json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{image}")}});
    format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}],"model":"{model}"}}"#)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &str) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_behind_three_mebibytes_is_read_and_the_call_retried() {
    let scene = Scene::new().await;
    let body = with_image("gpt-4o-mini", 3 << 20);
    let got = scene.send(chat(body.clone())).await;
    assert_eq!(got.status, 200, "{}", got.text());
    force(&scene.provider, "gpt-4o-mini", 1);
    let got = scene.send(chat(body)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(scene.verdicts("gpt-4o-mini"), [Verdict::Ok, Verdict::Forced, Verdict::Ok]);
    assert_eq!(scene.unreadable(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_in_a_compressed_body_is_read() {
    let scene = Scene::new().await;
    let (small, large) = (with_image("gpt-4o-mini", 10), with_image("gpt-4o-mini", 200_000));
    for (coding, body) in
        [("gzip", gzip(&small)), ("zstd", zstd(&small)), ("gzip", gzip(&large)), ("zstd", zstd(&large))]
    {
        let got = scene.send(post(CHAT, &[("content-encoding", coding)], body)).await;
        assert_eq!(got.status, 200, "{coding}: {}", got.text());
    }
    assert_eq!(scene.verdicts("gpt-4o-mini"), [Verdict::Ok; 4]);
    assert_eq!(scene.unreadable(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_in_a_form_behind_its_file_is_read() {
    let scene = Scene::new().await;
    let mut form =
        b"--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n".to_vec();
    form.resize(form.len() + 1_500_000, 7);
    form.extend(b"\r\n--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--x--\r\n");
    let headers = [("content-type", "multipart/form-data; boundary=x")];
    let got = scene.send(post("/openai/v1/audio/transcriptions", &headers, form)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(scene.verdicts("whisper-1"), [Verdict::Ok]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_polls_and_uploads_draw_on_no_model() {
    let (provider, url) = world::provider().await;
    let account = world::account("openai", Some(url), world::plenty());
    let except_endpoints = account.profile.endpoints_apart().map(str::to_owned).collect();
    let limit = world::limit(1, Duration::from_secs(3600));
    let quota = world::engine(vec![LimitConfig { per_model: true, except_endpoints, ..limit }]);
    let (proxy, peer) = world::start(world::settings(vec![account])).await;
    limiter::engine(peer, vec![quota]);
    let file = "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{}\r\n--x--\r\n";
    let form = [("content-type", "multipart/form-data; boundary=x")];
    for request in [
        chat(r#"{"model":"gpt-4o","messages":[]}"#),
        client::request("GET", "/openai/v1/models", ""),
        client::request("GET", "/openai/v1/batches/batch_1", ""),
        post("/openai/v1/files", &form, file),
        chat(r#"{"model":"gpt-4o-mini","messages":[]}"#),
    ] {
        let path = request.uri().path().to_owned();
        let sent = tokio::time::timeout(SOON, client::send(proxy.base_url_addr(), request));
        let got = sent.await.unwrap_or_else(|_| panic!("{path} waits"));
        assert_eq!(got.status, 200, "{path}: {}", got.text());
    }
    assert_eq!(provider.log("key").len(), 5);
    assert!(!proxy.metrics_text().contains("unreadable_requests_total{"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_requests_are_counted_and_forwarded() {
    let (_provider, url) = world::provider().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let text = r#"{"model":"gpt-4o","messages":[]}"#;
    let mut corrupt = gzip(text);
    corrupt[12] ^= 0xff;
    for (coding, body) in [
        ("br", b"unknown".to_vec()),
        ("gzip", corrupt),
        ("zstd", b"no frame".to_vec()),
        ("identity", b"<xml/>".to_vec()),
        ("identity", b"{}".to_vec()),
    ] {
        // Whatever the provider makes of it.
        let got =
            client::send(proxy.base_url_addr(), post(CHAT, &[("content-encoding", coding)], body)).await;
        assert_eq!((got.status.as_u16(), got.header("x-quotakeeper-reason")), (400, None), "{coding}");
        assert!(got.header("x-request-id").is_some(), "{coding}: the provider has not answered");
    }
    let metrics = proxy.metrics_text();
    for (reason, times) in
        [("UnknownEncoding", 1), ("DecodingFailed", 2), ("UnknownFormat", 1), ("NoModel", 1)]
    {
        let line = format!(
            r#"quotakeeper_proxy_unreadable_requests_total{{quota="gtm/openai",reason="{reason}"}} {times}"#
        );
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limiter_is_notified_of_the_first_unreadable_request() {
    let (_provider, url) = world::provider().await;
    let settings = world::settings(vec![world::account("openai", Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let mut hand = Hand::connect(&peer, 1).await;
    let call = tokio::spawn({
        let address = proxy.base_url_addr();
        async move { client::send(address, chat("<xml/>")).await }
    });
    let ProxyMessage::Notice { notice, .. } = hand.hear().await else { panic!("no notice") };
    assert_eq!(notice.kind, NoticeKind::UnreadableRequest);
    assert_eq!(notice.detail, "POST /v1/chat/completions: its body is neither JSON nor a form");
    call.abort();
}
