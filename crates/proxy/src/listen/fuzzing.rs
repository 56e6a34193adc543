//! A client's connection whose bytes a fuzzer makes up, read as the doors read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::requests::Requests;
use super::{Closing, Received, http};
use crate::local_response::LocalResponse;

/// Room for all answers: nothing is read before all was sent.
const ROOM: usize = 1024 * 1024;

/// What the check makes of a connection's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedBytes {
    /// What the HTTP library gets to read.
    pub out: Vec<u8>,
    /// Requests of HTTP/1.1 that were passed on.
    pub passed: u64,
    /// Whether one was turned away.
    pub turned_away: bool,
    /// Whether it speaks HTTP/2, which passes unread.
    pub is_http2: bool,
}

/// The check alone, of bytes that come in pieces of `piece` bytes.
#[must_use]
pub fn checked(bytes: &[u8], piece: usize) -> CheckedBytes {
    let (mut requests, mut out) = (Requests::default(), Vec::new());
    bytes.chunks(piece).for_each(|part| requests.read(part, &mut out));
    CheckedBytes {
        out,
        passed: requests.heads(),
        turned_away: requests.turned_away.is_some(),
        is_http2: requests.is_http2(),
    }
}

/// What became of a connection.
#[derive(Clone, Debug)]
pub struct Served {
    /// Requests that the HTTP library has read.
    pub read: u64,
    /// What the client gets.
    pub answers: Vec<u8>,
}

/// Serves a client that sends `bytes`, ends its side and reads what comes. Each request is answered when its body is here.
pub async fn serve(bytes: &[u8]) -> Served {
    let (mut client, server) = duplex(ROOM.max(bytes.len()));
    let read = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&read);
    let answer = move |received: Received| {
        let counter = Arc::clone(&counter);
        async move {
            match received {
                Err(own) => LocalResponse::into_response(own),
                Ok(request) => {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let _whole = request.into_body().collect().await;
                    Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync())
                }
            }
        }
    };
    let mut answers = Vec::new();
    let talk = async {
        // A connection that the proxy has ended takes no more.
        let _sent = client.write_all(bytes).await;
        let _ended = client.shutdown().await;
        let _cut = client.read_to_end(&mut answers).await;
    };
    tokio::join!(http(server, Closing::default(), answer), talk);
    Served { read: read.load(Ordering::Relaxed), answers }
}
