//! A client that ends its side of the connection behind its request waits for the answer all the same; one that has
//! closed the connection is gone. TCP tells the two apart only when something is written.

use std::process::Stdio;
use std::time::Duration;

use quotakeeper_proxy::Proxy;
use quotakeeper_wire::message::ProxyMessage;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::limiter::Hand;
use crate::{client, limiter, world};

const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// A proxy whose calls wait until they are granted by hand, and the provider behind it.
async fn by_hand(dialect: &str) -> (counting_provider::Provider, Proxy, Hand) {
    let (provider, url) = world::provider().await;
    let settings = world::settings(vec![world::account(dialect, Some(url), world::plenty())]);
    let (proxy, peer) = world::start(settings).await;
    let hand = Hand::connect(&peer, 1).await;
    (provider, proxy, hand)
}

fn request(path: &str, version: &str) -> String {
    format!("GET /demo/anything/{path} HTTP/{version}\r\nhost: proxy\r\nauthorization: Bearer key\r\n\r\n")
}

/// Sends bytes and ends the sending side.
async fn half_closed(proxy: &Proxy, bytes: &str) -> TcpStream {
    let mut socket = TcpStream::connect(proxy.base_url_addr()).await.unwrap();
    socket.write_all(bytes.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    socket
}

/// What comes until the proxy closes.
async fn rest(mut socket: TcpStream) -> String {
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn paths(provider: &counting_provider::Provider) -> Vec<String> {
    provider.log("key").into_iter().map(|entry| entry.path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_when_the_call_has_waited() {
    let (provider, proxy, mut hand) = by_hand("demo").await;
    let mut socket = half_closed(&proxy, &request("one", "1.1")).await;
    let asked = hand.asked().await;
    // The client is asked whether it is there; the call waits on.
    let mut interim = [0; INTERIM.len()];
    socket.read_exact(&mut interim).await.unwrap();
    assert_eq!(interim, INTERIM.as_bytes());
    assert_eq!((proxy.stats().waiting, proxy.stats().client_gone), (1, 0));
    hand.grant(asked, 1).await;
    let answer = rest(socket).await;
    let answer = answer.trim_start_matches(INTERIM);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('}'), "{answer}");
    assert_eq!(paths(&provider), ["/anything/one"]);
    assert_eq!((proxy.stats().answered, proxy.stats().client_gone), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_follow_each_other_are_all_answered() {
    let (provider, url) = world::provider().await;
    let quota = world::engine(vec![world::limit(1, Duration::from_secs(1))]);
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let answers =
        rest(half_closed(&proxy, &[request("one", "1.1"), request("two", "1.1")].concat()).await).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
    assert_eq!(paths(&provider), ["/anything/one", "/anything/two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_later_is_gone_and_nothing_is_sent() {
    let (provider, proxy, mut hand) = by_hand("demo").await;
    let mut socket = half_closed(&proxy, &request("one", "1.1")).await;
    let asked = hand.asked().await;
    let mut interim = [0; INTERIM.len()];
    socket.read_exact(&mut interim).await.unwrap();
    drop(socket);
    assert_eq!(hand.hear().await, ProxyMessage::Cancel { account: asked.account, call: asked.call });
    world::until("it is counted", || proxy.stats().client_gone == 1).await;
    assert_eq!(paths(&provider), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_no_interim_answer_and_one_that_breaks_off_are_gone() {
    let (provider, proxy, _hand) = by_hand("demo").await;
    assert_eq!(rest(half_closed(&proxy, &request("one", "1.0")).await).await, "");
    world::until("it has left the queue", || proxy.stats().calls == proxy.stats().client_gone).await;
    assert_eq!((proxy.stats().waiting, paths(&provider).len()), (0, 0));
    let broken = "POST /demo/anything HTTP/1.1\r\nhost: proxy\r\ncontent-length: 9\r\n\r\nhalf";
    let answer = rest(half_closed(&proxy, broken).await).await;
    assert!(!answer.contains("100 Continue") && !answer.contains(" 200 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reaches_a_half_closed_client_to_its_end() {
    let (provider, proxy, mut hand) = by_hand("openai").await;
    let slow = counting_provider::Rules { stream_millis: Some(30), ..counting_provider::Rules::default() };
    provider.set_rules("key", slow).unwrap();
    let body =
        r#"{"model":"gpt-4o","stream":true,"max_tokens":20,"messages":[{"role":"user","content":"hello"}]}"#;
    let request = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: api.openai.com\r\nauthorization: Bearer key\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = half_closed(&proxy, &request).await;
    let asked = hand.asked().await;
    socket.read_exact(&mut [0; INTERIM.len()]).await.unwrap();
    hand.grant(asked, 1).await;
    let answer = rest(socket).await;
    assert!(answer.contains("data: [DONE]"), "{answer}");
    assert_eq!((proxy.stats().answered, proxy.stats().client_gone), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_http_client_skips_the_interim_answer() {
    const SCRIPT: &str = r"
import http.client, socket, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=120)
connection.request('GET', '/demo/anything/python', headers={'authorization': 'Bearer key'})
connection.sock.shutdown(socket.SHUT_WR)
print('waits', flush=True)
answer = connection.getresponse()
print(answer.status, len(answer.read()) > 0)
";
    let (provider, proxy, mut hand) = by_hand("demo").await;
    let address = proxy.base_url_addr().to_string();
    let python = Command::new("python3").args(["-c", SCRIPT, &address]).stdout(Stdio::piped()).spawn();
    let Ok(mut python) = python else { return eprintln!("not tried: python3 is missing") };
    let mut said = BufReader::new(python.stdout.take().unwrap()).lines();
    assert_eq!(said.next_line().await.unwrap().as_deref(), Some("waits"));
    let asked = hand.asked().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    hand.grant(asked, 1).await;
    assert_eq!(said.next_line().await.unwrap().as_deref(), Some("200 True"));
    assert!(python.wait().await.unwrap().success());
    assert_eq!(paths(&provider), ["/anything/python"]);
}

/// The connections of clients that close while they wait are not kept open for them.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_close_cost_nothing() {
    let (provider, proxy, mut hand) = by_hand("demo").await;
    for _ in 0..5 {
        let mut socket = TcpStream::connect(proxy.base_url_addr()).await.unwrap();
        socket.write_all(request("gone", "1.1").as_bytes()).await.unwrap();
        let asked = hand.asked().await;
        drop(socket);
        assert_eq!(hand.hear().await, ProxyMessage::Cancel { account: asked.account, call: asked.call });
    }
    world::until("they are counted", || proxy.stats().client_gone == 5).await;
    let call =
        tokio::spawn(client::send(proxy.base_url_addr(), client::request("GET", "/demo/anything", "")));
    let asked = hand.asked().await;
    hand.grant(asked, 1).await;
    assert_eq!(call.await.unwrap().status, 200);
    assert_eq!(paths(&provider), ["/anything"]);
}
