//! Without a valid token there is no session, and the proxy tries on, but does not spin.

use std::time::{Duration, Instant};

use quotakeeper_transport::keep_connected;
use quotakeeper_wire::codec::METHOD;
use tonic::Code;

use crate::calls_are_granted_over_a_session::{admission, call};
use crate::host::{self, Host};
use crate::only_the_given_ca_is_trusted::Counted;
use crate::raw;
use crate::world::{Ca, NAME, Pod, Server, Tokens, endpoint, free, server_tls, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_with_the_first_valid_token() {
    let ca = Ca::new();
    let (host, tokens) = (Host::start(host::account(vec![]), 1), Tokens::of("valid"));
    let server = Server::start(free(), server_tls(&ca, NAME), tokens.clone(), host.clone()).await;
    let pod = Pod::new();
    let (admission, peer) = admission(1);
    let dial = Counted::default();
    let began = Instant::now();
    tokio::spawn(keep_connected(endpoint(server.address, &ca), pod.token_file(), dial.clone(), peer));

    // No file: nobody is bothered.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((dial.attempts(), tokens.shown()), (0, 0));

    pod.renew("expired");
    until("the token was refused twice", || tokens.shown() >= 2).await;
    assert!(!admission.is_connected());
    assert_eq!(host.connections(), 0);

    pod.renew("valid");
    call(&admission).await;
    assert_eq!(host.connections(), 1);
    // Half of each step at least: a stalled machine makes it longer, never shorter. The attempts
    // without a file come on top.
    let least: u64 = (0..tokens.shown() as u32 - 1).map(|step| (25 << step).min(1000)).sum();
    assert!(began.elapsed() >= Duration::from_millis(least), "{} attempts", tokens.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_token_is_refused_with_a_remedy() {
    let ca = Ca::new();
    let host = Host::start(host::account(vec![]), 1);
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("valid"), host.clone()).await;
    let missing =
        "a session needs `authorization: Bearer TOKEN`; mount a ServiceAccount token for the limiter";
    let refused = "the token is not for this limiter";
    let headers = [
        (None, missing),
        (Some("Bearer "), missing),
        (Some("Basic dmFsaWQ="), missing),
        (Some("valid"), missing),
        (Some("Bearer other"), refused),
    ];
    for (header, sentence) in headers {
        let status = raw::open(server.address, &ca, header, METHOD).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, sentence), "{header:?}");
    }
    assert_eq!(host.connections(), 0);
    raw::open(server.address, &ca, Some("bearer valid"), METHOD).await.unwrap();

    let status = raw::open(server.address, &ca, Some("Bearer valid"), "/grpc.health.v1.Health/Check").await;
    assert_eq!(status.unwrap_err().code(), Code::Unimplemented);
}
