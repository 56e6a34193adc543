//! However often the connection breaks, every call is granted once, and nothing is held for ever.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quotakeeper_engine::config::Unit;
use quotakeeper_transport::{
    Accept, Accepted, Inbox, NotAccepted, PodIdentity, Stopped, SystemDial, keep_connected,
};
use quotakeeper_wire::message::ToLimiter;
use tokio::sync::Semaphore;

use crate::calls_are_granted_over_a_session::{admission, call};
use crate::host::{self, Host};
use crate::relay::Relay;
use crate::world::{Ca, NAME, Pod, Server, Tokens, endpoint, free, server_tls};

const CALLS: usize = 500;
/// How many messages of a proxy a connection lasts for.
const LIFE: usize = 20;
const SLOTS: u64 = 8;
const WINDOW: Duration = Duration::from_secs(1);
const AMOUNT: u64 = 100;

/// Ends each connection after twenty messages: in turns with a status, and by a cut in the network.
#[derive(Clone)]
struct Fragile {
    host: Host,
    relay: Arc<Mutex<Option<Relay>>>,
    kills: Arc<AtomicUsize>,
}

struct FragileInbox {
    inner: host::HostInbox,
    received: usize,
    fragile: Fragile,
}

impl Accept for Fragile {
    type Inbox = FragileInbox;

    async fn accept(&self, pod: PodIdentity) -> Result<Accepted<FragileInbox>, NotAccepted> {
        let Accepted { inbox, outgoing, ended } = self.host.accept(pod).await?;
        Ok(Accepted {
            inbox: FragileInbox { inner: inbox, received: 0, fragile: self.clone() },
            outgoing,
            ended,
        })
    }
}

impl Inbox for FragileInbox {
    async fn deliver(&mut self, message: ToLimiter) -> Result<(), Stopped> {
        self.received += 1;
        if self.received <= LIFE {
            return self.inner.deliver(message).await;
        }
        // What comes between the decision and the cut is lost on its way.
        if self.received == LIFE + 1 {
            if self.fragile.kills.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                return Err(Stopped);
            }
            self.fragile.relay.lock().unwrap().as_ref().unwrap().cut();
        }
        Ok(())
    }

    async fn close(self) {
        self.inner.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_calls_end_over_connections_of_twenty_messages() {
    let ca = Ca::new();
    let limits = vec![
        host::limit(Unit::Requests, AMOUNT, WINDOW),
        host::limit(Unit::ConcurrentRequests, SLOTS, WINDOW),
    ];
    let host = Host::start(host::account(limits), 1);
    let fragile = Fragile { host: host.clone(), relay: Arc::default(), kills: Arc::default() };
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("pod-1"), fragile.clone()).await;
    let relay = Relay::start(server.address).await;
    *fragile.relay.lock().unwrap() = Some(relay.clone());
    let pod = Pod::with_token("pod-1");
    let (admission, peer) = admission(1);
    let client =
        tokio::spawn(keep_connected(endpoint(relay.address, &ca), pod.token_file(), SystemDial, peer));

    // Twice as many clients at a time as calls that may be under way.
    let clients = Arc::new(Semaphore::new(2 * SLOTS as usize));
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let (admission, clients) = (admission.clone(), Arc::clone(&clients));
            tokio::spawn(async move {
                let _client = clients.acquire().await.unwrap();
                call(&admission).await
            })
        })
        .collect();
    let mut written = Vec::new();
    for call in calls {
        written.push(call.await.unwrap());
    }
    let kills = fragile.kills.load(Ordering::Relaxed);
    assert!(kills >= CALLS / LIFE, "{kills} kills");

    // No window holds more writes than the quota.
    assert_eq!(written.len(), CALLS);
    written.sort_unstable();
    let window = WINDOW.as_nanos() as u64;
    for (first, &begin) in written.iter().enumerate() {
        let within = written[first..].iter().take_while(|&&at| at < begin + window).count();
        assert!(within as u64 <= AMOUNT, "{within} calls within a window");
    }
    // Nothing waits, and every slot has come back, as soon as a connection reports the last ends.
    for _ in 0..6000 {
        let status = host.status().await;
        if (status.waiting_calls(), status.under_way) == (0, 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = host.status().await;
    assert_eq!((status.waiting_calls(), status.under_way), (0, 0));
    let counters = admission.counters();
    assert!(counters.granted >= CALLS as u64, "{counters:?}");
    admission.close();
    client.await.unwrap().unwrap();
    server.stop().await;
    println!("{CALLS} calls over {} connections, {kills} of them killed; {counters:?}", host.connections());
}
