//! A proxy that does not read costs a bounded number of messages, and then its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quotakeeper_engine::event::Scope;
use quotakeeper_transport::{
    Accept, Accepted, Link, PodIdentity, ProxyGone, SessionEnd, Speak, Stopped, SystemDial, keep_connected,
};
use quotakeeper_wire::message::{AccountIndex, AccountUpdate, Epoch, LimiterMessage, ToLimiter, ToProxy};
use tokio::sync::{mpsc, oneshot};

use crate::world::{Ca, NAME, Pod, Server, Tokens, endpoint, free, server_tls, until};

/// What the limiter keeps for one proxy.
const KEPT: usize = 64;
/// How long nothing is taken before the limiter has had enough.
const ENOUGH: Duration = Duration::from_secs(2);

/// Talks until nobody takes it.
#[derive(Clone, Default)]
struct Talker {
    said: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

struct Ear(Arc<AtomicBool>);

impl Accept for Talker {
    type Speak = Ear;

    async fn accept(&self, _pod: PodIdentity) -> Result<Accepted<Ear>, Stopped> {
        let ((to_proxy, says), (end, ended)) = (mpsc::channel(KEPT), oneshot::channel());
        let said = Arc::clone(&self.said);
        tokio::spawn(async move {
            let update = AccountUpdate::Paused {
                scope: Scope::account(),
                remaining: Duration::from_secs(1),
                reason: "x".repeat(1000),
            };
            let body = LimiterMessage::Account { account: AccountIndex(0), update };
            let message = ToProxy { epoch: Epoch(1), body };
            while to_proxy.send_timeout(message.clone(), ENOUGH).await.is_ok() {
                said.fetch_add(1, Ordering::Relaxed);
            }
            end.send(SessionEnd::TooSlow).ok();
        });
        Ok(Accepted { speak: Ear(Arc::clone(&self.closed)), says, ended })
    }
}

impl Speak for Ear {
    async fn say(&mut self, _message: ToLimiter) -> Result<(), Stopped> {
        Ok(())
    }

    async fn close(self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A proxy that takes nothing.
struct Deaf(mpsc::Sender<mpsc::Sender<ToLimiter>>);

impl Link for Deaf {
    async fn connect(&self) -> Result<mpsc::Receiver<ToLimiter>, ProxyGone> {
        let (sender, says) = mpsc::channel(1);
        self.0.send(sender).await.map_err(|_| ProxyGone)?;
        Ok(says)
    }

    async fn disconnect(&self) -> Result<(), ProxyGone> {
        Ok(())
    }

    async fn say(&self, _message: ToProxy) -> Result<(), ProxyGone> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_read_is_bounded_and_then_cut() {
    let (ca, talker) = (Ca::new(), Talker::default());
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("pod-1"), talker.clone()).await;
    let pod = Pod::with_token("pod-1");
    let (connected, mut senders) = mpsc::channel(1);
    tokio::spawn(keep_connected(
        endpoint(server.address, &ca),
        pod.token_file(),
        SystemDial,
        Deaf(connected),
    ));
    let proxy_says = senders.recv().await.unwrap();

    until("the limiter has closed it", || talker.closed.load(Ordering::Relaxed)).await;
    // What the proxy's window, the buffers of both ends and the channel take, at 1 KB each.
    let said = talker.said.load(Ordering::Relaxed);
    assert!((KEPT..2000).contains(&said), "{said} messages were said to nobody");
    // The connection is cut although its verdict is not read.
    tokio::time::timeout(Duration::from_secs(60), proxy_says.closed()).await.expect("never cut");
    server.stop().await;
}
