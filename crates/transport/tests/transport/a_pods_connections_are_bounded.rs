//! A pod that opens many sessions loses its own, and one that sends no first message holds up none but its own.

use std::time::Duration;

use bytes::Bytes;
use quotakeeper_transport::{SystemDial, keep_connected};
use quotakeeper_wire::codec::METHOD;
use tonic::Code;

use crate::calls_are_granted_over_a_session::{admission, call};
use crate::host::{self, Host};
use crate::raw::{self, Raw};
use crate::world::{Ca, NAME, Pod, Server, Tokens, endpoint, free, server_tls};

/// How a session ends that has opened.
async fn end(raw: &mut Raw) -> Code {
    let ended = async {
        loop {
            match raw.incoming.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it never ended")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_many_sessions_of_a_pod_is_cut() {
    let ca = Ca::new();
    let host = Host::start(host::account(Vec::new()), 1);
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("valid"), host).await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(raw::open(server.address, &ca, Some("Bearer valid"), METHOD).await.unwrap());
    }
    for session in &mut sessions[..8] {
        end(session).await;
    }
    for session in &mut sessions[8..] {
        // A hello that can't be read: it is still listened to, one after the other.
        session.outgoing.send(Bytes::from_static(b"GET / HTTP/1.1")).await.unwrap();
        assert_eq!(end(session).await, Code::InvalidArgument);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_first_message_ends_and_holds_up_no_other_pod() {
    let ca = Ca::new();
    let host = Host::start(host::account(Vec::new()), 1);
    let tokens = Tokens::of("silent");
    tokens.admit("pod-1");
    let server = Server::start(free(), server_tls(&ca, NAME), tokens, host.clone()).await;
    let mut silent = raw::open(server.address, &ca, Some("Bearer silent"), METHOD).await.unwrap();
    let pod = Pod::with_token("pod-1");
    let (admission, peer) = admission(1);
    let client =
        tokio::spawn(keep_connected(endpoint(server.address, &ca), pod.token_file(), SystemDial, peer));
    call(&admission).await;
    assert_eq!(end(&mut silent).await, Code::DeadlineExceeded);
    client.abort();
    server.stop().await;
}
