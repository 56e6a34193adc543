//! A proxy connects to the limiter of the given CA and name, and to no other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quotakeeper_transport::{Dial, SystemDial, keep_connected};
use quotakeeper_wire::bootstrap::Endpoint;
use tokio::net::TcpStream;

use crate::calls_are_granted_over_a_session::{admission, call};
use crate::host::{self, Host};
use crate::world::{Ca, NAME, Pod, Server, Tokens, endpoint, free, server_tls, until};

/// Counts the attempts.
#[derive(Clone, Default)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub fn attempts(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Dial for Counted {
    async fn dial(&self, endpoint: &str) -> io::Result<TcpStream> {
        self.0.fetch_add(1, Ordering::Relaxed);
        SystemDial.dial(endpoint).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_another_ca_or_another_name() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (host, tokens) = (Host::start(host::account(vec![]), 1), Tokens::of("pod-1"));
    let server = Server::start(free(), server_tls(&ca, NAME), tokens.clone(), host.clone()).await;
    let pod = Pod::with_token("pod-1");

    let wrong_ca = endpoint(server.address, &other);
    let wrong_name = Endpoint { server_name: "limiter.example".to_owned(), ..endpoint(server.address, &ca) };
    for endpoint in [wrong_ca, wrong_name] {
        let (admission, peer) = admission(1);
        let dial = Counted::default();
        let client = tokio::spawn(keep_connected(endpoint, pod.token_file(), dial.clone(), peer));
        until("it has tried four times", || dial.attempts() >= 4).await;
        assert!(!admission.is_connected());
        client.abort();
    }
    assert_eq!((host.connections(), tokens.shown()), (0, 0), "not even the token is shown");

    let (admission, peer) = admission(1);
    tokio::spawn(keep_connected(endpoint(server.address, &ca), pod.token_file(), SystemDial, peer));
    call(&admission).await;
}

#[tokio::test]
async fn an_endpoint_that_can_never_be_reached_is_an_error_at_once() {
    let (pod, ca) = (Pod::new(), Ca::new());
    let (_gate, peer) = admission(1);
    let unreadable = Endpoint { ca_pem: "nothing".to_owned(), ..endpoint(free(), &ca) };
    let error = keep_connected(unreadable, pod.token_file(), SystemDial, peer).await.unwrap_err();
    assert_eq!(error.to_string(), "the limiter's CA holds no certificate; give at least one in PEM");

    let (_gate, peer) = admission(1);
    let nameless = Endpoint { server_name: "a b".to_owned(), ..endpoint(free(), &ca) };
    let error = keep_connected(nameless, pod.token_file(), SystemDial, peer).await.unwrap_err();
    assert!(error.to_string().starts_with("\"a b\" is no server name"), "{error}");
}
