//! Nobody notices the proxy: methods without bodies, trailers, codings and odd requests pass as they should.

use std::time::Duration;

use http::{HeaderMap, Version};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use quotakeeper_proxy::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::{client, limiter, world};

async fn proxied(url: String) -> Proxy {
    let quota = world::plenty();
    let mut settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    settings.admin = Some(world::free());
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    proxy
}

/// A provider that answers one request as told, and what it saw.
fn answering(listener: TcpListener, answer: &'static [u8]) -> JoinHandle<String> {
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
        }
        socket.write_all(answer).await.unwrap();
        // What follows the head, as long as something follows.
        let more = socket.read_buf(&mut seen);
        let _more = tokio::time::timeout(Duration::from_millis(300), more).await;
        String::from_utf8(seen).unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_keep_their_heads() {
    for (method, answer, status, length) in [
        ("HEAD", &b"HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n"[..], 200, Some("42")),
        ("HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200, None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n", 304, None),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
    ] {
        let (listener, url) = world::socket().await;
        let seen = answering(listener, answer);
        let proxy = proxied(url).await;
        let request = client::request(method, "/demo/x", "");
        let got = client::send(proxy.base_url_addr(), request).await;
        assert_eq!((got.status.as_u16(), got.header("content-length")), (status, length), "{method}");
        assert!(got.body.is_empty());
        assert!(seen.await.unwrap().starts_with(&format!("{method} /x HTTP/1.1\r\n")));
        world::until("it is answered", || proxy.stats().ended == 1).await;
        assert_eq!(proxy.stats().client_gone, 0, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_head_is_forwarded_unchanged() {
    let (listener, url) = world::socket().await;
    let host = url.strip_prefix("http://").unwrap().to_owned();
    let seen = answering(listener, b"HTTP/1.1 200 OK\r\nX-Request-Id: 7\r\nconnection: close, x-hop\r\nx-hop: 1\r\ncontent-length: 0\r\n\r\n");
    let proxy = proxied(url).await;
    let mut socket = TcpStream::connect(proxy.base_url_addr()).await.unwrap();
    let ask = b"POST /demo/a%2Fb?c=%20d HTTP/1.1\r\nHost: 127.0.0.1:15801\r\nUser-Agent: me/1\r\nX-STRANGE-Case: yes\r\nConnection: close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\nContent-Length: 2\r\nExpect: 100-continue\r\nX-Quotakeeper-Patience: 30\r\n\r\n";
    socket.write_all(ask).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(socket.read_buf(&mut answer).await.unwrap(), 0);
    }
    assert_eq!(answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"hi").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("X-Request-Id: 7\r\n"), "{answer}");
    assert!(!answer.contains("x-hop"), "{answer}");

    let seen = seen.await.unwrap();
    let mut lines: Vec<_> = seen.split("\r\n").collect();
    lines[1..].sort_unstable();
    let host = format!("Host: {host}");
    let expected = [
        "POST /a%2Fb?c=%20d HTTP/1.1",
        "",
        "Content-Length: 2",
        &host,
        "User-Agent: me/1",
        "X-STRANGE-Case: yes",
        "hi",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_in_both_directions() {
    let (listener, url) = world::socket().await;
    let provider = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let serve = tokio::spawn(async move {
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.version(), Version::HTTP_2);
            let mut body = request.into_body();
            let mut data = Vec::new();
            while let Some(part) = body.data().await {
                let part = part.unwrap();
                body.flow_control().release_capacity(part.len()).unwrap();
                data.extend_from_slice(&part);
            }
            let trailers = body.trailers().await.unwrap().unwrap();
            assert_eq!((&data[..], trailers["x-sum"].as_bytes()), (&b"hello"[..], &b"5"[..]));
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            stream.send_data("bye".into(), false).unwrap();
            let status = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
            stream.send_trailers(status.into_iter().collect()).unwrap();
        });
        while connection.accept().await.is_some() {}
        serve.await.unwrap();
    });
    let proxy = proxied(url).await;
    let (mut sender, body) = Channel::<bytes::Bytes>::new(2);
    sender.send_data("hello".into()).await.unwrap();
    let sum = [("x-sum".parse().unwrap(), "5".parse().unwrap())];
    sender.send_trailers(sum.into_iter().collect::<HeaderMap>()).await.unwrap();
    let mut request = client::request("POST", "http://127.0.0.1:15801/demo/grpc", "");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    *request.body_mut() = body.map_err(|never| match never {}).boxed_unsync();
    let mut client = Client::http2(proxy.base_url_addr()).await;
    let got = client.send(request).await;
    assert_eq!((got.status.as_u16(), got.text()), (200, "bye"));
    assert_eq!(got.trailers.unwrap()["grpc-status"], "0");
    drop(client);
    drop(proxy);
    provider.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_requests_are_refused_with_an_explanation() {
    let (provider, url) = world::provider().await;
    let proxy = proxied(url).await;
    let address = proxy.base_url_addr();
    let unknown = client::get(address, "/opneai/v1/models").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("serves /demo here, not \\\"/opneai\\\""), "{}", unknown.text());

    let mut websocket = client::request("GET", "/demo/realtime", "");
    let headers = websocket.headers_mut();
    headers.insert("connection", "upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    let refused = client::send(address, websocket).await;
    assert_eq!(refused.status, 426);
    assert_eq!(refused.header("x-quotakeeper-reason"), Some("UpgradeRefused"));
    assert_eq!(refused.header("upgrade"), Some("HTTP/1.1"));

    let tunnel = client::request("CONNECT", "api.openai.com:443", "");
    let refused = client::send(address, tunnel).await;
    assert_eq!(refused.status, 405);
    assert_eq!(refused.header("x-quotakeeper-reason"), Some("ConnectRefused"));
    assert!(refused.header("allow").unwrap().contains("POST"));
    assert!(refused.text().contains("NO_PROXY"), "{}", refused.text());
    for reason in ["UnknownProvider", "UpgradeRefused", "ConnectRefused"] {
        let counted = format!(r#"quotakeeper_proxy_turned_away_requests_total{{reason="{reason}"}} 1"#);
        assert!(proxy.metrics_text().contains(&counted), "{counted}");
    }
    assert!(provider.log("key").is_empty());

    let whole = format!("http://{address}/demo/anything/x");
    assert_eq!(client::get(address, &whole).await.status, 200);
    assert_eq!(provider.log("key")[0].path, "/anything/x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_response_is_truncated_for_the_client() {
    let (listener, url) = world::socket().await;
    let _seen = answering(listener, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    let proxy = proxied(url).await;
    let mut client = Client::http1(proxy.base_url_addr()).await;
    let answer = client.begin(client::request("GET", "/demo/x", "")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err());
    world::until("it is told", || proxy.stats().failed == 1).await;
}

/// The head and body of an answer with `count` headers, as the client's socket gets them.
async fn with_headers(count: usize) -> String {
    let (listener, url) = world::socket().await;
    let headers: String = (0..count).map(|number| format!("x-{number}: {number}\r\n")).collect();
    let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\nok");
    let _seen = answering(listener, answer.leak().as_bytes());
    let proxy = proxied(url).await;
    let mut socket = TcpStream::connect(proxy.base_url_addr()).await.unwrap();
    socket.write_all(b"GET /demo/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut got = String::new();
    socket.read_to_string(&mut got).await.unwrap();
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_headers_are_refused_with_an_explanation() {
    let got = with_headers(400).await;
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("\r\n\r\nok"), "{got}");
    assert!((0..400).all(|number| got.contains(&format!("\r\nx-{number}: {number}\r\n"))), "{got}");
    let got = with_headers(600).await;
    assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
    assert!(got.contains("its answer's head has more than 512 headers or 64 KiB"), "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_listener_is_reachable_on_loopback() {
    for (listen, reached) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "[::1]"), ("[::1]:0", "[::1]")] {
        let (_provider, url) = world::provider().await;
        let quota = world::plenty();
        let mut settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
        settings.base_url = listen.parse().unwrap();
        let (proxy, peer) = world::start(settings).await;
        limiter::engine(peer, vec![quota]);
        let base_url = format!("http://{reached}:{}/demo", proxy.base_url_addr().port());
        assert_eq!(proxy.environment(), [("DEMO_BASE_URL".to_owned(), base_url)], "{listen}");
        assert_eq!(client::get(proxy.base_url_addr(), "/demo/anything").await.status, 200, "{listen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_serves_metrics_and_readiness() {
    let (_provider, url) = world::provider().await;
    let proxy = proxied(url).await;
    let admin = proxy.admin_addr().unwrap();
    world::until("the limiter is connected", || proxy.is_connected()).await;
    assert_eq!(client::get(proxy.base_url_addr(), "/demo/anything").await.status, 200);
    assert_eq!(client::get(admin, "/healthz").await.status, 200);
    assert_eq!(client::get(admin, "/readyz").await.status, 200);
    let metrics = client::get(admin, "/metrics").await;
    let line = r#"quotakeeper_proxy_upstream_responses_total{quota="gtm/demo",code="200"} 1"#;
    assert!(metrics.text().contains(line), "{}", metrics.text());
    assert_eq!(client::get(admin, "/elsewhere").await.status, 404);
    assert_eq!(
        proxy.environment(),
        [("DEMO_BASE_URL".to_owned(), format!("http://{}/demo", proxy.base_url_addr()))]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_the_calls_under_way_end() {
    let (provider, url) = world::provider().await;
    let slow = counting_provider::Rules { answer_millis: Some(500), ..Default::default() };
    provider.set_rules("key", slow).unwrap();
    let proxy = proxied(url).await;
    let address = proxy.base_url_addr();
    let call = tokio::spawn(async move { client::get(address, "/demo/anything").await });
    world::until("it is sent", || !provider.log("key").is_empty()).await;
    assert!(proxy.shutdown(Duration::from_secs(30)).await);
    assert_eq!(call.await.unwrap().status, 200);
    assert!(TcpStream::connect(address).await.is_err());
}
