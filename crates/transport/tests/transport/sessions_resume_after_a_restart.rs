//! Calls that wait when the limiter goes are granted by the next one, with the token of then.

use std::time::Duration;

use quotakeeper_engine::config::Unit;
use quotakeeper_engine::event::CallClass;
use quotakeeper_transport::{SystemDial, keep_connected};
use quotakeeper_wire::message::AccountIndex;

use crate::calls_are_granted_over_a_session::{QUEUE, admission, call};
use crate::host::{self, Host};
use crate::world::{Ca, NAME, Pod, Server, Tokens, endpoint, kept, server_tls, until};

#[tokio::test(flavor = "multi_thread")]
async fn waiting_calls_continue_at_the_next_limiter() {
    for kill in [false, true] {
        let ca = Ca::new();
        // One call at a time: of the rest, each waits.
        let one = || host::account(vec![host::limit(Unit::ConcurrentRequests, 1, Duration::from_secs(1))]);
        let first = Host::start(one(), 1);
        let server = Server::start(kept(), server_tls(&ca, NAME), Tokens::of("old"), first.clone()).await;
        let (address, pod) = (server.address, Pod::with_token("old"));
        let (admission, peer) = admission(1);
        tokio::spawn(keep_connected(endpoint(address, &ca), pod.token_file(), SystemDial, peer));
        let held = admission.admit(AccountIndex(0), CallClass::default(), None, QUEUE);
        let held = held.await.unwrap();
        assert!(held.write_permit().may_write());
        held.write_permit().wrote();
        let calls: Vec<_> = (0..5)
            .map(|_| {
                let admission = admission.clone();
                tokio::spawn(async move { call(&admission).await })
            })
            .collect();
        until("five calls wait", || admission.waiting() == 5).await;

        if kill {
            server.kill();
        } else {
            server.stop().await;
        }
        until("the proxy knows", || !admission.is_connected()).await;
        pod.renew("new");
        let second = Host::start(one(), 2);
        let server = Server::start(address, server_tls(&ca, NAME), Tokens::of("new"), second.clone()).await;
        until("the proxy is back", || admission.is_connected()).await;
        // The slot is still held, because the hello named its call.
        while second.status().await.waiting_calls() != 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(second.status().await.under_way, 1);
        drop(held);
        for call in calls {
            call.await.unwrap();
        }
        server.stop().await;
    }
}
