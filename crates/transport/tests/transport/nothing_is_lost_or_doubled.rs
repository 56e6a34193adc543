//! However often the connection breaks, every call is granted once, and nothing is held for ever.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quotakeeper_engine::config::Unit;
use quotakeeper_transport::{Accept, Accepted, PodIdentity, Speak, Stopped, SystemDial, keep_connected};
use quotakeeper_wire::message::ToLimiter;
use tokio::sync::Semaphore;

use crate::a_session_runs::{call, gate};
use crate::host::{self, Host};
use crate::relay::Relay;
use crate::world::{Ca, NAME, Pod, Server, Tokens, endpoint, free, server_tls};

const CALLS: usize = 500;
/// Messages of a proxy that a connection lives for.
const LIFE: usize = 20;
const SLOTS: u64 = 8;
const WINDOW: Duration = Duration::from_secs(1);
const AMOUNT: u64 = 100;

/// Takes twenty messages of each connection, then it is over: by turns with a status, and by a cut in the network.
#[derive(Clone)]
struct Fragile {
    host: Host,
    relay: Arc<Mutex<Option<Relay>>>,
    kills: Arc<AtomicUsize>,
}

struct Said {
    inner: host::Said,
    heard: usize,
    fragile: Fragile,
}

impl Accept for Fragile {
    type Speak = Said;

    async fn accept(&self, pod: PodIdentity) -> Result<Accepted<Said>, Stopped> {
        let Accepted { speak, says, ended } = self.host.accept(pod).await?;
        Ok(Accepted { speak: Said { inner: speak, heard: 0, fragile: self.clone() }, says, ended })
    }
}

impl Speak for Said {
    async fn say(&mut self, message: ToLimiter) -> Result<(), Stopped> {
        self.heard += 1;
        if self.heard <= LIFE {
            return self.inner.say(message).await;
        }
        // What comes between the decision and the cut is lost on its way.
        if self.heard == LIFE + 1 {
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
async fn five_hundred_calls_over_connections_that_live_for_twenty_messages() {
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
    let (gate, peer) = gate(1);
    let client =
        tokio::spawn(keep_connected(endpoint(relay.address, &ca), pod.token_file(), SystemDial, peer));

    // Twice as many clients at a time as calls that may be under way.
    let clients = Arc::new(Semaphore::new(2 * SLOTS as usize));
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let (gate, clients) = (gate.clone(), Arc::clone(&clients));
            tokio::spawn(async move {
                let _client = clients.acquire().await.unwrap();
                call(&gate).await
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
    // Nothing waits, and every slot has come back, as soon as a connection tells of the last ends.
    for _ in 0..6000 {
        let status = host.status().await;
        if (status.waiting_calls(), status.under_way) == (0, 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = host.status().await;
    assert_eq!((status.waiting_calls(), status.under_way), (0, 0));
    let counters = gate.counters();
    assert!(counters.granted >= CALLS as u64, "{counters:?}");
    gate.close();
    client.await.unwrap().unwrap();
    server.stop().await;
    println!("{CALLS} calls over {} connections, {kills} of them killed; {counters:?}", host.connections());
}
