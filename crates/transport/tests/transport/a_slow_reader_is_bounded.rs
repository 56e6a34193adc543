//! A proxy that does not read costs a bounded number of messages, and then its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quotakeeper_engine::event::Scope;
use quotakeeper_transport::{
    Accept, Accepted, Inbox, Link, NotAccepted, PodIdentity, ProxyGone, SessionEnd, Stopped, SystemDial,
    keep_connected,
};
use quotakeeper_wire::message::{AccountIndex, AccountUpdate, Epoch, LimiterMessage, ToLimiter, ToProxy};
use tokio::sync::{mpsc, oneshot};

use crate::world::{Ca, NAME, Pod, Server, Tokens, endpoint, free, server_tls, until};

/// How many messages the limiter queues for one proxy.
const QUEUED: usize = 64;
/// How long a message may stay unread before the limiter ends the connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends until nobody reads.
#[derive(Clone, Default)]
struct Sender {
    sent: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

struct IgnoringInbox(Arc<AtomicBool>);

impl Accept for Sender {
    type Inbox = IgnoringInbox;

    async fn accept(&self, _pod: PodIdentity) -> Result<Accepted<IgnoringInbox>, NotAccepted> {
        let ((to_proxy, outgoing), (end, ended)) = (mpsc::channel(QUEUED), oneshot::channel());
        let sent = Arc::clone(&self.sent);
        tokio::spawn(async move {
            let update = AccountUpdate::Paused {
                scope: Scope::account(),
                remaining: Duration::from_secs(1),
                reason: "x".repeat(1000),
            };
            let body = LimiterMessage::Account { account: AccountIndex(0), update };
            let message = ToProxy { epoch: Epoch(1), body };
            while to_proxy.send_timeout(message.clone(), PATIENCE).await.is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
            end.send(SessionEnd::TooSlow).ok();
        });
        Ok(Accepted { inbox: IgnoringInbox(Arc::clone(&self.closed)), outgoing, ended })
    }
}

impl Inbox for IgnoringInbox {
    async fn deliver(&mut self, _message: ToLimiter) -> Result<(), Stopped> {
        Ok(())
    }

    async fn close(self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A proxy that reads nothing.
struct SlowReader(mpsc::Sender<mpsc::Sender<ToLimiter>>);

impl Link for SlowReader {
    async fn connect(&self) -> Result<mpsc::Receiver<ToLimiter>, ProxyGone> {
        let (sender, messages) = mpsc::channel(1);
        self.0.send(sender).await.map_err(|_| ProxyGone)?;
        Ok(messages)
    }

    async fn disconnect(&self) -> Result<(), ProxyGone> {
        Ok(())
    }

    async fn deliver(&self, _message: ToProxy) -> Result<(), ProxyGone> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_messages_are_bounded_and_then_the_connection_is_closed() {
    let (ca, limiter) = (Ca::new(), Sender::default());
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("pod-1"), limiter.clone()).await;
    let pod = Pod::with_token("pod-1");
    let (connected, mut senders) = mpsc::channel(1);
    tokio::spawn(keep_connected(
        endpoint(server.address, &ca),
        pod.token_file(),
        SystemDial,
        SlowReader(connected),
    ));
    let proxy = senders.recv().await.unwrap();

    until("the limiter has closed it", || limiter.closed.load(Ordering::Relaxed)).await;
    // What the proxy's window, the buffers of both ends and the channel hold, at 1 KB each.
    let sent = limiter.sent.load(Ordering::Relaxed);
    assert!((QUEUED..2000).contains(&sent), "{sent} messages were sent");
    // The connection is cut although its status is not read.
    tokio::time::timeout(Duration::from_secs(60), proxy.closed()).await.expect("never cut");
    server.stop().await;
}
