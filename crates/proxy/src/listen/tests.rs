//! Connections on which nothing is asked end; those with a call under way don't.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// What was asked, or the reason of what the proxy said by itself.
type Seen = Arc<Mutex<Vec<String>>>;

/// A client's end of a connection whose calls take this long to be answered.
fn connect(takes: Duration) -> (DuplexStream, Seen) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    tokio::spawn(http(server, Closing::default(), move |received: Received| {
        let notes = Arc::clone(&notes);
        async move {
            let note = received.map_or_else(|own| own.reason.to_owned(), |request| request.uri().to_string());
            notes.lock().unwrap().push(note);
            sleep(takes).await;
            let body = Full::new(Bytes::from_static(b"ok")).map_err(|never| match never {});
            let mut response = Response::new(body.boxed_unsync());
            *response.status_mut() = StatusCode::OK;
            response
        }
    }));
    (client, seen)
}

async fn read(client: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn half_a_head_is_not_waited_for_without_end() {
    for sent in [&b""[..], b"GET /demo/x HTTP/1.1\r\nhost: a\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let (mut client, seen) = connect(Duration::ZERO);
        client.write_all(sent).await.unwrap();
        let mut bytes = Vec::new();
        let ended = timeout(FIRST_REQUEST + 2 * GRACE, client.read_to_end(&mut bytes)).await;
        assert!(ended.is_ok(), "{}", sent.escape_ascii());
        assert_eq!(*seen.lock().unwrap(), ["NoRequest"], "{}", sent.escape_ascii());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_as_long_as_it_takes_and_then_the_connection_may_be_idle() {
    let (mut client, seen) = connect(2 * IDLE);
    client.write_all(b"GET /demo/x HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    sleep(IDLE / 2).await;
    client.write_all(b"GET /demo/y HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let ended = timeout(4 * IDLE, read(&mut client)).await.expect("it is idle for ever");
    assert!(ended.contains("HTTP/1.1 200"), "{ended}");
    assert_eq!(*seen.lock().unwrap(), ["/demo/x", "/demo/y"], "and nobody is told");
}
