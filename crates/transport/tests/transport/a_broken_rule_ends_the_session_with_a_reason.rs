//! The session of a proxy that breaks a rule ends with a status that names the rule.

use bytes::Bytes;
use quotakeeper_engine::event::CallId;
use quotakeeper_engine::time::Stamp;
use quotakeeper_wire::codec::{Coded, METHOD};
use quotakeeper_wire::message::{AccountIndex, ProxyMessage, ToLimiter};
use tonic::{Code, Status};

use crate::host::{self, Host};
use crate::raw::{self, Raw};
use crate::world::{Ca, NAME, Server, Tokens, free, server_tls};

/// The status with which a session ends that sends `bytes`.
async fn rejected(server: &Server, ca: &Ca, bytes: Vec<u8>) -> Status {
    let opened = raw::open(server.address, ca, Some("Bearer valid"), METHOD).await;
    let Raw { outgoing, mut incoming } = opened.unwrap();
    outgoing.send(Bytes::from(bytes)).await.unwrap();
    let ended = async {
        loop {
            match incoming.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended without a status"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.expect("never ended")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_names_the_broken_rule() {
    let ca = Ca::new();
    let host = Host::start(host::account(vec![]), 1);
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("valid"), host.clone()).await;

    let body = ProxyMessage::Cancel { account: AccountIndex(0), call: CallId(1) };
    let no_hello = ToLimiter { stamp: Stamp(1), body }.to_bytes();
    let status = rejected(&server, &ca, no_hello).await;
    let sentence = "a connection begins with a hello; send it before anything else";
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, sentence));

    // A hello of versions 2 to 4.
    let status = rejected(&server, &ca, vec![0x12, 4, 0x08, 2, 0x10, 4]).await;
    let sentence =
        "the proxy supports versions 2 to 4 of the session, this limiter 1 to 1; upgrade the limiter first";
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, sentence));

    let status = rejected(&server, &ca, b"GET / HTTP/1.1".to_vec()).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("the message does not read as quotakeeper.session.v1"), "{status}");

    let status = rejected(&server, &ca, vec![0; quotakeeper_wire::codec::MOST_BYTES + 1]).await;
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_limiter_ends_sessions_with_a_reason() {
    let ca = Ca::new();
    let host = Host::start(host::account(vec![]), 1);
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("valid"), host).await;
    let opened = raw::open(server.address, &ca, Some("Bearer valid"), METHOD).await;
    let Raw { outgoing, mut incoming } = opened.unwrap();
    server.stop().await;
    let status = incoming.message().await.unwrap_err();
    let sentence = "the limiter has stopped; try again at its address";
    assert_eq!((status.code(), status.message()), (Code::Unavailable, sentence));
    drop(outgoing);
}
