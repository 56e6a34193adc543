//! Whoever holds many connections without a token makes room for a proxy that comes.

use test_support::crowd::Crowd;

use quotakeeper_listen::Reason;
use quotakeeper_transport::{SystemDial, keep_connected};

use crate::calls_are_granted_over_a_session::{admission, call};
use crate::host::{self, Host};
use crate::world::{Ca, NAME, Pod, Server, Tokens, endpoint, free, server_tls, until};

/// More than may be pending.
const STRANGERS: usize = 1100;

#[tokio::test(flavor = "multi_thread")]
async fn strangers_keep_no_proxy_out() {
    let ca = Ca::new();
    let host = Host::start(host::account(Vec::new()), 1);
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("pod-1"), host.clone()).await;
    let strangers = Crowd::of(STRANGERS, server.address, b"").await;
    let pod = Pod::with_token("pod-1");
    let (admission, peer) = admission(1);
    let client =
        tokio::spawn(keep_connected(endpoint(server.address, &ca), pod.token_file(), SystemDial, peer));
    call(&admission).await;
    until("some gave way", || strangers.closed() > STRANGERS - 1024).await;
    until("that is counted", || server.closed.of(Reason::GaveWay) as usize > STRANGERS - 1024).await;
    client.abort();
    server.stop().await;
}
