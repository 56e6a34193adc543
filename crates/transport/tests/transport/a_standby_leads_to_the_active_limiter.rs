//! Of several limiters one is active: a proxy finds it through any of them, and although another answers nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quotakeeper_engine::config::Unit;
use quotakeeper_transport::{Accept, Accepted, Dial, NotAccepted, PodIdentity, SystemDial, keep_connected};
use tokio::net::{TcpListener, TcpStream};

use crate::calls_are_granted_over_a_session::{admission, call};
use crate::host::{self, Host, HostInbox};
use crate::world::{Ca, NAME, Pod, Server, Tokens, endpoint, free, server_tls, until};

/// A limiter that is on standby until it is told otherwise.
#[derive(Clone)]
struct Replica {
    host: Host,
    standby: Arc<Mutex<Option<NotAccepted>>>,
    refused: Arc<Mutex<u32>>,
}

impl Replica {
    fn new(epoch: u64, standby: Option<NotAccepted>) -> Replica {
        let account = host::account(vec![host::limit(Unit::Requests, 100, Duration::from_secs(60))]);
        let host = Host::start(account, epoch);
        Replica { host, standby: Arc::new(Mutex::new(standby)), refused: Arc::default() }
    }

    fn refused(&self) -> u32 {
        *self.refused.lock().unwrap()
    }
}

impl Accept for Replica {
    type Inbox = HostInbox;

    async fn accept(&self, pod: PodIdentity) -> Result<Accepted<HostInbox>, NotAccepted> {
        let standby = *self.standby.lock().unwrap();
        if let Some(standby) = standby {
            *self.refused.lock().unwrap() += 1;
            return Err(standby);
        }
        self.host.accept(pod).await
    }
}

/// As DNS answers that knows several limiters.
struct Names(Vec<SocketAddr>);

impl Dial for Names {
    async fn dial(&self, address: &str) -> io::Result<TcpStream> {
        SystemDial.dial(address).await
    }

    async fn addresses(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(self.0.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_names_the_active_one() {
    let ca = Ca::new();
    let active = Replica::new(1, None);
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("pod"), active.clone()).await;
    let named = NotAccepted::Standby { active: Some(server.address) };
    let standby = Replica::new(2, Some(named));
    let other = Server::start(free(), server_tls(&ca, NAME), Tokens::of("pod"), standby.clone()).await;
    let (pod, (admission, peer)) = (Pod::with_token("pod"), admission(1));
    tokio::spawn(keep_connected(endpoint(other.address, &ca), pod.token_file(), SystemDial, peer));
    call(&admission).await;
    assert_eq!((active.host.connections(), standby.host.connections()), (1, 0));

    // The active one goes; the other takes over, and is found where the proxy has asked before.
    server.stop().await;
    until("the proxy knows", || !admission.is_connected()).await;
    *standby.standby.lock().unwrap() = None;
    call(&admission).await;
    assert_eq!(standby.host.connections(), 1);
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_answers_nothing_holds_up_no_session() {
    let ca = Ca::new();
    // It takes connections and says nothing, like a process that is stopped.
    let stopped = TcpListener::bind(free()).await.unwrap();
    let stands = stopped.local_addr().unwrap();
    let standby = Replica::new(2, Some(NotAccepted::Standby { active: Some(stands) }));
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("pod"), standby.clone()).await;
    let (pod, (admission, peer)) = (Pod::with_token("pod"), admission(1));
    let names = Names(vec![stands, server.address]);
    tokio::spawn(keep_connected(endpoint(stands, &ca), pod.token_file(), names, peer));
    until("the standby is asked again and again", || standby.refused() >= 3).await;
    *standby.standby.lock().unwrap() = None;
    // Long before the other one's handshake is given up.
    let begun = tokio::time::timeout(Duration::from_secs(8), call(&admission)).await;
    assert!(begun.is_ok(), "it waits for the one that says nothing");
    assert_eq!(standby.host.connections(), 1);
    server.stop().await;
}
