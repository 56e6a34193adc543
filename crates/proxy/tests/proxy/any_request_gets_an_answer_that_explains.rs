//! Requests that browsers, curl and lenient servers get along with reach the provider; the others get an answer with a
//! body, a reason, a log line and a count. Raw sockets, because no SDK sends them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use quotakeeper_proxy::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{limiter, world};

/// What a provider gets: targets and bodies.
type Got = Arc<Mutex<Vec<(String, Bytes)>>>;

async fn proxied() -> (Got, Proxy) {
    let (listener, url) = world::socket().await;
    let got = Got::default();
    let notes = Arc::clone(&got);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let notes = Arc::clone(&notes);
            let service = service_fn(move |request: http::Request<Incoming>| {
                let notes = Arc::clone(&notes);
                async move {
                    let target = request.uri().to_string();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    notes.lock().unwrap().push((target, body));
                    Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
                }
            });
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            tokio::spawn(serving);
        }
    });
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    (got, proxy)
}

/// Sends bytes in pieces and reads until the proxy closes.
async fn exchange(proxy: &Proxy, bytes: &[u8], piece: usize) -> String {
    let mut socket = TcpStream::connect(proxy.base_url_addr()).await.unwrap();
    for part in bytes.chunks(piece) {
        socket.write_all(part).await.unwrap();
    }
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(target: &[u8]) -> Vec<u8> {
    let (start, end) = (
        b"GET /demo/anything".as_slice(),
        b" HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer key\r\nconnection: close\r\n\r\n",
    );
    [start, target, end].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_bytes_in_a_target_reach_the_provider_percent_encoded() {
    let (got, proxy) = proxied().await;
    let sent = [
        (
            &b"/query?q=SELECT Id FROM Account WHERE a<1 AND b>2"[..],
            "/anything/query?q=SELECT%20Id%20FROM%20Account%20WHERE%20a%3C1%20AND%20b%3E2",
        ),
        (b"/\"quoted\"?a=\"b\"", "/anything/%22quoted%22?a=%22b%22"),
        (b"/M\xfcller?name=M\xfcller", "/anything/M%FCller?name=M%FCller"),
        ("/Müller?name=Müller".as_bytes(), "/anything/M%C3%BCller?name=M%C3%BCller"),
        (b"/{a}|b?c=[1]&d=%20", "/anything/{a}|b?c=[1]&d=%20"),
    ];
    for (target, arrived) in sent {
        for piece in [3, 4096] {
            let answer = exchange(&proxy, &get(target), piece).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{}: {answer}", target.escape_ascii());
            assert_eq!(got.lock().unwrap().pop().unwrap().0, arrived);
        }
    }
    let long = format!("/{}", "x".repeat(50_000));
    let answer = exchange(&proxy, &get(long.as_bytes()), 4096).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "a URL of 50 KB passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_and_bodies_that_look_like_heads_pass_unchanged() {
    let (got, proxy) = proxied().await;
    let body = "GET /demo/<> HTTP/1.1\r\n\r\n";
    let post = format!(
        "POST /demo/anything/one HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer key\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let chunked = format!(
        "POST /demo/anything/two HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer key\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for piece in [5, 100_000] {
        let all = [post.as_bytes(), chunked.as_bytes(), &get(b"/<three>")].concat();
        let answers = exchange(&proxy, &all, piece).await;
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{answers}");
    }
    let expected = [("/anything/one", body), ("/anything/two", body), ("/anything/%3Cthree%3E", "")];
    let expected = expected.map(|(path, body)| (path.to_owned(), Bytes::from(body)));
    assert_eq!(*got.lock().unwrap(), [expected.clone(), expected].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_gets_a_body_a_reason_and_a_count() {
    let (got, proxy) = proxied().await;
    let long = get(format!("/{}", "x".repeat(300_000)).as_bytes());
    let cookie = format!("GET / HTTP/1.1\r\ncookie: {}\r\n\r\n", "x".repeat(300_000)).into_bytes();
    for (bytes, status, reason, says) in [
        (long, "414", "UrlTooLong", "60 KiB"),
        (cookie, "431", "HeadersTooLarge", "63 KiB"),
        (b"GET / HTTP/1.1\r\nx-a: \x01\r\n\r\n".to_vec(), "400", "UnreadableRequest", "0x01"),
        (b"G\"T / HTTP/1.1\r\n\r\n".to_vec(), "400", "UnreadableRequest", "method or target"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n".to_vec(), "400", "UnreadableRequest", "0x20"),
        (
            b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n".to_vec(),
            "400",
            "UnreadableRequest",
            "Content-Length",
        ),
    ] {
        let answer = exchange(&proxy, &bytes, 16 * 1024).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(&format!("x-quotakeeper-reason: {reason}\r\n")), "{answer}");
        assert!(answer.contains(says) && answer.contains("\"error\""), "{answer}");
    }
    let metrics = proxy.metrics_text();
    for (reason, count) in [("UrlTooLong", 1), ("HeadersTooLarge", 1), ("UnreadableRequest", 4)] {
        let line = format!(r#"quotakeeper_proxy_turned_away_requests_total{{reason="{reason}"}} {count}"#);
        assert!(metrics.contains(&line), "{line}");
    }
    assert!(got.lock().unwrap().is_empty());
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream][..], payload].concat()
}

/// A request of HTTP/2 for a path, its fields as literals without index (RFC 7541 §6.2.2).
fn http2(stream: u8, path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", path)];
    let literal = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let block: Vec<u8> =
        fields.iter().flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect();
    const END_STREAM_AND_HEADERS: u8 = 0x5;
    frame(1, END_STREAM_AND_HEADERS, stream, &block)
}

/// HTTP/2 leaves no place for an answer to a head that can't be read: its stream is reset. That is logged and counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_http2_that_is_reset_is_counted() {
    let (got, proxy) = proxied().await;
    let mut socket = TcpStream::connect(proxy.base_url_addr()).await.unwrap();
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    for bytes in [begin, http2(1, "/demo/raw space"), http2(3, "/demo/anything/fine")] {
        socket.write_all(&bytes).await.unwrap();
    }
    // The connection goes on; this provider speaks HTTP/1.1 alone.
    world::until("the other call", || proxy.stats().ended == 1).await;
    let count = r#"quotakeeper_proxy_turned_away_requests_total{reason="UnreadableRequest"} 1"#;
    world::until("the count", || proxy.metrics_text().contains(count)).await;
    assert!(got.lock().unwrap().is_empty());
}
