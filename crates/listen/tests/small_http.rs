//! Metrics and probes beside peers that hold connections open.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::net::SocketAddr;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use quotakeeper_listen::small_http::{self, BOUNDS};
use quotakeeper_listen::{ClosedConnections, Reason};
use test_support::crowd::Crowd;
use test_support::wait::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn served() -> SocketAddr {
    served_and_counted().await.0
}

async fn served_and_counted() -> (SocketAddr, ClosedConnections) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let answer = |_request| std::future::ready(Response::new(Full::new(Bytes::from_static(b"metrics"))));
    let closed = ClosedConnections::default();
    tokio::spawn(small_http::serve(socket, "a test", closed.clone(), answer));
    (address, closed)
}

async fn get(address: SocketAddr, head: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // What the server has not read resets the connection once it is closed.
    let _ = connection.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

const GET: &str = "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n";

#[tokio::test]
async fn half_sent_requests_keep_no_other_out_and_end() {
    let (address, closed) = served_and_counted().await;
    let crowd = Crowd::of(200, address, b"GET /met").await;
    until("no more are open than may be", || crowd.closed() >= 200 - BOUNDS.connections).await;
    for _ in 0..20 {
        assert!(get(address, GET).await.ends_with("metrics"));
    }
    crowd.is_gone().await;
    let all = || closed.of(Reason::GaveWay) + closed.of(Reason::Late);
    until("each is counted", || all() == 200).await;
    assert!(closed.of(Reason::Late) > 0);
}

#[tokio::test]
async fn one_request_is_answered_on_a_connection() {
    let address = served().await;
    let answer = get(address, &GET.repeat(2)).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_head_without_an_end_is_refused() {
    let address = served().await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(small_http::LARGEST_HEAD));
    assert!(get(address, &long).await.starts_with("HTTP/1.1 4"));
}
