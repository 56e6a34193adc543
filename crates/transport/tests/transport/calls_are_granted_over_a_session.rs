//! A proxy's calls are granted over the network, and its last messages arrive.

use std::time::Duration;

use quotakeeper_engine::config::{QueueConfig, Unit};
use quotakeeper_engine::event::{CallClass, SessionId};
use quotakeeper_proxy::Link;
use quotakeeper_proxy::admission::AdmissionClient;
use quotakeeper_proxy::clock;
use quotakeeper_transport::{SystemDial, keep_connected};
use quotakeeper_wire::message::AccountIndex;
use quotakeeper_wire::proxy::Identity;

use crate::host::{self, Host};
use crate::world::{CONSUMER, Ca, NAME, Peer, Pod, Server, Tokens, endpoint, free, server_tls, until};

pub const QUEUE: QueueConfig = QueueConfig {
    max_wait: Duration::from_secs(120),
    max_absence: None,
    max_budget_wait: None,
    max_calls: 1000,
};

pub fn admission(session: u64) -> (AdmissionClient, Peer) {
    let (link, peer) = Link::pair();
    let identity = Identity {
        session: SessionId(session),
        consumer: CONSUMER.into(),
        quotas: vec![host::ACCOUNT.into()],
        max_calls: 1000,
    };
    (
        AdmissionClient::start(identity, link, tokio::sync::watch::channel(Default::default()).1, |_| {}),
        Peer(peer),
    )
}

/// One call from its request to its end. Returns when it was written.
pub async fn call(admission: &AdmissionClient) -> u64 {
    let mut permit = admission.admit(AccountIndex(0), CallClass::default(), None, QUEUE).await.unwrap();
    while !permit.write_permit().may_write() {
        permit.granted().await.unwrap();
    }
    permit.write_permit().wrote();
    let written = clock::now();
    permit.first_byte(clock::now(), Vec::new());
    written.0
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_granted_and_their_slots_freed() {
    let ca = Ca::new();
    let slots = host::limit(Unit::ConcurrentRequests, 4, Duration::from_secs(1));
    let host = Host::start(host::account(vec![slots]), 1);
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("pod-1"), host.clone()).await;
    let pod = Pod::with_token("pod-1");
    let (admission, peer) = admission(1);
    let client =
        tokio::spawn(keep_connected(endpoint(server.address, &ca), pod.token_file(), SystemDial, peer));

    let calls: Vec<_> = (0..40)
        .map(|_| {
            let admission = admission.clone();
            tokio::spawn(async move { call(&admission).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(host.connections(), 1);

    // A proxy that stops returns its grants first.
    let permit = admission.admit(AccountIndex(0), CallClass::default(), None, QUEUE).await.unwrap();
    assert_eq!(host.status().await.under_way, 1);
    drop(permit);
    admission.close();
    client.await.unwrap().unwrap();
    let status = host.status().await;
    assert_eq!((status.under_way, status.waiting_calls()), (0, 0));
    server.stop().await;
}

/// The operator renews the certificate; sessions that stand stay, new ones see the new.
#[tokio::test(flavor = "multi_thread")]
async fn new_connections_get_a_renewed_certificate() {
    let (old, new) = (Ca::new(), Ca::new());
    let host = Host::start(host::account(vec![]), 1);
    let server = Server::start(free(), server_tls(&old, NAME), Tokens::of("pod-1"), host.clone()).await;
    let pod = Pod::with_token("pod-1");
    let (first, peer) = admission(1);
    tokio::spawn(keep_connected(endpoint(server.address, &old), pod.token_file(), SystemDial, peer));
    until("the first proxy is connected", || first.is_connected()).await;

    server.tls.send(server_tls(&new, NAME)).unwrap();
    let (second, peer) = admission(2);
    tokio::spawn(keep_connected(endpoint(server.address, &new), pod.token_file(), SystemDial, peer));
    until("the second proxy is connected", || second.is_connected()).await;
    call(&second).await;
    call(&first).await;
    assert_eq!(host.connections(), 2);
}
